"""Everything that an account has here, to be taken away or erased, and its erasures so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.dashboard.formats import OFFERED
from trafficlog.dashboard.routes import SessionPage

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit

ERASURES_SHOWN: Final = 50


async def get_own_data(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Export, erasure of everything, and the newest erasures."""
    page = await dashboard.services.erasures.page(visit.account_key, limit=ERASURES_SHOWN)
    return dashboard.renderer.page(
        "own_data.html",
        visit=visit,
        erasures=page.erasures,
        more=page.next is not None,
        exports=OFFERED,
    )


PAGES: Final[tuple[Page, ...]] = (SessionPage("GET", "/data", get_own_data),)
