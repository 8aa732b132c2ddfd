"""Erasing what carries an id: what that means, and the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.api.history import erase_record, remains_by_law
from trafficlog.dashboard.record import not_there, record_id, records_of
from trafficlog.dashboard.routes import SessionPage
from trafficlog.errors import NotFoundError

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit


async def get_erase(visit: Visit, dashboard: Dashboard) -> web.Response:
    """What would go, and what the law keeps; nothing happens yet."""
    now = dashboard.services.clock.now()
    records = await records_of(visit, dashboard, now)
    return dashboard.renderer.page(
        "erase.html",
        visit=visit,
        records=records,
        remains=remains_by_law(dashboard.services, records, now),
    )


async def post_erase(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Erases what carries an id, and shows the receipt."""
    record = record_id(visit)
    try:
        receipt = await erase_record(dashboard.services, visit.account_key, record)
    except NotFoundError:
        raise not_there() from None
    return dashboard.renderer.page("receipt.html", visit=visit, record=record, receipt=receipt)


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/history/{id}/erase", get_erase),
    SessionPage("POST", "/history/{id}/erase", post_erase),
)
