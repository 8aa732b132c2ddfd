"""The embedded PostgreSQL is killed beneath a service that serves: it comes back by itself."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import asyncpg
import pytest

from tests.cli.process import server, trafficlog
from tests.cli.test_workers import metrics
from tests.faults.load import SOON, MixedLoad, assert_all_there_once, kills, without_history
from tests.faults.test_embedded_postgres import postmaster_pid
from tests.jobs.stock import until
from trafficlog import postgres

KILLS = kills(2, most=30)


@pytest.fixture
def data_dir():
    """A data directory that does not exist yet."""
    parent = Path(tempfile.mkdtemp(prefix="trafficlog-tests-")).resolve()
    yield parent / "var"
    shutil.rmtree(parent, ignore_errors=True)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_whose_database_is_killed_goes_on(data_dir, workers):
    """Kill -9 of the postmaster under load: no acknowledgement is broken, nothing is restarted.

    Nothing but PostgreSQL, that is, which the service does itself, and counts.
    """
    moments = random.Random(20261122)
    where = ("--data-dir", str(data_dir))
    arguments = (*where, "--listen", "127.0.0.1:0", "--workers", workers)
    async with server(*arguments, env=SOON) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
        with postgres.running(data_dir) as embedded:
            await without_history(embedded.dsn)
        async with MixedLoad(running.url, made.json["key"]) as load:
            for _ in range(KILLS):
                await load.progress(moments.randrange(1, 150))
                os.kill(postmaster_pid(data_dir), signal.SIGKILL)
                await load.progress(100)
                await assert_all_there_once(embedded.dsn, load)
        assert load.doubts > 0
        told = await metrics(running.url, running.operator_key)
        assert told["trafficlog_postgres_restarts_total"] == KILLS
        assert await running.stop() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    with postgres.running(data_dir) as again:
        await assert_all_there_once(again.dsn, load)


async def test_a_service_whose_backends_are_killed_goes_on(data_dir):
    """Kill -9 of a backend that writes: PostgreSQL recovers by itself, and so does the service."""
    moments = random.Random(20261122)
    with postgres.running(data_dir) as embedded:
        dsn = embedded.dsn
        arguments = ("--database-url", dsn, "--listen", "127.0.0.1:0")
        async with server(*arguments, env=SOON) as running:
            made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=dsn)
            await without_history(dsn)
            async with MixedLoad(running.url, made.json["key"]) as load:
                for _ in range(KILLS):
                    await load.progress(moments.randrange(1, 150))
                    os.kill(await writing_backend(dsn), signal.SIGKILL)
                    await load.refused()
                    await load.progress(100)
                    await assert_all_there_once(dsn, load)
            assert await running.stop() == 0
        await assert_all_there_once(dsn, load)


async def writing_backend(dsn: str) -> int:
    """The process of a connection that is in the middle of a transaction of ingest."""
    admin = await asyncpg.connect(dsn)
    try:
        return await until(
            lambda: admin.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'trafficlog_ingest'"
                " AND state <> 'idle' LIMIT 1"
            )
        )
    finally:
        await admin.close()
