"""A few new records: one statement stores them, in place of a transaction of five messages.

To encode by column costs as much for one record as for hundreds, and so do the messages of a
transaction with two COPYs. For few records it is cheaper to hand the server arrays and have it do
the rest: PostgreSQL then takes 9 to 10 us a record from groups of 160 on, where COPY takes 6 and
more for each transaction. Where the one road overtakes the other is measured at ``FEW_MAX``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from trafficlog.errors import StaleSettingsError
from trafficlog.queries import queries
from trafficlog.store.arrays import arrays_of
from trafficlog.store.kept import Terms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.records import Report
    from trafficlog.retention import DataClass
    from trafficlog.store.settings import SettingsCache


@dataclass(frozen=True, slots=True)
class FewRoad:
    """A few records not seen before, as the arrays that the statement takes."""

    # Which is a transaction by itself.
    is_one_statement: ClassVar = True

    epoch: int
    arrays: dict[str, str]
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(cls, reports: Sequence[Report], settings: SettingsCache, now: datetime) -> Self:
        """Reports, one or more, whose accounts are known, by the settings of the present epoch."""
        terms = Terms.of(reports, settings.accounts, settings.policies, now)
        return cls(settings.epoch, arrays_of(reports) | terms.arrays(), terms.partitions())

    def is_of(self, epoch: int) -> bool:
        """Whether they are as the settings of this epoch have them."""
        return self.epoch == epoch

    async def write(self, connection: asyncpg.Connection) -> None:
        """Stores and counts them, in a transaction of their own if there is none.

        Raises:
            StaleSettingsError: a setting has changed since; nothing was stored.
        """
        if await queries.store_few(connection, epoch=self.epoch, **self.arrays) != self.epoch:
            raise StaleSettingsError
