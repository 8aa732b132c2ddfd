"""PostgreSQL is restarted, takes no writes, or another one takes its place."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.api.helpers import history
from tests.conftest import administer
from tests.faults.line import Line
from tests.faults.load import START, MixedLoad, assert_all_there_once, without_history
from tests.faults.test_embedded_postgres import postmaster_pid
from tests.jobs.stock import until
from tests.serving import serving
from trafficlog import migrate, osuser, postgres
from trafficlog.cluster import programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trafficlog.postgres import EmbeddedServer

SETTINGS = {"connect_seconds_max": 2, "answer_seconds_max": 5, "move_interval_seconds": 3600}
QUICK = {"shared_buffers": "16MB"}


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the servers of a test are."""
    made = Path(tempfile.mkdtemp(prefix="trafficlog-tests-")).resolve()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def own_server(directory: Path) -> AsyncIterator[EmbeddedServer]:
    """A server that no other test has, migrated."""
    with postgres.running(directory / "primary", settings=QUICK) as server:
        await migrate.migrate(server.dsn)
        await without_history(server.dsn)
        yield server


async def test_a_server_that_takes_no_writes_refuses_records_and_serves_pages(directory):
    """503 while it is read-only, reading goes on; restarted and writable again, so do records."""
    async with own_server(directory) as server, serving(server.dsn, START, **SETTINGS) as service:
        ingest, customer = await service.key("ingest"), await service.key("customer", "a0")
        async with MixedLoad(service.url, ingest) as load:
            await load.progress(50)
            for writable in ("off", "on", "off"):
                await alter(server.dsn, f"default_transaction_read_only = {writable}")
                if writable == "on":
                    await load.refused(8)
                    assert await history(service, customer, "limit=10", "a0")
                else:
                    await load.progress(50)
            # In good order, under the service's hands.
            with postgres.watched(server, settings=QUICK):
                os.kill(postmaster_pid(server.data_dir), signal.SIGINT)
                await load.refused()
                await load.progress(50)
        assert load.refusals.keys() == {(503, "1")}
        await assert_all_there_once(server.dsn, load)


async def alter(dsn: str, setting: str) -> None:
    """Changes a setting of the whole server, as its administrator does."""
    admin = await asyncpg.connect(dsn, server_settings={"default_transaction_read_only": "off"})
    try:
        await admin.execute(f"ALTER SYSTEM SET {setting}")
        await admin.execute("SELECT pg_reload_conf()")
    finally:
        await admin.close()


async def test_a_standby_that_takes_over_goes_on_with_every_acknowledgement(directory):
    """The primary is killed, the address leads to its standby: 503 until it is promoted."""
    if not (programs() / "pg_basebackup").exists():
        pytest.skip("the embedded PostgreSQL comes without pg_basebackup")
    socket_dir = directory / "line"
    socket_dir.mkdir()
    async with own_server(directory) as primary:
        copy(primary, directory / "standby")
        with postgres.running(directory / "standby", settings=QUICK) as standby:
            # An acknowledgement is to hold on both.
            await alter(primary.dsn, "synchronous_standby_names = '*'")
            admin = await asyncpg.connect(primary.dsn)
            await until(
                lambda: admin.fetchval(
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
                )
            )
            await admin.close()
            async with Line(primary.socket_dir, socket_dir) as line:
                dsn = line.dsn(primary.dsn)
                async with serving(dsn, START, **SETTINGS) as service:
                    customer = await service.key("customer", "a0")
                    async with MixedLoad(service.url, await service.key("ingest")) as load:
                        await load.progress(100)
                        os.kill(postmaster_pid(primary.data_dir), signal.SIGKILL)
                        line.server_dir = standby.socket_dir
                        line.cut()
                        await load.refused(8)
                        assert await history(service, customer, "limit=10", "a0")
                        await administer(standby.dsn, "SELECT pg_promote()")
                        await load.progress(100)
                    assert load.refusals.keys() == {(503, "1")}
            await alter(standby.dsn, "synchronous_standby_names = ''")
            await assert_all_there_once(standby.dsn, load)


def copy(primary: EmbeddedServer, data_dir: Path) -> None:
    """Makes a standby of a server: a base backup that follows it."""
    access = primary.data_dir / "postgres" / "pg_hba.conf"
    with access.open("a") as file:
        file.write("local replication all peer map=trafficlog\n")
    os.kill(postmaster_pid(primary.data_dir), signal.SIGHUP)
    data_dir.mkdir()
    whence = ("--host", str(primary.socket_dir), "--username", "postgres")
    command = ["pg_basebackup", *whence, "--write-recovery-conf", "--checkpoint", "fast"]
    subprocess.run(
        [programs() / command[0], *command[1:], "--pgdata", data_dir / "postgres"],
        check=True,
        capture_output=True,
    )
    # Of a socket in its directory it copies the lock's file as well.
    (data_dir / "postgres" / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    osuser.server_user(primary.data_dir / "postgres").own_tree(data_dir / "postgres")
