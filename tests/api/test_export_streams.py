"""Exports on their way: slow readers, those who leave, a database that goes, limits, memory."""

import asyncio
import contextlib
import gc
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pyarrow as pa
import pytest

from tests.api.helpers import refused, send, superuser, until
from tests.conftest import administer

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
EXPORT = "/v1/accounts/acme/export"
# More than the sockets on the way take in.
MANY = 4_000
LONG = 8_000


@pytest.fixture
async def customer(service):
    """A customer's key, of the account acme."""
    return await service.key("customer", "acme")


async def fill(service, count, message_chars):
    """Puts records of acme into its history, straight into the table."""
    async with superuser(service) as connection:
        await connection.execute(
            "INSERT INTO history_record (account_key, created_at, expires_at, kind, direction,"
            " withheld, id, sender, recipient, message)"
            " SELECT account_key, at, at + interval '90 days', 1, 2, 0, 'm' || g, 'Acme',"
            " '+46701234567', left(repeat(md5(g::text), $2 / 32 + 1), $2)"
            " FROM account, generate_series(1, $1::int) g,"
            " LATERAL (SELECT $3::timestamptz - g * interval '10 milliseconds' AS at) t"
            " WHERE account_id = 'acme'",
            count,
            message_chars,
            service.clock.now(),
        )


@contextlib.asynccontextmanager
async def slowly(service, key, query="format=ndjson", account="acme", version="1.1"):
    """An export whose client has read its head and reads no further by itself."""
    where = urlsplit(service.url)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    line.setblocking(False)  # noqa: FBT003 - the socket's own interface
    await asyncio.get_running_loop().sock_connect(line, (where.hostname, where.port))
    reader, writer = await asyncio.open_connection(sock=line, limit=65_536)
    head = f"GET /v1/accounts/{account}/export?{query} HTTP/{version}\r\nHost: x\r\n"
    writer.write(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
    assert b" 200 " in (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
    try:
        yield reader
    finally:
        writer.transport.abort()


async def metrics(service):
    """The values of the metrics of exports."""
    key = await service.key("metrics")
    _, text, _ = await send(service, "GET", "/metrics", key)
    found = re.findall(r'^trafficlog_export(\S+?)(?:\{\w+="(\w+)"\})? (\S+)$', text, re.MULTILINE)
    return {f"{name} {label}".strip(): float(value) for name, label, value in found}


async def running(service, wanted):
    """Waits until so many exports are running."""

    async def so_many():
        return (await metrics(service))["s_running"] == wanted

    await until(so_many)


async def test_a_slow_reader_holds_nothing_of_the_database(service, customer):
    """Neither a transaction nor a connection waits for a client: a detach need not either."""
    await fill(service, MANY, LONG)
    async with slowly(service, customer) as reader:
        async with superuser(service) as connection:

            async def at_rest():
                sizes = []
                for _ in range(2):
                    busy = await connection.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND application_name = 'trafficlog_customer'"
                        " AND (xact_start IS NOT NULL OR state <> 'idle')"
                    )
                    sizes.append(busy)
                    await asyncio.sleep(0.05)
                return sizes == [0, 0]

            await until(at_rest)
            await connection.execute("SET lock_timeout = '2s'")
            [partition] = await connection.fetch(
                "SELECT name FROM partition_catalogue WHERE table_name = 'history_record'"
                " AND lower = date_trunc('day', $1::timestamptz + interval '90 days', 'UTC')",
                service.clock.now(),
            )
            await connection.execute(
                f"ALTER TABLE history_record DETACH PARTITION {partition['name']} CONCURRENTLY"
            )
        # What has expired or gone meanwhile is missing, and the file is whole.
        content = await reader.read(100)
        while not content.endswith(b"\r\n0\r\n\r\n"):
            part = await asyncio.wait_for(reader.read(2**20), 10)
            assert part
            content += part
    await running(service, 0)
    assert (await metrics(service))["s_total complete"] == 1


@contextlib.asynccontextmanager
async def database_away(service, server_dsn):
    """The service's database ends all connections, and takes none."""
    name = urlsplit(service.dsn).path.removeprefix("/")
    await administer(server_dsn, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await administer(
        server_dsn,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    yield
    await administer(server_dsn, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet", "archive"])
async def test_a_database_that_goes_cuts_the_answer(service, server_dsn, customer, name):
    """No answer that is not whole looks as if it were: the connection ends before the answer."""
    await fill(service, MANY, LONG)
    content = b""
    async with (
        slowly(service, customer, f"format={name}") as reader,
        database_away(service, server_dsn),
    ):
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(reader.read(2**20), 20):
                content += part
    assert content
    assert not content.endswith(b"\r\n0\r\n\r\n")
    await running(service, 0)
    assert (await metrics(service))["s_total cut"] == 1


async def test_a_cut_answer_to_http_1_0_is_no_end(service, server_dsn, customer):
    """There only the connection's end says that the file is whole: one that is cut is reset."""
    await fill(service, MANY, LONG)
    async with (
        slowly(service, customer, version="1.0") as reader,
        database_away(service, server_dsn),
    ):
        reading = asyncio.wait_for(reader.read(-1), 20)
        with pytest.raises(ConnectionResetError):
            await reading


@pytest.mark.service_config(export_seconds_max=1, requests_per_second=5, burst_requests=50)
async def test_a_stream_tells_what_its_key_has_left_and_is_counted_when_cut(service, customer):
    """As every answer does: also one that is begun before it is known how it will end."""
    _, _, headers = await send(service, "GET", EXPORT, customer)
    assert headers["RateLimit"].startswith('"key";r=')
    await fill(service, MANY, LONG)
    async with slowly(service, customer):
        await running(service, 1)
        await running(service, 0)
    _, text, _ = await send(service, "GET", "/metrics", await service.key("metrics"))
    route = 'route="/v1/accounts/{account}/export"'
    counted = re.findall(rf"http_requests_total{{{re.escape(route)},status=\"(\w+)\"}} 1.0", text)
    assert sorted(counted) == ["200", "cut"]


async def test_a_database_that_is_away_is_told_before_anything_is_sent(
    service, server_dsn, customer
):
    """What fails at once is a problem like all others, with a time to try again."""
    async with database_away(service, server_dsn):
        await refused(service, 503, "GET", EXPORT, customer)


@pytest.mark.service_config(exports_running_max=2, account_exports_max=1)
async def test_only_so_many_run_at_a_time(service, customer):
    """Beyond the limit of the process, or of the account, an export is told when to come again."""
    await fill(service, MANY, LONG)
    other, third = [await service.key("customer", name) for name in ("other", "third")]
    async with slowly(service, customer):
        problem = await refused(service, 429, "GET", EXPORT, customer)
        assert problem["code"] == "too_many_exports"
        _, _, headers = await send(service, "GET", EXPORT, customer)
        assert int(headers["Retry-After"]) > 1
        path = "/v1/accounts/other/export?format=csv"
        status, _, _ = await send(service, "GET", path, other)
        assert status == 200
        async with superuser(service) as connection:
            await connection.execute(
                "UPDATE history_record SET account_key = a.account_key FROM account a"
                " WHERE a.account_id = 'other' AND substr(id, 2)::int % 2 = 0"
            )
        async with slowly(service, other, account="other"):
            await refused(service, 429, "GET", "/v1/accounts/third/export?format=csv", third)
    await running(service, 0)
    status, _, _ = await send(service, "GET", "/v1/accounts/third/export?format=csv", third)
    assert status == 200


@pytest.mark.service_config(export_seconds_max=1)
async def test_an_export_that_takes_too_long_is_cut(service, customer):
    """A client that reads too slowly gives its place back after a time."""
    await fill(service, MANY, LONG)
    async with slowly(service, customer):
        await running(service, 1)
        await running(service, 0)
    assert (await metrics(service))["s_total cut"] == 1


async def test_a_client_that_leaves_is_noticed(service, customer):
    """Its place, its memory and its connection are given back."""
    await fill(service, MANY, LONG)
    async with slowly(service, customer):
        await running(service, 1)
    await running(service, 0)
    found = await metrics(service)
    assert found["s_total left"] == 1
    assert found["s_total cut"] == 0


async def test_memory_does_not_grow_with_the_history(service, customer):
    """Two hundred thousand records, 60 MB as NDJSON, pass through a bounded part of memory."""
    await fill(service, 200_000, 100)
    page_size = os.sysconf("SC_PAGE_SIZE")

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * page_size

    headers = {"Authorization": f"Bearer {customer}", "Accept-Encoding": "identity"}
    for name in ("ndjson", "csv", "parquet"):
        size = records = most = arrow = 0
        gc.collect()
        begin = resident()
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.get(f"{service.url}{EXPORT}?format={name}", headers=headers) as answer,
        ):
            async for part in answer.content.iter_any():
                size += len(part)
                records += part.count(b"\n")
                most = max(most, resident() - begin)
                arrow = max(arrow, pa.total_allocated_bytes())
        assert most < 120 * 2**20, (name, most)
        assert arrow < 60 * 2**20, (name, arrow)
        if name == "ndjson":
            assert records == 200_000
            assert size > 50 * 2**20
    found = await metrics(service)
    assert [found[f"ed_rows_total {name}"] for name in ("ndjson", "csv", "parquet")] == [2e5] * 3
