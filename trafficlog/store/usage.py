"""Reading usage statistics: counts by day or month that outlive the records they count."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from trafficlog.queries import queries, rows

if TYPE_CHECKING:
    from datetime import date

    from trafficlog.records import AccountKey
    from trafficlog.store.database import Database


class Unit(StrEnum):
    """What the counts are given for."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account used in a day or month with one kind, direction and status.

    ``first_day`` is the day (UTC, of creation), or the first one of the month; ``seconds`` are
    of calls, ``cost`` is in 1/10000 of the account's currency.
    """

    first_day: date
    kind: str
    direction: str
    status: str | None
    records: int
    parts: int
    seconds: int
    cost: int


class Statistics:
    """The usage statistics of one account at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage(self, key: AccountKey, unit: Unit, first: date, last: date) -> list[Usage]:
        """What was used from the day ``first`` to the day ``last``, both included."""
        async with self._database.as_account(key) as connection:
            found = await rows(
                queries.usage(connection, account_key=key, unit=unit.value, first=first, last=last)
            )
        return [Usage(**dict(row)) for row in found]
