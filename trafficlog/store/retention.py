"""Retention carried out: moves, partitions made and dropped, held copies destroyed.

Works on a connection of its own, so that it is never starved by ingest. What fails is
noted with its reason, and the rest has its turn; the next run tries again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import asyncpg
import structlog

from trafficlog.errors import ConflictError, TrafficlogError
from trafficlog.queries import queries, rows
from trafficlog.retention import check_clock
from trafficlog.store.database import availability, connect
from trafficlog.store.drops import Dropped, Drops, retried
from trafficlog.store.erasing import Erasing, ErasingResult
from trafficlog.store.reports import make_due
from trafficlog.store.sealing import Sealing
from trafficlog.store.state import State, read_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from trafficlog.config import Config
    from trafficlog.partitions import Bounds, Partition
    from trafficlog.retention import DataClass, Plan

log = structlog.get_logger()

T = TypeVar("T")

# What stops one thing and not the run.
FAILURES: Final = (asyncpg.PostgresError, TimeoutError, TrafficlogError)


@dataclass(slots=True)
class RunResult:
    """What one retention run did, and what it could not do."""

    at: datetime
    created: list[tuple[DataClass, Bounds]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    rows_moved: int = 0
    rows_destroyed: int = 0
    held_destroyed: int = 0
    failures: list[str] = field(default_factory=list)
    left_over: int = 0


class Retention:
    """Carries retention out over one connection.

    Use as ``async with``; ``lead`` must be true before anything is changed.
    """

    def __init__(self, dsn: str, config: Config) -> None:
        self._dsn = dsn
        self._config = config
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(
            self._dsn,
            "trafficlog_retention",
            self._config,
            statement_timeout="0",
            lock_timeout=f"{self._config.lock_timeout_ms}ms",
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._connection is not None:
            await self._connection.close(timeout=5)

    @property
    def drops(self) -> Drops:
        """The drops of single partitions."""
        return Drops(self.connection, self._config)

    @property
    def erasing(self) -> Erasing:
        """The erasures that customers ask for."""
        return Erasing(self.connection, self._config)

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection that everything here goes over."""
        if self._connection is None:
            raise RuntimeError("Retention is used as a context manager")
        return self._connection

    async def lead(self) -> bool:
        """Whether this is the one instance that changes anything."""
        with availability():
            return bool(await queries.lead(self.connection))

    async def step_down(self) -> None:
        """Lets another instance lead."""
        with availability():
            await queries.follow(self.connection)

    async def wait_for_lead(self) -> None:
        """Becomes the leader as soon as the present one is done with its round."""
        deadline = time.monotonic() + self._config.statement_seconds_max
        while not await self.lead():
            if time.monotonic() > deadline:
                raise ConflictError("another instance runs the jobs and does not let go")
            await asyncio.sleep(0.2)

    async def state(self, now: datetime) -> State:
        """What there is, and what is needed."""
        with availability():
            return await read_state(self.connection, self._config, now)

    async def plan(self, now: datetime) -> Plan:
        """What a run at ``now`` would make and drop."""
        return (await self.state(now)).plan(now)

    async def weigh(self, partitions: Sequence[Partition], now: datetime) -> list[Dropped]:
        """What dropping these partitions would destroy, and how much of it holds would keep."""
        weighed = []
        with availability():
            for p in partitions:
                row = await queries.weigh_partition(
                    self.connection, table_name=p.table, name=p.name, at=now
                )
                weighed.append(
                    Dropped(
                        p.table, p.name, p.bounds.lower, p.bounds.upper, row["rows"], row["held"]
                    )
                )
        return weighed

    async def run(
        self,
        now: datetime,
        *,
        guard_clock: bool,
        accept_clock: bool = False,
        progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> RunResult:
        """Does all that is due at ``now``. What fails is noted, and the rest goes on.

        Args:
            now: the reference time.
            guard_clock: refuse a clock that jumped, and note this run's time.
            accept_clock: an operator confirms the clock.
            progress: told what is being done, how much of it is done, and of how much.

        Raises:
            ClockJumpError: the clock is not to be believed; nothing was done.
            DatabaseUnavailableError: the database went away.
        """
        result = RunResult(now)
        with availability():
            state = await self.state(now)
            if guard_clock:
                last = state.last_reference
                if not accept_clock:
                    self._check_clock(last, now)
                    # Never back, not by the skew that is allowed: it would add up.
                    last = max(last or now, now)
                await queries.set_reference(self.connection, at=now if accept_clock else last)
            # Read once: with hundreds of partitions that is a good part of a quiet run.
            planned = state.plan(now)
            await self._make(planned, result)
            await self.move_history(now, result)
            begun = await self._finish_begun(now, result)
            # A table has one pending detach at the most: until it is finalised, none begins.
            due = sorted(
                (p for p in planned.drop if p.name not in begun), key=lambda p: not p.detach_pending
            )
            result.left_over = max(0, len(due) - self._config.drops_in_a_run_max)
            await self._drop_due(due[: self._config.drops_in_a_run_max], now, result, progress)
            await self._attempt("held copies", result, self._destroy_released(now, result))
            await self._attempt("old receipts", result, self.erasing.forget(now))
            await self._seal(planned, now, result)
        return result

    async def make_partitions(self, now: datetime) -> RunResult:
        """Makes the partitions that will be needed, and nothing else."""
        result = RunResult(now)
        await self._make(await self.plan(now), result)
        return result

    async def _make(self, planned: Plan, result: RunResult) -> None:
        for data_class, bounds in planned.create:

            async def make(data_class: DataClass = data_class, bounds: Bounds = bounds) -> None:
                if await queries.ensure_partition(
                    self.connection,
                    table_name=data_class.value,
                    lower=bounds.lower,
                    upper=bounds.upper,
                ):
                    result.created.append((data_class, bounds))

            await self._attempt(
                f"partition of {data_class} from {bounds.lower}",
                result,
                retried(make, self._config.drop_attempts_max),
            )

    async def _seal(self, planned: Plan, now: datetime, result: RunResult) -> None:
        """Seals partitions that get no more records, so many in a run."""
        sealing = Sealing(self.connection, self._config)
        for partition in planned.seal[: self._config.seals_in_a_run_max]:
            try:
                result.sealed.append(await sealing.seal(partition, now))
            except FAILURES as error:
                self._note_failure(f"sealing of {partition.name}", result, error)
                if isinstance(error, asyncpg.LockNotAvailableError):
                    # A transaction stays open: each of the others would wait for it as well.
                    return

    async def move_history(self, now: datetime, result: RunResult) -> None:
        """Moves or destroys the history of every account whose setting changed."""
        for move in await rows(queries.moves(self.connection)):
            await self._attempt(
                f"move of account {move['account_key']}",
                result,
                self._move_account(move["account_key"], now, result),
            )

    async def _move_account(self, account_key: int, now: datetime, result: RunResult) -> None:
        done = False
        while not done:

            async def step() -> Any:
                return await queries.move_step(
                    self.connection,
                    account_key=account_key,
                    at=now,
                    rows_max=self._config.move_rows_max,
                )

            row = await retried(step, self._config.drop_attempts_max)
            result.rows_moved += row["rows_moved"]
            result.rows_destroyed += row["rows_destroyed"]
            done = row["done"]
            # Lets ingest have the disk between two steps.
            await asyncio.sleep(0)

    async def _finish_begun(self, now: datetime, result: RunResult) -> set[str]:
        """Finishes drops that an earlier run began; gives the partitions it was at."""
        begun = await self.drops.begun()
        for each in begun:
            log.info("drop_resumed", partition=each.name)
            dropped = await self._attempt(
                f"drop of {each.name}", result, self.drops.resume(each, now)
            )
            if dropped is not None:
                result.dropped.append(dropped)
        return {each.name for each in begun}

    async def _drop_due(
        self,
        due: Sequence[Partition],
        now: datetime,
        result: RunResult,
        progress: Callable[[str, int, int], None],
    ) -> None:
        """Drops one partition after the other, the next table's when one is not to be had."""
        locked: set[str] = set()
        for number, partition in enumerate(due):
            progress("dropping partitions", number, len(due))
            if partition.table in locked:
                result.left_over += 1
                continue
            try:
                result.dropped.append(await self.drops.drop(partition, now))
            except asyncpg.LockNotAvailableError as error:
                # Somebody holds this table: to try each of its partitions in turn would
                # keep all other tables waiting.
                locked.add(partition.table)
                self._note_failure(f"drop of {partition.name}", result, error)
            except FAILURES as error:
                self._note_failure(f"drop of {partition.name}", result, error)

    async def _destroy_released(self, now: datetime, result: RunResult) -> None:
        while True:
            gone = await queries.destroy_released(
                self.connection, at=now, rows_max=self._config.move_rows_max
            )
            result.held_destroyed += gone
            if gone < self._config.move_rows_max:
                return

    async def _attempt(self, what: str, result: RunResult, work: Awaitable[T]) -> T | None:
        """Awaits ``work``; a failure is noted and the rest of the run goes on."""
        try:
            return await work
        except FAILURES as error:
            self._note_failure(what, result, error)
            return None

    def _note_failure(self, what: str, result: RunResult, error: Exception) -> None:
        if self.connection.is_closed():
            # Not one thing failed: the database is away.
            raise error
        log.error("retention_failed", what=what, reason=str(error))
        result.failures.append(f"{what}: {error}")

    async def move(self, now: datetime, *, guard_clock: bool) -> RunResult:
        """Moves or destroys history whose setting changed, and nothing else.

        Raises:
            ClockJumpError: the clock is not to be believed; nothing was done.
        """
        result = RunResult(now)
        with availability():
            if guard_clock:
                self._check_clock(await queries.last_reference(self.connection), now)
            await self.move_history(now, result)
        return result

    def _check_clock(self, last: datetime | None, now: datetime) -> None:
        check_clock(last, now, timedelta(hours=self._config.clock_forward_hours_max))

    async def roll_up_usage(self) -> int:
        """Sums up what writers added to the usage statistics; how many rows that were."""
        total = 0
        with availability():
            while True:
                taken: int = await queries.roll_up_usage(
                    self.connection, rows_max=self._config.usage_rows_max
                )
                total += int(taken)
                if taken < self._config.usage_rows_max:
                    return total

    async def erase(self, now: datetime, *, guard_clock: bool) -> ErasingResult:
        """Carries on what customers want erased.

        Raises:
            ClockJumpError: the clock is not to be believed, which says what holds are in force;
                nothing was done.
        """
        with availability():
            if guard_clock:
                self._check_clock(await queries.last_reference(self.connection), now)
            return await self.erasing.run(now)

    async def make_reports(self, now: datetime, *, guard_clock: bool) -> int:
        """Makes the monthly reports that are due; of how many there was something to count.

        Raises:
            ClockJumpError: the clock is not to be believed; nothing was done.
        """
        with availability():
            if guard_clock:
                self._check_clock(await queries.last_reference(self.connection), now)
            return await make_due(self.connection, now, self._config.report_accounts_max)

    async def note_jobs(self, outcomes: Mapping[str, str | None], now: datetime) -> None:
        """Notes how the last run of each job ended: what failed, or None when all was done."""
        with availability():
            for job, failure in outcomes.items():
                await queries.note_job(self.connection, job=job, at=now, failure=failure)

    async def holds_active(self, now: datetime) -> int:
        """How many holds are in force."""
        with availability():
            return int(await queries.holds_active(self.connection, now=now))

    async def headroom(self, now: datetime) -> dict[str, timedelta]:
        """For each table how long records go on finding their partition, at the least."""
        return (await self.state(now)).headroom(now)
