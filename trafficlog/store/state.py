"""What there is and what is needed: everything that a retention run is planned from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.partitions import Bounds, Partition
from trafficlog.queries import queries, rows
from trafficlog.retention import DataClass, Plan, TableNeed, headroom_ahead, plan
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from trafficlog.config import Config
    from trafficlog.retention import PolicyBook

# Tables whose partitions live long enough to be frozen.
SEALED: Final = frozenset({DataClass.TRAFFIC, DataClass.HISTORY, DataClass.DEBUG})


@dataclass(frozen=True, slots=True)
class State:
    """Everything a plan is made from."""

    partitions: list[Partition]
    needs: list[TableNeed]
    last_reference: datetime | None

    def plan(self, now: datetime) -> Plan:
        """What a run at ``now`` would make, drop and seal."""
        return plan(self.partitions, now, self.needs)

    def headroom(self, now: datetime) -> dict[str, timedelta]:
        """For each table how long records go on finding their partition, at the least."""
        return {
            need.data_class.value: min(
                headroom_ahead(self.partitions, now, need.data_class, period)
                for period in need.periods
            )
            for need in self.needs
        }


async def read_state(connection: asyncpg.Connection, config: Config, now: datetime) -> State:
    """The state as it is in the database, for a run at ``now``."""
    partitions = [
        Partition(
            r["table_name"],
            r["name"],
            Bounds(r["lower"], r["upper"]),
            r["detach_pending"],
            r["sealed"],
        )
        for r in await rows(queries.partitions(connection))
    ]
    policies = policy_book(await rows(queries.policies(connection)))
    days = await rows(queries.history_periods(connection))
    last = await queries.last_reference(connection)
    return State(partitions, _needs(config, policies, days, now), last)


def _needs(
    config: Config, policies: PolicyBook, history_periods: Sequence[Any], now: datetime
) -> list[TableNeed]:
    """The periods in use of each table, and how far ahead its partitions are made."""
    daily = timedelta(days=config.headroom_days)
    hourly = timedelta(hours=config.headroom_hours)
    late = timedelta(hours=config.late_hours)
    history = {timedelta(days=r["history_days"]) for r in history_periods}
    history |= policies.periods_from(DataClass.HISTORY, now)
    return [
        TableNeed(
            data_class,
            frozenset(history)
            if data_class is DataClass.HISTORY
            else policies.periods_from(data_class, now),
            hourly if data_class is DataClass.IN_TRANSIT else daily,
            late if data_class in SEALED else None,
        )
        for data_class in DataClass
    ]
