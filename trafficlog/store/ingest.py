"""Writing records: one transaction for a group of batches, on one of two roads.

The *first road* is for reports of records not seen before: a binary COPY into the
legal table and one into history. A report that is a later state of its record, or a
record that turns out to be known, takes the *second road*: COPY into a temporary
table, then insert what is new and merge what is known. Either way a batch is
answered only after its transaction is on disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from trafficlog.errors import DatabaseUnavailableError, StaleSettingsError
from trafficlog.merging import Folded, fold
from trafficlog.partitions import Bounds, bounds_of
from trafficlog.queries import queries, rows
from trafficlog.retention import WIDTHS, DataClass
from trafficlog.store.columns import Sheet
from trafficlog.store.counting import usage_of
from trafficlog.store.debug_log import DebugLine, copy_lines, row_of
from trafficlog.store.roads import FirstRoad, Merged, SecondRoad
from trafficlog.store.settings import SettingsCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from trafficlog.config import Config
    from trafficlog.records import Report
    from trafficlog.store.counting import Columns
    from trafficlog.store.database import Database

log = structlog.get_logger()

# Fewer records than these are encoded together with those of the next requests.
PIECE_RECORDS: Final = 500


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


class RecordWriter:
    """Writes groups of batches; safe to use from several tasks."""

    def __init__(self, database: Database, config: Config) -> None:
        self._database = database
        self._config = config
        self.settings = SettingsCache(database)
        self._partitions: dict[DataClass, set[datetime]] = {}

    async def start(self) -> None:
        """Reads the policies once, so that the first record need not wait."""
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
        second_sheet = Sheet.of([f.merged for f in folded]) if folded else None
        named = {name for sheet in sheets for name in sheet.account_ids}
        await self.settings.ensure_accounts(
            named.union(second_sheet.account_ids if second_sheet else ()), now
        )
        # No other task runs from here on to the end of the encoding: it is all of one epoch.
        epoch = self.settings.epoch
        first = FirstRoad.of(sheets, self.settings, now) if sheets else None
        keys = {name: self.settings.accounts[name].key for name in named}
        usage = usage_of([report for piece in pieces for report in piece], keys)
        second = SecondRoad.of(second_sheet, self.settings, now) if second_sheet else None
        for data_class in (DataClass.TRAFFIC, DataClass.HISTORY):
            hours = {
                hour for road in (first, second) if road for hour in road.partitions[data_class]
            }
            await self.ensure_partitions(data_class, hours)
        debug = await self._debug_rows(batches, now)
        async with self._database.ingest() as connection, connection.transaction():
            await self._take_part(connection, epoch, usage)
            if first:
                await first.write(connection)
            merged = await second.merge(connection) if second else None
            if debug:
                await copy_lines(connection, debug)
        return _outcomes(batches, known, folded, merged)

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
        keys = {name: self.settings.accounts[name].key for name in named}
        return [
            row_of(line, keys[line.account] if line.account else None, expires_at)
            for line, expires_at in zip(lines, expiries, strict=True)
        ]


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


def _outcomes(
    batches: Sequence[Batch], known: set[str], folded: list[Folded], merged: Merged | None
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
