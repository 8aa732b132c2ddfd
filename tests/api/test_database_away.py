"""The database goes away and comes back: 503 with Retry-After meanwhile, and no restart."""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from tests.api.helpers import ids, send, until
from tests.conftest import administer
from tests.serving import serving, utc
from tests.waiting import waiting_sessions

NOW = utc("2026-11-21T12:00:00Z")
FILE = ".s.PGSQL.5432"
NAMES = ("ingest", "read", "settings", "ready")


class Line:
    """The way to the server's socket, which a test can cut."""

    def __init__(self, server_socket, directory):
        self._server_socket = server_socket
        self._path = Path(directory) / FILE
        self._writers = set()
        self._listener = None

    async def open(self):
        """Lets connections through."""
        self._listener = await asyncio.start_unix_server(self._connected, self._path)

    async def cut(self):
        """Ends every connection and takes no new one."""
        self._listener.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader, writer):
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_unix_connection(self._server_socket)
            self._writers |= {writer, back}
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while content := await reader.read(65_536):
                writer.write(content)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)


async def answers(service, keys):
    """Status and Retry-After of a request of each kind."""
    ingest, customer = keys
    requests = {
        "ingest": ("POST", "/v1/records", ingest, {"json": [service.record("m1")]}),
        "read": ("GET", "/v1/accounts/acme/history", customer, {}),
        "settings": ("GET", "/v1/accounts/acme/settings", customer, {}),
        "ready": ("GET", "/readyz", None, {}),
    }
    found = {}
    for name, (method, path, key, options) in requests.items():
        status, body, headers = await send(service, method, path, key, **options)
        found[name] = (status, headers.get("Retry-After"), body.get("code"))
    return found


async def back_again(service, keys):
    """Whether every kind of request is served."""
    return all(a[0] == 200 for a in (await answers(service, keys)).values())


@pytest.fixture
def server_socket(server_dsn):
    """The server's socket, when it has one here."""
    [directory] = parse_qs(urlsplit(server_dsn).query).get("host", [""])
    if not directory.startswith("/"):
        pytest.skip("the server has no socket here")
    return Path(directory) / FILE


async def test_a_server_that_is_gone_is_waited_for(database, server_socket):
    """Refused connections are 503; healthz stays 200; the same process serves when it is back."""
    with tempfile.TemporaryDirectory() as directory:
        line = Line(server_socket, directory)
        await line.open()
        parts = urlsplit(database)
        dsn = f"postgresql://postgres@{parts.path}?host={quote(directory)}"
        async with serving(dsn, NOW, connect_seconds_max=2) as service:
            keys = await service.key("ingest"), await service.key("customer", "acme")
            assert await back_again(service, keys)
            for _ in range(2):
                await line.cut()
                away = await answers(service, keys)
                assert away == dict.fromkeys(NAMES, (503, "1", "database_unavailable"))
                assert (await service.call("GET", "/healthz"))[0] == 200
                await line.open()
                await until(lambda: back_again(service, keys))
            assert await ids(service, keys[1]) == ["m1"]
        await line.cut()


async def test_a_line_cut_while_writing_is_no_answer_of_success(database, server_socket):
    """A batch whose connection breaks is answered 503; sent again it is stored once."""
    with tempfile.TemporaryDirectory() as directory:
        line = Line(server_socket, directory)
        await line.open()
        dsn = f"postgresql://postgres@{urlsplit(database).path}?host={quote(directory)}"
        async with serving(dsn, NOW) as service:
            keys = await service.key("ingest"), await service.key("customer", "acme")
            assert (await service.post(keys[0], service.record("m0")))[0] == 200
            blocker = await asyncpg.connect(database)
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE trafficlog.traffic_record")
                waiting = asyncio.create_task(service.post(keys[0], service.record("m1")))

                await until(lambda: waiting_sessions(blocker, "trafficlog_ingest"))
                await line.cut()
                status, problem = await waiting
                assert (status, problem["code"]) == (503, "database_unavailable")
            await blocker.close()
            await line.open()

            async def stored():
                return (await service.post(keys[0], service.record("m1")))[0] == 200

            await until(stored)
            assert sorted(await ids(service, keys[1])) == ["m0", "m1"]
        await line.cut()


async def test_a_database_that_takes_no_connections_is_waited_for(service, server_dsn):
    """Shut by its administrator the database is away like any other, and back when it is opened."""
    keys = await service.key("ingest"), await service.key("customer", "acme")
    assert await back_again(service, keys)
    name = urlsplit(service.dsn).path[1:]
    await administer(server_dsn, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await administer(
        server_dsn,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    try:
        away = await answers(service, keys)
        assert away == dict.fromkeys(NAMES, (503, "1", "database_unavailable"))
    finally:
        await administer(server_dsn, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await until(lambda: back_again(service, keys))


@pytest.mark.service_config(statement_seconds_max=1)
async def test_a_statement_that_takes_too_long_is_given_up(service):
    """A table that somebody locked costs a request its time and a 503, not for ever."""
    keys = await service.key("ingest"), await service.key("customer", "acme")
    assert await back_again(service, keys)
    blocker = await asyncpg.connect(service.dsn)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE trafficlog.history_record")
        status, problem, headers = await send(service, "GET", "/v1/accounts/acme/history", keys[1])
        assert (status, problem["code"]) == (503, "database_unavailable")
        assert headers["Retry-After"] == "1"
    await blocker.close()
    await until(lambda: back_again(service, keys))
