"""Reports of records that may be stored already: one statement stores or merges them.

It is handed the reports as arrays, and does the rest where the records are. A transaction with a
temporary table, a COPY into it and a statement for each step takes ten messages (measured, a group
of 1, 31 and 1,000 so: 1.4, 3.8 and 37 ms; with a temporary table 5.0, 9.5 and 41).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from trafficlog.errors import StaleSettingsError
from trafficlog.queries import queries
from trafficlog.retention import DataClass
from trafficlog.store.arrays import array_of_instants, array_of_numbers, arrays_of
from trafficlog.store.expiry import day_ranges, micros
from trafficlog.store.kept import Kept, history_hours, hours_of_ends, traffic_hours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.records import Report
    from trafficlog.store.settings import SettingsCache

# The merge of history has room for so many.
HISTORY_RANGES_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class Merged:
    """Which reports, by ordinal, made a record, and which told a known one something."""

    fresh: frozenset[int]
    changed: frozenset[int]


@dataclass(frozen=True, slots=True)
class LaterRoad:
    """Records that may be known, as the statement takes them.

    That is the arrays, and between which expiries the records are looked for: of history there may
    be several ranges, where each begins and where each ends.
    """

    epoch: int
    arguments: dict[str, Any]
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(cls, reports: Sequence[Report], settings: SettingsCache, now: datetime) -> Self:
        """Reports, one or more, whose accounts are known, by the settings of the present epoch."""
        accounts = {
            name: Kept.of(settings.accounts[name], now) for name in {r.account for r in reports}
        }
        kept = [accounts[r.account] for r in reports]
        created = [micros(r.created) for r in reports]
        of_traffic = traffic_hours(reports, settings.policies)
        of_history = history_hours(reports, kept)
        # History that is there already may stand under any period the account has had.
        hours_min, hours_max = [k.hours_min for k in kept], [k.hours_max for k in kept]
        [traffic_from], [traffic_to] = day_ranges(created, of_traffic, of_traffic, 1)
        history_from, history_to = day_ranges(created, hours_min, hours_max, HISTORY_RANGES_MAX)
        arguments = arrays_of(reports) | {
            "account_keys": array_of_numbers([k.key for k in kept]),
            "created": array_of_numbers(created),
            "updated": array_of_instants([r.updated for r in reports]),
            "traffic_hours": array_of_numbers(of_traffic),
            "history_hours": array_of_numbers(of_history),
            "history_hours_min": array_of_numbers(hours_min),
            "history_hours_max": array_of_numbers(hours_max),
            "withheld": array_of_numbers([r.withheld for r in reports]),
            "omitted": array_of_numbers(
                [k.omitted_of(r) for k, r in zip(kept, reports, strict=True)]
            ),
            "traffic_from": traffic_from,
            "traffic_to": traffic_to,
            "history_from": history_from,
            "history_to": history_to,
        }
        return cls(
            settings.epoch,
            arguments,
            {
                DataClass.TRAFFIC: hours_of_ends(created, of_traffic),
                DataClass.HISTORY: hours_of_ends(created, of_history),
            },
        )

    async def write(self, connection: asyncpg.Connection) -> Merged:
        """Stores what is new of them and merges the rest, in a transaction of their own if need be.

        Raises:
            StaleSettingsError: a setting has changed since; nothing was stored.
        """
        told = await queries.store_later(connection, epoch=self.epoch, **self.arguments)
        if told["epoch"] != self.epoch:
            raise StaleSettingsError
        return Merged(frozenset(told["fresh"] or ()), frozenset(told["changed"] or ()))
