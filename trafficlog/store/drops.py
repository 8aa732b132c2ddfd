"""The drop of one partition, step by step.

The intent is written down; the partition is detached, concurrently where the server
can; what is held in the detached table, which nobody else touches any more, is copied,
and its rows are counted; then, in one transaction, a hold that came since is looked at,
the table is dropped and the ledger written. A run that is killed anywhere leaves an
intent which the next run finishes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import structlog

from trafficlog.partitions import Bounds, Partition
from trafficlog.queries import queries, rows
from trafficlog.store.ddl import quoted, set_lock_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from trafficlog.config import Config

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone: what it held, and how much of that a hold keeps."""

    table: str
    name: str
    lower: datetime
    upper: datetime
    rows: int
    held: int


@dataclass(frozen=True, slots=True)
class BegunDrop:
    """A drop whose intent is written down: how far it came."""

    table: str
    name: str
    bounds: Bounds
    attached: bool
    detach_pending: bool


class Drops:
    """Drops single partitions over the connection of a retention run."""

    def __init__(self, connection: asyncpg.Connection, config: Config) -> None:
        self._connection = connection
        self._config = config

    async def drop(self, partition: Partition, now: datetime) -> Dropped:
        """Drops an expired partition.

        Raises:
            asyncpg.LockNotAvailableError: somebody held it for longer than all tries.
            asyncpg.ObjectNotInPrerequisiteStateError: it is not expired, or holds rows
                that are still to be moved.
        """
        begun = await queries.begin_drop(
            self._connection, table_name=partition.table, name=partition.name, at=now
        )
        await self.detach(partition.table, partition.name, pending=partition.detach_pending)
        bounds = Bounds(begun["lower"], begun["upper"])
        return await self.finish(partition.table, partition.name, bounds, now)

    async def begun(self) -> list[BegunDrop]:
        """Drops that were begun and not finished, the oldest bounds first."""
        return [
            BegunDrop(
                row["table_name"],
                row["name"],
                Bounds(row["lower"], row["upper"]),
                row["attached"],
                row["detach_pending"],
            )
            for row in await rows(queries.drops_begun(self._connection))
        ]

    async def resume(self, begun: BegunDrop, now: datetime) -> Dropped:
        """Carries a drop on from where it stopped."""
        if begun.attached:
            await self.detach(begun.table, begun.name, pending=begun.detach_pending)
        return await self.finish(begun.table, begun.name, begun.bounds, now)

    async def detach(self, table: str, name: str, *, pending: bool) -> None:
        """Unlinks a partition from its table; one whose detach is pending is finalised."""
        parent = await quoted(self._connection, table)
        child = await quoted(self._connection, name)
        command = f"ALTER TABLE {parent} DETACH PARTITION {child}"

        async def attempt() -> None:
            nonlocal pending
            try:
                if pending:
                    await self._connection.execute(f"{command} FINALIZE")
                else:
                    await self._detach_concurrently(command, child)
            # First, for it is one of those below.
            except asyncpg.LockNotAvailableError:
                pending = await self._is_detach_pending(name)
                raise
            except (
                asyncpg.FeatureNotSupportedError,
                asyncpg.ObjectNotInPrerequisiteStateError,
            ):
                # Citus, or a default partition that somebody added: the plain form,
                # which everybody would wait behind, so it gives up soon.
                await self._connection.execute(command)

        await retried(attempt, self._config.drop_attempts_max)

    async def _detach_concurrently(self, command: str, child: str) -> None:
        """Unlinks a partition, once nobody has it and all older transactions have ended.

        Raises:
            asyncpg.LockNotAvailableError: somebody has it, or an older transaction goes on for
                longer than is waited; then the detach is pending.
        """
        # Nobody waits for either wait, so they may take their time; the server ends an automatic
        # vacuum for who has waited for a second (deadlock_timeout).
        await set_lock_timeout(self._connection, self._config.detach_seconds_max * 1000)
        try:
            # A detach would wait for whoever has the partition with the parent's lock, which making
            # another needs.
            async with self._connection.transaction():
                await self._connection.execute(f"LOCK TABLE {child} IN SHARE UPDATE EXCLUSIVE MODE")
            await self._connection.execute(f"{command} CONCURRENTLY")
        finally:
            if not self._connection.is_closed():
                await set_lock_timeout(self._connection, self._config.lock_timeout_ms)

    async def _is_detach_pending(self, name: str) -> bool:
        found = await rows(queries.partitions(self._connection))
        return any(r["name"] == name and r["detach_pending"] for r in found)

    async def finish(self, table: str, name: str, bounds: Bounds, now: datetime) -> Dropped:
        """Drops the detached table, with its line in the ledger."""
        # Copied and counted outside of the last transaction: nothing writes to it any more.
        count = await queries.settle_drop(self._connection, name=name, at=now)

        async def finish() -> int:
            return int(await queries.finish_drop(self._connection, name=name, at=now, rows=count))

        held = await retried(finish, self._config.drop_attempts_max)
        log.info("partition_dropped", table=table, partition=name, rows=count, held=held)
        return Dropped(table, name, bounds.lower, bounds.upper, count, held)


async def retried(work: Callable[[], Awaitable[T]], attempts_max: int) -> T:
    """Runs ``work`` again, after longer and longer pauses, while a lock is not to be had."""
    for attempt in range(1, attempts_max):
        try:
            return await work()
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.SerializationError,
            asyncpg.DeadlockDetectedError,
        ):
            await asyncio.sleep(0.1 * 2**attempt)
    return await work()
