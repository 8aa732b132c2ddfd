"""The embedded PostgreSQL is killed beneath a service that serves: it comes back by itself."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.cli.process import TIME_TRAVEL, server, trafficlog
from tests.cli.test_workers import metrics
from tests.faults.load import Load, assert_all_there_once
from tests.faults.test_embedded_postgres import postmaster_pid
from trafficlog import postgres


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
    where = ("--data-dir", str(data_dir))
    arguments = (*where, "--listen", "127.0.0.1:0", "--workers", workers)
    async with server(*arguments, env=TIME_TRAVEL) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
        async with Load(running.url, made.json["key"]) as load:
            for _ in range(2):
                await load.progress(50)
                os.kill(postmaster_pid(data_dir), signal.SIGKILL)
                await load.progress(100)
        assert load.doubts > 0
        told = await metrics(running.url, running.operator_key)
        assert told["trafficlog_postgres_restarts_total"] == 2
        assert await running.stop() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    with postgres.running(data_dir) as again:
        await assert_all_there_once(again.dsn, load)
