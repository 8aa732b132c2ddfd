"""Minutes of lifelike load at 80 % of capacity: nothing may grow but the tables.

A service process with the settings it has from the start, a PostgreSQL that is durable, and a load
generator on the same cores. Half of the records are new, half later reports of others some seconds
before; some are sent twice, some are bad; the accounts keep history for days, for years or not at
all.

First the capacity of such requests is measured, the next one sent when the last was answered. Then
requests fall due by themselves at 80 % of it, and for each window of time there are latencies, the
service's resident memory, file descriptors and threads, PostgreSQL's memory and connections, and
the size of the store. Flat is what a straight line through the windows, but for the first of them,
does not let grow by more than is allowed, or by less than twice what chance makes it vary. At the
end the legal record must hold as many rows as records were acknowledged.

Run ``python benchmarks/soak.py`` (needs the extra ``bench``); writes ``results/soak.md`` and
``results/soak.svg`` beside this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import msgspec
import psutil
from ingest_bench import (
    HERE,
    TRAFFICLOG,
    connected,
    ended,
    make_accounts,
    make_key,
    resident_bytes,
    serving,
)
from processor import Watch, machine_facts
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from soak_report import Rest, Soak, Window, write_markdown, write_plot
from soak_sender import Order, Setup, Span

from trafficlog import __version__, postgres
from trafficlog.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ANSWER_IS_NO = 1
SHARE = 0.8
BATCH = 100
# At full speed; at a pace there are more, so that a request never waits for one to be free.
CONNECTIONS, PACED_CONNECTIONS = 32, 128
WARM_UP_SECONDS = 8
CAPACITY_ROUNDS, CAPACITY_SECONDS = 3, 6
LOOK_SECONDS = 1
# When connections have ended and transactions are over.
REST_SECONDS = 5


@dataclass
class Bench:
    """A database, a service and a load generator, all running."""

    dsn: str
    postmaster: psutil.Process
    service: psutil.Process
    generator: asyncio.subprocess.Process
    spans: list[Span] = field(default_factory=list)

    async def full_speed(self, seconds: float) -> Span:
        """So many seconds of load, each request sent when the last was answered."""
        self.order(Order(seconds, CONNECTIONS))
        span = await self.told()
        assert span is not None
        return span

    def order(self, order: Order) -> None:
        """Tells the generator what to do."""
        assert self.generator.stdin is not None
        self.generator.stdin.write(msgspec.json.encode(order) + b"\n")

    async def told(self) -> Span | None:
        """What it tells next; None: that was all."""
        assert self.generator.stdout is not None
        line = await self.generator.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended early")
        if not line.strip():
            return None
        span = msgspec.json.decode(line, type=Span)
        self.spans.append(span)
        return span

    def at_rest(self) -> Rest:
        """What the service holds when nobody sends anything."""
        return Rest(
            resident_bytes(self.service), self.service.num_fds(), self.service.num_threads()
        )

    async def acknowledged_and_stored(self) -> tuple[int, int]:
        """How many records were answered to be new, and how many there are."""
        async with connected(self.dsn) as connection:
            stored = await connection.fetchval("SELECT count(*) FROM trafficlog.traffic_record")
        return sum(span.accepted for span in self.spans), stored


class Sampler:
    """Looks at the processes all the time, and sums up a window at a time."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._began = time.perf_counter()
        self._looks: list[Rest] = []
        self._watch = self._watching()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._looks.append(self._bench.at_rest())
            await asyncio.sleep(LOOK_SECONDS)

    async def window(self, span: Span) -> Window:
        """The window that ends now."""
        looks, self._looks = self._looks, []
        usage, self._watch = self._watch.stop(), self._watching()
        cores = {name: used / usage.seconds for name, used in usage.watched.items()}
        async with connected(self._bench.dsn) as connection:
            store, backends = await connection.fetchrow(
                "SELECT (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
                " WHERE c.relkind = 'r' AND c.relnamespace = 'trafficlog'::regnamespace),"
                " (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'trafficlog%')"
            )
        return Window(
            at_seconds=time.perf_counter() - self._began,
            span=span,
            memory_bytes=max(look.memory_bytes for look in looks),
            descriptors=max(look.descriptors for look in looks),
            threads=max(look.threads for look in looks),
            postgres_bytes=await asyncio.to_thread(proportional_bytes, self._bench.postmaster),
            backends=backends,
            store_bytes=int(store),
            service_cores=cores["service"],
            postgres_cores=cores["postgres"],
            generator_cores=cores["generator"],
            others_cores=usage.others / usage.seconds,
        )

    def _watching(self) -> Watch:
        bench = self._bench
        generator = psutil.Process(bench.generator.pid)
        return Watch(
            {"service": bench.service, "postgres": bench.postmaster, "generator": generator}
        )


def proportional_bytes(root: psutil.Process) -> int:
    """What a process and all below it have in memory, what they share counted once; 0: not told."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += getattr(process.memory_full_info(), "pss", 0)
    return total


@contextlib.asynccontextmanager
async def running(dsn: str, postmaster: psutil.Process, accounts: int) -> AsyncIterator[Bench]:
    """A bench on a migrated database that has its accounts."""
    key = await make_key(dsn)
    arguments = ("serve", "--database-url", dsn, "--listen", "127.0.0.1:0", "--json")
    async with contextlib.AsyncExitStack() as stack:
        service, url = await stack.enter_async_context(serving(*TRAFFICLOG, *arguments))
        generator = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "soak_sender.py")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.push_async_callback(ended, generator)
        assert generator.stdin is not None
        generator.stdin.write(msgspec.json.encode(Setup(url, key, accounts, BATCH)) + b"\n")
        yield Bench(dsn, postmaster, service, generator)


async def measure(
    directory: Path,
    seconds: float,
    window_seconds: float,
    accounts: int,
    step: Callable[[str], None],
) -> Soak:
    """Everything, on a fresh server below ``directory``."""
    with postgres.running(directory) as server:
        pid = (server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
        await migrate(server.dsn)
        await make_accounts(server.dsn, accounts)
        async with running(server.dsn, psutil.Process(int(pid)), accounts) as bench:
            step("warming up")
            await bench.full_speed(WARM_UP_SECONDS)
            rounds = []
            for number in range(CAPACITY_ROUNDS):
                step(f"capacity {number + 1}")
                span = await bench.full_speed(CAPACITY_SECONDS)
                rounds.append(span.requests / span.seconds)
            capacity = median(rounds)
            await asyncio.sleep(REST_SECONDS)
            before = bench.at_rest()
            windows = await hold(bench, SHARE * capacity, seconds, window_seconds, step)
            await asyncio.sleep(REST_SECONDS)
            after = bench.at_rest()
            step("counting rows")
            acknowledged, stored = await bench.acknowledged_and_stored()
        async with connected(server.dsn) as connection:
            version = await connection.fetchval("SHOW server_version")
    return Soak(
        SHARE, BATCH, capacity, windows, before, after, acknowledged, stored, server_version=version
    )


async def hold(
    bench: Bench, rate: float, seconds: float, window_seconds: float, step: Callable[[str], None]
) -> list[Window]:
    """The load at a rate of requests a second, window by window."""
    sampler = Sampler(bench)
    looking = asyncio.create_task(sampler.run())
    windows = []
    try:
        bench.order(Order(seconds, PACED_CONNECTIONS, rate, window_seconds))
        while (span := await bench.told()) is not None:
            # What is left at the end is too short to be compared with the others.
            if span.seconds > window_seconds / 2:
                windows.append(await sampler.window(span))
                step(f"{windows[-1].at_seconds:.0f} of {seconds:.0f} s, p99 {span.p99_ms:.0f} ms")
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    return windows


@click.command()
@click.option(
    "--seconds",
    default=600.0,
    show_default=True,
    type=click.FloatRange(30),
    help="How long the load is held.",
)
@click.option(
    "--window-seconds",
    type=click.FloatRange(3),
    help="How long a window is.  [default: a twentieth of that]",
)
@click.option(
    "--accounts",
    default=500,
    show_default=True,
    type=click.IntRange(20, 2000),
    help="Accounts that the records are spread over, with a long tail.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database is put for the run.  [default: the directory for temporary files]",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "results",
    help="Where the report goes.  [default: results/ beside this file]",
)
def main(
    seconds: float,
    window_seconds: float | None,
    accounts: int,
    directory: Path | None,
    results: Path,
) -> None:
    """Hold 80 % of what the service can take, and see whether anything grows."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-soak-", dir=directory))
    began = time.perf_counter()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("starting", total=None)

            def step(words: str) -> None:
                progress.update(task, description=words)

            window = window_seconds or seconds / 20
            soak = asyncio.run(measure(data_dir, seconds, window, accounts, step))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    facts = machine_facts() | {
        "trafficlog": __version__,
        "PostgreSQL": f"{soak.server_version}, embedded, fsync and synchronous_commit on",
        "Accounts": f"{accounts}",
        "The run": f"{(time.perf_counter() - began) / 60:.1f} minutes",
    }
    for table in soak.tables():
        console.print(table.for_terminal())
        console.print()
    console.print(soak.words(), highlight=False)
    results.mkdir(parents=True, exist_ok=True)
    write_plot(results / "soak.svg", soak)
    write_markdown(results / "soak.md", facts, soak, "soak.svg")
    if not soak.is_good:
        sys.exit(ANSWER_IS_NO)


if __name__ == "__main__":
    main()
