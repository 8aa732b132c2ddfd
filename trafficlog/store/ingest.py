"""Writing records: one transaction for a group of batches, on one of two roads.

The *first road* is for reports of records not seen before: a binary COPY into the
legal table and one into history, or one statement for a few. A report that is a later
state of its record, or a record that turns out to be known, takes the *second road*:
one statement inserts what is new and merges what is known. Either way a batch is
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
from trafficlog.store.database import given_up_when_silent, transaction
from trafficlog.store.debug_log import DebugLine, RefusedRecord, copy_lines, row_of
from trafficlog.store.few import FewRoad
from trafficlog.store.later import LaterRoad, Merged, tell_apart
from trafficlog.store.roads import FirstRoad, Piece
from trafficlog.store.settings import SettingsCache
from trafficlog.table import ReportTable
from trafficlog.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from trafficlog.config import Config
    from trafficlog.reading import Read
    from trafficlog.records import Report
    from trafficlog.store.database import Database

log = structlog.get_logger()

# Fewer records than these are encoded together with those of the next requests; of many more,
# so many at once.
PIECE_RECORDS: Final = 500
PIECE_RECORDS_MAX: Final = 2_000
# So many in a group are stored by one statement (measured in requests of 100 on 16 connections:
# with 300 61,000 records a second, with 1,000 80,000, with 2,000 78,000).
FEW_MAX: Final = 1_000


@dataclass(slots=True)
class Batch:
    """What one request wants stored: its reports, and lines of the debug log.

    A line is kept of each ``refused`` record too, without what its account omits.

    ``pieces`` is what ``RecordWriter.prepare`` made of its first reports, if anything.
    """

    reports: list[Report]
    debug_lines: list[DebugLine] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    refused: list[RefusedRecord] = field(default_factory=list)


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
        self.turns = Turns()
        self._partitions: dict[DataClass, set[datetime]] = {}
        # The hours of expiries whose partitions are known to be there.
        self._made: dict[DataClass, set[datetime]] = {}

    async def start(self) -> None:
        """Reads the policies once, so that the first record need not wait."""
        await self.settings.refresh()

    async def prepare(self, batch: Batch, reads: Sequence[Read], now: datetime) -> None:
        """Encodes a large batch, that was read so, before it waits for its turn.

        So the database is not kept waiting for that when its turn has come. A setting that
        changes meanwhile only makes it be done again.
        """
        if len(batch.reports) < PIECE_RECORDS:
            return
        later = {r.id for r in batch.reports if r.updated is not None}
        for read in reads:
            await self.turns.next()
            if later or read.table is None:
                table = ReportTable.of([r for r in read.reports if r.id not in later])
            else:
                table = read.table
            if not len(table):
                continue
            sheet = Sheet.of(table)
            if not self.settings.accounts.keys() >= set(sheet.account_ids):
                # New accounts are made by the transaction that writes the batch, which has its
                # time: what is not prepared whole is encoded there.
                batch.pieces.clear()
                return
            batch.pieces.append(Piece.of(sheet, self.settings, now))

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
                self._made.clear()
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                log.info("flush_retried", attempt=attempt, reason=str(error))
        raise DatabaseUnavailableError(
            f"the records could not be written in {self._config.flush_attempts_max} tries"
        )

    async def _write(
        self, batches: Sequence[Batch], known: set[str], now: datetime
    ) -> list[Outcome]:
        later = [r for b in batches for r in b.reports if r.id in known] if known else []
        named = {r.account for r in later}
        await self.settings.ensure_accounts(named, now)
        first = await self._first_road(batches, known, now)
        # No other task runs from here to the end of the encoding: it is all of one epoch.
        if first and not first.is_of(self.settings.epoch):
            raise StaleSettingsError
        folded = fold(later, {name: self.settings.accounts[name].withheld for name in named})
        several = [len(f.reports) > 1 for f in folded]
        second = None
        if folded:
            second = LaterRoad.of([f.merged for f in folded], self.settings, now, several)
        roads = [road for road in (first, second) if road]
        await self._ensure_made(roads)
        debug = await self._debug_rows(batches, now)
        is_one_statement = len(roads) == 1 and roads[0].is_one_statement
        alone = is_one_statement and not debug and not any(several)
        within = given_up_when_silent if alone else transaction
        merged = None
        async with self._database.ingest() as connection, within(connection):
            if first:
                await first.write(connection)
            if second:
                merged = await second.write(connection)
                await tell_apart(connection, folded, merged, self.settings, now)
            if debug:
                await copy_lines(connection, debug)
        return _outcomes(batches, known, folded, merged)

    async def _first_road(
        self, batches: Sequence[Batch], known: set[str], now: datetime
    ) -> FirstRoad | FewRoad | None:
        """What has none of the known ids, as it was prepared, or encoded now.

        None if all have one. Of no reports at all the road is empty, and still makes sure of the
        settings.
        """
        pieces: list[Piece] = []
        loose: list[Report] = []
        for batch in batches:
            if self._is_prepared(batch, known):
                pieces += batch.pieces
            else:
                loose += [r for r in batch.reports if r.id not in known] if known else batch.reports
        if known and not pieces and not loose:
            return None
        if not pieces and 0 < len(loose) <= FEW_MAX:
            await self.settings.ensure_accounts({r.account for r in loose}, now)
            return FewRoad.of(loose, self.settings, now)
        for start in range(0, len(loose), PIECE_RECORDS_MAX):
            sheet = Sheet.of(ReportTable.of(loose[start : start + PIECE_RECORDS_MAX]))
            await self.settings.ensure_accounts(set(sheet.account_ids), now)
            pieces.append(Piece.of(sheet, self.settings, now))
        return FirstRoad(self.settings.epoch, pieces)

    def _is_prepared(self, batch: Batch, known: set[str]) -> bool:
        """Whether all of a batch but what has a known id was encoded, by present settings."""
        if not batch.pieces or any(p.epoch != self.settings.epoch for p in batch.pieces):
            return False
        prepared = sum(len(piece.sheet) for piece in batch.pieces)
        elsewhere = sum(r.id in known for r in batch.reports) if known else 0
        return prepared + elsewhere == len(batch.reports)

    async def _known(self, batches: Sequence[Batch], known: set[str]) -> set[str]:
        """Ids among the new ones of records that are stored already, or come more than once."""
        reports = [r for b in batches for r in b.reports if r.id not in known]
        found = {name for name, count in Counter(r.id for r in reports).items() if count > 1}
        expiries = [
            self.settings.policies.expires_at(DataClass.TRAFFIC, r.created) for r in reports
        ]
        async with self._database.ingest() as connection, transaction(connection):
            await queries.look_up_by_key(connection)
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

    async def _ensure_made(self, roads: Sequence[FirstRoad | FewRoad | LaterRoad]) -> None:
        """Makes the partitions that are missing for what is about to be written."""
        for data_class in (DataClass.TRAFFIC, DataClass.HISTORY):
            made = self._made.setdefault(data_class, set())
            hours = {hour for road in roads for hour in road.partitions[data_class]}
            if not hours <= made:
                await self.ensure_partitions(data_class, hours)
                made |= hours

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

    async def _debug_rows(self, batches: Sequence[Batch], now: datetime) -> list[tuple[Any, ...]]:
        lines = [line for batch in batches for line in batch.debug_lines]
        if refused := [each for batch in batches for each in batch.refused]:
            # By settings that the transaction compares the epoch of, as for all records.
            omitted = await self.settings.withheld_by({r.account for r in refused if r.account})
            lines += [r.line(omitted.get(r.account, 0)) for r in refused]
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


def _outcomes(
    batches: Sequence[Batch], known: set[str], folded: list[Folded], merged: Merged | None
) -> list[Outcome]:
    """Tells each batch of its reports; a record's reports may be of several batches."""
    if merged is None:
        return [Outcome(accepted=len(b.reports)) for b in batches]
    owner = {id(r): n for n, batch in enumerate(batches) for r in batch.reports if r.id in known}
    outcomes = [Outcome(accepted=sum(r.id not in known for r in b.reports)) for b in batches]
    for ordinal, group in enumerate(folded):
        for place, (report, told) in enumerate(zip(group.reports, group.told, strict=True)):
            outcome = outcomes[owner[id(report)]]
            if place == 0 and ordinal in merged.fresh:
                outcome.accepted += 1
            elif told:
                outcome.updated += 1
            else:
                outcome.duplicates += 1
    return outcomes
