"""The server under measurement, and what all parts of ``retention.py`` do with it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
from history_stock import DAY, HISTORY_DAYS, START, Stock, make_stock

from trafficlog.config import Config
from trafficlog.partitions import Bounds, Partition
from trafficlog.store.database import Database
from trafficlog.store.holds import Holds
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime

    from retention_report import Report
    from rich.progress import Progress

    from trafficlog.selector import Selector

ACCOUNTS = 2_000
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
                self.dsn,
                f"trafficlog_bench_{name}",
                rows,
                settings,
                ACCOUNTS,
                advance,
                by_creation=by_creation,
            )

    async def hold(self, stock: Stock, *selectors: Selector) -> list[str]:
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

    async def settle(self, retention: Retention, at: datetime) -> None:
        """What all runs before have done: days that get no more records are sealed."""
        while (await retention.run(at, guard_clock=False)).sealed:
            pass

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

    async def drop_stock(self, stock: Stock) -> None:
        """Gets rid of a database that is not needed any more."""
        await stock.admin.close()
        admin = await asyncpg.connect(self.dsn)
        await admin.execute(f'DROP DATABASE "{stock.name}" WITH (FORCE)')
        await admin.close()

    async def drop(self, stock: Stock, lower: datetime, name: str) -> float:
        """Seconds of the product's drop of one partition."""
        partition = Partition("history_record", name, Bounds(lower, lower + DAY))
        async with Retention(stock.dsn, self.config) as retention:
            assert await retention.lead()
            began = time.perf_counter()
            await retention.drops.drop(partition, START)
            return time.perf_counter() - began


async def place(database: Database, selector: Selector) -> str:
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
