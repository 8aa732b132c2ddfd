"""The disk is full: records are refused for as long, what was acknowledged is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.cli.process import server, trafficlog
from tests.cli.test_workers import metrics
from tests.faults.load import SOON, MixedLoad, assert_all_there_once, without_history
from tests.jobs.stock import until
from trafficlog import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

# Room for a cluster, two segments of its log and what the load writes.
DISK_BYTES = 160 * 2**20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    directory = Path(tempfile.mkdtemp(prefix="trafficlog-tests-")).resolve()
    options = f"size={DISK_BYTES},mode=755"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        directory.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        directory.rmdir()


class Ballast:
    """A file that takes up whatever room is left."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ballast"

    def fill(self) -> None:
        """Takes every byte there is, also those that came free since."""
        with self._path.open("ab", buffering=0) as file:
            for size in (2**20, 4096, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def drop(self) -> None:
        """Gives it all back."""
        self._path.unlink()


async def test_a_full_disk_refuses_records_until_there_is_room(small_disk):
    """503 with Retry-After while a table cannot grow and while PostgreSQL's log cannot.

    Without room for its log PostgreSQL ends, and does not start: the service that watches it
    brings it back when there is some. Nobody restarts the service.
    """
    ballast = Ballast(small_disk)
    data_dir = small_disk / "var"
    where = ("--data-dir", str(data_dir))
    async with server(*where, "--listen", "127.0.0.1:0", env=SOON) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", *where)
        with postgres.running(data_dir) as embedded:
            await without_history(embedded.dsn)
            dsn = embedded.dsn
        async with MixedLoad(running.url, made.json["key"], batch=50) as load:
            await load.progress(200)
            # First the tables have no room to grow, and PostgreSQL stays.
            ballast.fill()
            await load.refused(8)
            assert await restarts(running) == 0
            ballast.drop()
            await load.progress(200)
            # Then its log has none either.
            ballast.fill()
            await exhaust_log(dsn)
            await load.refused(8)
            ballast.drop()
            await load.progress(200)
        assert load.refusals.keys() == {(503, "1")}
        assert await restarts(running) >= 1
        assert await running.stop() == 0
    with postgres.running(data_dir) as again:
        await assert_all_there_once(again.dsn, load)


async def restarts(running) -> float:
    """How often the service has started PostgreSQL again."""
    told = await metrics(running.url, running.operator_key)
    return told["trafficlog_postgres_restarts_total"]


async def exhaust_log(dsn: str) -> None:
    """Fills PostgreSQL's log up to the segment that cannot be made any more, at which it ends."""

    async def is_gone() -> bool:
        try:
            admin = await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            return True
        try:
            await admin.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
            await admin.execute("SELECT pg_switch_wal()")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return True
        finally:
            admin.terminate()
        return False

    await until(is_gone)
