"""Small requests of records are answered from their bytes, and nobody can tell but by the time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from urllib.parse import urlsplit

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import history, post_lines, raw, superuser, until
from tests.api.test_framing import KNOWN_NAMES
from tests.serving import serving, utc
from tests.waiting import waiting_sessions
from trafficlog.api import express_connection
from trafficlog.api.express import BODY_BYTES_MAX, Express
from trafficlog.api.express_connection import BEHIND_BYTES_MAX, ExpressConnection

NOW = "2026-11-22T12:00:00Z"
pytestmark = [
    pytest.mark.service_config(key_cache_seconds=60),
    pytest.mark.service_now(NOW),
]


LATER = "2026-11-22T12:01:00Z"


@pytest.fixture
def taken(monkeypatch):
    """What became of each whole request that was looked at: whether it was taken."""
    seen: list[bool] = []

    def noted(self, head, data, take=Express.take):
        order = take(self, head, data)
        seen.append(order is not None)
        return order

    monkeypatch.setattr(Express, "take", noted)
    return seen


@pytest.fixture
def nothing_taken(monkeypatch):
    """Leaves every request to the framework, when called."""
    return lambda: monkeypatch.setattr(Express, "take", lambda *_: None)


@pytest.fixture
def held(monkeypatch):
    """Set when the first part of a request has come, and the rest is waited for."""
    event = asyncio.Event()

    def noted(self, data, wait=ExpressConnection._wait_for_more):
        wait(self, data)
        event.set()

    monkeypatch.setattr(ExpressConnection, "_wait_for_more", noted)
    return event


async def known_key(service) -> str:
    """A key for ingest that has been looked up already."""
    key = await service.key("ingest")
    assert (await post_lines(service, key, service.record("first")))[0] == 200
    return key


def request(key: str, body: bytes, *fields: str, line: str = "POST /v1/records HTTP/1.1") -> bytes:
    """The bytes of a request; ``fields`` take the place of those of the same name."""
    usual = {
        "Host": "trafficlog.example",
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/x-ndjson",
        "Content-Length": str(len(body)),
    }
    named = {field.partition(":")[0].lower() for field in fields}
    lines = [line, *(f"{n}: {v}" for n, v in usual.items() if n.lower() not in named), *fields]
    return "\r\n".join([*(each for each in lines if each), "", ""]).encode() + body


def line_of(service, record_id: str, **fields: object) -> bytes:
    """A record's line."""
    return orjson.dumps(service.record(record_id, **fields)) + b"\n"


@contextlib.asynccontextmanager
async def connected(service):
    """A connection's reader and writer."""
    where = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, fields by their names and body of the next answer."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        assert len(fields) == len(lines), "a field came twice"
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        return int(first.split()[1]), fields, body


async def test_both_ways_answer_alike(service, taken, nothing_taken):
    """Status, fields and body are the same; only ids and times differ."""
    key = await known_key(service)
    one = request(key, line_of(service, "one"), "X-Request-Id: mine-1")
    two = request(key, line_of(service, "two"), "X-Request-Id: mine-2")
    answers = []
    async with connected(service) as (reader, writer):
        writer.write(one)
        answers.append(await answer(reader))
        assert taken[-1:] == [True]
        nothing_taken()
        writer.write(two)
        answers.append(await answer(reader))
    (status, fields, body), (other_status, other_fields, other_body) = answers
    assert (status, body) == (other_status, other_body) == (200, body)
    assert fields.pop("x-request-id") == "mine-1"
    assert other_fields.pop("x-request-id") == "mine-2"
    date = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")
    assert date.fullmatch(fields.pop("date"))
    assert date.fullmatch(other_fields.pop("date"))
    assert fields == other_fields


@pytest.mark.parametrize("value", ["close", "1"])
async def test_both_ways_answer_alike_whatever_header_there_is(
    service, taken, nothing_taken, value
):
    """Also to a connection that is to be closed, and to what is no request to the framework."""
    key = await known_key(service)

    async def told(record_id: str, name: str) -> tuple[int, dict[str, str], bool]:
        """Status and fields, and whether the connection was closed behind the answer."""
        async with connected(service) as (reader, writer):
            writer.write(request(key, line_of(service, record_id), f"{name}: {value}"))
            status, fields, _ = await answer(reader)
            for each in ("date", "x-request-id", "content-length"):
                fields.pop(each, None)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                return status, fields, not await reader.read(1)
            return status, fields, True

    one = await asyncio.gather(*(told(f"a{n}", name) for n, name in enumerate(KNOWN_NAMES)))
    assert taken.count(True) > len(KNOWN_NAMES) / 2
    nothing_taken()
    two = await asyncio.gather(*(told(f"b{n}", name) for n, name in enumerate(KNOWN_NAMES)))
    for name, here, there in zip(KNOWN_NAMES, one, two, strict=True):
        assert here == there, name


async def test_what_is_taken_is_stored_and_counted(service, taken):
    """One, some, a JSON array, a duplicate: each is told as ever, and stands in the history."""
    key, customer = await known_key(service), await service.key("customer", "acme")
    lines = b"".join(line_of(service, f"m{n}") for n in range(20))
    array = orjson.dumps([service.record("a1"), service.record("a2")])
    async with connected(service) as (reader, writer):
        for sent, told in (
            (request(key, line_of(service, "m0")), (1, 0, 0)),
            (request(key, lines), (19, 0, 1)),
            (request(key, array, "Content-Type: application/json; charset=utf-8"), (2, 0, 0)),
            (request(key, line_of(service, "a1", status="sent", updated=LATER)), (0, 1, 0)),
        ):
            writer.write(sent)
            status, _, body = await answer(reader)
            counts = orjson.loads(body)
            assert status == 200
            assert (counts["accepted"], counts["updated"], counts["duplicates"]) == told
            assert counts["rejected"] == []
    assert taken[-4:] == [True] * 4
    assert len(await history(service, customer)) == 1 + 20 + 2
    metrics = (await service.call("GET", "/metrics", service.operator_key))[1]
    assert 'trafficlog_records_total{outcome="accepted"} 23.0' in metrics
    assert 'trafficlog_http_requests_total{route="/v1/records",status="200"} 5.0' in metrics


@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        (["Authorization: Bearer tl_wrong"], None, 401),
        (["Authorization: Basic eDp5"], None, 401),
        (["Content-Type: text/plain"], None, 415),
        (["Content-Encoding: gzip"], None, 400),
        (["Content-Encoding: br"], None, 415),
        ([], b"", 400),
        ([], b"{}\n", 422),
        ([], b'{"id":1}\n' * 3, 422),
        (["Content-Type: application/json"], b"{}", 400),
        (["Content-Length: 5", "Content-Length: 5"], None, 400),
        (["Content-Length: +5"], None, 400),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], None, 400),
        (["Host : x"], None, 400),
        (["X-Odd: \x01"], None, 400),
        (["Expect: 100-continue-please"], None, 417),
        (["Content-Length: 99999999999"], None, 413),
    ],
)
async def test_what_is_not_plainly_right_is_refused_as_ever(service, taken, fields, body, status):
    """It is left to the framework and the handler behind it, which say what is wrong."""
    key = await known_key(service)
    whole = line_of(service, "m1") if body is None else body
    head, told = await raw(service, request(key, whole, *fields))
    assert int(head.split()[1]) == status
    assert orjson.loads(told)["status"] == status
    assert True not in taken[1:]


@pytest.mark.parametrize("scope", ["customer", "operator"])
async def test_the_key_must_open_it(service, taken, scope):
    """A key of another scope, known or not, is told so."""
    key = await service.key(scope, "acme" if scope == "customer" else None)
    for _ in range(2):
        head, told = await raw(service, request(key, line_of(service, "m1")))
        assert (int(head.split()[1]), orjson.loads(told)["code"]) == (403, "scope_missing")
    assert True not in taken


async def test_a_refused_record_does_not_touch_those_beside_it(service, taken):
    """A batch with one that is wrong goes the long way whole, and is stored but for that one."""
    key, customer = await known_key(service), await service.key("customer", "acme")
    body = line_of(service, "good") + line_of(service, "bad", kind="fax")
    async with connected(service) as (reader, writer):
        for sent, accepted in ((body, 1), (line_of(service, "after"), 1)):
            writer.write(request(key, sent))
            status, _, told = await answer(reader)
            assert (status, orjson.loads(told)["accepted"]) == (200, accepted)
    # The connection is not the worse for it.
    assert taken[-2:] == [False, True]
    assert {r["id"] for r in await history(service, customer)} == {"first", "good", "after"}


async def test_other_requests_on_the_connection_are_in_nobodys_way(service, taken):
    """A gateway keeps what is in transit, and asks this and that, on the connections it has."""
    key = await known_key(service)
    async with connected(service) as (reader, writer):
        for number, (method, body) in enumerate((("GET", b""), ("PUT", b"{}"), ("DELETE", b""))):
            line = f"{method} /v1/in-transit/a HTTP/1.1"
            writer.write(request(key, body, line=line))
            assert (await answer(reader))[0] in (404, 201, 204)
            writer.write(request(key, line_of(service, f"m{number}")))
            assert (await answer(reader))[0] == 200
    assert taken[-3:] == [True] * 3


async def test_a_request_may_come_in_pieces(service, taken):
    """Head and body by themselves, as many clients send them, or byte by byte."""
    key = await known_key(service)
    async with connected(service) as (reader, writer):
        for number, size in enumerate((150, 60, 1)):
            sent = request(key, line_of(service, f"m{number}"))
            for start in range(0, len(sent), size):
                writer.write(sent[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await answer(reader))[0] == 200
    assert taken.count(True) >= 2


async def test_a_request_that_comes_slowly_is_waited_for_by_the_framework(
    service, taken, monkeypatch
):
    """With all the time that it gives slow clients."""
    monkeypatch.setattr(express_connection, "HOLD_SECONDS", 0.001)
    key = await known_key(service)
    before = len(taken)
    async with connected(service) as (reader, writer):
        for number, cut in enumerate((10, 120, -5)):
            sent = request(key, line_of(service, f"m{number}"))
            writer.write(sent[:cut])
            await asyncio.sleep(0.05)
            writer.write(sent[cut:])
            assert (await answer(reader))[0] == 200
    assert len(taken) == before


@pytest.mark.parametrize(
    ("hold_seconds", "body_seconds", "comes", "status"),
    [(0.5, 5, True, 200), (0.05, 1, False, 503), (60, 0, False, 503)],
    ids=["in time", "never", "waited for to the last"],
)
async def test_a_request_whose_body_is_on_its_way_is_answered_when_the_service_stops(
    database, monkeypatch, held, hold_seconds, body_seconds, comes, status
):
    """It is taken when its body comes in time, and gets 503 when not: a head is an answer's due."""
    monkeypatch.setattr(express_connection, "HOLD_SECONDS", hold_seconds)
    settings_ = {"key_cache_seconds": 60, "shutdown_body_seconds_max": body_seconds}
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(database, utc(NOW), **settings_))
        key = await known_key(service)
        sent = request(key, line_of(service, "m1"))
        async with connected(service) as (reader, writer):
            held.clear()
            writer.write(sent[:-20])
            await asyncio.wait_for(held.wait(), 10)
            stopping = asyncio.create_task(stack.aclose())
            await until(lambda: _refuses(service))
            if comes:
                writer.write(sent[-20:])
            told, fields, body = await answer(reader)
            await asyncio.wait_for(stopping, 20)
    assert (told, fields["connection"]) == (status, "close")
    assert orjson.loads(body).get("code") == (None if comes else "stopping")
    async with superuser(service) as connection:
        ids = await connection.fetchval("SELECT array_agg(id) FROM traffic_record WHERE id = 'm1'")
    assert ids == (["m1"] if comes else None)


@pytest.mark.service_config(key_cache_seconds=60, idle_seconds_max=1, header_seconds_max=1)
async def test_a_request_whose_body_is_on_its_way_is_not_taken_for_silence(service, monkeypatch):
    """When the time for headers, or to be idle, is over just then: the head is there."""
    monkeypatch.setattr(express_connection, "HOLD_SECONDS", 60)
    key = await known_key(service)

    async def posted(record_id: str, *, after: bool) -> int:
        sent = request(key, line_of(service, record_id))
        async with connected(service) as (reader, writer):
            if after:
                writer.write(request(key, line_of(service, f"{record_id}-0")))
                assert (await answer(reader))[0] == 200
            await asyncio.sleep(0.6)
            writer.write(sent[:-20])
            await asyncio.sleep(0.8)
            writer.write(sent[-20:])
            return (await answer(reader))[0]

    assert await asyncio.gather(posted("m1", after=False), posted("m2", after=True)) == [200, 200]


@pytest.mark.service_config(key_cache_seconds=60, header_seconds_max=1)
async def test_half_a_head_is_told_that_it_is_late(service, monkeypatch):
    """Though it is waited for: 408, and not the silence that answers silence."""
    monkeypatch.setattr(express_connection, "HOLD_SECONDS", 60)
    async with connected(service) as (reader, writer):
        writer.write(b"POST /v1/records HTTP/1.1\r\nHost: x\r\n")
        status, _, body = await answer(reader)
    assert (status, orjson.loads(body)["code"]) == (408, "too_slow")


async def test_answers_keep_their_order(service, taken):
    """Requests that come behind one that is being answered wait for it, however many."""
    key = await known_key(service)
    async with superuser(service) as connection, connected(service) as (reader, writer):
        async with connection.transaction():
            await connection.execute("LOCK TABLE traffic_record IN EXCLUSIVE MODE")
            writer.write(request(key, line_of(service, "m0"), "X-Request-Id: r0"))
            await until(lambda: waiting_sessions(connection, "trafficlog_ingest"))
            assert taken[-1] is True
            for number in range(1, 300):
                sent = request(key, line_of(service, f"m{number}"), f"X-Request-Id: r{number}")
                writer.write(sent)
        for number in range(300):
            status, fields, _ = await answer(reader)
            assert (status, fields["x-request-id"]) == (200, f"r{number}")
    assert 300 * len(sent) > BEHIND_BYTES_MAX


async def test_a_failure_is_told_with_the_requests_id(service, taken):
    """When the database does not take it: 503, when to come again, and no stack."""
    key = await known_key(service)
    async with superuser(service) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'trafficlog_ingest'"
        )
        async with connected(service) as (reader, writer):
            writer.write(request(key, line_of(service, "m1"), "X-Request-Id: mine"))
            status, fields, body = await answer(reader)
    told = orjson.loads(body)
    assert taken[-1] is True
    assert (status, told["code"], told["request_id"]) == (503, "database_unavailable", "mine")
    assert fields["retry-after"] == "1"
    assert fields["content-type"] == "application/problem+json"


@pytest.mark.service_config(
    key_cache_seconds=60, ingest_requests_per_second=1, ingest_burst_requests=3
)
async def test_each_request_counts_once_for_the_rate(service, taken):
    """What is left is told, and the next is turned away when nothing is."""
    key = await known_key(service)
    seen = []
    async with connected(service) as (reader, writer):
        for number in range(3):
            writer.write(request(key, line_of(service, f"m{number}")))
            status, fields, _ = await answer(reader)
            seen.append((status, fields["ratelimit"].partition(";t")[0]))
    assert seen == [(200, '"key";r=1'), (200, '"key";r=0'), (429, '"key";r=0')]
    assert taken[-3:] == [True, True, False]


async def test_who_sends_half_a_request_behind_and_leaves_is_no_failure(service, taken):
    """Nor is it logged as one: a client that goes away is nothing to look into."""
    key = await known_key(service)
    half = request(key, line_of(service, "half", message="x" * BEHIND_BYTES_MAX))[:-20]
    with structlog.testing.capture_logs() as logs:
        for number in range(50):
            async with connected(service) as (_, writer):
                writer.write(request(key, line_of(service, f"m{number}")))
                await asyncio.sleep(0.0001 * number)
                writer.write(half)
        await asyncio.sleep(0.2)
    assert True in taken
    assert logs == []
    _, text = await service.call("GET", "/metrics", service.operator_key)
    assert 'status="500"' not in text


@pytest.mark.service_config(
    key_cache_seconds=60,
    ingest_requests_per_second=1,
    ingest_burst_requests=30,
    waiting_records_max=4,
)
async def test_what_finds_no_room_counts_once_for_the_rate(service):
    """Though it is looked at on both roads; and it is told what is left as well."""
    key = await known_key(service)
    left = []
    async with superuser(service) as connection, connection.transaction():
        await connection.execute("LOCK TABLE traffic_record IN ACCESS EXCLUSIVE MODE")
        async with connected(service) as (_, waiting), connected(service) as (reader, writer):
            waiting.write(request(key, line_of(service, "a") + line_of(service, "b")))
            for _ in range(5):
                three = b"".join(line_of(service, name) for name in "cde")
                writer.write(request(key, three))
                status, fields, _ = await answer(reader)
                assert status == 429
                left.append(int(fields["ratelimit"].partition("r=")[2].partition(";")[0]))
    # No more than one each; while it goes on a token or two come in.
    assert 2 <= left[0] - left[-1] <= 4


@pytest.mark.service_config(key_cache_seconds=60, idle_seconds_max=1)
async def test_a_silent_connection_is_closed(service, taken):
    """After its last answer it has so long, and while it waits for one it is not silent."""
    key = await known_key(service)
    async with connected(service) as (reader, writer), superuser(service) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE traffic_record IN EXCLUSIVE MODE")
            writer.write(request(key, line_of(service, "m1")))
            await until(lambda: waiting_sessions(connection, "trafficlog_ingest"))
            await asyncio.sleep(1.5)
        assert (await answer(reader))[0] == 200
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began > 0.9
    assert taken[-1] is True


async def test_a_body_at_the_bound_and_past_it(service, taken):
    """What is larger is not waited for here; it is stored as well."""
    key = await known_key(service)
    for extra, is_taken in ((0, [True]), (1, [])):
        text = line_of(service, f"m{extra}", message="")
        fill = BODY_BYTES_MAX + extra - len(text)
        body = line_of(service, f"m{extra}", message="x" * fill)
        assert len(body) == BODY_BYTES_MAX + extra
        before = len(taken)
        async with connected(service) as (reader, writer):
            writer.write(request(key, body))
            assert (await answer(reader))[0] == 200
        assert taken[before:] == is_taken


# Requests of all kinds, each with what it is answered with.
KINDS = ("one", "ten", "refused", "health", "chunked", "large", "no key", "odd head")


def of_kind(service, key: str, kind: str, number: int) -> tuple[bytes, int]:
    """A request of a kind, and the status that it is answered with."""
    line = line_of(service, f"{kind[:3]}-{number}".replace(" ", "-"))
    if kind == "chunked":
        head = request(key, b"", "Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line)
        return head.replace(b"Content-Length: 0\r\n", b"") + body, 200
    inside = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/records HTTP/1.1\r\n" * 1000
    return {
        "one": (request(key, line), 200),
        "ten": (request(key, b"".join(line_of(service, f"{number}-{n}") for n in range(10))), 200),
        "refused": (request(key, b"{}\n"), 422),
        "health": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        "large": (request(key, line_of(service, f"large-{number}", message=inside) * 2), 200),
        "no key": (request("tl_wrong", line), 401),
        "odd head": (request(key, line, "X-Odd: \u00e5"), 200),
    }[kind]


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    pauses=st.lists(st.sampled_from((0, 0, 0.002, 0.07)), min_size=7, max_size=7),
)
@settings(max_examples=60)
async def test_however_requests_are_cut_each_is_answered_in_its_turn(service, kinds, cuts, pauses):
    """Requests of all kinds, one behind the other, cut anywhere: none is taken for two or lost."""
    key = await _key_of(service)
    made = [of_kind(service, key, kind, number) for number, kind in enumerate(kinds)]
    stream = b"".join(sent for sent, _ in made)
    places = sorted({0, len(stream), *(int(cut * len(stream)) for cut in cuts)})
    async with connected(service) as (reader, writer):

        async def send() -> None:
            for (start, end), pause in zip(itertools.pairwise(places), pauses, strict=False):
                writer.write(stream[start:end])
                await writer.drain()
                await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        answers = [(await answer(reader))[0] for _ in made]
        await sending
    assert answers == [status for _, status in made]


_KEYS: dict[str, str] = {}


async def _key_of(service) -> str:
    """The key of one service, for all examples."""
    if service.dsn not in _KEYS:
        _KEYS[service.dsn] = await known_key(service)
    return _KEYS[service.dsn]


async def _refuses(service) -> bool:
    """Whether the service takes no new connection: it is stopping."""
    try:
        async with connected(service):
            return False
    except OSError:
        return True
