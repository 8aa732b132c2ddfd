"""What the account used: charts, and the same figures as tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.api.query import one_of, only
from trafficlog.dashboard.routes import SessionPage
from trafficlog.records import KIND_CODES
from trafficlog.store.usage import Unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.store.usage import Usage

KINDS: Final = tuple(KIND_CODES)
MONTHS_OF_YEAR: Final = 12
# Each span with its unit and how many of them it has, the present one included.
SPANS: Final = {"month": (Unit.DAY, 30), "quarter": (Unit.DAY, 90), "year": (Unit.MONTH, 12)}


@dataclass(slots=True)
class Figures:
    """Sums of usage: records of each kind, parts, seconds of calls, and cost in 1/10000."""

    records: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    parts: int = 0
    seconds: int = 0
    cost: int = 0

    @property
    def count(self) -> int:
        """Records of all kinds."""
        return sum(self.records.values())

    @property
    def minutes(self) -> int:
        """Whole minutes of calls."""
        return self.seconds // 60

    def add(self, usage: Usage) -> None:
        """Counts this in."""
        self.records[usage.kind] += usage.records
        self.parts += usage.parts
        self.seconds += usage.seconds
        self.cost += usage.cost


async def get_usage(visit: Visit, dashboard: Dashboard) -> web.Response:
    """The usage of a span that ends now."""
    services = dashboard.services
    only(visit.request.query.keys(), ("span",))
    span = one_of(visit.request.query, "span", SPANS) or "month"
    unit, length = SPANS[span]
    today = services.clock.now().date()
    periods = _periods(unit, length, today)
    usage = await services.statistics.usage(visit.account_key, unit, periods[0], today)
    by_period = {first: Figures() for first in periods}
    for each in usage:
        by_period[each.first_day].add(each)
    return dashboard.renderer.page(
        "usage.html",
        visit=visit,
        account=await services.accounts.get(visit.account_key),
        spans=tuple(SPANS),
        span=span,
        unit=unit,
        by_period=by_period,
        total=_total(usage),
        breakdown=_breakdown(usage),
        kinds=KINDS,
    )


def _periods(unit: Unit, length: int, today: date) -> list[date]:
    """The first days of so many days or months, oldest first; the last one has today."""
    if unit is Unit.DAY:
        return [today - timedelta(days=back) for back in reversed(range(length))]
    months = today.year * MONTHS_OF_YEAR + today.month - 1
    return [
        date((months - back) // MONTHS_OF_YEAR, (months - back) % MONTHS_OF_YEAR + 1, 1)
        for back in reversed(range(length))
    ]


def _total(usage: Iterable[Usage]) -> Figures:
    total = Figures()
    for each in usage:
        total.add(each)
    return total


def _breakdown(usage: Iterable[Usage]) -> list[tuple[tuple[str, str, str | None], Figures]]:
    """The sums of each kind, direction and status, the largest first."""
    found: dict[tuple[str, str, str | None], Figures] = defaultdict(Figures)
    for each in usage:
        found[each.kind, each.direction, each.status].add(each)
    return sorted(found.items(), key=lambda item: -item[1].count)


PAGES: Final[tuple[Page, ...]] = (SessionPage("GET", "/usage", get_usage),)
