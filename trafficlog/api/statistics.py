"""The customer's usage statistics: by day or month; no record, number or text in them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.api.history import account_of
from trafficlog.api.problems import json_response
from trafficlog.api.query import one_of
from trafficlog.api.routes import Route, scopes
from trafficlog.errors import InvalidValueError
from trafficlog.store.usage import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.api.services import Services

DEFAULT_SPAN: Final = timedelta(days=29)


async def get_statistics(request: web.Request, services: Services) -> web.Response:
    """What the account used from the day ``first`` to the day ``last``, in UTC."""
    query = request.query
    unit = Unit(one_of(query, "by", tuple(Unit)) or Unit.DAY)
    last = _day(query, "last") or services.clock.now().date()
    first = _day(query, "first") or max(last, date.min + DEFAULT_SPAN) - DEFAULT_SPAN
    longest = services.config.statistics_days_max
    if not 0 <= (last - first).days < longest:
        raise InvalidValueError(
            "first",
            first.isoformat(),
            f"must not be after `last` ({last}), nor {longest} days or more before it",
            reason_code="out_of_range",
        )
    key = await account_of(request, services)
    usage = await services.statistics.usage(key, unit, first, last)
    return json_response(
        {"by": unit, "first": first, "last": last, "data": [asdict(each) for each in usage]}
    )


def _day(query: Mapping[str, str], name: str) -> date | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidValueError(
            name, text, "must be a day, as 2026-11-22", reason_code="bad_format"
        ) from None


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{account}/statistics",
        get_statistics,
        scopes("customer", "operator"),
        ("by", "first", "last"),
    ),
)
