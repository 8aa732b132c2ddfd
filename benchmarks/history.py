"""What reading history costs: pages, one record, a filter, export and erasure, in one run.

All on one embedded PostgreSQL with its default durable settings. It is filled first: 90 days of
records of 2,000 accounts that keep them for 90 days, of which one has a fifth of all; whole days
are sealed, as the retention runs of 90 days have done. Then, without ingest and with three writers
that bring in 9,000 records a second through the product's writer:

- **first page** of 100 records, of an account by chance and of the large one; beside it the
  **ideal**: the bare scan of one index of one table that has the same records.
- **page 1,000** of the large account, which begins 99,900 records deep.
- **one record by id**, in 90 days of the large account.
- **by peer number**: the first page of what a filter chooses, a number that is seldom reached.
- the first page and one record **over HTTP**, from a service in a process of its own.
- the **export** of the large account, beside `COPY` of the same rows, and the **erasure** of the
  records of another one by a filter.

Run ``python benchmarks/history.py`` (needs the extra ``bench``); writes ``results/history.md`` and
``results/history.svg`` beside this file. ``--rows 1000000 --rows 10000000`` are the sizes that the
aims are stated for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil
import structlog
from history_bench import ACCOUNTS, BIG_SHARE, Bench, Options, fill, measure
from history_report import Report, write_markdown, write_plot
from history_stock import HISTORY_DAYS
from processor import Watch, machine_facts
from retention import embedded
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trafficlog import __version__

if TYPE_CHECKING:
    from retention import Server

HERE = Path(__file__).parent


async def run(server: Server, options: Options, progress: Progress) -> Report:
    """Everything, in one run on one server."""
    report = Report(options.rows)
    bench = Bench(server.dsn, options, progress, report)
    filled = await fill(bench)
    # The server and this process with the load below it: what the run is made of.
    watch = Watch({"postgres": psutil.Process(server.postmaster), "bench": psutil.Process()})
    await measure(bench, filled)
    usage = watch.stop()
    report.others_cores = usage.others / usage.seconds
    admin = filled.stock.admin
    report.version = await admin.fetchval("SHOW server_version")
    report.durable = await admin.fetchval(
        "SELECT string_agg(name || ' ' || setting, ', ') FROM pg_settings"
        " WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers')"
    )
    await admin.close()
    return report


@click.command()
@click.option(
    "--rows",
    default=(1_000_000,),
    show_default=True,
    multiple=True,
    type=click.IntRange(150_000),
    help="Records of history; more than once for several sizes, one after the other.",
)
@click.option("--times", default=1_000, show_default=True, help="How often each page is read.")
@click.option("--quick", is_flag=True, help="200,000 records, each page 100 times.")
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
@click.option("--name", default="history", show_default=True, help="What its files are called.")
def main(
    rows: tuple[int, ...],
    times: int,
    *,
    quick: bool,
    directory: Path | None,
    results: Path,
    name: str,
) -> None:
    """Measure the reading of history: pages, one record, filters, export, erasure."""
    sizes = [Options(200_000, 100)] if quick else [Options(each, times) for each in rows]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    began = time.perf_counter()
    reports = []
    for options in sizes:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(embedded(directory))
            progress = stack.enter_context(
                Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
            )
            reports.append(asyncio.run(run(server, options, progress)))
    facts = machine_facts() | {
        "PostgreSQL": f"{reports[0].version}, embedded; {reports[0].durable}",
        "trafficlog": __version__,
        "Records": f"over {HISTORY_DAYS} days, of {ACCOUNTS:,} accounts, of which one has at least "
        f"{BIG_SHARE:.0%}",
        "The run": f"{(time.perf_counter() - began) / 60:.0f} minutes",
    }
    for report in reports:
        for table in report.tables():
            console.print(table.for_terminal())
            console.print()
        if caution := report.caution():
            console.print(caution, highlight=False)
    results.mkdir(parents=True, exist_ok=True)
    write_plot(results / f"{name}.svg", reports)
    write_markdown(results / f"{name}.md", facts, reports, f"{name}.svg")


if __name__ == "__main__":
    main()
