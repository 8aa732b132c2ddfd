"""Records a second through HTTP beside ready-made COPY bytes, in one run, as ratios.

What is compared, in turns, on one embedded PostgreSQL with its default durable settings:

- **HTTP**: NDJSON to ``POST /v1/records``, 1,000 records a request, 8 connections, with everything
  on: keys, validation, settings, metrics. The service is a process of its own.
- **COPY**: the same kind of records as binary COPY bytes that were made beforehand, streamed by
  asyncpg into the same tables, in transactions of 20,000 records on 2 connections: the most this
  database takes in this way.
- **small**: HTTP with 10 records a request on 32 connections.
- **updates**: a later report of each record that the HTTP road wrote, in no order.
- **mixed**: as a gateway sends them, first reports and later ones of earlier records in the same
  requests, half of each.

The load generator is one more process on the same cores; its requests are made beforehand. The
tables are vacuumed before each measurement, so that this work does not fall to the wrong road.
Checkpoints come when PostgreSQL makes them: one before each measurement would have every page of
the indexes written whole again for a few seconds of load, which hides what is to be compared. At
the end both tables must hold what was acknowledged, row for row.

Run ``python benchmarks/ingest.py`` (needs the extra ``bench``); writes ``results/ingest.md`` and
``results/ingest.svg`` beside this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import click
import msgspec
import psutil
from generator import Done, Job, Setup
from lifelike import account_id, history_days
from processor import Watch, machine_facts
from report import Ratio, Road, Round, as_tables, caution, write_markdown, write_plot
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trafficlog import __version__, postgres
from trafficlog.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
# The command, of the interpreter that runs this.
TRAFFICLOG = (sys.executable, "-c", "from trafficlog.cli import main; main()")
ANSWER_IS_NO = 1
WARM_UP_RECORDS = 20_000
QUICK_RECORDS = 20_000
QUICK_ROUNDS = 2

T = TypeVar("T")


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
    generator: asyncio.subprocess.Process
    watched: dict[str, psutil.Process]
    stored: Stored = field(default_factory=Stored)
    line_bytes: float = 0

    async def do(self, job: Job) -> Round:
        """One measurement. What it wrote is counted."""
        await self._ask(job, dict)
        await self._settle()
        watch = Watch(self.watched)
        self.send(b"\n")
        done = await self._answer(Done)
        usage = watch.stop()
        if done.stored != job.records:
            raise RuntimeError(f"{done.stored} of {job.records} records were stored: {job}")
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
        )

    async def check(self) -> list[str]:
        """What the tables hold that was not acknowledged, or the reverse: no sentence, all well."""
        connection = await asyncpg.connect(self.dsn)
        try:
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
        finally:
            await connection.close()

    async def _settle(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("VACUUM trafficlog.traffic_record, trafficlog.history_record")
        finally:
            await connection.close()

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
async def running(directory: Path, accounts: int) -> AsyncIterator[Bench]:
    """A bench on a fresh database below ``directory``."""
    with postgres.running(directory) as server:
        await migrate(server.dsn)
        await make_accounts(server.dsn, accounts)
        key = await make_key(server.dsn)
        postmaster = int((server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        async with contextlib.AsyncExitStack() as stack:
            service, url = await stack.enter_async_context(serving(server.dsn))
            generator = await asyncio.create_subprocess_exec(
                sys.executable,
                str(HERE / "generator.py"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=2**30,
            )
            stack.push_async_callback(ended, generator)
            bench = Bench(
                server.dsn,
                generator,
                {
                    "postgres": psutil.Process(postmaster),
                    "service": psutil.Process(service.pid),
                    "generator": psutil.Process(generator.pid),
                },
            )
            bench.send(msgspec.json.encode(Setup(url, key, server.dsn, accounts)) + b"\n")
            yield bench


@contextlib.asynccontextmanager
async def serving(dsn: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """``trafficlog serve`` as a process, and its URL."""
    service = await asyncio.create_subprocess_exec(
        *TRAFFICLOG,
        *("serve", "--database-url", dsn, "--listen", "127.0.0.1:0", "--json"),
        stdout=subprocess.PIPE,
    )
    assert service.stdout is not None
    try:
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = await service.stdout.readline()
            if not line:
                raise RuntimeError("the service did not start")
            text += line
        yield service, msgspec.json.decode(text)["url"]
    finally:
        if service.returncode is None:
            service.terminate()
        await service.wait()


async def ended(process: asyncio.subprocess.Process) -> None:
    """Tells the generator that there is nothing more to do, and waits for its end."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def make_accounts(dsn: str, count: int) -> None:
    """The accounts, each with its history setting."""
    numbers = range(count)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO trafficlog.account"
            " (account_id, created_at, history_days, history_days_min, history_days_max)"
            " SELECT id, $3, days, coalesce(days, 90), coalesce(days, 90)"
            " FROM unnest($1::text[], $2::smallint[]) AS a (id, days)",
            [account_id(n) for n in numbers],
            [history_days(n) for n in numbers],
            datetime.now(UTC),
        )
    finally:
        await connection.close()


async def make_key(dsn: str) -> str:
    """A key for the gateway."""
    command = await asyncio.create_subprocess_exec(
        *TRAFFICLOG,
        *("key", "create", "--scope", "ingest", "--database-url", dsn, "--json"),
        stdout=subprocess.PIPE,
    )
    answer, _ = await command.communicate()
    return str(msgspec.json.decode(answer)["key"])


async def measure(
    directory: Path, records: int, rounds: int, accounts: int, progress: Progress
) -> tuple[dict[str, Road], Bench, list[str], str]:
    """All rounds; the roads, the bench, what was wrong at the end, PostgreSQL's version."""
    jobs = {
        "http": Job("http", records, 1_000, 8),
        "copy": Job("copy", records, min(20_000, max(1_000, records // 4)), 2),
        "small": Job("http", records, 10, 32),
        "updates": Job("updates", records, 1_000, 8),
        "mixed": Job("mixed", records, 1_000, 8),
    }
    roads = {
        "http": Road("HTTP, 1,000 a request x 8"),
        "copy": Road(f"COPY, {jobs['copy'].batch:,} a transaction x 2"),
        "small": Road("HTTP, 10 a request x 32"),
        "updates": Road("updates, 1,000 a request x 8"),
        "mixed": Road("half updates, 1,000 a request x 8"),
    }
    task = progress.add_task("starting", total=(rounds + 1) * len(jobs))
    async with running(directory, accounts) as bench:
        for number in range(rounds + 1):
            # Tables grow and machines tire: neither road is always the first of a round. The
            # reports that are later follow the records they report on, so these two stay in order.
            order = ("http", "updates", "copy", "small", "mixed")
            turned = ("mixed", "copy", "http", "updates", "small")
            for name in order if number % 2 else turned:
                job = jobs[name]
                if number == 0:
                    progress.update(task, description=f"warming up: {name}")
                    fewer = min(job.records, WARM_UP_RECORDS)
                    await bench.do(msgspec.structs.replace(job, records=fewer))
                else:
                    progress.update(task, description=f"round {number}: {name}")
                    roads[name].rounds.append(await bench.do(job))
                progress.advance(task)
        progress.update(task, description="counting rows")
        faults = await bench.check()
        connection = await asyncpg.connect(bench.dsn)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
        return roads, bench, faults, version


@click.command()
@click.option("--records", default=200_000, show_default=True, help="Records of each measurement.")
@click.option("--rounds", default=5, show_default=True, help="Measurements of each road.")
@click.option(
    "--accounts",
    default=500,
    show_default=True,
    type=click.IntRange(20, 2000),
    help="Accounts that the records are spread over, with a long tail.",
)
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds of {QUICK_RECORDS:,} records.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database is put for the run; its disk is what is measured.  [default: the "
    "directory for temporary files]",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "results",
    help="Where the report goes.  [default: results/ beside this file]",
)
def main(
    records: int, rounds: int, accounts: int, *, quick: bool, directory: Path | None, results: Path
) -> None:
    """Measure ingest: HTTP beside ready-made COPY bytes, in one run."""
    if quick:
        records, rounds = QUICK_RECORDS, QUICK_ROUNDS
    console = Console(width=None if sys.stdout.isatty() else 120)
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-bench-", dir=directory))
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            roads, bench, faults, version = asyncio.run(
                measure(data_dir, records, rounds, accounts, progress)
            )
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    ratios = ratios_of(roads)
    facts = machine_facts() | {
        "PostgreSQL": f"{version}, embedded, fsync and synchronous_commit on",
        "trafficlog": __version__,
        "Records": f"{records:,} in each of {rounds} rounds, of {bench.line_bytes:.0f} bytes "
        f"(NDJSON), {accounts} accounts",
        "Verified": f"{bench.stored.records:,} records and {bench.stored.updates:,} updates "
        "acknowledged, "
        + ("all there in both tables" if not faults else "but " + "; ".join(faults)),
    }
    console.print(*as_tables(ratios, list(roads.values())), sep="\n\n")
    for line in filter(None, [caution(list(roads.values())), facts["Verified"]]):
        console.print(f"\n{line}", highlight=False)
    results.mkdir(parents=True, exist_ok=True)
    write_plot(results / "ingest.svg", list(roads.values()))
    write_markdown(results / "ingest.md", facts, ratios, list(roads.values()), "ingest.svg")
    if faults:
        sys.exit(ANSWER_IS_NO)


def ratios_of(roads: dict[str, Road]) -> list[Ratio]:
    """What the run is for."""
    http, copy = roads["http"], roads["copy"]
    return [
        Ratio.of("R1", "HTTP ÷ COPY, records/s", "≥ 0.85", http, copy),
        Ratio.of("R2", "10 ÷ 1,000 a request, records/s", "≥ 0.6", roads["small"], http),
        Ratio.of("R4", "updates ÷ fresh, records/s", "≥ 0.4", roads["updates"], http),
        # What the aim for updates alone comes to when they are half of all.
        Ratio.of("Mixed", "half updates ÷ fresh, reports/s", "≥ 0.57", roads["mixed"], http),
        Ratio.of(
            "PostgreSQL",
            "HTTP ÷ COPY, PostgreSQL µs",
            "≤ 1.15",
            http,
            copy,
            lambda r: r.postgres_us,
        ),
    ]


if __name__ == "__main__":
    main()
