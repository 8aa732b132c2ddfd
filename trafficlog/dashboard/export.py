"""Taking records away: the list as it is searched, or all that is kept for the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.api.export import ARCHIVE, FORMAT, send_export
from trafficlog.api.history import history_filter
from trafficlog.api.query import only
from trafficlog.dashboard.history import FILTERS, given_filters
from trafficlog.dashboard.routes import SessionPage

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit


async def get_export(visit: Visit, dashboard: Dashboard) -> web.StreamResponse:
    """Sends a file of what a search means; an archive is always of everything."""
    query = visit.request.query
    only(query.keys(), (*FILTERS, FORMAT.name))
    name = FORMAT.demand(query)
    given = {} if name == ARCHIVE else given_filters(query)
    account_id = str(visit.principal.account_id)
    return await send_export(
        visit.request,
        dashboard.services,
        visit.account_key,
        account_id,
        name,
        history_filter(given),
    )


PAGES: Final[tuple[Page, ...]] = (SessionPage("GET", "/export", get_export),)
