"""Monthly reports: making those that are due; reading and deleting an account's."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import orjson

from trafficlog.errors import NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.reports import (
    MonthlyReport,
    ReportDay,
    ReportLine,
    Totals,
    final_from,
    month_name,
    month_of,
)
from trafficlog.store.retrying import tried_again
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from trafficlog.records import AccountKey
    from trafficlog.store.database import Database


class Reports:
    """The monthly reports of one account at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, key: AccountKey) -> Sequence[MonthlyReport]:
        """All reports that there are, the newest month first."""
        async with self._database.as_account(key) as connection:
            found = await rows(queries.reports(connection, account_key=key))
        return [_report(row) for row in found]

    async def read(self, key: AccountKey, month: date) -> MonthlyReport:
        """The report of a month, given as its first day.

        Raises:
            NotFoundError: there is none, or it was deleted.
        """
        async with self._database.as_account(key) as connection:
            row = await queries.report_of_month(connection, account_key=key, month=month)
        if row is None:
            raise _missing(month)
        return _report(row)

    @tried_again
    async def delete(self, key: AccountKey, month: date, now: datetime) -> None:
        """Deletes the report of a month. It does not come back, not by late records either.

        Raises:
            NotFoundError: there is none, or it was deleted before.
        """
        async with self._database.as_account(key) as connection:
            if not await queries.delete_report(connection, month=month, at=now):
                raise _missing(month)


async def make_due(connection: Any, now: datetime, accounts_max: int) -> int:
    """Makes the reports that are due, at most ``accounts_max`` in one transaction.

    Gives for how many months of accounts there was something to count; reports that say what
    they said before are left as they are.
    """
    total = 0
    due = await rows(queries.reports_due(connection, at=now, before=month_of(now)))
    if not due:
        return total
    policies = policy_book(await rows(queries.policies(connection)))
    for row in due:
        month, taken = row["month"], accounts_max
        while taken == accounts_max:
            taken = await queries.make_reports(
                connection,
                month=month,
                final_from=final_from(month, policies),
                at=now,
                accounts_max=accounts_max,
            )
            total += taken
    return total


def _missing(month: date) -> NotFoundError:
    name = month_name(month)
    return NotFoundError(f"there is no report of {name}", month=name)


def _report(row: Any) -> MonthlyReport:
    content = orjson.loads(row["content"])
    return MonthlyReport(
        account=row["account_id"],
        display_name=row["display_name"],
        month=row["month"],
        made_at=row["made_at"],
        final=row["final"],
        final_from=row["final_from"],
        currency=row["currency"],
        lines=[
            ReportLine(line["kind"], line["direction"], line["status"], _totals(line))
            for line in content["lines"]
        ],
        days=[
            ReportDay(date.fromisoformat(each["day"]), _totals(each)) for each in content["days"]
        ],
    )


def _totals(values: Mapping[str, int]) -> Totals:
    return Totals(values["records"], values["parts"], values["seconds"], values["cost"])
