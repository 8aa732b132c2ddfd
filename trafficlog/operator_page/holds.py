"""Holds: those in force and those that are over; one of them, extended or released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from trafficlog.api.query import instant as instant_parameter
from trafficlog.api.query import one_of, only, parse_selector, required_text
from trafficlog.clock import parse_instant
from trafficlog.dashboard.render import see_other
from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.holds import REASON_CHARS_MAX
from trafficlog.operator_page.pages import OperatorPage
from trafficlog.operator_page.render import instant
from trafficlog.operator_page.texts import ENGLISH, distance, text

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from trafficlog.holds import AbuseHold
    from trafficlog.operator_page.pages import Operation, Page, Visit

# Few: what each of them keeps is counted.
ROWS: Final = 20
ACTIVE: Final = "active"
OVER: Final = "over"
WINDOW: Final = ("created_from", "created_to")
KINDS: Final = ("account", "number", "ip", "record")


async def get_holds(visit: Visit, operation: Operation) -> web.Response:
    """Holds in force, or those that are over, newest first."""
    query, services = visit.request.query, operation.services
    only(query.keys(), ("which", "placed", "id"))
    which = one_of(query, "which", (ACTIVE, OVER)) or ACTIVE
    placed = instant_parameter(query, "placed")
    now = services.clock.now()
    found = await services.holds.page(
        is_active=which == ACTIVE,
        now=now,
        limit=ROWS + 1,
        after=None if placed is None else (placed, query.get("id", "").replace("\0", "")),
    )
    shown = found[:ROWS]
    following = None
    if len(found) > ROWS:
        last = shown[-1]
        following = "/operate/holds?" + urlencode(
            {"which": which, "placed": last.placed_at.isoformat(), "id": last.id}
        )
    copies = {hold.id: sum((await services.holds.get(hold.id))[1].values()) for hold in shown}
    return operation.renderer.page(
        "holds.html",
        visit=visit,
        holds=shown,
        which=which,
        copies=copies,
        covers=covers,
        state=lambda hold: state_of(hold, now),
        first=None if placed is None else f"/operate/holds?which={which}",
        following=following,
        distance=lambda then: distance(then - now),
    )


async def get_place(visit: Visit, operation: Operation) -> web.Response:
    """The form to place a hold."""
    only(visit.request.query.keys(), ())
    return _form(visit, operation)


async def post_place(visit: Visit, operation: Operation) -> web.Response:
    """Places a hold, and goes on to it."""
    services = operation.services
    # A browser sends every field of a form, those left empty too.
    given = {name: value.strip() for name, value in visit.form.items() if value.strip()}
    what = given.get("what", "")
    try:
        if what not in KINDS:
            raise InvalidValueError("what", what, text("place.what.wrong"))
        wanted = {what: required_text(given, "value")}
        wanted |= {name: given[name] for name in WINDOW if name in given}
        hold = await services.holds.place(
            parse_selector(wanted),
            reason=required_text(given, "reason"),
            case_ref=required_text(given, "case_ref"),
            ends_at=parse_instant(required_text(given, "until"), "until"),
            by=visit.principal.actor,
            now=services.clock.now(),
        )
    except InvalidValueError as error:
        key = f"place.{error.field}"
        field = text(key if key in ENGLISH else "place.value")
        return _form(visit, operation, text("place.wrong", field=field, reason=error.reason))
    except NotFoundError as error:
        wrong = text("place.wrong", field=text("place.value"), reason=error.detail)
        return _form(visit, operation, wrong)
    return see_other(f"/operate/holds/{hold.id}?done=placed")


def _form(visit: Visit, operation: Operation, wrong: str | None = None) -> web.Response:
    return operation.renderer.page(
        "place.html",
        visit=visit,
        status=200 if wrong is None else 400,
        kinds=KINDS,
        given=visit.form,
        wrong=wrong,
        chars_max=REASON_CHARS_MAX,
        days_max=operation.services.config.hold_days_max,
    )


async def get_hold(visit: Visit, operation: Operation) -> web.Response:
    """One hold, with how many copies it keeps by class."""
    only(visit.request.query.keys(), ("done",))
    return await _page(visit, operation, done=visit.request.query.get("done"))


async def post_extend(visit: Visit, operation: Operation) -> web.Response:
    """Lets the hold end at another time."""
    hold_id, services = _hold_id(visit), operation.services
    try:
        until = parse_instant(visit.form.get("until", ""), "until")
        await services.holds.extend(
            hold_id, until, by=visit.principal.actor, now=services.clock.now()
        )
    except InvalidValueError as error:
        wrong = text("hold.wrong", field=text("hold.extend.until"), reason=error.reason)
        return await _page(visit, operation, wrong=wrong)
    return see_other(f"/operate/holds/{hold_id}?done=extended")


async def post_release(visit: Visit, operation: Operation) -> web.Response:
    """Releases the hold, when it was confirmed."""
    hold_id, services = _hold_id(visit), operation.services
    if visit.form.get("sure") != "yes":
        return await _page(visit, operation, wrong=text("hold.release.sure.wrong"))
    await services.holds.release(hold_id, by=visit.principal.actor, now=services.clock.now())
    return see_other(f"/operate/holds/{hold_id}?done=released")


def covers(hold: AbuseHold) -> tuple[str, str]:
    """What a hold covers: the kind of it, and its value."""
    selector = hold.selector
    if selector.record is not None:
        return text("selector.record"), f"{selector.account}/{selector.record}"
    for name in ("account", "number", "ip"):
        value = getattr(selector, name)
        if value is not None:
            return text(f"selector.{name}"), str(value)
    raise ValueError("a hold covers something")


def state_of(hold: AbuseHold, now: datetime) -> str:
    """``active``, ``released`` or ``ended``."""
    if hold.is_active(now):
        return "active"
    return "ended" if hold.released_at is None else "released"


def _hold_id(visit: Visit) -> str:
    # No hold has such an id, so this one is not found.
    return visit.request.match_info["id"].replace("\0", "-")


async def _page(
    visit: Visit, operation: Operation, *, done: str | None = None, wrong: str | None = None
) -> web.Response:
    services = operation.services
    now = services.clock.now()
    hold, copies = await services.holds.get(_hold_id(visit))
    notice = None
    if done == "placed":
        notice = text("hold.placed")
    elif done == "extended":
        notice = text("hold.extended", at=instant(hold.ends_at))
    elif done == "released" and hold.released_at is not None:
        notice = text("hold.release.done")
    return operation.renderer.page(
        "hold.html",
        visit=visit,
        status=200 if wrong is None else 400,
        hold=hold,
        copies=copies,
        covers=covers(hold),
        state=state_of(hold, now),
        notice=notice,
        wrong=wrong,
        distance=lambda then: distance(then - now),
    )


PAGES: Final[tuple[Page, ...]] = (
    OperatorPage("GET", "/operate/holds", get_holds),
    OperatorPage("GET", "/operate/holds/new", get_place),
    OperatorPage("POST", "/operate/holds/new", post_place),
    OperatorPage("GET", "/operate/holds/{id}", get_hold),
    OperatorPage("POST", "/operate/holds/{id}/extend", post_extend),
    OperatorPage("POST", "/operate/holds/{id}/release", post_release),
)
