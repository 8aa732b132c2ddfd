"""The two roads of a report into the tables: what each writes, encoded, and how.

All that is encoded for one transaction is of one epoch of the settings: nothing here waits
between the first look at them and the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from trafficlog.queries import queries, rows
from trafficlog.retention import DataClass
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
from trafficlog.store.expiry import (
    history_bounds,
    history_expiry,
    hours_of,
    instant,
    per_account,
    traffic_expiry,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.store.settings import SettingsCache

COPY_PART_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class FirstRoad:
    """Records not seen before: COPY content of both tables, hours of the expiries in it."""

    traffic: list[bytes]
    history: list[bytes]
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(cls, sheets: Sequence[Sheet], settings: SettingsCache, now: datetime) -> Self:
        """What the first road writes, encoded."""
        traffic, history = [], []
        partitions: dict[DataClass, set[datetime]] = {
            DataClass.TRAFFIC: set(),
            DataClass.HISTORY: set(),
        }
        for sheet in sheets:
            accounts = [settings.accounts[name] for name in sheet.account_ids]
            keys = per_account(sheet, [a.key for a in accounts])
            gone_at = traffic_expiry(sheet.created, settings.policies)
            kept_until = history_expiry(sheet, accounts, now)
            partitions[DataClass.TRAFFIC] |= hours_of(gone_at)
            partitions[DataClass.HISTORY] |= hours_of(kept_until)
            traffic.append(traffic_batch(sheet, keys, gone_at))
            history.append(history_batch(sheet, keys, kept_until))
        kept = [batch for batch in history if batch.num_rows]
        return cls(
            binary(TRAFFIC, traffic),
            binary(HISTORY, kept) if kept else [],
            partitions,
        )

    async def write(self, connection: asyncpg.Connection) -> None:
        """Stores it, within the connection's transaction."""
        await _copy(connection, "traffic_record", TRAFFIC.names, self.traffic)
        if self.history:
            await _copy(connection, "history_record", HISTORY.names, self.history)


@dataclass(slots=True)
class Merged:
    """Which reports, by ordinal, made a record, and which told a known one something."""

    fresh: set[int]
    changed: set[int]


@dataclass(slots=True)
class SecondRoad:
    """Records that may be known, and between which expiries those are looked for."""

    content: list[bytes]
    partitions: dict[DataClass, set[datetime]]
    traffic_bounds: tuple[datetime, datetime]
    history_bounds: tuple[datetime, datetime]

    @classmethod
    def of(cls, sheet: Sheet, settings: SettingsCache, now: datetime) -> Self:
        """What the second road writes, encoded."""
        accounts = [settings.accounts[name] for name in sheet.account_ids]
        gone_at = traffic_expiry(sheet.created, settings.policies)
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
        return cls(
            binary(STAGE, [arrow(STAGE, columns)]),
            {DataClass.TRAFFIC: hours_of(gone_at), DataClass.HISTORY: hours_of(kept_until)},
            (instant(pc.min(gone_at).as_py()), instant(pc.max(gone_at).as_py())),
            (instant(pc.min(earliest).as_py()), instant(pc.max(latest).as_py())),
        )

    async def merge(self, connection: asyncpg.Connection) -> Merged:
        """Stores what is new of it and merges the rest, within the connection's transaction."""
        # Made here and not before: behind a pooler another transaction is another session.
        await queries.make_stage(connection)
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
        return Merged({r["ordinal"] for r in fresh}, {r["ordinal"] for r in changed})


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
