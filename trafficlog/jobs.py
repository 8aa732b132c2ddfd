"""The jobs: retention, moves of history, sums of usage and reports, run by one instance at a time.

The first run is at the start, not one interval later. What fails is counted and
logged with what and why, and tried again at the next interval.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from trafficlog.errors import ClockJumpError, DatabaseUnavailableError, TrafficlogError
from trafficlog.retention import is_expired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from trafficlog.config import Config
    from trafficlog.metrics import Metrics
    from trafficlog.partitions import Partition

log = structlog.get_logger()

TELL_SECONDS: Final = 60
FAILURE_CHARS_MAX: Final = 200


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


class Erased(Protocol):
    """What a round of erasures says it did."""

    rows_erased: int
    finished: int
    left_over: int
    oldest: datetime | None
    failures: list[str]


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

    async def make_reports(self, now: datetime, *, guard_clock: bool) -> int:
        """Makes the monthly reports that are due."""

    async def erase(self, now: datetime, *, guard_clock: bool) -> Erased:
        """Carries on what customers want erased."""

    async def note_jobs(self, outcomes: Mapping[str, str | None], now: datetime) -> None:
        """Notes how the last runs of jobs ended: what failed, or None."""

    async def state(self, now: datetime) -> State:
        """What there is."""

    async def headroom(self, now: datetime) -> dict[str, timedelta]:
        """How far ahead partitions are made."""

    async def holds_active(self, now: datetime) -> int:
        """How many holds are in force."""


class JobNotes:
    """How runs ended, and which of that is worth writing down for operators.

    A failure is, and a change; of runs that all go well one a minute is enough.
    """

    def __init__(self) -> None:
        self._ended: dict[str, str | None] = {}
        self._told: dict[str, tuple[bool, float]] = {}

    def add(self, job: str, failure: str | None = None) -> None:
        """Takes in how a run ended: what failed, or None."""
        # What the database adds on further lines may show a row.
        self._ended[job] = failure and failure.partition("\n")[0][:FAILURE_CHARS_MAX]

    def to_tell(self, now: float) -> dict[str, str | None]:
        """What is to be written down at ``now``, in seconds of a clock that never goes back."""
        tell = {}
        for job, failure in self._ended.items():
            before, at = self._told.get(job, (None, 0.0))
            well = failure is None
            if not well or well != before or now - at >= TELL_SECONDS:
                tell[job] = failure
                self._told[job] = (well, now)
        self._ended = {}
        return tell


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
        self._left_over = False
        self._notes = JobNotes()

    async def run_for_ever(self) -> None:
        """One round after another; starts over when the database was away."""
        while True:
            try:
                async with self._executor() as executor:
                    while True:
                        await self.run_round(executor)
                        # What one round had no time for need not wait for the next look.
                        pause = 0 if self._left_over else self._config.move_interval_seconds
                        await asyncio.sleep(pause)
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
        self._left_over = False
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
        await self._erase(executor)
        await self._sum_up(executor)
        await self._report(executor)
        if outcomes := self._notes.to_tell(time.monotonic()):
            await executor.note_jobs(outcomes, self._now())

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
            self._notes.add("retention", error.detail)
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
            self._notes.add("moves", error.detail)
            log.error("move_failed", reason=error.detail)
            return
        self._note("moves", report)

    async def _erase(self, executor: Executor) -> None:
        now = self._now()
        try:
            result = await executor.erase(now, guard_clock=self._guard_clock)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            # Retention and usage go on; the next round tries again.
            self._metrics.job_failures.labels("erasures").inc()
            self._notes.add("erasures", str(error))
            log.exception("erasures_broke", reason=str(error))
            return
        self._left_over = result.left_over > 0
        self._metrics.rows_erased.labels("erased").inc(result.rows_erased)
        waiting = 0.0 if result.oldest is None else (now - result.oldest).total_seconds()
        self._metrics.erasure_oldest_seconds.set(max(0.0, waiting))
        if result.failures:
            self._metrics.job_failures.labels("erasures").inc()
            self._notes.add("erasures", result.failures[0])
        else:
            self._notes.add("erasures")
            self._metrics.job_last_success.labels("erasures").set(self._now().timestamp())
        if result.oldest is not None:
            log.info(
                "erasures",
                erased=result.rows_erased,
                finished=result.finished,
                left_over=result.left_over,
                failures=result.failures,
            )

    async def _sum_up(self, executor: Executor) -> None:
        try:
            await executor.roll_up_usage()
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            # What is not summed up yet counts all the same; the next round tries again.
            self._metrics.job_failures.labels("usage").inc()
            self._notes.add("usage", str(error))
            log.exception("usage_not_summed_up", reason=str(error))
            return
        self._notes.add("usage")
        self._metrics.job_last_success.labels("usage").set(self._now().timestamp())

    async def _report(self, executor: Executor) -> None:
        try:
            made = await executor.make_reports(self._now(), guard_clock=self._guard_clock)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            self._metrics.job_failures.labels("reports").inc()
            self._notes.add("reports", str(error))
            log.exception("reports_not_made", reason=str(error))
            return
        self._notes.add("reports")
        self._metrics.job_last_success.labels("reports").set(self._now().timestamp())
        if made:
            log.info("reports", accounts=made)

    def _note(self, job: str, report: Report) -> None:
        for dropped in report.dropped:
            self._metrics.partitions_dropped.labels(dropped.table).inc()
        self._metrics.rows_erased.labels("setting").inc(report.rows_destroyed)
        self._metrics.rows_erased.labels("hold-ended").inc(report.held_destroyed)
        if report.failures:
            self._metrics.job_failures.labels(job).inc()
            self._notes.add(job, report.failures[0])
        else:
            self._notes.add(job)
            self._metrics.job_last_success.labels(job).set(self._now().timestamp())
        if report.dropped or report.failures or report.rows_moved or report.rows_destroyed:
            log.info(
                job,
                dropped=len(report.dropped),
                moved=report.rows_moved,
                destroyed=report.rows_destroyed,
                failures=report.failures,
            )
