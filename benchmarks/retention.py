"""What retention costs: a night's expiry beside a bare drop and beside DELETE, in one run.

All on one embedded PostgreSQL with its default durable settings, whose tables are filled first:

- **a night**: ``Retention.run`` at midnight, which drops the history of a day of expiry, with a
  hold by account that covers 1,000 of all rows. Beside it (a) a bare ``DETACH … CONCURRENTLY`` and
  ``DROP TABLE`` of the same rows in a table with as many partitions, and (b) what a service without
  expiry partitions does: for each account ``DELETE … WHERE account_key = … AND created_at < …`` on
  the same rows in a table partitioned by day of creation, a transaction for each 100 accounts, and,
  where the server has it, (c) pg_partman's maintenance of a table with the same rows and one period
  for all. At three sizes.
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
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import click
import psutil
import structlog
from history_stock import HISTORY_DAYS
from processor import Watch, machine_facts
from retention_bench import ACCOUNTS, Bench, Options
from retention_holds import measure_holds
from retention_ingest import measure_drops, measure_shortening
from retention_nights import HELD_ROWS, measure_nights, measure_settings
from retention_report import Report, write_markdown, write_plot
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trafficlog import __version__, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@dataclass
class Server:
    """A server to measure: of our own making, or one that somebody named."""

    dsn: str
    postmaster: int
    words: str


@contextlib.contextmanager
def embedded(directory: Path | None) -> Iterator[Server]:
    """An embedded server for the run."""
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-bench-", dir=directory))
    try:
        with postgres.running(data_dir) as server:
            process = (server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
            yield Server(server.dsn, int(process), "embedded")
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


async def named(dsn: str) -> Server:
    """A server of somebody else's on this machine."""
    admin = await asyncpg.connect(dsn)
    backend = psutil.Process(await admin.fetchval("SELECT pg_backend_pid()"))
    postmaster = backend.ppid()
    await admin.close()
    return Server(dsn, postmaster, "already running")


async def measure(server: Server, options: Options, progress: Progress) -> Report:
    """Everything, in one run on one server."""
    report = Report(partition_rows=options.partition_rows)
    bench = Bench(server.dsn, options, progress, report)
    # The server and this process with the load below it: what the run is made of.
    watch = Watch({"postgres": psutil.Process(server.postmaster), "bench": psutil.Process()})
    stock = await measure_nights(bench)
    await measure_settings(bench)
    await measure_drops(bench, stock)
    await measure_shortening(bench, stock)
    await measure_holds(bench, stock)
    usage = watch.stop()
    report.others_cores = usage.others / usage.seconds
    report.version = await stock.admin.fetchval("SHOW server_version")
    report.durable = await stock.admin.fetchval(
        "SELECT string_agg(name || ' ' || setting, ', ') FROM pg_settings"
        " WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
    )
    await bench.drop_stock(stock)
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
    "--database-url",
    help="A database of a server on this machine to be measured instead of an embedded one; "
    "databases of the benchmark's own are made and dropped there. Where pg_partman can be had it "
    "takes part.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "results",
    help="Where the report goes.  [default: results/ beside this file]",
)
@click.option("--name", default="retention", show_default=True, help="What its files are called.")
def main(
    rows: int,
    account_rows: int,
    nights: int,
    rounds: int,
    *,
    quick: bool,
    directory: Path | None,
    database_url: str | None,
    results: Path,
    name: str,
) -> None:
    """Measure retention: a night's expiry beside a bare drop and beside DELETE, in one run."""
    options = Options(rows, account_rows, nights, rounds)
    if quick:
        options = Options(100_000, 10_000, 1, 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if database_url is None:
            server = stack.enter_context(embedded(directory))
        else:
            server = asyncio.run(named(database_url))
        progress = stack.enter_context(
            Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        )
        report = asyncio.run(measure(server, options, progress))
    facts = machine_facts() | {
        "PostgreSQL": f"{report.version}, {server.words}; {report.durable}",
        "trafficlog": __version__,
        "Rows": f"{options.rows:,} of history over {HISTORY_DAYS} days, {ACCOUNTS:,} accounts, "
        f"{HELD_ROWS:,} of the rows under a hold; {options.partition_rows:,} in a "
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
    write_plot(results / f"{name}.svg", report)
    write_markdown(results / f"{name}.md", facts, report, f"{name}.svg")


if __name__ == "__main__":
    main()
