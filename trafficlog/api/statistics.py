"""The customer's usage statistics: by day or month; no record, number or text in them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.api.caching import json_tagged, tagged
from trafficlog.api.customer_schemas import UsageList
from trafficlog.api.history import account_of
from trafficlog.api.parameters import ChoiceParameter, DayParameter
from trafficlog.api.routes import Route, scopes
from trafficlog.errors import InvalidValueError
from trafficlog.store.usage import Unit

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.api.services import Services

DEFAULT_SPAN: Final = timedelta(days=29)
BY: Final = ChoiceParameter("by", "What is summed up.", known=tuple(Unit), default=Unit.DAY)
FIRST: Final = DayParameter("first", "The first day, in UTC; without it 30 days in all.")
LAST: Final = DayParameter("last", "The last day, in UTC; without it today.")


async def get_statistics(request: web.Request, services: Services) -> web.Response:
    """What the account used from the day ``first`` to the day ``last``, in UTC."""
    query = request.query
    unit = Unit(BY.demand(query))
    last = LAST.read(query) or services.clock.now().date()
    first = FIRST.read(query) or max(last, date.min + DEFAULT_SPAN) - DEFAULT_SPAN
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
    return json_tagged(
        request,
        {"by": unit, "first": first, "last": last, "data": [asdict(each) for each in usage]},
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{account}/statistics",
        get_statistics,
        scopes("customer", "operator"),
        (BY, FIRST, LAST),
        group="Usage",
        answers=tagged("The usage.", UsageList),
    ),
)
