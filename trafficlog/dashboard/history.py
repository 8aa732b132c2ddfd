"""The account's records: the list, one of them, and erasing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from trafficlog.api.history import erase_record, history_filter, remains_by_law
from trafficlog.api.query import only
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import text, until
from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES, RecordId
from trafficlog.store.history import Page as HistoryPage

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit

CHOICES: Final = {
    "kind": tuple(KIND_CODES),
    "direction": tuple(DIRECTION_CODES),
    "status": tuple(STATUS_CODES),
}
FILTERS: Final = (*CHOICES, "from", "to", "after", "before")


async def get_history(visit: Visit, dashboard: Dashboard) -> web.Response:
    """A page of records, newest first, and what the account's setting means."""
    services = dashboard.services
    only(visit.request.query.keys(), (*FILTERS, "cursor"))
    # A browser sends every field of a form, those left empty too.
    given = {name: visit.request.query[name] for name in FILTERS if visit.request.query.get(name)}
    cursor = visit.request.query.get("cursor")
    account = await services.accounts.get(visit.account_key)
    now = services.clock.now()
    page, wrong, older = HistoryPage(), None, None
    try:
        page = await services.history.page(
            visit.account_key,
            history_filter(given),
            now,
            limit=services.config.page_records,
            start=None if cursor is None else services.cursors.read(visit.account_key, cursor),
        )
    except InvalidValueError as error:
        wrong = _in_words(error)
    if page.next is not None:
        following = services.cursors.write(visit.account_key, page.next)
        older = "/history?" + urlencode({**given, "cursor": following})
    return dashboard.renderer.page(
        "history.html",
        visit=visit,
        status=200 if wrong is None else 400,
        account=account,
        records=page.records,
        choices=CHOICES,
        given=given,
        wrong=wrong,
        first=None if cursor is None else "/history" + ("?" + urlencode(given) if given else ""),
        older=older,
        until=lambda at: until(at - now),
    )


async def get_record(visit: Visit, dashboard: Dashboard) -> web.Response:
    """One record with its life; or all that carry its id."""
    services = dashboard.services
    now = services.clock.now()
    try:
        records = await services.history.all_of_id(visit.account_key, _record_id(visit), now)
    except NotFoundError:
        raise NotFoundError(text("error.404.record")) from None
    return dashboard.renderer.page(
        "record.html",
        visit=visit,
        records=records,
        remains=remains_by_law(services, records, now),
        until=lambda at: until(at - now),
    )


async def post_erase(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Erases what carries an id, and shows the receipt."""
    record = _record_id(visit)
    try:
        receipt = await erase_record(dashboard.services, visit.account_key, record)
    except NotFoundError:
        raise NotFoundError(text("error.404.record")) from None
    return dashboard.renderer.page("receipt.html", visit=visit, record=record, receipt=receipt)


def _record_id(visit: Visit) -> RecordId:
    """The id in the address; one that no record can have is not looked for."""
    record = visit.request.match_info["id"]
    if "\0" in record:
        raise NotFoundError(text("error.404.record"))
    return RecordId(record)


def _in_words(error: InvalidValueError) -> str:
    """What is wrong with a filter, under the name that its field has on the page."""
    if error.field not in FILTERS:
        return text("filter.wrong", field=text("records.more"), reason=text("cursor.wrong"))
    return text("filter.wrong", field=text(f"filter.{error.field}"), reason=error.reason)


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/history", get_history),
    SessionPage("GET", "/history/{id}", get_record),
    SessionPage("POST", "/history/{id}/erase", post_erase),
)
