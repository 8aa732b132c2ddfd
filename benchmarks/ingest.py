"""Records a second through HTTP beside ready-made COPY bytes and beside peers, as ratios.

What is compared, on one embedded PostgreSQL with its default durable settings, in one run:

- **HTTP**: NDJSON to ``POST /v1/records``, 1,000 records a request, 8 connections, with everything
  on: keys, validation, settings, statistics, metrics. The service is a process of its own.
- **COPY**: the same kind of records as binary COPY bytes that were made beforehand, streamed by
  asyncpg into the same tables, in transactions of up to 20,000 records: in one stream, against
  which the aim for HTTP is stated, and in two, the most this database takes in this way.
- **small** and **single**: HTTP with 10 records a request on 32 connections, and with 1 on 64;
  beside the latter an **empty handler**, which reads the same bodies and answers.
- **updates**: a later report of each record that the HTTP road wrote, in no order.
- **mixed**: as a gateway sends them, first reports and later ones of earlier records in the same
  requests, half of each.
- **just created**: HTTP and COPY again with records of the last two seconds. All others are of the
  last five minutes, which is as if those of one second came all over the minutes of load before
  it: PostgreSQL then writes into the middle of its indexes, and after a checkpoint each page that
  it meets there is logged whole, two to three times the log of a record. A gateway's come in the
  order they were made; then less of PostgreSQL's time hides what the service takes.
- **peers**: plain aiohttp services with ``executemany`` and with ``copy_records_to_table``
  (``peers/``), and rsyslog where it is installed (Debian: ``apt install rsyslog-pgsql``).
- **latency** at 50 % and at 80 % of the capacity measured just before, requests falling due by
  themselves, and the service's resident memory.
- **at size**: HTTP into a store with rows in 400 partitions and into an empty one, and the bytes on
  disk of a record.

Where the machine is virtual and its host takes back unused memory, memory that is touched for the
first time costs 6 to 11 us a page: of COPY PostgreSQL's time a record is 6 us, and 10 once those
pages are used up that something had touched before. So memory is touched before each measurement,
more than it needs. PostgreSQL's time a record still grows over a run, with its indexes and with
what updates leave behind (measured, six or seven rounds of HTTP: 7 to 9 us by itself, 7 to 14
between updates, 8 to 10 between updates with automatic vacuum off).

The load generator is one more process on the same cores; its requests are made beforehand. The
tables are vacuumed before each measurement, so that this work does not fall to the wrong road.
Checkpoints come when PostgreSQL makes them: one before each measurement would have every page of
the indexes written whole again for a few seconds of load, which hides what is to be compared. At
the end both tables must hold what was acknowledged, row for row.

Run ``python benchmarks/ingest.py`` (needs the extra ``bench``); writes ``results/ingest.md`` and
``results/ingest.svg`` beside this file. ``--stock-rows 20000000`` is the size that the aim is
stated for.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import click
import ingest_latency
import ingest_roads
import ingest_stock
import psutil
from ingest_bench import HERE, make_accounts, resident_bytes, running
from ingest_peers import started
from ingest_plot import write_plot
from ingest_report import Report, write_markdown
from processor import machine_facts
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trafficlog import __version__, postgres
from trafficlog.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_IS_NO = 1
AT_SIZE_ROUNDS_MAX = 3


@dataclass(frozen=True)
class Options:
    """How large the run is."""

    records: int
    rounds: int
    accounts: int
    stock_rows: int
    paced_seconds: float

    @property
    def at_size_rounds(self) -> int:
        """Rounds of the comparison of stores."""
        return min(self.rounds, AT_SIZE_ROUNDS_MAX)

    @property
    def steps(self) -> int:
        """How many steps the whole run has."""
        return (
            ingest_roads.steps(self.rounds)
            + ingest_latency.STEPS
            + ingest_stock.steps(self.at_size_rounds)
            + 1
        )


QUICK = Options(20_000, 2, 500, 100_000, 3)


async def measure(
    directory: Path, options: Options, step: Callable[[str], None]
) -> tuple[Report, dict[str, str]]:
    """Everything, on a fresh server below ``directory``; the report and facts of the run."""
    with postgres.running(directory) as server:
        postmaster = psutil.Process(
            int((server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        await migrate(server.dsn)
        await make_accounts(server.dsn, options.accounts)
        async with running(server.dsn, postmaster, options.accounts) as bench:
            at_rest = resident_bytes(bench.service)
            async with started(server.dsn, directory) as peers:
                roads = await ingest_roads.measure_roads(
                    bench, peers, options.records, options.rounds, step
                )
            latency = await ingest_latency.measure_latency(
                bench, options.records // 2, options.paced_seconds, step
            )
            step("counting rows")
            faults = await bench.check()
        at_size = await ingest_stock.measure_at_size(
            server.dsn,
            postmaster,
            options.stock_rows,
            options.records,
            options.at_size_rounds,
            options.accounts,
            step,
        )
        faults += at_size.faults
        connection = await asyncpg.connect(server.dsn)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
    report = Report(roads, latency, at_size, peers, at_rest, faults)
    return report, {
        "PostgreSQL": f"{version}, embedded, fsync and synchronous_commit on",
        "Records": f"{options.records:,} in each of {options.rounds} rounds, half with 10 a "
        f"request and at the peers, a quarter with 1, of {bench.line_bytes:.0f} bytes (NDJSON), "
        f"{options.accounts} accounts",
        "Rows present": f"{at_size.stock_rows:,} of history in {at_size.partitions} partitions, "
        f"{at_size.legal_rows:,} legal records",
        "Verified": f"{bench.stored.records:,} records and {bench.stored.updates:,} updates "
        "acknowledged, and those at size, "
        + ("all there in both tables" if not faults else "but " + "; ".join(faults)),
    }


@click.command()
@click.option(
    "--records",
    default=100_000,
    show_default=True,
    type=click.IntRange(2_000),
    help="Records of each measurement.",
)
@click.option("--rounds", default=3, show_default=True, help="Measurements of each road.")
@click.option(
    "--accounts",
    default=500,
    show_default=True,
    type=click.IntRange(20, 2000),
    help="Accounts that the records are spread over, with a long tail.",
)
@click.option(
    "--stock-rows",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(10_000),
    help="History rows of the store that is not empty, over 400 partitions.",
)
@click.option(
    "--paced-seconds",
    default=12.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="How long latency is watched at each share of capacity.",
)
@click.option(
    "--quick", is_flag=True, help=f"{QUICK.rounds} rounds of {QUICK.records:,} records, and so on."
)
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
    records: int,
    rounds: int,
    accounts: int,
    stock_rows: int,
    paced_seconds: float,
    *,
    quick: bool,
    directory: Path | None,
    results: Path,
) -> None:
    """Measure ingest: HTTP beside ready-made COPY bytes and beside peers, in one run."""
    options = QUICK if quick else Options(records, rounds, accounts, stock_rows, paced_seconds)
    console = Console(width=None if sys.stdout.isatty() else 120)
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-bench-", dir=directory))
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn())
    began = time.perf_counter()
    try:
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            task = progress.add_task("starting", total=options.steps)

            def step(words: str) -> None:
                progress.update(task, description=words, advance=1)

            report, facts = asyncio.run(measure(data_dir, options, step))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    facts = machine_facts() | {"trafficlog": __version__} | facts
    facts["The run"] = f"{(time.perf_counter() - began) / 60:.1f} minutes"
    for table in report.tables():
        console.print(table.for_terminal())
        console.print()
    for line in filter(None, [report.peers.words(), report.caution(), facts["Verified"]]):
        console.print(f"{line}\n", highlight=False)
    results.mkdir(parents=True, exist_ok=True)
    write_plot(results / "ingest.svg", report)
    write_markdown(results / "ingest.md", facts, report, "ingest.svg")
    if report.faults:
        sys.exit(ANSWER_IS_NO)


if __name__ == "__main__":
    main()
