"""The first road into the tables, of many records not seen before: what it writes, and how.

All that is encoded for one transaction is of one epoch of the settings: nothing here waits
between the first look at them and the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from trafficlog.errors import StaleSettingsError, TrafficlogError
from trafficlog.queries import queries
from trafficlog.retention import DataClass
from trafficlog.store.columns import (
    HISTORY,
    TRAFFIC,
    Sheet,
    encoded,
    framed,
    history_batch,
    traffic_batch,
)
from trafficlog.store.counting import NO_USAGE, Columns, usage_of
from trafficlog.store.expiry import (
    history_expiry,
    hours_of,
    per_account,
    traffic_expiry,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    import asyncpg
    import numpy as np
    from numpy.typing import NDArray

    from trafficlog.store.settings import SettingsCache

COPY_PART_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records not seen before, encoded for the first road by the settings of one epoch."""

    epoch: int
    sheet: Sheet
    account_keys: NDArray[np.int64]
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

    is_one_statement: ClassVar = False

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
