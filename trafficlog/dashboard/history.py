"""The account's records: the list, searched and in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from trafficlog.api.history import history_filter
from trafficlog.api.query import only
from trafficlog.dashboard.formats import OFFERED
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import counted, number, text, until
from trafficlog.dashboard.wrong import reason_of
from trafficlog.errors import InvalidValueError
from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES
from trafficlog.store.history_list import Page as HistoryPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.store.history_list import Total

CHOICES: Final = {
    "kind": tuple(KIND_CODES),
    "direction": tuple(DIRECTION_CODES),
    "status": tuple(STATUS_CODES),
}
FILTERS: Final = (*CHOICES, "from", "to", "tag", "after", "before")


async def get_history(visit: Visit, dashboard: Dashboard) -> web.Response:
    """A page of records, newest first, and what the account's setting means."""
    services = dashboard.services
    query = visit.request.query
    only(query.keys(), (*FILTERS, "cursor"))
    given = given_filters(query)
    cursor = query.get("cursor")
    account = await services.accounts.get(visit.account_key)
    now = services.clock.now()
    rows_max = services.config.history_scan_rows_max
    page, total, wrong, older = HistoryPage(), None, None, None
    try:
        wanted = history_filter(given)
        page = await services.history.page(
            visit.account_key,
            wanted,
            now,
            limit=services.config.page_records,
            start=None if cursor is None else services.cursors.read(visit.account_key, cursor),
            rows_max=rows_max,
        )
        if cursor is None and page.next is not None:
            key = visit.account_key
            total = await services.history.total(key, wanted, now, rows_max=rows_max)
    except InvalidValueError as error:
        wrong = in_words(error)
    if page.next is not None:
        following = services.cursors.write(visit.account_key, page.next)
        older = address(given, cursor=following)
    headers = {}
    if cursor is None:
        # Without the fields that were left empty: what a script asked for is where one is.
        headers["HX-Push-Url"] = address(given)
    return dashboard.renderer.page(
        "history.html",
        visit=visit,
        status=200 if wrong is None else 400,
        headers=headers,
        account=account,
        records=page.records,
        shown=_shown(len(page.records)),
        # The number that stands in it goes up when older ones are added.
        of_total=None if total is None else _of_total(total),
        choices=CHOICES,
        given=given,
        wrong=wrong,
        first=None if cursor is None else address(given),
        older=older,
        exports=[(name, "/export?" + urlencode({"format": name, **given})) for name in OFFERED],
        erase_link="/erasures/new?" + urlencode(given),
        until=lambda at: until(at - now),
    )


def given_filters(query: Mapping[str, str]) -> dict[str, str]:
    """The filters of a form; a browser sends every field of it, those left empty too."""
    return {name: query[name] for name in FILTERS if query.get(name)}


def address(given: Mapping[str, str], **more: str) -> str:
    """Where the list with these filters is."""
    query = urlencode({**given, **more})
    return "/history?" + query if query else "/history"


def _shown(count: int) -> str:
    return counted("records.shown", count) if count else text("records.shown.none")


def _of_total(total: Total) -> str:
    """That so many of a total are shown; how many, is still to be put in."""
    key = "records.shown.of" if total.exact else "records.shown.of_about"
    return text(key, count="{count}", total=number(total.estimate))


def in_words(error: InvalidValueError) -> str:
    """What is wrong with a filter, under the name that its field has on the page."""
    if error.field not in FILTERS:
        return text("filter.wrong", field=text("records.more"), reason=text("cursor.wrong"))
    return text("filter.wrong", field=text(f"filter.{error.field}"), reason=reason_of(error))


PAGES: Final[tuple[Page, ...]] = (SessionPage("GET", "/history", get_history),)
