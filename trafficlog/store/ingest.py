"""Writing records: one transaction for a group of batches, on one of two roads.

The *first road* is for reports of records not seen before: a binary COPY into the
legal table and one into history. A report that is a later state of its record, or a
record that turns out to be known, takes the *second road*: COPY into a temporary
table, then insert what is new and merge what is known. Either way a batch is
answered only after its transaction is on disk.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from trafficlog.errors import DatabaseUnavailableError, StaleSettingsError
from trafficlog.merging import Folded, fold
from trafficlog.partitions import Bounds, bounds_of
from trafficlog.queries import queries, rows
from trafficlog.retention import WIDTHS, DataClass
from trafficlog.store.columns import (
    HISTORY,
    INSTANT,
    STAGE,
    TRAFFIC,
    Sheet,
    arrow,
    binary,
    history_batch,
    traffic_batch,
)
from trafficlog.store.counting import usage_of
from trafficlog.store.expiry import (
    history_bounds,
    history_expiry,
    hours_of,
    instant,
    per_account,
    traffic_expiry,
)
from trafficlog.store.settings import SettingsCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from trafficlog.config import Config
    from trafficlog.records import Refusal, Report
    from trafficlog.store.counting import Columns
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
COPY_PART_BYTES: Final = 256 * 1024
# Fewer records than these are encoded together with those of the next requests.
PIECE_RECORDS: Final = 500
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


@dataclass(slots=True)
class _Fresh:
    """What the first road writes: COPY content, hours of the expiries in it."""

    traffic: list[bytes]
    history: list[bytes]
    partitions: dict[DataClass, set[datetime]]


@dataclass(slots=True)
class _Merged:
    """Which reports, by ordinal, made a record, and which told a known one something."""

    fresh: set[int]
    changed: set[int]


@dataclass(slots=True)
class _Staged:
    """What the second road writes, and between which expiries it looks for known rows."""

    content: list[bytes]
    partitions: dict[DataClass, set[datetime]]
    traffic_bounds: tuple[datetime, datetime]
    history_bounds: tuple[datetime, datetime]

    async def merge(self, connection: asyncpg.Connection) -> _Merged:
        """Stores what is new of it and merges the rest, within the connection's transaction."""
        await _copy(connection, "staged_report", STAGE.names, self.content)
        fresh = await rows(queries.insert_staged(connection))
        await queries.merge_by_key(connection)
        changed = []
        for merge, (expires_from, expires_to) in (
            (queries.merge_traffic, self.traffic_bounds),
            (queries.merge_history, self.history_bounds),
        ):
            changed += await rows(
                merge(connection, expires_from=expires_from, expires_to=expires_to)
            )
        return _Merged({r["ordinal"] for r in fresh}, {r["ordinal"] for r in changed})


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
        # What has one of these ids takes the second road: later reports, and what stands in one
        # group with them or turned out to be known.
        known = {r.id for batch in batches for r in batch.reports if r.updated is not None}
        looked_up = False
        for attempt in range(self._config.flush_attempts_max):
            try:
                return await self._write(batches, known, now)
            except asyncpg.UniqueViolationError:
                if looked_up:
                    known = {r.id for batch in batches for r in batch.reports}
                else:
                    known |= await self._known(batches, known)
                    looked_up = True
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

    async def _write(
        self, batches: Sequence[Batch], known: set[str], now: datetime
    ) -> list[Outcome]:
        pieces = _pieces(batches, known)
        folded = fold([r for b in batches for r in b.reports if r.id in known]) if known else []
        sheets = [Sheet.of(piece) for piece in pieces]
        staged_sheet = Sheet.of([f.merged for f in folded]) if folded else None
        named = {name for sheet in sheets for name in sheet.account_ids}
        await self.settings.ensure_accounts(
            named.union(staged_sheet.account_ids if staged_sheet else ()), now
        )
        # No other task runs from here on to the end of the encoding: it is all of one epoch.
        epoch = self.settings.epoch
        fresh = self._fresh(sheets, now) if sheets else None
        keys = {name: self.settings.accounts[name].key for name in named}
        usage = usage_of([report for piece in pieces for report in piece], keys)
        staged = self._staged(staged_sheet, now) if staged_sheet else None
        for data_class in (DataClass.TRAFFIC, DataClass.HISTORY):
            hours = {
                hour for part in (fresh, staged) if part for hour in part.partitions[data_class]
            }
            await self.ensure_partitions(data_class, hours)
        debug = await self._debug_rows(batches, now)
        async with self._database.ingest() as connection, connection.transaction():
            await self._take_part(connection, epoch, usage)
            if fresh:
                await _copy(connection, "traffic_record", TRAFFIC.names, fresh.traffic)
                if fresh.history:
                    await _copy(connection, "history_record", HISTORY.names, fresh.history)
            if staged:
                # Here and not before: behind a pooler another transaction is another session.
                await queries.make_stage(connection)
            merged = await staged.merge(connection) if staged else None
            await self._copy_debug(connection, debug)
        return _outcomes(batches, known, folded, merged)

    def _fresh(self, sheets: Sequence[Sheet], now: datetime) -> _Fresh:
        """What the first road writes, encoded."""
        traffic, history = [], []
        partitions: dict[DataClass, set[datetime]] = {
            DataClass.TRAFFIC: set(),
            DataClass.HISTORY: set(),
        }
        for sheet in sheets:
            accounts = [self.settings.accounts[name] for name in sheet.account_ids]
            keys = per_account(sheet, [a.key for a in accounts])
            gone_at = traffic_expiry(sheet.created, self.settings.policies)
            kept_until = history_expiry(sheet, accounts, now)
            partitions[DataClass.TRAFFIC] |= hours_of(gone_at)
            partitions[DataClass.HISTORY] |= hours_of(kept_until)
            traffic.append(traffic_batch(sheet, keys, gone_at))
            history.append(history_batch(sheet, keys, kept_until))
        kept = [batch for batch in history if batch.num_rows]
        return _Fresh(
            binary(TRAFFIC, traffic),
            binary(HISTORY, kept) if kept else [],
            partitions,
        )

    def _staged(self, sheet: Sheet, now: datetime) -> _Staged:
        """What the second road writes, encoded."""
        accounts = [self.settings.accounts[name] for name in sheet.account_ids]
        gone_at = traffic_expiry(sheet.created, self.settings.policies)
        kept_until = history_expiry(sheet, accounts, now)
        # History that is there already may stand under any period the account has had.
        earliest, latest = history_bounds(sheet, accounts)
        columns = sheet.columns | {
            "ordinal": pa.array(range(len(sheet)), pa.int32()),
            "account_key": per_account(sheet, [a.key for a in accounts]),
            "traffic_expires": gone_at.view(INSTANT),
            "history_expires": kept_until.view(INSTANT),
            "history_from": earliest.view(INSTANT),
            "history_to": latest.view(INSTANT),
        }
        return _Staged(
            binary(STAGE, [arrow(STAGE, columns)]),
            {DataClass.TRAFFIC: hours_of(gone_at), DataClass.HISTORY: hours_of(kept_until)},
            (instant(pc.min(gone_at).as_py()), instant(pc.max(gone_at).as_py())),
            (instant(pc.min(earliest).as_py()), instant(pc.max(latest).as_py())),
        )

    async def _known(self, batches: Sequence[Batch], known: set[str]) -> set[str]:
        """Ids among the new ones of records that are stored already, or come more than once."""
        reports = [r for b in batches for r in b.reports if r.id not in known]
        found = {name for name, count in Counter(r.id for r in reports).items() if count > 1}
        expiries = [
            self.settings.policies.expires_at(DataClass.TRAFFIC, r.created) for r in reports
        ]
        async with self._database.ingest() as connection, connection.transaction():
            await queries.merge_by_key(connection)
            stored = await rows(
                queries.known_records(
                    connection,
                    created_at=[r.created for r in reports],
                    account_key=[self.settings.accounts[r.account].key for r in reports],
                    ids=[r.id for r in reports],
                    expires_at=expiries,
                    expires_from=min(expiries),
                    expires_to=max(expiries),
                )
            )
        return found | {row["id"] for row in stored}

    async def ensure_partitions(self, data_class: DataClass, expiries: Iterable[datetime]) -> None:
        """Makes the partitions that rows with these expiries need and that are missing."""
        width = WIDTHS[data_class]
        wanted: dict[datetime, Bounds] = {}
        for expires_at in expiries:
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

    async def _take_part(self, connection: asyncpg.Connection, epoch: int, usage: Columns) -> None:
        """Counts what is new, and makes sure that what was encoded is of the settings in force.

        One message for both: in a small transaction messages are most of the work.

        Raises:
            StaleSettingsError: a setting has changed since.
        """
        if await queries.count_usage(connection, **usage) != epoch:
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


def _pieces(batches: Sequence[Batch], known: set[str]) -> list[list[Report]]:
    """The reports for the first road: small batches together, large ones each by itself."""
    pieces: list[list[Report]] = []
    for batch in batches:
        reports = [r for r in batch.reports if r.id not in known] if known else batch.reports
        if not reports:
            continue
        if pieces and len(pieces[-1]) < PIECE_RECORDS:
            pieces[-1] = pieces[-1] + reports
        else:
            pieces.append(reports)
    return pieces


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], parts: list[bytes]
) -> None:
    # Not as a file: asyncpg reads those in another thread, a switch for each part.
    await connection.copy_to_table(table, source=_each(parts), columns=columns, format="binary")


async def _each(parts: list[bytes]) -> AsyncIterator[bytes]:
    # Each part is a call of the system.
    if sum(map(len, parts)) <= COPY_PART_BYTES:
        parts = [b"".join(parts)]
    for part in parts:
        yield part


def _outcomes(
    batches: Sequence[Batch], known: set[str], folded: list[Folded], merged: _Merged | None
) -> list[Outcome]:
    """Tells each batch of its reports; a record's reports may be of several batches."""
    if merged is None:
        return [Outcome(accepted=len(b.reports)) for b in batches]
    owner = {id(r): n for n, batch in enumerate(batches) for r in batch.reports if r.id in known}
    outcomes = [Outcome(accepted=sum(r.id not in known for r in b.reports)) for b in batches]
    for ordinal, group in enumerate(folded):
        stored = ordinal in merged.fresh
        for place, (report, told) in enumerate(zip(group.reports, group.later, strict=True)):
            outcome = outcomes[owner[id(report)]]
            if stored and place == 0:
                outcome.accepted += 1
            elif told and (stored or ordinal in merged.changed):
                outcome.updated += 1
            else:
                outcome.duplicates += 1
    return outcomes
