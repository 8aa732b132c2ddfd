"""Retention carried out: moves, partitions made and dropped, held copies destroyed.

Works on a connection of its own, so that it is never starved by ingest. A drop has
four steps: copy what is held and write the intent down; detach, concurrently where
the server can; count what the detached table holds; then, in one transaction, look
at the holds again, drop the table and write the ledger. A run that is killed
anywhere leaves an intent which the next run finishes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import structlog

from trafficlog.errors import ConflictError, TrafficlogError
from trafficlog.partitions import Bounds, Partition
from trafficlog.queries import queries, rows
from trafficlog.retention import (
    DataClass,
    Plan,
    PolicyBook,
    TableNeed,
    check_clock,
    headroom_ahead,
    plan,
)
from trafficlog.store.database import availability, connect
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trafficlog.config import Config

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone: what it held, and how much of that a hold keeps."""

    table: str
    name: str
    lower: datetime
    upper: datetime
    rows: int
    held: int


@dataclass(slots=True)
class RunResult:
    """What one retention run did, and what it could not do."""

    at: datetime
    created: list[tuple[DataClass, Bounds]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    rows_moved: int = 0
    rows_destroyed: int = 0
    held_destroyed: int = 0
    failures: list[str] = field(default_factory=list)
    left_over: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything a plan is made from."""

    partitions: list[Partition]
    needs: list[TableNeed]
    policies: PolicyBook
    last_reference: datetime | None


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
            partitions = [
                Partition(
                    r["table_name"],
                    r["name"],
                    Bounds(r["lower"], r["upper"]),
                    r["detach_pending"],
                )
                for r in await rows(queries.partitions(self.connection))
            ]
            policies = policy_book(await rows(queries.policies(self.connection)))
            days = await rows(queries.history_periods(self.connection))
            last = await queries.last_reference(self.connection)
        daily = timedelta(days=self._config.headroom_days)
        hourly = timedelta(hours=self._config.headroom_hours)
        history = {timedelta(days=r["history_days"]) for r in days}
        history |= policies.periods_from(DataClass.HISTORY, now)
        needs = [
            TableNeed(
                data_class,
                frozenset(history)
                if data_class is DataClass.HISTORY
                else policies.periods_from(data_class, now),
                hourly if data_class is DataClass.IN_TRANSIT else daily,
            )
            for data_class in DataClass
        ]
        return State(partitions, needs, policies, last)

    async def plan(self, now: datetime) -> Plan:
        """What a run at ``now`` would make and drop."""
        state = await self.state(now)
        return plan(state.partitions, now, state.needs)

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
                if not accept_clock:
                    self._check_clock(state.last_reference, now)
                await queries.set_reference(self.connection, at=now)
            await self.make_partitions(now, result)
            await self.move_history(now, result)
            await self._finish_begun(now, result)
            due = plan(state.partitions, now, state.needs).drop
            for number, partition in enumerate(due[: self._config.drops_in_a_run_max]):
                progress("dropping partitions", number, len(due))
                await self._attempt(
                    f"drop of {partition.name}", result, self._drop(partition, now, result)
                )
            result.left_over = max(0, len(due) - self._config.drops_in_a_run_max)
            await self._attempt("held copies", result, self._destroy_released(now, result))
        return result

    async def make_partitions(self, now: datetime, result: RunResult) -> None:
        """Makes the partitions that will be needed, one transaction each."""
        for data_class, bounds in (await self.plan(now)).create:

            async def make(data_class: DataClass = data_class, bounds: Bounds = bounds) -> None:
                if await queries.ensure_partition(
                    self.connection,
                    table_name=data_class.value,
                    lower=bounds.lower,
                    upper=bounds.upper,
                ):
                    result.created.append((data_class, bounds))

            await self._attempt(
                f"partition of {data_class} from {bounds.lower}", result, self._retried(make)
            )

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

            row = await self._retried(step)
            result.rows_moved += row["rows_moved"]
            result.rows_destroyed += row["rows_destroyed"]
            done = row["done"]
            # Lets ingest have the disk between two steps.
            await asyncio.sleep(0)

    async def _finish_begun(self, now: datetime, result: RunResult) -> None:
        for begun in await rows(queries.drops_begun(self.connection)):
            log.info("drop_resumed", partition=begun["name"])
            await self._attempt(
                f"drop of {begun['name']}", result, self._resume(begun, now, result)
            )

    async def _resume(self, begun: Any, now: datetime, result: RunResult) -> None:
        if begun["attached"]:
            await self._detach(begun["table_name"], begun["name"], pending=begun["detach_pending"])
        await self._finish(
            begun["table_name"], begun["name"], Bounds(begun["lower"], begun["upper"]), now, result
        )

    async def _drop(self, partition: Partition, now: datetime, result: RunResult) -> None:
        if any(d.name == partition.name for d in result.dropped):
            return
        begun = await queries.begin_drop(
            self.connection, table_name=partition.table, name=partition.name, at=now
        )
        await self._detach(partition.table, partition.name, pending=partition.detach_pending)
        await self._finish(
            partition.table, partition.name, Bounds(begun["lower"], begun["upper"]), now, result
        )

    async def _detach(self, table: str, name: str, *, pending: bool) -> None:
        parent = await self._quoted(table)
        child = await self._quoted(name)
        command = f"ALTER TABLE {parent} DETACH PARTITION {child}"

        async def detach() -> None:
            nonlocal pending
            # It waits for older transactions while nobody waits for it, so it may
            # take its time. To finalise waits with the parent's lock, which making a
            # partition needs: that is tried shortly and again.
            await self._set_lock_timeout(
                self._config.lock_timeout_ms if pending else self._config.detach_seconds_max * 1000
            )
            try:
                await self.connection.execute(
                    f"{command} {'FINALIZE' if pending else 'CONCURRENTLY'}"
                )
            except (asyncpg.FeatureNotSupportedError, asyncpg.InvalidTableDefinitionError):
                # Citus, or a default partition that somebody added: the plain form,
                # which everybody would wait behind, so it gives up soon.
                await self._set_lock_timeout(self._config.lock_timeout_ms)
                await self.connection.execute(command)
            except asyncpg.LockNotAvailableError:
                pending = await self._is_detach_pending(name)
                raise
            finally:
                if not self.connection.is_closed():
                    await self._set_lock_timeout(self._config.lock_timeout_ms)

        await self._retried(detach)

    async def _set_lock_timeout(self, milliseconds: int) -> None:
        await queries.set_lock_timeout(self.connection, timeout=f"{milliseconds}ms")

    async def _is_detach_pending(self, name: str) -> bool:
        found = await rows(queries.partitions(self.connection))
        return any(r["name"] == name and r["detach_pending"] for r in found)

    async def _finish(
        self, table: str, name: str, bounds: Bounds, now: datetime, result: RunResult
    ) -> None:
        # Counted outside of the last transaction: nothing writes to it any more.
        count = await self.connection.fetchval(f"SELECT count(*) FROM {await self._quoted(name)}")  # noqa: S608 - quoted by the server

        async def finish() -> int:
            return int(await queries.finish_drop(self.connection, name=name, at=now, rows=count))

        held = await self._retried(finish)
        result.dropped.append(Dropped(table, name, bounds.lower, bounds.upper, count, held))
        log.info("partition_dropped", table=table, partition=name, rows=count, held=held)

    async def _destroy_released(self, now: datetime, result: RunResult) -> None:
        while True:
            gone = await queries.destroy_released(
                self.connection, at=now, rows_max=self._config.move_rows_max
            )
            result.held_destroyed += gone
            if gone < self._config.move_rows_max:
                return

    async def _quoted(self, name: str) -> str:
        return "trafficlog." + str(await queries.quote_identifier(self.connection, name=name))

    async def _retried(self, work: Callable[[], Any]) -> Any:
        """Runs ``work`` again, after longer and longer pauses, while a lock is not to be had."""
        for attempt in range(1, self._config.drop_attempts_max + 1):
            try:
                return await work()
            except (
                asyncpg.LockNotAvailableError,
                asyncpg.SerializationError,
                asyncpg.DeadlockDetectedError,
            ):
                if attempt == self._config.drop_attempts_max:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    async def _attempt(self, what: str, result: RunResult, work: Any) -> None:
        """Awaits ``work``; a failure is noted and the rest of the run goes on."""
        try:
            await work
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError):
            raise
        except (asyncpg.PostgresError, TimeoutError, TrafficlogError) as error:
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

    async def holds_active(self, now: datetime) -> int:
        """How many holds are in force."""
        with availability():
            return int(await queries.holds_active(self.connection, now=now))

    async def headroom(self, now: datetime) -> dict[str, timedelta]:
        """For each table how long records go on finding their partition, at the least."""
        state = await self.state(now)
        return {
            need.data_class.value: min(
                headroom_ahead(state.partitions, now, need.data_class, period)
                for period in need.periods
            )
            for need in state.needs
        }
