"""Reports of records that may be stored already: one statement stores or merges them.

It is handed the reports as arrays, and does the rest where the records are. A transaction with a
temporary table, a COPY into it and a statement for each step takes ten messages (measured, a group
of 1, 31 and 1,000 so: 1.4, 3.8 and 37 ms; with a temporary table 5.0, 9.5 and 41).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from trafficlog.errors import StaleSettingsError
from trafficlog.merging import fold
from trafficlog.queries import queries
from trafficlog.store.arrays import (
    array_of_flags,
    array_of_instants,
    array_of_numbers,
    arrays_of,
)
from trafficlog.store.expiry import day_ranges
from trafficlog.store.kept import Terms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.merging import Folded
    from trafficlog.records import Report
    from trafficlog.retention import DataClass
    from trafficlog.store.settings import SettingsCache

# So many reports of one record in a group are merged one by one.
APART_MAX: Final = 8
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

    # Which is a transaction by itself.
    is_one_statement: ClassVar = True

    epoch: int
    arguments: dict[str, Any]
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(
        cls,
        reports: Sequence[Report],
        settings: SettingsCache,
        now: datetime,
        several: Sequence[bool] | None = None,
    ) -> Self:
        """Reports, one or more, whose accounts are known, by the settings of the present epoch.

        Those that are ``several`` in one are not merged with what is known.
        """
        terms = Terms.of(reports, settings.accounts, settings.policies, now)
        # History that is there already may stand under any period the account has had.
        hours_min = [k.hours_min for k in terms.kept]
        hours_max = [k.hours_max for k in terms.kept]
        [traffic_from], [traffic_to] = day_ranges(
            terms.created, terms.traffic_hours, terms.traffic_hours, 1
        )
        history_from, history_to = day_ranges(
            terms.created, hours_min, hours_max, HISTORY_RANGES_MAX
        )
        arguments: dict[str, Any] = arrays_of(reports) | terms.arrays()
        arguments |= {
            "updated": array_of_instants([r.updated for r in reports]),
            "history_hours_min": array_of_numbers(hours_min),
            "history_hours_max": array_of_numbers(hours_max),
            "withheld": array_of_numbers([r.withheld for r in reports]),
            "several": array_of_flags(several or [False] * len(reports)),
            "traffic_from": traffic_from,
            "traffic_to": traffic_to,
            "history_from": history_from,
            "history_to": history_to,
        }
        return cls(settings.epoch, arguments, terms.partitions())

    async def write(self, connection: asyncpg.Connection) -> Merged:
        """Stores what is new of them and merges the rest, in a transaction of their own if need be.

        Raises:
            StaleSettingsError: a setting has changed since; nothing was stored.
        """
        told = await queries.store_later(connection, epoch=self.epoch, **self.arguments)
        if told["epoch"] != self.epoch:
            raise StaleSettingsError
        return Merged(frozenset(told["fresh"] or ()), frozenset(told["changed"] or ()))


async def tell_apart(
    connection: asyncpg.Connection,
    folded: Sequence[Folded],
    merged: Merged,
    settings: SettingsCache,
    now: datetime,
) -> None:
    """Finds out what each report told its record, once what was ``folded`` has been written.

    Of a record that was new they say so among themselves, and a report that was alone has been
    merged. Several of a known record are merged here, one after the other: made into one they would
    not tell which of them told something. They are seldom many, and from a certain number on the
    rest is merged as one.
    """
    for ordinal, each in enumerate(folded):
        if len(each.reports) == 1:
            each.told = [ordinal in merged.changed]
    left = [f for n, f in enumerate(folded) if n not in merged.fresh and len(f.reports) > 1]
    for place in range(APART_MAX):
        left = [f for f in left if place < len(f.reports)]
        if not left:
            return
        end = None if place == APART_MAX - 1 else place + 1
        omitted = {f.merged.account: settings.accounts[f.merged.account].withheld for f in left}
        each_next = [fold(f.reports[place:end], omitted)[0] for f in left]
        road = LaterRoad.of([n.merged for n in each_next], settings, now)
        changed = (await road.write(connection)).changed
        for ordinal, (each, following) in enumerate(zip(left, each_next, strict=True)):
            each.told[place:end] = [told and ordinal in changed for told in following.told]
