"""The jobs: retention, moves of history and sums of usage, run by one instance at a time.

The first run is at the start, not one interval later. What fails is counted and
logged with what and why, and tried again at the next interval.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from trafficlog.errors import ClockJumpError, DatabaseUnavailableError, TrafficlogError
from trafficlog.retention import is_expired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from trafficlog.config import Config
    from trafficlog.metrics import Metrics
    from trafficlog.partitions import Partition

log = structlog.get_logger()


class Dropped(Protocol):
    """What a run says of a partition it dropped."""

    @property
    def table(self) -> str:
        """The partitioned table."""


class Report(Protocol):
    """What a run says it did."""

    rows_moved: int
    rows_destroyed: int
    held_destroyed: int
    failures: list[str]

    @property
    def dropped(self) -> Sequence[Dropped]:
        """The partitions that are gone."""


class State(Protocol):
    """What the gauges are made from."""

    @property
    def partitions(self) -> list[Partition]:
        """Every partition."""


class Executor(Protocol):
    """What carries retention out; see ``trafficlog.store.retention``."""

    async def lead(self) -> bool:
        """Whether this instance is the one that runs the jobs now."""

    async def step_down(self) -> None:
        """Lets another instance lead."""

    async def run(self, now: datetime, *, guard_clock: bool) -> Report:
        """Does all that is due."""

    async def move(self, now: datetime, *, guard_clock: bool) -> Report:
        """Moves history only."""

    async def roll_up_usage(self) -> int:
        """Sums up what was added to the usage statistics."""

    async def state(self, now: datetime) -> State:
        """What there is."""

    async def headroom(self, now: datetime) -> dict[str, timedelta]:
        """How far ahead partitions are made."""

    async def holds_active(self, now: datetime) -> int:
        """How many holds are in force."""


class Jobs:
    """Runs the jobs until it is cancelled."""

    def __init__(
        self,
        executor: Callable[[], AbstractAsyncContextManager[Executor]],
        now: Callable[[], datetime],
        config: Config,
        metrics: Metrics,
        *,
        guard_clock: bool,
    ) -> None:
        self._executor = executor
        self._now = now
        self._config = config
        self._metrics = metrics
        self._guard_clock = guard_clock
        self._last_run: float | None = None

    async def run_for_ever(self) -> None:
        """One round after another; starts over when the database was away."""
        while True:
            try:
                async with self._executor() as executor:
                    while True:
                        await self.run_round(executor)
                        await asyncio.sleep(self._config.move_interval_seconds)
            except DatabaseUnavailableError as error:
                self._metrics.job_failures.labels("retention").inc()
                log.warning("jobs_paused", reason=error.detail)
            except Exception:
                # Whatever it was, the next round must have its turn.
                self._metrics.job_failures.labels("retention").inc()
                log.exception("jobs_broke")
            await asyncio.sleep(self._config.move_interval_seconds)

    async def run_round(self, executor: Executor) -> None:
        """Runs what is due if no other instance, and no command, is at it just now."""
        if await executor.lead():
            try:
                await self.run_due(executor)
            finally:
                await executor.step_down()
        await self.observe(executor)

    async def run_due(self, executor: Executor) -> None:
        """Runs retention when its interval has passed, else looks for moves alone."""
        interval = self._config.retention_interval_seconds
        if self._last_run is None or time.monotonic() - self._last_run >= interval:
            began = time.monotonic()
            await self._retain(executor)
            # A run that the database cut off is made up for in the next round.
            self._last_run = began
        else:
            await self._move(executor)
        await self._sum_up(executor)

    async def observe(self, executor: Executor) -> None:
        """Sets the gauges that tell how retention stands."""
        now = self._now()
        state = await executor.state(now)
        for table, headroom in (await executor.headroom(now)).items():
            expired = [
                now - p.bounds.upper
                for p in state.partitions
                if p.table == table and is_expired(p.bounds.upper, now)
            ]
            overdue = max(expired).total_seconds() if expired else 0
            self._metrics.partition_overdue_seconds.labels(table).set(overdue)
            self._metrics.partition_headroom_seconds.labels(table).set(headroom.total_seconds())
        self._metrics.holds_active.set(await executor.holds_active(now))

    async def _retain(self, executor: Executor) -> None:
        try:
            report = await executor.run(self._now(), guard_clock=self._guard_clock)
        except ClockJumpError as error:
            self._metrics.job_failures.labels("retention").inc()
            log.error("retention_refused", reason=error.detail)
            return
        self._note("retention", report)

    async def _move(self, executor: Executor) -> None:
        try:
            report = await executor.move(self._now(), guard_clock=self._guard_clock)
        except DatabaseUnavailableError:
            raise
        except TrafficlogError as error:
            self._metrics.job_failures.labels("moves").inc()
            log.error("move_failed", reason=error.detail)
            return
        self._note("moves", report)

    async def _sum_up(self, executor: Executor) -> None:
        try:
            await executor.roll_up_usage()
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            # What is not summed up yet counts all the same; the next round tries again.
            self._metrics.job_failures.labels("usage").inc()
            log.exception("usage_not_summed_up", reason=str(error))
            return
        self._metrics.job_last_success.labels("usage").set(self._now().timestamp())

    def _note(self, job: str, report: Report) -> None:
        for dropped in report.dropped:
            self._metrics.partitions_dropped.labels(dropped.table).inc()
        self._metrics.rows_erased.labels("setting").inc(report.rows_destroyed)
        self._metrics.rows_erased.labels("hold-ended").inc(report.held_destroyed)
        if report.failures:
            self._metrics.job_failures.labels(job).inc()
        else:
            self._metrics.job_last_success.labels(job).set(self._now().timestamp())
        if report.dropped or report.failures or report.rows_moved or report.rows_destroyed:
            log.info(
                job,
                dropped=len(report.dropped),
                moved=report.rows_moved,
                destroyed=report.rows_destroyed,
                failures=report.failures,
            )
