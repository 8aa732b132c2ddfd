"""Writing records: one transaction for a group of batches, on one of two roads.

The *first road* is for reports of records not seen before: a binary COPY into the
legal table and one into history. A report that is a later state of its record, or a
record that turns out to be known, takes the *second road*: COPY into a temporary
table, then insert what is new and merge what is known. Either way a batch is
answered only after its transaction is on disk.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from trafficlog.errors import DatabaseUnavailableError, StaleSettingsError
from trafficlog.merging import Folded, fold
from trafficlog.partitions import Bounds, bounds_of
from trafficlog.queries import queries, rows
from trafficlog.retention import WIDTHS, DataClass
from trafficlog.store.columns import (
    HISTORY,
    STAGE,
    TRAFFIC,
    arrays,
    arrow,
    binary,
    history_batch,
    report_columns,
)
from trafficlog.store.settings import SettingsCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trafficlog.config import Config
    from trafficlog.records import Refusal, Report
    from trafficlog.store.database import Database

log = structlog.get_logger()

DEBUG_COLUMNS: Final = (
    "created_at",
    "line_id",
    "expires_at",
    "account_key",
    "level",
    "record_id",
    "source",
    "line",
)
COPY_PART_BYTES: Final = 512 * 1024
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


@dataclass(frozen=True, slots=True)
class DebugLine:
    """One line of the debug log; ``account`` and ``record_id`` where they are known."""

    at: datetime
    level: str
    source: str
    line: str
    account: str | None = None
    record_id: str | None = None


@dataclass(slots=True)
class Batch:
    """What one request wants stored: its reports, and lines of the debug log."""

    reports: list[Report]
    debug_lines: list[DebugLine] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What became of a batch's reports."""

    accepted: int = 0
    updated: int = 0
    duplicates: int = 0


def refusal_line(refusal: Refusal, at: datetime, chars_max: int) -> DebugLine:
    """The debug line that keeps a refused record and its reason, within a bound."""
    raw = refusal.raw[:chars_max].replace("\0", "\ufffd")
    reason = refusal.detail.replace("\0", "\ufffd")
    return DebugLine(at, "warning", "ingest", f"refused ({refusal.code}) {reason} | {raw}")


class RecordWriter:
    """Writes groups of batches; safe to use from several tasks."""

    def __init__(self, database: Database, config: Config) -> None:
        self._database = database
        self._config = config
        self.settings = SettingsCache(database)
        self._partitions: dict[DataClass, set[datetime]] = {}

    async def start(self) -> None:
        """Reads settings and partitions once, so that the first record need not wait."""
        await self.settings.refresh()

    async def write(self, batches: Sequence[Batch], now: datetime) -> list[Outcome]:
        """Stores the batches in one transaction and says what became of each.

        Raises:
            DatabaseUnavailableError: nothing was stored, or nothing is known to be.
        """
        reports = [r for batch in batches for r in batch.reports]
        first_road = all(r.updated is None for r in reports) and len(
            {r.identity for r in reports}
        ) == len(reports)
        for attempt in range(self._config.flush_attempts_max):
            try:
                if first_road:
                    await self._write_new(batches, reports, now)
                    return [Outcome(accepted=len(b.reports)) for b in batches]
                return await self._write_staged(batches, reports, now)
            except asyncpg.UniqueViolationError:
                first_road = False
            except StaleSettingsError:
                await self.settings.refresh()
            except asyncpg.CheckViolationError:
                # No partition for a row: one that was known is gone. Look again.
                log.warning("partition_missing", attempt=attempt)
                self._partitions.clear()
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                log.info("flush_retried", attempt=attempt, reason=str(error))
        raise DatabaseUnavailableError(
            f"the records could not be written in {self._config.flush_attempts_max} tries"
        )

    async def _write_new(
        self, batches: Sequence[Batch], reports: list[Report], now: datetime
    ) -> None:
        columns, epoch = await self._columns(reports, now)
        made = arrays(columns)
        traffic = binary(arrow(TRAFFIC, {**made, "expires_at": made["traffic_expires"]}))
        kept = history_batch(
            arrow(HISTORY, {**made, "expires_at": made["history_expires"]}),
            columns["history_expires"],
            columns["withheld"],
        )
        history = binary(kept) if kept.num_rows else None
        debug = await self._debug_rows(batches, now)
        async with self._database.ingest() as connection, connection.transaction():
            await self._check_epoch(connection, epoch)
            if reports:
                await _copy(connection, "traffic_record", TRAFFIC.names, traffic)
            if history is not None:
                await _copy(connection, "history_record", HISTORY.names, history)
            await self._copy_debug(connection, debug)

    async def _write_staged(
        self, batches: Sequence[Batch], reports: list[Report], now: datetime
    ) -> list[Outcome]:
        folded = fold(reports)
        columns, epoch = await self._columns([f.merged for f in folded], now)
        columns["ordinal"] = list(range(len(folded)))
        # History that is there already may stand under any period the account has had.
        accounts = [self.settings.accounts[f.merged.account] for f in folded]
        columns["history_from"] = [
            created + timedelta(days=a.days_min)
            for a, created in zip(accounts, columns["created_at"], strict=True)
        ]
        columns["history_to"] = [
            created + timedelta(days=a.days_max)
            for a, created in zip(accounts, columns["created_at"], strict=True)
        ]
        staged = binary(arrow(STAGE, arrays(columns)))
        debug = await self._debug_rows(batches, now)
        async with self._database.ingest() as connection:
            await queries.make_stage(connection)
            async with connection.transaction():
                await self._check_epoch(connection, epoch)
                await _copy(connection, "staged_report", STAGE.names, staged)
                fresh = await rows(queries.insert_staged(connection))
                await queries.merge_by_key(connection)
                expires = columns["traffic_expires"]
                changed = await rows(
                    queries.merge_traffic(
                        connection, expires_from=min(expires), expires_to=max(expires)
                    )
                )
                changed += await rows(
                    queries.merge_history(
                        connection,
                        expires_from=min(columns["history_from"]),
                        expires_to=max(columns["history_to"]),
                    )
                )
                await self._copy_debug(connection, debug)
        return _outcomes(
            batches, folded, {r["ordinal"] for r in fresh}, {r["ordinal"] for r in changed}
        )

    async def _columns(
        self, reports: list[Report], now: datetime
    ) -> tuple[dict[str, list[Any]], int]:
        """The reports as columns, and the epoch of the settings their expiries come from.

        The partitions for them are made.
        """
        await self.settings.ensure_accounts({r.account for r in reports}, now)
        epoch = self.settings.epoch
        accounts = [self.settings.accounts[r.account] for r in reports]
        policies = self.settings.policies
        columns = report_columns(reports)
        columns["account_key"] = [a.key for a in accounts]
        columns["traffic_expires"] = [
            policies.expires_at(DataClass.TRAFFIC, r.created) for r in reports
        ]
        columns["history_expires"] = [
            a.rule.expires_at(r.created, now) for a, r in zip(accounts, reports, strict=True)
        ]
        await self.ensure_partitions(DataClass.TRAFFIC, columns["traffic_expires"])
        await self.ensure_partitions(DataClass.HISTORY, columns["history_expires"])
        return columns, epoch

    async def ensure_partitions(
        self, data_class: DataClass, expiries: Sequence[datetime | None]
    ) -> None:
        """Makes the partitions that rows with these expiries need and that are missing."""
        width = WIDTHS[data_class]
        wanted: dict[datetime, Bounds] = {}
        # One of each hour will do, and there are few: no partition is narrower.
        for expires_at in {(e.toordinal(), e.hour): e for e in expiries if e}.values():
            bounds = bounds_of(width, expires_at)
            wanted[bounds.lower] = bounds
        known = self._partitions.get(data_class, set())
        if wanted.keys() <= known:
            return
        async with self._database.ingest() as connection:
            known = {
                r["lower"]
                for r in await rows(queries.partitions_of(connection, table_name=data_class.value))
            }
            for lower in sorted(wanted.keys() - known):
                await queries.ensure_partition(
                    connection,
                    table_name=data_class.value,
                    lower=lower,
                    upper=wanted[lower].upper,
                )
                known.add(lower)
        self._partitions[data_class] = known

    async def _check_epoch(self, connection: asyncpg.Connection, epoch: int) -> None:
        if await queries.settings_in_force(connection) != epoch:
            raise StaleSettingsError

    async def _debug_rows(self, batches: Sequence[Batch], now: datetime) -> list[tuple[Any, ...]]:
        lines = [line for batch in batches for line in batch.debug_lines]
        if not lines:
            return []
        named = {line.account for line in lines if line.account}
        await self.settings.ensure_accounts(named, now)
        expiries = [self.settings.policies.expires_at(DataClass.DEBUG, line.at) for line in lines]
        await self.ensure_partitions(DataClass.DEBUG, expiries)
        return [
            (
                line.at,
                secrets.randbits(63),
                expires_at,
                self.settings.accounts[line.account].key if line.account else None,
                LEVELS[line.level],
                line.record_id,
                line.source,
                line.line,
            )
            for line, expires_at in zip(lines, expiries, strict=True)
        ]

    async def _copy_debug(
        self, connection: asyncpg.Connection, lines: list[tuple[Any, ...]]
    ) -> None:
        if lines:
            await connection.copy_records_to_table(
                "debug_log", records=lines, columns=DEBUG_COLUMNS
            )


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], content: bytes
) -> None:
    # Not as a file: asyncpg reads those in another thread, a switch for each part.
    await connection.copy_to_table(table, source=_parts(content), columns=columns, format="binary")


async def _parts(content: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), COPY_PART_BYTES):
        yield view[start : start + COPY_PART_BYTES]


def _outcomes(
    batches: Sequence[Batch], folded: list[Folded], fresh: set[int], changed: set[int]
) -> list[Outcome]:
    """Tells each batch of its reports; a record's reports may be of several batches."""
    owner = {id(r): n for n, batch in enumerate(batches) for r in batch.reports}
    outcomes = [Outcome() for _ in batches]
    for ordinal, group in enumerate(folded):
        for place, (report, told) in enumerate(zip(group.reports, group.later, strict=True)):
            outcome = outcomes[owner[id(report)]]
            if ordinal in fresh and place == 0:
                outcome.accepted += 1
            elif told and (ordinal in fresh or ordinal in changed):
                outcome.updated += 1
            else:
                outcome.duplicates += 1
    return outcomes
