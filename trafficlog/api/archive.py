"""What an archive of a whole account has beside its history: settings, statistics, and so on."""

from __future__ import annotations

import csv
import io
from calendar import monthrange
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import orjson

from trafficlog.api.reports import report_of
from trafficlog.api.settings import settings_of
from trafficlog.export.archive import Archive
from trafficlog.reports import month_name
from trafficlog.store.accounts import load_account
from trafficlog.store.usage import Unit

if TYPE_CHECKING:
    from trafficlog.api.services import Services
    from trafficlog.records import AccountKey
    from trafficlog.store.usage import Usage

ERASURES_IN_A_PAGE: Final = 1_000
STATISTICS_FIELDS: Final = (
    *("day", "kind", "direction", "status", "records", "parts", "seconds", "cost"),
)


async def archive_of(services: Services, key: AccountKey) -> Archive:
    """An archive of an account, to which its history is still to be added."""
    async with services.database.as_account(key, snapshot=True) as connection:
        account = await load_account(connection, key)
    days = [_day(used) for used in await _statistics(services, key)]
    documents = {
        "settings.json": _json(
            {"account": account.id, "created": account.created_at, **settings_of(account)}
        ),
        "statistics.csv": _csv(days),
        "statistics.json": _json({"by": Unit.DAY, "data": days}),
    }
    for report in await services.reports.list(key):
        documents[f"reports/{month_name(report.month)}.json"] = _json(report_of(report))
    for name, receipt in (await _receipts(services, key)).items():
        documents[f"erasures/{name}.json"] = _json(receipt)
    about = {
        "account": account.id,
        "display_name": account.display_name,
        "currency": account.currency,
    }
    return Archive(about, documents, services.clock.now)


async def _statistics(services: Services, key: AccountKey) -> list[Usage]:
    """What was used on each day there ever was, asked for month by month."""
    months = await services.statistics.usage(key, Unit.MONTH, date.min, date.max)
    found: list[Usage] = []
    for first in sorted({used.first_day for used in months}):
        last = first.replace(day=monthrange(first.year, first.month)[1])
        found += await services.statistics.usage(key, Unit.DAY, first, last)
    return found


def _day(used: Usage) -> dict[str, Any]:
    values = asdict(used)
    return {"day": values.pop("first_day"), **values}


async def _receipts(services: Services, key: AccountKey) -> dict[str, dict[str, Any]]:
    """The receipts of all erasures that are finished."""
    found = {}
    place = None
    while True:
        page = await services.erasures.page(key, limit=ERASURES_IN_A_PAGE, start=place)
        for erasure in page.erasures:
            if erasure.is_finished:
                found[erasure.id] = await services.erasures.receipt(key, erasure.id)
        place = page.next
        if place is None:
            return found


def _csv(days: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, STATISTICS_FIELDS)
    writer.writeheader()
    writer.writerows(days)
    return text.getvalue().encode()


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2)
