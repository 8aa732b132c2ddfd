"""Ingest meanwhile: while a large partition goes, and while an account's period is shortened."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec
from history_stock import DAY, HISTORY_DAYS, START
from retention_bench import ACCOUNTS
from retention_report import Span
from steady_load import Load, Pace

from trafficlog.records import AccountKey
from trafficlog.retention import HistoryDays
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from history_stock import Stock
    from retention_bench import Bench

HERE = Path(__file__).parent
READER_SECONDS = 4
WINDOW_SECONDS = 6
SHORTER_DAYS = 7


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
        return await bench.drop(stock, *names.pop())

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
