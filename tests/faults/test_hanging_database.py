"""PostgreSQL neither answers nor ends: everybody is told in time, and it passes by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.api.helpers import send
from tests.faults.load import START, MixedLoad, assert_all_there_once, without_history
from tests.faults.test_embedded_postgres import postmaster_pid
from tests.jobs.stock import until
from tests.serving import serving
from tests.waiting import waiting_sessions
from trafficlog.store import database as connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc"),
    pytest.mark.skipif(
        "TRAFFICLOG_TEST_DATABASE_URL" in os.environ, reason="the server is not ours to stop"
    ),
]
ANSWER_SECONDS = STATEMENT_SECONDS = CONNECT_SECONDS = 1
SETTINGS = {
    "answer_seconds_max": ANSWER_SECONDS,
    "statement_seconds_max": STATEMENT_SECONDS,
    "connect_seconds_max": CONNECT_SECONDS,
    "key_cache_seconds": 300,
    "settings_refresh_seconds": 0,
    "move_interval_seconds": 3600,
}
# In place of the 5 seconds of the service, so that less is waited.
GRACE_SECONDS = 1
# What the machine may take for itself.
SLACK_SECONDS = 2


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    """A server that does not answer is given up sooner."""
    monkeypatch.setattr(connections, "GRACE_SECONDS", GRACE_SECONDS)


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def standing_still(processes: Iterable[int]) -> Iterator[None]:
    """These processes do nothing, and do not end."""
    stopped = list(processes)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


async def timed(service, key, account) -> tuple[int, str | None, float]:
    """Status, Retry-After and seconds of a page of history."""
    began = time.monotonic()
    status, _, headers = await send(service, "GET", f"/v1/accounts/{account}/history", key)
    return status, headers.get("Retry-After"), time.monotonic() - began


@asynccontextmanager
async def reader_in_a_transaction(service, key) -> AsyncIterator[asyncio.Task]:
    """A page of account a0 that is being read, and waits for a lock."""
    admin = await asyncpg.connect(service.dsn)
    try:
        async with admin.transaction():
            await admin.execute("LOCK TABLE trafficlog.history_record IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(timed(service, key, "a0"))
            await until(lambda: waiting_sessions(admin, "trafficlog_customer"))
            yield reading
    finally:
        await admin.close()


async def test_a_server_that_stands_still_costs_a_bounded_time(database, postgres_server):
    """Records, and keys that must be looked up: 503 in time; a page after a statement's.

    When the server goes on, so does the service, and nothing acknowledged is missing.
    """
    await without_history(database)
    async with serving(database, START, **SETTINGS) as service:
        known, unknown = await service.key("customer", "a0"), await service.key("customer", "a1")
        async with MixedLoad(service.url, await service.key("ingest"), workers=8) as load:
            await load.progress(50)
            assert (await timed(service, known, "a0"))[0] == 200
            postmaster = postmaster_pid(postgres_server.data_dir)
            async with reader_in_a_transaction(service, known) as reading:
                with standing_still([postmaster, *children(postmaster)]):
                    await load.refused(16)
                    status, again_in, seconds = await timed(service, unknown, "a1")
                    assert (status, again_in) == (503, "1")
                    assert seconds < ANSWER_SECONDS + SLACK_SECONDS
                    status, again_in, seconds = await reading
                    assert (status, again_in) == (503, "1")
                    assert seconds < STATEMENT_SECONDS + GRACE_SECONDS + SLACK_SECONDS
                    assert (await send(service, "GET", "/healthz"))[0] == 200
            await load.progress(100)
            assert (await timed(service, known, "a0"))[0] == 200
        assert load.refusals.keys() == {(503, "1")}
        assert load.slowest_seconds < ANSWER_SECONDS + SLACK_SECONDS
    await assert_all_there_once(database, load)


async def test_backends_that_stand_still_are_given_up(database, postgres_server):
    """While the server itself goes on, new connections take their place: no restart, no signal."""
    async with serving(database, START, **SETTINGS) as service:
        ingest = await service.key("ingest")
        assert (await service.post(ingest, service.record("m1")))[0] == 200
        admin = await asyncpg.connect(database)
        backends = await admin.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'trafficlog_ingest'"
        )
        await admin.close()
        assert {row["pid"] for row in backends} <= set(
            children(postmaster_pid(postgres_server.data_dir))
        )
        with standing_still(row["pid"] for row in backends):
            async with asyncio.timeout(40):
                number = 2
                while (await service.post(ingest, service.record(f"m{number}")))[0] != 200:
                    number += 1
