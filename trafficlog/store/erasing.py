"""Erasures carried out: in turn, step by step, each step one transaction.

Works on the connection of the jobs, of which one instance has the lead, so that no two of them
work at one erasure and none moves a row while it is erased. How far an erasure has come commits
with what it erased: whoever leads next goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from trafficlog.queries import queries, rows
from trafficlog.store.drops import retried

if TYPE_CHECKING:
    from trafficlog.config import Config

log = structlog.get_logger()

FIRST_WIDTH: Final = timedelta(days=1)
# The longest period of history is no longer than this.
WIDTH_MAX: Final = timedelta(days=2048)
# Between two looks whether what was being written is committed.
WAIT_SECONDS: Final = 0.05
# At so many erasures one round works.
AT_ONCE_MAX: Final = 100
# What another transaction is in the way of says nothing about the erasure.
IN_THE_WAY: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)


@dataclass(slots=True)
class ErasingResult:
    """What one round of erasures did, and what it could not do."""

    rows_erased: int = 0
    finished: int = 0
    left_over: int = 0
    oldest: datetime | None = None
    failures: list[str] = field(default_factory=list)


class Erasing:
    """Carries erasures out over the connection of the jobs."""

    def __init__(self, connection: asyncpg.Connection, config: Config) -> None:
        self._connection = connection
        self._config = config

    async def run(self, now: datetime) -> ErasingResult:
        """A step of each open erasure in turn until none is left, or the round's time is up.

        The next round goes on with what is left over. One that fails has its turn again then.
        """
        result = ErasingResult()
        end = time.monotonic() + self._config.erasure_seconds_max
        found = await rows(queries.erasures_open(self._connection, limit=AT_ONCE_MAX))
        result.oldest = min((row["accepted_at"] for row in found), default=None)
        widths = {row["erasure_id"]: FIRST_WIDTH for row in found}
        while widths and time.monotonic() < end:
            for erasure_id in list(widths):
                width = await self._attempt(erasure_id, widths[erasure_id], now, result)
                if width is None:
                    del widths[erasure_id]
                else:
                    widths[erasure_id] = width
                # Lets requests have their turn between two steps.
                await asyncio.sleep(0)
        result.left_over = len(widths)
        return result

    async def forget(self, now: datetime) -> None:
        """Forgets repeated requests, and deletes erasures whose receipt is old enough.

        Row by row: they are few, one for each request, and nothing personal is left in them.
        """
        config = self._config
        await queries.forget_repeats(
            self._connection, finished_up_to=now - timedelta(hours=config.erasure_repeat_hours)
        )
        await queries.forget_erasures(
            self._connection, finished_up_to=now - timedelta(days=config.erasure_receipt_days)
        )

    async def _attempt(
        self, erasure_id: str, width: timedelta, now: datetime, result: ErasingResult
    ) -> timedelta | None:
        """One step; how much time the next one is to look at, None when it has no next now."""
        try:
            return await self._step(erasure_id, width, now, result)
        except IN_THE_WAY as error:
            reason = _first_line(error)
        except (asyncpg.PostgresError, TimeoutError) as error:
            if self._connection.is_closed():
                # Not one erasure failed: the database is away.
                raise
            reason = _first_line(error)
            state = await queries.fail_erasure(
                self._connection,
                erasure_id=erasure_id,
                at=now,
                attempts_max=self._config.erasure_attempts_max,
            )
            log.error("erasure_failed", erasure=erasure_id, state=state, reason=reason)
        result.failures.append(f"erasure {erasure_id}: {reason}")
        return None

    async def _step(
        self, erasure_id: str, width: timedelta, now: datetime, result: ErasingResult
    ) -> timedelta | None:
        async def step() -> Any:
            return await queries.erase_step(
                self._connection,
                erasure_id=erasure_id,
                at=now,
                rows_max=self._config.erasure_rows_max,
                width=width,
            )

        row = await retried(step, self._config.drop_attempts_max)
        result.rows_erased += row["rows_erased"]
        if row["state"] == "waiting":
            # For what is being written, which takes moments; the round's time is the bound.
            await asyncio.sleep(WAIT_SECONDS)
            return width
        if row["state"] != "running":
            result.finished += 1
            return None
        # Where records are many a day is enough; where they are few, twice as much next time.
        full = row["rows_read"] >= self._config.erasure_rows_max
        return FIRST_WIDTH if full else min(width * 2, WIDTH_MAX)


def _first_line(error: Exception) -> str:
    """What went wrong; on further lines the database may show a row."""
    return str(error).partition("\n")[0]
