"""The account's monthly reports: which there are, one of them, and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from trafficlog.api.query import only
from trafficlog.api.reports import FORMAT, FORMATS, csv_of, page_of, report_of
from trafficlog.dashboard.render import HEADERS, PRIVATE, see_other
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import spoken, text
from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.reports import month_name, parse_month

if TYPE_CHECKING:
    from datetime import date

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.reports import MonthlyReport


async def get_reports(visit: Visit, dashboard: Dashboard) -> web.Response:
    """The reports that there are, the newest month first."""
    services = dashboard.services
    return dashboard.renderer.page(
        "reports.html",
        visit=visit,
        account=await services.accounts.get(visit.account_key),
        reports=await services.reports.list(visit.account_key),
        deleted="deleted" in visit.request.query,
    )


async def get_report(visit: Visit, dashboard: Dashboard) -> web.Response:
    """One report, to be read or printed."""
    return dashboard.renderer.page(
        "report.html", visit=visit, report=await _report(visit, dashboard)
    )


async def get_file(visit: Visit, dashboard: Dashboard) -> web.Response:
    """One report as a page to print, or as a file."""
    only(visit.request.query.keys(), (FORMAT.name,))
    name = FORMAT.read(visit.request.query) or "html"
    report = await _report(visit, dashboard)
    if name == "html":
        return page_of(report, spoken().code)
    content = csv_of(report).encode() if name == "csv" else orjson.dumps(report_of(report))
    file_name = f"trafficlog-{month_name(report.month)}.{name}"
    return web.Response(
        body=content,
        content_type=FORMATS[name],
        headers={
            **HEADERS,
            **PRIVATE,
            "Content-Disposition": f'attachment; filename="{file_name}"',
        },
    )


async def get_delete(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Whether a report is really to be deleted."""
    return dashboard.renderer.page(
        "report_delete.html", visit=visit, report=await _report(visit, dashboard)
    )


async def post_delete(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Deletes a report for good."""
    services = dashboard.services
    try:
        await services.reports.delete(visit.account_key, _month(visit), services.clock.now())
    except NotFoundError:
        raise _not_there() from None
    return see_other("/reports?deleted=yes")


async def _report(visit: Visit, dashboard: Dashboard) -> MonthlyReport:
    try:
        return await dashboard.services.reports.read(visit.account_key, _month(visit))
    except NotFoundError:
        raise _not_there() from None


def _month(visit: Visit) -> date:
    """The month in the address; one that is none has no report."""
    try:
        return parse_month(visit.request.match_info["month"])
    except InvalidValueError:
        raise _not_there() from None


def _not_there() -> NotFoundError:
    return NotFoundError(text("error.404.report"))


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/reports", get_reports),
    SessionPage("GET", "/reports/{month}", get_report),
    SessionPage("GET", "/reports/{month}/file", get_file),
    SessionPage("GET", "/reports/{month}/delete", get_delete),
    SessionPage("POST", "/reports/{month}/delete", post_delete),
)
