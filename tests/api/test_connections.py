"""Connections: how many there are, how slow they may be, and what comes over them in what order.

``TRAFFICLOG_TEST_CONNECTIONS`` says how many are open at once in the test of many: 10000 by hand.
"""

import asyncio
import contextlib
import os
import re
import resource
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
import structlog

from tests.api.helpers import INSIDES, raw, refused, superuser, until
from tests.api.test_metrics import value
from tests.cli.process import server, trafficlog
from tests.records import GOOD
from trafficlog.api.connections import Connection

MANY = int(os.environ.get("TRAFFICLOG_TEST_CONNECTIONS", "300"))
ACTIVE = 10
KIB_MAX = 64
AHEAD_BYTES_MAX = 768 * 1024

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def line(service):
    """A connection of its own, as reader and writer."""
    where = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answer(reader):
    """Status, headers (as one text, in small letters) and body of the next answer."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        return int(head.split(" ", 2)[1]), head, await reader.readexactly(length)


async def ended(reader):
    """Waits until the other side has closed the line, and gives what came before that."""
    async with asyncio.timeout(10):
        return await reader.read()


async def metric(service, name, **labels):
    """One sample of the metrics."""
    _, text = await service.call("GET", "/metrics", service.operator_key)
    return value(text, name, **labels)


@pytest.mark.service_config(connections_max=3)
async def test_a_connection_too_many_is_told_so_at_once(service):
    """It gets 503 with Retry-After before it asks, and is closed; one that leaves makes room."""
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(service)) for _ in range(3)]
        for reader, writer in lines:
            writer.write(GET)
            assert (await answer(reader))[0] == 200
        began = time.monotonic()
        for _ in range(20):
            async with line(service) as (reader, writer):
                writer.write(GET)
                status, head, body = await answer(reader)
                assert (status, orjson.loads(body)["code"]) == (503, "too_many_connections")
                assert "retry-after: 1" in head
                assert "connection: close" in head
                assert await ended(reader) == b""
        assert time.monotonic() - began < 5
        for reader, writer in lines:
            writer.write(GET)
            assert (await answer(reader))[0] == 200
    assert await until(lambda: served(service))
    refused_count = await metric(service, "trafficlog_connections_refused_total", reason="limit")
    assert refused_count >= 20
    assert await metric(service, "trafficlog_connections") == 1


async def served(service):
    """Whether a new connection is served."""
    async with line(service) as (reader, writer):
        writer.write(GET)
        return (await answer(reader))[0] == 200


@pytest.fixture
def many_files():
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MANY + 256:
        pytest.skip(f"no more than {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
async def test_many_idle_connections_leave_room_for_those_that_ask(database, many_files):
    """They cost some memory each and nothing else; one too many is refused; all is given back."""
    env = {
        "TRAFFICLOG_CONNECTIONS_MAX": str(MANY),
        "TRAFFICLOG_IDLE_SECONDS_MAX": "3600",
        "TRAFFICLOG_TIME_TRAVEL": "1",
        "TRAFFICLOG_NOW": GOOD["created"],
    }
    arguments = ("--database-url", database, "--listen", "127.0.0.1:0")
    async with server(*arguments, env=env) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=database)
        async with contextlib.AsyncExitStack() as active, contextlib.AsyncExitStack() as idle:
            lines = [await active.enter_async_context(line(running)) for _ in range(ACTIVE)]
            await asyncio.gather(*(posted(*each, made.json["key"], 0) for each in lines))
            memory, open_before = resident_kib(running), files_open(running)
            room = asyncio.Semaphore(100)

            async def be_idle():
                async with room:
                    reader, writer = await idle.enter_async_context(line(running))
                    writer.write(GET)
                    assert (await answer(reader))[0] == 200

            await asyncio.gather(*(be_idle() for _ in range(MANY - ACTIVE)))
            each = (resident_kib(running) - memory) / (MANY - ACTIVE)
            assert files_open(running) - open_before >= MANY - ACTIVE
            slowest = 0.0
            for number in range(1, 21):
                began = time.monotonic()
                asking = (posted(*each_, made.json["key"], number) for each_ in lines)
                assert set(await asyncio.gather(*asking)) == {200}
                slowest = max(slowest, time.monotonic() - began)
            async with line(running) as (reader, writer):
                writer.write(GET)
                status, _, body = await answer(reader)
                assert (status, orjson.loads(body)["code"]) == (503, "too_many_connections")
        # Seen with -s, or when it fails.
        sys.stdout.write(f"{MANY} connections, {each:.1f} KiB each, slowest {slowest:.3f} s\n")
        assert each < KIB_MAX
        assert slowest < 2

        async def given_back():
            return files_open(running) <= open_before

        assert await until(given_back)


async def posted(reader, writer, key, number):
    """The status of a post of one record."""
    peer = writer.get_extra_info("sockname")[1]
    body = orjson.dumps([GOOD | {"id": f"{peer}.{number}"}])
    writer.write(
        f"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return (await answer(reader))[0]


def files_open(running):
    """How many files, connections included, a serving process has open."""
    return len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))


def resident_kib(running):
    """What a serving process has in memory."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1])


@pytest.mark.service_config(header_seconds_max=1)
async def test_headers_that_trickle_in_hold_a_connection_for_so_long_only(service):
    """A byte now and then does not prolong it: 408 and the end, a second after the first one."""
    async with line(service) as (reader, writer), line(service) as (silent, _):
        began = time.monotonic()
        told = asyncio.create_task(answer(reader))
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"1" * 60:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.wait({told}, timeout=0.1)
            if told.done():
                break
        status, head, body = await told
        assert time.monotonic() - began < 8
        assert (status, orjson.loads(body)["code"]) == (408, "too_slow")
        assert "connection: close" in head
        # Nothing at all is no request either; nobody there waits for an answer.
        assert await ended(silent) == b""
    assert await metric(service, "trafficlog_connections_refused_total", reason="headers") == 2


@pytest.mark.service_config(header_seconds_max=1)
async def test_a_second_request_has_its_own_time_for_headers(service):
    """A connection that was served and is idle is left alone; half a next request is not."""
    async with line(service) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        await asyncio.sleep(1.3)
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        writer.write(GET[:20])
        assert (await answer(reader))[0] == 408
        assert await ended(reader) == b""


@pytest.mark.service_config(idle_seconds_max=1)
async def test_an_idle_connection_is_closed_after_its_time(service):
    """Without an answer to nothing: its end is all that it gets."""
    async with line(service) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        assert await ended(reader) == b""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not a Linux kernel")
@pytest.mark.service_config(unread_seconds_max=1)
async def test_a_client_that_reads_nothing_is_given_up(service):
    """One that asks and asks, and takes no answer, is cut off when its time is over."""
    where = urlsplit(service.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((where.hostname, where.port))
        client.settimeout(0)
        loop = asyncio.get_running_loop()

        async def ask():
            while True:
                await loop.sock_sendall(client, GET * 200)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask(), 30)

    async def left():
        return await metric(service, "trafficlog_connections") == 1

    assert await until(left)


@pytest.mark.service_config(request_line_bytes_max=300, header_bytes_max=300, headers_max=10)
async def test_request_lines_and_headers_have_bounds(service):
    """What is within them is read; beyond, it is refused without being kept or looked into."""
    for size, status in ((250, 404), (400, 431)):
        head, body = await raw(service, b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.split(b" ", 2)[1] == str(status).encode(), head
        assert not INSIDES.search(body.decode())
    for size, status in ((250, 200), (400, 431)):
        head, body = await raw(service, GET[:-2] + b"X-Long: " + b"a" * size + b"\r\n\r\n")
        assert head.split(b" ", 2)[1] == str(status).encode(), head
    assert orjson.loads(body)["code"] == "headers_too_large"
    assert b"aiohttp" not in head
    for count, status in ((5, 200), (30, 400)):
        more = b"".join(b"X-%d: 1\r\n" % n for n in range(count))
        head, _ = await raw(service, GET[:-2] + more + b"\r\n")
        assert head.split(b" ", 2)[1] == str(status).encode(), head
    assert (await service.call("GET", "/healthz"))[0] == 200


async def test_pipelined_requests_are_answered_in_their_order(service):
    """Requests sent without waiting for answers are answered each, first come first."""
    ingest = await service.key("ingest")
    async with line(service) as (reader, writer):
        for n in range(40):
            body = orjson.dumps([service.record(f"m{n}")] if n % 2 else [service.record("x", to=1)])
            writer.write(
                f"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ingest}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        statuses = [(await answer(reader))[0] for _ in range(40)]
    assert statuses == [422, 200] * 20


async def test_what_is_sent_ahead_is_read_no_further_than_its_bound(service, monkeypatch):
    """Bodies behind a request that is being answered wait at the client, and have their turn."""
    ingest = await service.key("ingest")
    made = []

    def noted(self, line_, connection_made=Connection.connection_made):
        made.append(self)
        connection_made(self, line_)

    monkeypatch.setattr(Connection, "connection_made", noted)
    blank = b" " * 400_000
    requests = []
    for number in range(20):
        body = orjson.dumps([service.record(f"m{number}")]) + (blank if number else b"")
        requests.append(
            f"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ingest}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    async with line(service) as (reader, writer), superuser(service) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE traffic_record IN EXCLUSIVE MODE")
            writer.write(b"".join(requests))

            async def is_paused():
                [here] = made
                return not here.transport.is_reading()

            await until(is_paused)
            assert sum(body.total_bytes for _, body in made[0]._messages) <= AHEAD_BYTES_MAX
        for _ in requests:
            assert (await answer(reader))[0] == 200


async def test_half_a_request_leaves_nothing_behind(service):
    """However far a request came before its line was cut: nothing is stored, nothing counted."""
    ingest = await service.key("ingest")
    body = orjson.dumps([service.record("half")])
    request = (
        f"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ingest}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    async def all_left():
        return await metric(service, "trafficlog_connections") == 1

    with structlog.testing.capture_logs() as logs:
        for end in range(1, len(request), 7):
            where = urlsplit(service.url)
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(request[:end])
            await writer.drain()
            writer.transport.abort()
        # A form without an account needs no key to come so far.
        form = (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100\r\n\r\naccount=a"
        )
        for half in (
            form,
            request[:-1].replace(b"Host: x", b"Host: x\r\nX-Padding: " + b"x" * 5000),
        ):
            async with line(service) as (_, writer):
                writer.write(half)
                await asyncio.sleep(0.1)
        await until(all_left)
    # Anybody could fill the disk with it, and hide what is wrong.
    assert [each for each in logs if each["log_level"] == "error"] == []
    assert (await service.post(ingest, service.record("whole")))[0] == 200
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT array_agg(id) FROM traffic_record") == ["whole"]


async def test_chunks_that_are_none_are_told_at_once(service):
    """Whenever they come, the answer is one of 400, and nothing waits for the rest."""
    ingest = await service.key("ingest")
    head = (
        f"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ingest}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    with structlog.testing.capture_logs() as logs:
        for pieces in ([b"zz\r\n"], [b"2\r\n[]\r\n", b"zz\r\n"]):
            async with line(service) as (reader, writer):
                for piece in [head, *pieces]:
                    writer.write(piece)
                    await asyncio.sleep(0.05)
                status, _, body = await answer(reader)
                assert (status, orjson.loads(body)["code"]) == (400, "body_unreadable")
                assert await ended(reader) == b""
    assert logs == []


async def test_an_old_client_is_not_told_to_go_on(service):
    """One of HTTP/1.0 would take that for the answer (RFC 9110, 10.1.1)."""
    ingest = await service.key("ingest")
    body = orjson.dumps([service.record()])
    for version, first in ((0, b"HTTP/1.0 200"), (1, b"HTTP/1.1 100")):
        request = (
            f"POST /v1/records HTTP/1.{version}\r\nHost: x\r\nAuthorization: Bearer {ingest}\r\n"
            "Content-Type: application/json\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        async with line(service) as (reader, writer):
            writer.write(request + body)
            assert (await ended(reader)).startswith(first)


@pytest.mark.service_config(waiting_bytes_max=300_000, body_any_ratio_bytes_max=2**20)
async def test_a_body_takes_up_its_room_until_it_is_answered(service):
    """Decompressed and waiting for the database it counts; answered it counts no longer."""
    import gzip

    ingest = await service.key("ingest")
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    big = gzip.compress(orjson.dumps(service.record("m1")) + b" " * 250_000)
    small = orjson.dumps([service.record("m2")]) + b" " * 100_000

    def post(data, **more):
        return service.call("POST", "/v1/records", ingest, data=data, **more)

    json = {"headers": {"Content-Type": "application/json"}}
    assert (await service.post(ingest, service.record("m0")))[0] == 200
    async with superuser(service) as connection, connection.transaction():
        await connection.execute("LOCK TABLE traffic_record IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(post(big, headers=headers))

        async def full():
            return (await post(small, **json))[0] == 429

        # The one that would be taken waits for the database, so none before the big one is.
        await asyncio.sleep(0.3)
        began = time.monotonic()
        assert await full()
        assert time.monotonic() - began < 2
    assert (await waiting)[0] == 200
    assert (await post(small, **json))[0] == 200


@pytest.mark.service_config(body_ratio_max=20, body_any_ratio_bytes_max=100_000)
async def test_a_body_may_grow_so_many_times_its_size(service):
    """Up to the size where any ratio will do it does not matter; above it, it does."""
    import gzip

    import zstandard

    ingest = await service.key("ingest")
    line_ = orjson.dumps(service.record())
    for name, compress in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": name}
        small = compress(line_ + b" " * (100_000 - len(line_)))
        assert len(small) * 20 < 100_000
        status, told = await service.call(
            "POST", "/v1/records", ingest, data=small, headers=headers
        )
        assert status == 200, told
        problem = await refused(
            service,
            413,
            "POST",
            "/v1/records",
            ingest,
            data=compress(line_ + b" " * (100_001 - len(line_))),
            headers=headers,
        )
        assert (problem["code"], "20 times" in problem["detail"]) == ("body_too_large", True)
        # What does not shrink that much is taken at any size.
        import secrets

        lines = [
            orjson.dumps(service.record(secrets.token_hex(16), message=secrets.token_hex(30)))
            for _ in range(1000)
        ]
        whole = compress(b"\n".join(lines))
        status, told = await service.call(
            "POST", "/v1/records", ingest, data=whole, headers=headers
        )
        assert (status, told["accepted"]) == (200, 1000)
