"""Erasing by filter, or everything: what it means, how far it has come, and its receipt."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from trafficlog.api.history import history_filter
from trafficlog.api.query import only
from trafficlog.dashboard.history import CHOICES, FILTERS, given_filters, in_words
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import text
from trafficlog.errors import ConflictError, InvalidValueError, NotFoundError
from trafficlog.store.erasures import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit

REPEAT_KEY_CHARS_MAX: Final = 64


async def get_new(visit: Visit, dashboard: Dashboard) -> web.Response:
    """What an erasure would mean; nothing happens yet."""
    only(visit.request.query.keys(), (*FILTERS, "everything"))
    return await _preview(visit, dashboard, visit.request.query)


async def post_new(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Accepts an erasure that was confirmed; the form sent twice is one erasure."""
    services = dashboard.services
    form = visit.form
    if form.get("everything") == "yes" and form.get("account", "").strip() != (
        visit.principal.account_id
    ):
        return await _preview(visit, dashboard, form, wrong=text("erasures.account.wrong"))
    repeat_key = form.get("repeat_key", "")[:REPEAT_KEY_CHARS_MAX]
    try:
        erasure = await services.erasures.start(
            visit.account_key, _wanted(form), services.clock.now(), repeat_key=repeat_key or None
        )
    except InvalidValueError:
        return await _preview(visit, dashboard, form)
    except ConflictError:
        return await _preview(visit, dashboard, form, wrong=text("erasures.busy"), status=409)
    return see_other(f"/erasures/{erasure.id}")


async def get_erasure(visit: Visit, dashboard: Dashboard) -> web.Response:
    """How far an erasure has come; its receipt when it is finished."""
    erasures = dashboard.services.erasures
    erasure_id = _erasure_id(visit)
    try:
        erasure = await erasures.get(visit.account_key, erasure_id)
        if not erasure.is_finished:
            return dashboard.renderer.page(
                "erasure.html", visit=visit, erasure=erasure, choices=CHOICES
            )
        receipt = await erasures.receipt(visit.account_key, erasure_id)
    except NotFoundError:
        raise _not_there() from None
    return dashboard.renderer.page(
        "erasure_receipt.html",
        visit=visit,
        # To one who was watching it, the end is a page of its own.
        headers={"HX-Refresh": "true"} if "HX-Request" in visit.request.headers else None,
        erasure=erasure,
        receipt=receipt,
    )


async def post_cancel(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Ends an erasure that is under way; one that is finished shows its receipt instead."""
    services = dashboard.services
    erasure_id = _erasure_id(visit)
    try:
        await services.erasures.cancel(visit.account_key, erasure_id, services.clock.now())
    except NotFoundError:
        raise _not_there() from None
    except ConflictError:
        pass
    return see_other(f"/erasures/{erasure_id}")


async def _preview(
    visit: Visit,
    dashboard: Dashboard,
    given: Mapping[str, str],
    *,
    wrong: str | None = None,
    status: int = 400,
) -> web.Response:
    services = dashboard.services
    preview: Any = None
    try:
        preview = await services.erasures.preview(
            visit.account_key, _wanted(given), services.clock.now()
        )
    except InvalidValueError as error:
        wrong = text("erasures.nothing") if error.field == "filter" else in_words(error)
    chosen = given_filters(given)
    return dashboard.renderer.page(
        "erasure_new.html",
        visit=visit,
        status=200 if wrong is None else status,
        everything=given.get("everything") == "yes",
        given=chosen,
        choices=CHOICES,
        preview=preview,
        wrong=wrong,
        back="/history" + ("?" + urlencode(chosen) if chosen else ""),
        # A form that is sent twice means one erasure.
        repeat_key=secrets.token_hex(16),
    )


def _wanted(given: Mapping[str, str]) -> Wanted:
    """What a form or an address asks to be erased.

    Raises:
        InvalidValueError: it is not said, or a filter means nothing.
    """
    if given.get("everything") == "yes":
        return Wanted(None, reports=given.get("reports") == "yes")
    return Wanted(history_filter(given_filters(given)))


def _erasure_id(visit: Visit) -> str:
    erasure_id = visit.request.match_info["erasure"]
    if "\0" in erasure_id:
        raise _not_there()
    return erasure_id


def _not_there() -> NotFoundError:
    return NotFoundError(text("error.404.erasure"))


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/erasures/new", get_new),
    SessionPage("POST", "/erasures/new", post_new),
    SessionPage("GET", "/erasures/{erasure}", get_erasure),
    SessionPage("POST", "/erasures/{erasure}/cancel", post_cancel),
)
