"""What all parts of ``ingest.py`` stand on: a database, a service and a load generator, running."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import msgspec
import psutil
from generator import Done, Job, Setup
from lifelike import account_id, history_days
from processor import Watch, touch_memory
from report import Round

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
# The command, of the interpreter that runs this.
TRAFFICLOG = (sys.executable, "-c", "from trafficlog.cli import main; main()")
MEMORY_LOOK_SECONDS = 0.1

T = TypeVar("T")


class MissingRecordsError(Exception):
    """Not all that was sent came to be stored."""


@dataclass
class Stored:
    """How many records and reports were acknowledged."""

    records: int = 0
    in_history: int = 0
    updates: int = 0
    updates_in_history: int = 0

    def add(self, job: Job, done: Done) -> None:
        """Counts what a job wrote."""
        if job.road == "mixed":
            self.records += done.stored // 2
            self.in_history += done.kept_in_history
            self.updates += done.stored // 2
            self.updates_in_history += done.kept_in_history
        elif job.road == "updates":
            self.updates += done.stored
            self.updates_in_history += done.kept_in_history
        else:
            self.records += done.stored
            self.in_history += done.kept_in_history


@dataclass
class Bench:
    """A database, a service and a load generator, all running."""

    dsn: str
    postmaster: psutil.Process
    service: psutil.Process
    generator: asyncio.subprocess.Process
    stored: Stored = field(default_factory=Stored)
    line_bytes: float = 0

    async def do(
        self, job: Job, service: psutil.Process | None = None, *, elsewhere: bool = False
    ) -> Round:
        """One measurement. What it wrote is counted.

        Args:
            job: what is sent.
            service: what takes it, where that is not the service under measurement.
            elsewhere: it does not go into the tables that are counted at the end.

        Raises:
            MissingRecordsError: not all of it was stored.
        """
        await self._ask(job, dict)
        await self.settle()
        touch_memory()
        service = service or self.service
        generator = psutil.Process(self.generator.pid)
        watch = Watch({"postgres": self.postmaster, "service": service, "generator": generator})
        async with highest_memory(service) as memory:
            self.send(b"\n")
            done = await self._answer(Done)
        usage = watch.stop()
        if done.stored != job.records:
            raise MissingRecordsError(f"{done.stored} of {job.records} records were stored: {job}")
        if not elsewhere:
            self.stored.add(job, done)
        if job.road == "http":
            self.line_bytes = done.line_bytes
        us = 1e6 / job.records
        return Round(
            rate=job.records / done.seconds,
            service_us=usage.watched["service"] * us,
            postgres_us=usage.watched["postgres"] * us,
            generator_us=done.cpu_seconds * us,
            latencies_ms=done.latencies_ms,
            others_cores=usage.others / usage.seconds,
            memory_bytes=max(memory),
        )

    async def check(self) -> list[str]:
        """What the tables hold that was not acknowledged, or the reverse: no sentence, all well."""
        async with connected(self.dsn) as connection:
            faults = []
            for table, records, updates in (
                ("traffic_record", self.stored.records, self.stored.updates),
                ("history_record", self.stored.in_history, self.stored.updates_in_history),
            ):
                row = await connection.fetchrow(
                    f"SELECT count(*) AS all, count(updated_at) AS updated FROM trafficlog.{table}"
                )
                for what, found, wanted in (
                    ("rows", row["all"], records),
                    ("updated rows", row["updated"], updates),
                ):
                    if found != wanted:
                        faults.append(f"{table} holds {found:,} {what}, acknowledged: {wanted:,}")
            return faults

    async def settle(self) -> None:
        """Vacuums, so that this work falls to no measurement."""
        async with connected(self.dsn) as connection:
            await connection.execute("VACUUM trafficlog.traffic_record, trafficlog.history_record")

    async def _ask(self, question: object, answer: type[T]) -> T:
        self.send(msgspec.json.encode(question) + b"\n")
        return await self._answer(answer)

    def send(self, line: bytes) -> None:
        """A line for the generator."""
        assert self.generator.stdin is not None
        self.generator.stdin.write(line)

    async def _answer(self, kind: type[T]) -> T:
        assert self.generator.stdout is not None
        line = await self.generator.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended early")
        return msgspec.json.decode(line, type=kind)


@contextlib.asynccontextmanager
async def running(dsn: str, postmaster: psutil.Process, accounts: int) -> AsyncIterator[Bench]:
    """A bench on a migrated database that has its accounts."""
    key = await make_key(dsn)
    async with contextlib.AsyncExitStack() as stack:
        arguments = ("serve", "--database-url", dsn, "--listen", "127.0.0.1:0", "--json")
        service, url = await stack.enter_async_context(serving(*TRAFFICLOG, *arguments))
        generator = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "generator.py"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**30,
        )
        stack.push_async_callback(ended, generator)
        bench = Bench(dsn, postmaster, service, generator)
        bench.send(msgspec.json.encode(Setup(url, key, dsn, accounts)) + b"\n")
        yield bench


@contextlib.asynccontextmanager
async def serving(*command: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """A command that serves and first prints JSON with its ``url``: its process and that."""
    service = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert service.stdout is not None
    try:
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = await service.stdout.readline()
            if not line:
                raise RuntimeError("the service did not start")
            text += line
        yield psutil.Process(service.pid), msgspec.json.decode(text)["url"]
    finally:
        if service.returncode is None:
            service.terminate()
        await service.wait()


async def ended(process: asyncio.subprocess.Process) -> None:
    """Tells the generator that there is nothing more to do, and waits for its end."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


@contextlib.asynccontextmanager
async def highest_memory(process: psutil.Process) -> AsyncIterator[list[int]]:
    """Fills a list with what a process has resident, in bytes, from time to time."""
    found = [resident_bytes(process)]

    async def look() -> None:
        while True:
            await asyncio.sleep(MEMORY_LOOK_SECONDS)
            found.append(resident_bytes(process))

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def resident_bytes(process: psutil.Process) -> int:
    """What a process has resident."""
    return process.memory_info().rss


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for the bench itself."""
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": "trafficlog, public", "timezone": "UTC"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def make_accounts(dsn: str, count: int) -> None:
    """The accounts, each with its history setting."""
    numbers = range(count)
    async with connected(dsn) as connection:
        await connection.execute(
            "INSERT INTO trafficlog.account"
            " (account_id, created_at, history_days, history_days_min, history_days_max)"
            " SELECT id, $3, days, coalesce(days, 90), coalesce(days, 90)"
            " FROM unnest($1::text[], $2::smallint[]) AS a (id, days)",
            [account_id(n) for n in numbers],
            [history_days(n) for n in numbers],
            datetime.now(UTC),
        )


async def make_key(dsn: str) -> str:
    """A key for the gateway."""
    command = await asyncio.create_subprocess_exec(
        *TRAFFICLOG,
        *("key", "create", "--scope", "ingest", "--database-url", dsn, "--json"),
        stdout=subprocess.PIPE,
    )
    answer, _ = await command.communicate()
    return str(msgspec.json.decode(answer)["key"])
