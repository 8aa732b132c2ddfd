"""The two roads of a report into the tables: what each writes, encoded, and how.

All that is encoded for one transaction is of one epoch of the settings: nothing here waits
between the first look at them and the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa

from trafficlog.errors import StaleSettingsError, TrafficlogError
from trafficlog.queries import queries, rows
from trafficlog.records import WITHHELD_BITS
from trafficlog.retention import DataClass
from trafficlog.store.columns import (
    HISTORY,
    INSTANT,
    STAGE,
    TRAFFIC,
    Sheet,
    arrow,
    binary,
    encoded,
    framed,
    history_batch,
    traffic_batch,
    without,
)
from trafficlog.store.counting import NO_USAGE, Columns, usage_of
from trafficlog.store.expiry import (
    day_ranges,
    history_bounds,
    history_expiry,
    hours_of,
    per_account,
    traffic_expiry,
    whole_days,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.store.settings import SettingsCache

COPY_PART_BYTES: Final = 256 * 1024
# The query that merges history has room for so many.
HISTORY_RANGES_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records not seen before, encoded for the first road by the settings of one epoch."""

    epoch: int
    sheet: Sheet
    account_keys: pa.Array
    traffic: bytes
    history: bytes
    history_rows: int
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(cls, sheet: Sheet, settings: SettingsCache, now: datetime) -> Self:
        """A sheet whose accounts are known, encoded."""
        accounts = [settings.accounts[name] for name in sheet.account_ids]
        keys = per_account(sheet, [a.key for a in accounts])
        gone_at = traffic_expiry(sheet.created, settings.policies)
        kept_until = history_expiry(sheet, accounts, now)
        withholding = sheet.withholding([a.withheld for a in accounts])
        kept = history_batch(withholding, keys, kept_until)
        return cls(
            settings.epoch,
            sheet,
            keys,
            encoded(TRAFFIC, traffic_batch(sheet, keys, gone_at)),
            encoded(HISTORY, kept),
            kept.num_rows,
            {DataClass.TRAFFIC: hours_of(gone_at), DataClass.HISTORY: hours_of(kept_until)},
        )


@dataclass(frozen=True, slots=True)
class FirstRoad:
    """Records not seen before: pieces of one epoch, and the hours of the expiries in them."""

    epoch: int
    pieces: Sequence[Piece]

    def is_of(self, epoch: int) -> bool:
        """Whether all was encoded by the settings of this epoch."""
        return all(each == epoch for each in (self.epoch, *(p.epoch for p in self.pieces)))

    @property
    def partitions(self) -> dict[DataClass, set[datetime]]:
        """The hours of the expiries, by table."""
        return {
            data_class: set().union(*(p.partitions[data_class] for p in self.pieces))
            for data_class in (DataClass.TRAFFIC, DataClass.HISTORY)
        }

    def _usage(self) -> Columns:
        """What the records count for."""
        if not self.pieces:
            return NO_USAGE
        return usage_of([(piece.sheet, piece.account_keys) for piece in self.pieces])

    async def write(self, connection: asyncpg.Connection) -> None:
        """Stores and counts it, within the connection's transaction.

        Counting also makes sure that what was encoded is of the settings in force: one message
        for both, for in a small transaction messages are most of the work.

        Raises:
            StaleSettingsError: a setting has changed since.
        """
        if await queries.count_usage(connection, **self._usage()) != self.epoch:
            raise StaleSettingsError
        if not self.pieces:
            return
        traffic = [p.traffic for p in self.pieces]
        rows_to_be = sum(len(p.sheet) for p in self.pieces)
        await _copy(connection, "traffic_record", TRAFFIC.names, framed(traffic), rows_to_be)
        history = [p.history for p in self.pieces]
        if rows_to_be := sum(p.history_rows for p in self.pieces):
            await _copy(connection, "history_record", HISTORY.names, framed(history), rows_to_be)


@dataclass(slots=True)
class Merged:
    """Which reports, by ordinal, made a record, and which told a known one something."""

    fresh: set[int]
    changed: set[int]


@dataclass(slots=True)
class SecondRoad:
    """Records that may be known, and between which expiries those are looked for.

    Of history there may be several ranges: where each begins, and where each ends.
    """

    content: list[bytes]
    reports: int
    partitions: dict[DataClass, set[datetime]]
    traffic_bounds: tuple[datetime, datetime]
    history_ranges: tuple[list[datetime], list[datetime]]

    @classmethod
    def of(cls, sheet: Sheet, settings: SettingsCache, now: datetime) -> Self:
        """What the second road writes, encoded."""
        accounts = [settings.accounts[name] for name in sheet.account_ids]
        gone_at = traffic_expiry(sheet.created, settings.policies)
        kept_until = history_expiry(sheet, accounts, now)
        # History that is there already may stand under any period the account has had.
        earliest, latest = history_bounds(sheet, accounts)
        by_account = [a.withheld for a in accounts]
        omitted = sheet.withholding(by_account).columns["withheld"]
        columns = sheet.columns | {
            "omitted": omitted,
            "ordinal": pa.array(range(len(sheet)), pa.int32()),
            "account_key": per_account(sheet, [a.key for a in accounts]),
            "traffic_expires": gone_at.view(INSTANT),
            "history_expires": kept_until.view(INSTANT),
            "history_from": earliest.view(INSTANT),
            "history_to": latest.view(INSTANT),
        }
        if any(by_account):
            # A record stored before its account said so keeps its message, and gets none.
            columns["message"] = without(columns["message"], omitted, WITHHELD_BITS["message"])
        return cls(
            binary(STAGE, [arrow(STAGE, columns)]),
            len(sheet),
            {DataClass.TRAFFIC: hours_of(gone_at), DataClass.HISTORY: hours_of(kept_until)},
            whole_days(gone_at, gone_at),
            day_ranges(earliest, latest, HISTORY_RANGES_MAX),
        )

    async def merge(self, connection: asyncpg.Connection) -> Merged:
        """Stores what is new of it and merges the rest, within the connection's transaction."""
        # Made here and not before: behind a pooler another transaction is another session.
        await queries.make_stage(connection)
        await _copy(connection, "staged_report", STAGE.names, self.content, self.reports)
        fresh = await rows(queries.insert_staged(connection))
        await queries.merge_by_key(connection)
        changed = []
        for merge, (expires_from, expires_to) in (
            (queries.merge_traffic, self.traffic_bounds),
            (queries.merge_history, self.history_ranges),
        ):
            changed += await rows(
                merge(connection, expires_from=expires_from, expires_to=expires_to)
            )
        return Merged({r["ordinal"] for r in fresh}, {r["ordinal"] for r in changed})


async def _copy(
    connection: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    parts: list[bytes],
    rows_to_be: int,
) -> None:
    """Copies rows and makes sure that they are as many as they are to be."""
    # Not as a file: asyncpg reads those in another thread, a switch for each part.
    status = await connection.copy_to_table(
        table, source=_each(parts), columns=columns, format="binary"
    )
    if status != f"COPY {rows_to_be}":
        # What is acknowledged must be stored: content that ends early is no error to COPY.
        raise TrafficlogError(f"{table} took {status!r} of {rows_to_be} rows")


async def _each(parts: list[bytes]) -> AsyncIterator[bytes]:
    # Each part is a call of the system.
    if sum(map(len, parts)) <= COPY_PART_BYTES:
        parts = [b"".join(parts)]
    for part in parts:
        yield part
