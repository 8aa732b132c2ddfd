"""``trafficlog serve`` as a process: first start, second start, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from tests.cli.process import TIME_TRAVEL, server, start_server, trafficlog
from tests.jobs.stock import until
from tests.records import GOOD
from tests.waiting import waiting_sessions


@pytest.fixture
def data_dir():
    """A data directory that does not exist yet."""
    parent = Path(tempfile.mkdtemp(prefix="trafficlog-serve-"))
    parent.chmod(0o755)
    yield parent / "var"
    shutil.rmtree(parent, ignore_errors=True)


def record(record_id: str) -> dict[str, str]:
    """A record of the demonstration's day."""
    return GOOD | {"id": record_id, "created": "2026-11-21T23:00:00Z"}


async def test_serve_on_an_embedded_database_from_first_start_to_last(data_dir):
    """The key is printed once; each signal ends it with 0 and PostgreSQL stopped; data stays."""
    where = ("--data-dir", str(data_dir))
    arguments = (*where, "--listen", "127.0.0.1:0")
    first = await start_server(*arguments, env=TIME_TRAVEL)
    assert first.operator_key is not None
    made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
    headers = {"Authorization": f"Bearer {made.json['key']}"}
    async with aiohttp.ClientSession(first.url, headers=headers) as http:
        async with http.post("/v1/records", json=[record("m1")]) as answer:
            assert answer.status == 200, await answer.text()
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        began = time.monotonic()
        assert await first.stop(signal.SIGTERM) == 0
        # A connection that is kept open and idle holds nobody up.
        assert time.monotonic() - began < 10
    assert not (data_dir / "postgres" / "postmaster.pid").exists()

    second = await start_server(*arguments, env=TIME_TRAVEL)
    assert second.operator_key is None
    # As a terminal's Ctrl-C does, to the whole group.
    os.killpg(second.process.pid, signal.SIGINT)
    assert await second.process.wait() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()

    # Without a server, a command starts PostgreSQL for as long as it needs it.
    listed = await trafficlog("account", "list", "--json", *where)
    assert [a["account"] for a in listed.json["accounts"]] == ["acme"]
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_requests_in_flight_are_answered_while_stopping(database, number):
    """What waits to be written is written and answered; then the process ends with 0."""
    where = ("--database-url", database)
    admin = await asyncpg.connect(database)
    async with server(*where, "--listen", "127.0.0.1:0", env=TIME_TRAVEL) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
        headers = {"Authorization": f"Bearer {made.json['key']}"}
        async with aiohttp.ClientSession(running.url, headers=headers) as http:
            async with admin.transaction():
                await admin.execute("LOCK TABLE trafficlog.traffic_record IN SHARE MODE")
                asked = asyncio.create_task(http.post("/v1/records", json=[record("m1")]))
                await _waits_for_lock(admin)
                running.process.send_signal(number)
                await _refuses(urlsplit(running.url).port)
                assert not asked.done()
            answer = await asked
            assert (answer.status, (await answer.json())["accepted"]) == (200, 1)
            async with asyncio.timeout(20):
                assert await running.process.wait() == 0
    stored = await admin.fetchval("SELECT count(*) FROM trafficlog.history_record")
    await admin.close()
    assert stored == 1


async def test_a_body_that_never_ends_is_answered_when_the_service_stops(database):
    """It has TRAFFICLOG_SHUTDOWN_BODY_SECONDS_MAX to come, then gets 503; one that comes is stored.

    New connections are refused meanwhile, and every answer says that its line is closed.
    """
    env = TIME_TRAVEL | {"TRAFFICLOG_SHUTDOWN_BODY_SECONDS_MAX": "2"}
    where = ("--database-url", database, "--listen", "127.0.0.1:0")
    body = b'[{"id":"m1","account":"acme","kind":"sms","direction":"outgoing","from":"A","to":"B",'
    body += b'"created":"2026-11-21T23:00:00Z"}]'
    async with server(*where, env=env) as running:
        made = await trafficlog(
            "key", "create", "--scope", "ingest", "--json", "--database-url", database
        )
        parts = urlsplit(running.url)
        lines = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(2)]
        for _, writer in lines:
            writer.write(
                b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Authorization: Bearer {made.json['key']}\r\n".encode()
                + f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
        for reader, writer in lines:
            # The service reads the body from here on.
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            writer.write(body[:10])
            await writer.drain()
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        await _refuses(parts.port)
        lines[0][1].write(body[10:])
        answers = [await reader.read() for reader, _ in lines]
        assert time.monotonic() - began < 5
        assert await running.process.wait() == 0
        assert time.monotonic() - began < 20
        for _, writer in lines:
            writer.close()
    assert answers[0].startswith(b"HTTP/1.1 200"), answers[0]
    assert b'"accepted":1' in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 503"), answers[1]
    assert b'"code":"stopping"' in answers[1]
    assert b"Retry-After: 1" in answers[1]
    assert all(b"connection: close" in answer.lower() for answer in answers)


async def test_what_does_not_end_holds_the_end_up_for_so_long_only(database):
    """After TRAFFICLOG_SHUTDOWN_SECONDS_MAX a request is cut off, and a lock is not waited for.

    A record that was not acknowledged is not stored either, and the process ends with 0.
    """
    env = TIME_TRAVEL | {"TRAFFICLOG_SHUTDOWN_SECONDS_MAX": "2"}
    where = ("--database-url", database)
    admin = await asyncpg.connect(database)
    async with server(*where, "--listen", "127.0.0.1:0", env=env) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
        headers = {"Authorization": f"Bearer {made.json['key']}"}
        async with aiohttp.ClientSession(running.url, headers=headers) as http, admin.transaction():
            await admin.execute("LOCK TABLE trafficlog.traffic_record IN SHARE MODE")
            asked = asyncio.create_task(http.post("/v1/records", json=[record("m1")]))
            await _waits_for_lock(admin)
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(aiohttp.ClientConnectionError):
                await asked
            assert 1.5 < time.monotonic() - began < 10
            async with asyncio.timeout(15):
                assert await running.process.wait() == 0
    stored = await admin.fetchval("SELECT count(*) FROM trafficlog.traffic_record")
    await admin.close()
    assert stored == 0


async def test_a_port_that_is_taken_is_told(database):
    """In a sentence, and not as success."""
    where = ("--database-url", database)
    async with server(*where, "--listen", "127.0.0.1:0") as running:
        port = urlsplit(running.url).port
        done = await trafficlog("serve", *where, "--listen", f"127.0.0.1:{port}")
    assert done.code != 0
    assert "Traceback" not in done.err


async def _waits_for_lock(admin: asyncpg.Connection) -> None:
    """Waits until the service's transaction waits for a lock."""
    await until(lambda: waiting_sessions(admin, "trafficlog_ingest"))


async def _refuses(port: int | None) -> None:
    """Waits until no new connection is taken: the service is stopping."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.02)
