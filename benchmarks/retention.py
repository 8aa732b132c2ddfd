"""What retention costs: a night's expiry beside a bare drop and beside DELETE, in one run.

All on one embedded PostgreSQL with its default durable settings, whose tables are filled first:

- **a night**: ``Retention.run`` at midnight, which drops the history of a day of expiry, with an
  account hold that covers 1,000 of its rows. Beside it (a) a bare ``DETACH … CONCURRENTLY`` and
  ``DROP TABLE`` of the same rows in a table with as many partitions, and (b) what a service without
  expiry partitions does: for each account ``DELETE … WHERE account_key = … AND created_at < …`` on
  the same rows in a table partitioned by day of creation, a transaction for each 100 accounts. At
  three sizes.
- **settings**: a night with 1, 100 and 365 distinct settings.
- **ingest meanwhile**: three writers of 500 records through the product's writer, at a steady pace
  from a process of its own, while a large partition goes: as the product drops it, with a reader
  that keeps a transaction open for 4 seconds, and by a plain ``DROP TABLE`` of it.
- **a setting that is shortened**: an account of many rows from 90 to 7 days, under the same ingest.
- **holds**: how long placing one takes, also during a drop, and the drop of a large partition with
  and without holds in force.

Run ``python benchmarks/retention.py`` (needs the extra ``bench``); writes ``results/retention.md``
and ``results/retention.svg`` beside this file. ``--rows 10000000 --account-rows 1000000`` is the
size that the aims are stated for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import click
import msgspec
import psutil
import structlog
from history_stock import DAY, HELD_ACCOUNT, HISTORY_DAYS, START, Stock, make_stock
from processor import Watch, machine_facts
from retention_report import Night, Report, Span, write_markdown, write_plot
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from steady_load import Load, Pace

from trafficlog import __version__, postgres
from trafficlog.config import Config
from trafficlog.holds import HoldSelector
from trafficlog.partitions import Bounds, Partition
from trafficlog.records import AccountKey
from trafficlog.retention import HistoryDays
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.holds import Holds
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from datetime import datetime

HERE = Path(__file__).parent
ACCOUNTS = 2_000
SETTINGS = 100
HELD_ROWS = 1_000
READER_SECONDS = 4
WINDOW_SECONDS = 6
SHORTER_DAYS = 7
MANY_HOLDS = 200
# What the statements of a drop are told by.
DROPPING = ("begin_drop", "DETACH", "settle_drop", "finish_drop", "quote_ident", "lock_timeout")


@dataclass
class Options:
    """How large the run is."""

    rows: int
    account_rows: int
    nights: int
    rounds: int

    @property
    def partition_rows(self) -> int:
        """Rows of the partitions whose drop is watched alone."""
        return self.rows // 10


@dataclass
class Run:
    """Seconds of a retention run, and those of them for drops and for new partitions."""

    seconds: float = 0
    dropping: float = 0
    making: float = 0


@dataclass
class Bench:
    """The server under measurement, and what was found so far."""

    dsn: str
    options: Options
    progress: Progress
    report: Report
    config: Config = field(default_factory=Config)

    @contextlib.contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A line of progress; gives what advances it."""
        task = self.progress.add_task(title, total=total)
        yield lambda: self.progress.advance(task)
        self.progress.update(task, completed=total)

    async def stock(
        self, name: str, rows: int, settings: int, *, by_creation: bool = False
    ) -> Stock:
        """A new database, filled."""
        with self.step(f"{rows:,} rows, settings: {settings}", HISTORY_DAYS) as advance:
            return await make_stock(
                self.dsn, name, rows, settings, ACCOUNTS, advance, by_creation=by_creation
            )

    async def hold(self, stock: Stock, *selectors: HoldSelector) -> list[str]:
        """Places holds; their ids."""
        async with Database(stock.dsn, self.config) as database:
            return [await place(database, selector) for selector in selectors]

    async def release(self, stock: Stock, *hold_ids: str) -> None:
        """Releases holds."""
        async with Database(stock.dsn, self.config) as database:
            for hold_id in hold_ids:
                await Holds(database).release(hold_id, by="bench", now=START)

    @contextlib.asynccontextmanager
    async def leading(self, stock: Stock) -> AsyncIterator[Retention]:
        """Retention on a connection that stays open from run to run, as the service's does."""
        async with Retention(stock.dsn, self.config) as retention:
            assert await retention.lead()
            yield retention

    async def run_retention(self, retention: Retention, at: datetime) -> Run:
        """One retention run."""
        run = Run()

        def add(query: Any) -> None:
            if any(word in query.query for word in DROPPING):
                run.dropping += query.elapsed
            elif "ensure_partition" in query.query:
                run.making += query.elapsed

        retention.connection.add_query_logger(add)
        began = time.perf_counter()
        result = await retention.run(at, guard_clock=False)
        run.seconds = time.perf_counter() - began
        retention.connection.remove_query_logger(add)
        if result.failures:
            raise RuntimeError(f"the run failed: {result.failures}")
        return run

    async def night(self, stock: Stock, retention: Retention, number: int) -> tuple[Run, int]:
        """The run of one midnight, and bytes given back.

        The run an hour before has done what the day brought, as one every hour does.
        """
        at = START + number * DAY
        await self.run_retention(retention, at - timedelta(hours=1))
        before = await stock.bytes_stored()
        run = await self.run_retention(retention, at)
        return run, before - await stock.bytes_stored()


async def measure_nights(bench: Bench) -> Stock:
    """The nights at three sizes; the largest stock is kept for what follows."""
    rows = bench.options.rows
    stock = None
    for number, size in enumerate((rows // 10, rows * 3 // 10, rows)):
        stock = await bench.stock(f"night{number}", size, SETTINGS, by_creation=True)
        bench.report.nights.append(await measure_night(bench, stock))
        if size != rows:
            await drop_stock(bench, stock)
    assert stock is not None
    return stock


async def measure_night(bench: Bench, stock: Stock) -> Night:
    """Ours, the bare drop and DELETE, on each of some nights in turns."""
    nights = bench.options.nights
    found = Night(stock.rows)
    title = f"nights of {stock.rows:,} rows"
    async with bench.leading(stock) as retention:
        with bench.step(title, nights * 3 + 1) as advance:
            key = await stock.admin.fetchval(
                "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
                " history_days_max) VALUES ($1, $2, 90, 90, 90) RETURNING account_key",
                HELD_ACCOUNT,
                START - HISTORY_DAYS * DAY,
            )
            for night in range(nights):
                created = START + (night - HISTORY_DAYS) * DAY
                span = (created, created + DAY)
                for table in ("history_record", "by_creation"):
                    await stock.add_records(table, [(key, 90)], HELD_ROWS, span, f"held{night}/")
            await bench.hold(stock, HoldSelector(account=HELD_ACCOUNT))
            await bench.run_retention(retention, START)
            names = (await stock.partitions("history_record"))[:nights]
            await make_bare(stock, names)
            await stock.settle("history_record", "by_creation")
            advance()
            for night, name in enumerate(names, 1):
                rows = await stock.admin.fetchval(f"SELECT count(*) FROM {name}")
                found.rows_expired.append(rows)

                async def ours(night: int = night) -> None:
                    run, given_back = await bench.night(stock, retention, night)
                    found.ours.append(run.seconds)
                    found.dropping.append(run.dropping)
                    found.making.append(run.making)
                    found.ours_bytes.append(given_back)
                    found.idle.append(
                        (await bench.run_retention(retention, START + night * DAY)).seconds
                    )

                async def bare(night: int = night) -> None:
                    found.bare.append(await drop_bare(stock, night - 1))

                async def delete(night: int = night) -> None:
                    seconds, given_back = await delete_expired(stock, START + night * DAY)
                    found.delete.append(seconds)
                    found.delete_bytes.append(given_back)

                for work in (ours, bare, delete) if night % 2 else (bare, delete, ours):
                    await work()
                    advance()
            before = await stock.bytes_stored()
            began = time.perf_counter()
            await stock.admin.execute("VACUUM by_creation")
            found.vacuum = (time.perf_counter() - began) / nights
            found.vacuum_bytes = before - await stock.bytes_stored()
            held = await stock.admin.fetchval("SELECT count(*) FROM held_record")
            kept = await stock.admin.fetchval("SELECT count(*) FROM purge_ledger WHERE rows > 0")
            if (held, kept) != (nights * HELD_ROWS, nights):
                raise RuntimeError(f"{held} rows held, {kept} partitions in the ledger")
    return found


async def make_bare(stock: Stock, names: list[str]) -> None:
    """A table with as many partitions as history; the first hold the rows of ``names``."""
    await stock.admin.execute(
        "CREATE TABLE bare (LIKE history_record INCLUDING ALL) PARTITION BY RANGE (expires_at)"
    )
    for number in range(len(await stock.partitions("history_record"))):
        lower = START + number * DAY
        await stock.admin.execute(
            f"CREATE TABLE bare_{number} PARTITION OF bare"
            f" FOR VALUES FROM ('{lower}') TO ('{lower + DAY}')"
        )
    for number, name in enumerate(names):
        await stock.admin.execute(f"INSERT INTO bare_{number} SELECT * FROM {name}")
    await stock.settle("bare")


async def drop_bare(stock: Stock, number: int) -> float:
    """Seconds of the least that gets rid of a partition without blocking anybody."""
    began = time.perf_counter()
    await stock.admin.execute(f"ALTER TABLE bare DETACH PARTITION bare_{number} CONCURRENTLY")
    await stock.admin.execute(f"DROP TABLE bare_{number}")
    return time.perf_counter() - began


async def delete_expired(stock: Stock, at: datetime) -> tuple[float, int]:
    """Seconds of the DELETEs by account and age, and bytes given back."""
    accounts = [
        (row["account_key"], at - row["history_days"] * DAY)
        for row in await stock.admin.fetch("SELECT account_key, history_days FROM account")
    ]
    before = await stock.bytes_stored()
    began = time.perf_counter()
    statement = await stock.admin.prepare(
        "DELETE FROM by_creation WHERE account_key = $1 AND created_at < $2"
    )
    for first in range(0, len(accounts), 100):
        async with stock.admin.transaction():
            await statement.executemany(accounts[first : first + 100])
    seconds = time.perf_counter() - began
    return seconds, before - await stock.bytes_stored()


async def measure_settings(bench: Bench) -> None:
    """A night with few and with many distinct settings."""
    rows = bench.options.rows // 10
    for settings in (1, SETTINGS, 365):
        stock = await bench.stock(f"settings{settings}", rows, settings)
        nights = bench.options.nights
        title = f"nights with settings: {settings}"
        async with bench.leading(stock) as retention:
            with bench.step(title, nights) as advance:
                await bench.run_retention(retention, START)
                await stock.settle("history_record")
                spans = []
                for night in range(1, nights + 1):
                    spans.append((await bench.night(stock, retention, night))[0].seconds)
                    advance()
            partitions = len(await stock.partitions("history_record"))
            expired = await stock.admin.fetchval("SELECT sum(rows) FROM purge_ledger")
        bench.report.settings.append((settings, partitions, int(expired) // nights, spans))
        await drop_stock(bench, stock)


async def drop_stock(bench: Bench, stock: Stock) -> None:
    """Gets rid of a database that is not needed any more."""
    await stock.admin.close()
    admin = await asyncpg.connect(bench.dsn)
    name = stock.dsn.split("?")[0].rsplit("/", 1)[1]
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@contextlib.asynccontextmanager
async def load_running(stock: Stock, now: datetime, load: Load) -> AsyncIterator[None]:
    """Ingest goes on inside; ``load`` is what came of it, once it is over."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "steady_load.py"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**30,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(Pace(stock.dsn, now, ACCOUNTS)) + b"\n")
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the load did not start")
        # Connections, partitions and caches are not what is measured.
        await asyncio.sleep(WINDOW_SECONDS)
        yield
        process.stdin.write(b"stop\n")
        done = msgspec.json.decode(await process.stdout.readline(), type=Load)
        load.due, load.latencies_ms = done.due, done.latencies_ms
    finally:
        process.stdin.close()
        await process.wait()


class Spans:
    """Which spans of the machine's monotonic clock belong to which scenario."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float, float]] = []

    async def add(
        self, title: str, work: Callable[[], Awaitable[float]], at_least: float = WINDOW_SECONDS
    ) -> None:
        """Does ``work``, which says how many seconds it took, and fills the span up."""
        began = time.monotonic()
        seconds = await work()
        await asyncio.sleep(max(0, at_least - (time.monotonic() - began)))
        self._spans.append((title, began, time.monotonic(), seconds))

    def of(self, load: Load) -> list[Span]:
        """For each scenario the latencies of the batches that were due in its spans."""
        made: dict[str, Span] = {}
        for title, began, ended, seconds in self._spans:
            span = made.setdefault(title, Span(title))
            span.seconds.append(seconds)
            span.latencies_ms += [
                ms
                for due, ms in zip(load.due, load.latencies_ms, strict=True)
                if began <= due < ended
            ]
        return list(made.values())


async def quiet() -> float:
    """Nothing but ingest."""
    return 0.0


async def measure_drops(bench: Bench, stock: Stock) -> None:
    """Ingest while a large partition goes, in several ways."""
    rounds = bench.options.rounds
    lowers = (START - n * DAY for n in range(400, 500))
    names: list[tuple[datetime, str]] = []
    with bench.step("partitions to drop", 4 * rounds) as advance:
        for _ in range(4 * rounds):
            lower = next(lowers)
            names.append((lower, await stock.add_expired(lower, bench.options.partition_rows)))
            advance()
    await stock.settle()
    bench.report.partition_bytes = await stock.admin.fetchval(
        "SELECT pg_total_relation_size($1::text::regclass)", names[0][1]
    )
    spans, load = Spans(), Load([], [])

    async def ours() -> float:
        return await drop_ours(bench, stock, *names.pop())

    async def plain() -> float:
        began = time.perf_counter()
        await stock.admin.execute(f"DROP TABLE {names.pop()[1]}")
        return time.perf_counter() - began

    with bench.step("ingest during drops", 5 * rounds) as advance:
        async with load_running(stock, START + 10 * DAY, load):
            for _ in range(rounds):
                for title, work, reader in (
                    ("nothing else", quiet, False),
                    ("trafficlog's drop", ours, False),
                    (f"the same, a reader holds the table for {READER_SECONDS} s", ours, True),
                    ("plain DROP TABLE", plain, False),
                    (f"the same, a reader holds the table for {READER_SECONDS} s", plain, True),
                ):
                    name = title if work is ours or not reader else f"plain DROP, {title[10:]}"
                    async with reading(stock) if reader else contextlib.nullcontext():
                        await spans.add(name, work)
                    advance()
    bench.report.drops = spans.of(load)


@contextlib.asynccontextmanager
async def reading(stock: Stock) -> AsyncIterator[None]:
    """Somebody who reads history and leaves the transaction open for some seconds."""
    begun = asyncio.Event()

    async def read() -> None:
        connection = await asyncpg.connect(stock.dsn, server_settings={"search_path": "trafficlog"})
        async with connection.transaction():
            await connection.fetch("SELECT id FROM history_record LIMIT 1")
            begun.set()
            await asyncio.sleep(READER_SECONDS)
        await connection.close()

    task = asyncio.create_task(read())
    await begun.wait()
    yield
    await task


async def drop_ours(bench: Bench, stock: Stock, lower: datetime, name: str) -> float:
    """Seconds of the product's drop of one partition."""
    partition = Partition("history_record", name, Bounds(lower, lower + DAY))
    async with Retention(stock.dsn, bench.config) as retention:
        assert await retention.lead()
        began = time.perf_counter()
        await retention.drops.drop(partition, START)
        return time.perf_counter() - began


async def measure_shortening(bench: Bench, stock: Stock) -> None:
    """An account of many rows keeps 7 days from now on instead of 90."""
    rows = bench.options.account_rows
    now = START + 10 * DAY
    key = await stock.admin.fetchval(
        "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
        " history_days_max) VALUES ('big', $1, 90, 90, 90) RETURNING account_key",
        START,
    )
    with bench.step(f"an account of {rows:,} rows, shortened", HISTORY_DAYS + 1) as advance:
        for age in range(HISTORY_DAYS):
            first = now - (age + 1) * DAY
            if age == 0:
                await stock.ensure(*(first + n * DAY for n in range(HISTORY_DAYS + 2)))
            await stock.ensure(first + HISTORY_DAYS * DAY)
            await stock.add_records(
                "history_record",
                [(key, 90)],
                rows // HISTORY_DAYS,
                (first, first + DAY),
                f"big{age}/",
            )
            advance()
        await stock.settle("history_record")
        spans, load = Spans(), Load([], [])

        async def shorten() -> float:
            async with (
                Database(stock.dsn, bench.config) as database,
                Retention(stock.dsn, bench.config) as retention,
            ):
                assert await retention.lead()
                began = time.perf_counter()
                await Accounts(database).change(
                    AccountKey(key),
                    HistoryDays(SHORTER_DAYS),
                    monthly_reports=True,
                    now=now,
                    by="bench",
                )
                bench.report.hidden_ms = (time.perf_counter() - began) * 1000
                began = time.perf_counter()
                result = await retention.move(now, guard_clock=False)
                seconds = time.perf_counter() - began
            if result.failures:
                raise RuntimeError(f"the move failed: {result.failures}")
            bench.report.moved = result.rows_moved
            bench.report.destroyed = result.rows_destroyed
            return seconds

        async with load_running(stock, now, load):
            await spans.add("nothing else", quiet)
            await spans.add("an account is shortened", shorten, 0)
            await spans.add("nothing else", quiet)
    bench.report.shortening = spans.of(load)


async def measure_holds(bench: Bench, stock: Stock) -> None:
    """Placing holds, and what they cost a drop."""
    rounds = bench.options.rounds
    for row in await stock.admin.fetch("SELECT hold_id FROM abuse_hold WHERE released_at IS NULL"):
        await bench.release(stock, row["hold_id"])
    lowers = [START - n * DAY for n in range(600, 600 + 4 * rounds)]
    with bench.step("holds", 2 * len(lowers)) as advance:
        for lower in lowers:
            await stock.add_expired(lower, bench.options.partition_rows)
            advance()
        await stock.settle()
        selectors = {
            "no hold in force": [],
            "one hold, by account": [HoldSelector(account="a5")],
            "one hold, by number": [HoldSelector(number="+46701000001")],
            f"{MANY_HOLDS} holds, by number": [
                HoldSelector(number=f"+4670{1000000 + n}") for n in range(MANY_HOLDS)
            ],
        }
        for _ in range(rounds):
            for title, chosen in selectors.items():
                holds = await bench.hold(stock, *chosen)
                lower = lowers.pop()
                name = await stock.partition_at(lower)
                seconds = await drop_ours(bench, stock, lower, name)
                bench.report.hold_drops.setdefault(title, []).append(seconds)
                await bench.release(stock, *holds)
                advance()
        async with Database(stock.dsn, bench.config) as database:
            bench.report.placings_ms = [await time_placing(database) for _ in range(50)]
            # Once more with a hold by number in force, which has the drop look at every row.
            lower = START - 700 * DAY
            name = await stock.add_expired(lower, bench.options.partition_rows)
            drop = asyncio.create_task(drop_ours(bench, stock, lower, name))
            while not drop.done():
                bench.report.placings_in_drop_ms.append(await time_placing(database))
            await drop


async def place(database: Database, selector: HoldSelector) -> str:
    """Places a hold; its id."""
    placed = await Holds(database).place(
        selector,
        reason="measurement",
        case_ref="1",
        ends_at=START + 300 * DAY,
        by="bench",
        now=START,
    )
    return placed.id


async def time_placing(database: Database) -> float:
    """Milliseconds of placing a hold by number."""
    began = time.perf_counter()
    await place(database, HoldSelector(number="+46701000001"))
    return (time.perf_counter() - began) * 1000


def processes_of(data_dir: Path) -> dict[str, psutil.Process]:
    """The server and this process with the load below it: what the run is made of."""
    postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    return {"postgres": psutil.Process(postmaster), "bench": psutil.Process()}


async def measure(directory: Path, options: Options, progress: Progress) -> Report:
    """Everything, in one run on one server."""
    report = Report(partition_rows=options.partition_rows)
    with postgres.running(directory) as server:
        bench = Bench(server.dsn, options, progress, report)
        watch = Watch(processes_of(server.data_dir))
        stock = await measure_nights(bench)
        await measure_settings(bench)
        await measure_drops(bench, stock)
        await measure_shortening(bench, stock)
        await measure_holds(bench, stock)
        usage = watch.stop()
        report.others_cores = usage.others / usage.seconds
        report.version = await stock.admin.fetchval("SHOW server_version")
        await stock.admin.close()
    return report


@click.command()
@click.option(
    "--rows", default=2_000_000, show_default=True, type=click.IntRange(100_000), help="History."
)
@click.option(
    "--account-rows",
    default=200_000,
    show_default=True,
    type=click.IntRange(1_000),
    help="Rows of the account whose setting is shortened.",
)
@click.option("--nights", default=3, show_default=True, help="Nights of each kind.")
@click.option("--rounds", default=3, show_default=True, help="Drops of each kind.")
@click.option("--quick", is_flag=True, help="100,000 rows, 1 night, 1 round.")
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
    rows: int,
    account_rows: int,
    nights: int,
    rounds: int,
    *,
    quick: bool,
    directory: Path | None,
    results: Path,
) -> None:
    """Measure retention: a night's expiry beside a bare drop and beside DELETE, in one run."""
    options = Options(rows, account_rows, nights, rounds)
    if quick:
        options = Options(100_000, 10_000, 1, 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if sys.stdout.isatty() else 120)
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-bench-", dir=directory))
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    began = time.perf_counter()
    try:
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            report = asyncio.run(measure(data_dir, options, progress))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    facts = machine_facts() | {
        "PostgreSQL": f"{report.version}, embedded, fsync and synchronous_commit on",
        "trafficlog": __version__,
        "Rows": f"{options.rows:,} of history over {HISTORY_DAYS} days, {ACCOUNTS:,} accounts, "
        f"{HELD_ROWS:,} rows of each night's under a hold; {options.partition_rows:,} in a "
        f"partition dropped alone; {options.account_rows:,} of the account that was shortened",
        "Repeated": f"{options.nights} nights, {options.rounds} drops of each kind",
        "The run": f"{(time.perf_counter() - began) / 60:.0f} minutes",
    }
    for table in report.tables():
        console.print(table.for_terminal())
        console.print()
    if caution := report.caution():
        console.print(caution, highlight=False)
    results.mkdir(parents=True, exist_ok=True)
    write_plot(results / "retention.svg", report)
    write_markdown(results / "retention.md", facts, report, "retention.svg")


if __name__ == "__main__":
    main()
