"""For staff: holds, debug lines; for machines: health, readiness, metrics."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from trafficlog.api.paging import LINK_HEADER, next_link
from trafficlog.api.parameters import PAGE_SIZE, InstantParameter, NumberParameter, TextParameter
from trafficlog.api.problems import json_response, problem
from trafficlog.api.query import (
    instant_field,
    json_object,
    only,
    parse_selector,
    required_text,
)
from trafficlog.api.routes import PUBLIC, Answer, Body, Route, scopes
from trafficlog.api.schemas import Health, Readiness, names_of
from trafficlog.api.services import PRINCIPAL
from trafficlog.api.staff_schemas import (
    DebugLines,
    HeldCopies,
    Hold,
    HoldList,
    HoldWithCopies,
    NewEnd,
    NewHold,
)
from trafficlog.errors import (
    DatabaseUnavailableError,
    InvalidValueError,
    NotFoundError,
    TrafficlogError,
)
from trafficlog.queries import queries

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.api.services import Services
    from trafficlog.holds import AbuseHold

HOLD_BYTES_MAX: Final = 65_536
HOLD_FIELDS: Final = names_of(NewHold)
COPIES_AFTER: Final = NumberParameter("after", "Where the page begins: `next` of the one before.")
LOOKING_REASON: Final = TextParameter(
    "reason",
    "Why; it stays in the access log. Officers must give one.",
    example="the case goes to court",
)
DEBUG_ACCOUNT: Final = TextParameter("account", "Of this account only.", example="acme")
DEBUG_RECORD: Final = TextParameter("record", "Of this record only.", example="m1")
AFTER: Final = InstantParameter("after", "Not before this; without it 14 days back.")
BEFORE: Final = InstantParameter("before", "Before this only.")
DEBUG_WINDOW: Final = timedelta(days=14)
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def post_hold(request: web.Request, services: Services) -> web.Response:
    """Places a hold."""
    wanted = json_object(await services.bodies.read(request, HOLD_BYTES_MAX))
    only(wanted.keys(), HOLD_FIELDS, "field")
    ends_at = instant_field(wanted, "until")
    if ends_at is None:
        raise InvalidValueError(
            "until", None, "is required: a hold always ends", reason_code="missing"
        )
    hold = await services.holds.place(
        parse_selector(wanted),
        reason=required_text(wanted, "reason"),
        case_ref=required_text(wanted, "case_ref"),
        ends_at=ends_at,
        by=request[PRINCIPAL].actor,
        now=services.clock.now(),
    )
    return json_response(
        hold_shown(hold, services.clock.now()), 201, {"Location": f"/v1/holds/{hold.id}"}
    )


async def get_holds(request: web.Request, services: Services) -> web.Response:
    """All holds, newest first."""
    now = services.clock.now()
    holds = await services.holds.all(officer=_is_officer(request))
    return json_response({"data": [hold_shown(h, now) for h in holds]})


async def get_hold(request: web.Request, services: Services) -> web.Response:
    """One hold, with how many copies it covers by class."""
    hold, held = await services.holds.get(request.match_info["id"], officer=_is_officer(request))
    return json_response({**hold_shown(hold, services.clock.now()), "held": held})


async def get_held_records(request: web.Request, services: Services) -> web.Response:
    """What a hold keeps: legal copies for officers, the others for operators; it is noted."""
    limit = PAGE_SIZE.read(request.query, services.config)
    copies = await services.holds.copies(
        request.match_info["id"],
        by=request[PRINCIPAL].actor,
        now=services.clock.now(),
        after=COPIES_AFTER.read(request.query, services.config),
        limit=limit,
        reason=LOOKING_REASON.read(request.query),
        officer=_is_officer(request),
    )
    following = copies[-1].key if len(copies) == limit else None
    return json_response(
        {"data": [asdict(c) for c in copies], "next": following},
        headers=next_link(request, COPIES_AFTER.name, following),
    )


def _is_officer(request: web.Request) -> bool:
    return request[PRINCIPAL].scope == "officer"


async def release_hold(request: web.Request, services: Services) -> web.Response:
    """Releases a hold."""
    now = services.clock.now()
    hold = await services.holds.release(
        request.match_info["id"], by=request[PRINCIPAL].actor, now=now
    )
    return json_response(hold_shown(hold, now))


async def extend_hold(request: web.Request, services: Services) -> web.Response:
    """Lets a hold end at another time."""
    wanted = json_object(await services.bodies.read(request, HOLD_BYTES_MAX))
    only(wanted.keys(), ("until",), "field")
    ends_at = instant_field(wanted, "until")
    if ends_at is None:
        raise InvalidValueError("until", None, "is required", reason_code="missing")
    now = services.clock.now()
    hold = await services.holds.extend(
        request.match_info["id"], ends_at, by=request[PRINCIPAL].actor, now=now
    )
    return json_response(hold_shown(hold, now))


async def get_debug_logs(request: web.Request, services: Services) -> web.Response:
    """Debug lines of a time window, newest first."""
    query = request.query
    now = services.clock.now()
    before = BEFORE.read(query) or now + timedelta(hours=1)
    after = AFTER.read(query) or now - DEBUG_WINDOW
    lines = await services.debug_log.lines(
        now,
        account=DEBUG_ACCOUNT.read(query),
        record=DEBUG_RECORD.read(query),
        after=after,
        before=before,
        limit=PAGE_SIZE.read(query, services.config),
    )
    return json_response({"data": [asdict(line) for line in lines]})


async def get_healthz(request: web.Request, services: Services) -> web.Response:
    """Whether this process answers."""
    return json_response({"status": "ok"})


async def get_readyz(request: web.Request, services: Services) -> web.Response:
    """Whether records can be stored: the database answers and has our schema."""
    try:
        async with services.database.ingest() as connection:
            version = await queries.schema_version(connection)
    except TrafficlogError as error:
        return problem(503, error.code, error.detail, headers={"Retry-After": "1"})
    return json_response({"status": "ready", "schema_version": version})


async def get_metrics(request: web.Request, services: Services) -> web.Response:
    """The metrics, as Prometheus reads them."""
    services.metrics.ingest_waiting_records.set(services.buffer.waiting)
    return web.Response(body=services.metrics.exposition(), headers={"Content-Type": METRICS_TYPE})


def hold_shown(hold: AbuseHold, now: datetime) -> dict[str, Any]:
    """A hold as it is shown."""
    selector = {k: v for k, v in asdict(hold.selector).items() if v is not None}
    if "record" in selector:
        selector["record"] = f"{selector.pop('account')}/{selector['record']}"
    return {
        "id": hold.id,
        **selector,
        "reason": hold.reason,
        "case_ref": hold.case_ref,
        "placed_by": hold.placed_by,
        "placed_at": hold.placed_at,
        "until": hold.ends_at,
        "released_at": hold.released_at,
        "released_by": hold.released_by,
        "active": hold.is_active(now),
    }


ROUTES: Final = (
    Route(
        "POST",
        "/v1/holds",
        post_hold,
        scopes("operator"),
        group="Holds",
        body=Body.json(NewHold, bytes_max=HOLD_BYTES_MAX),
        answers=(
            Answer.json(
                "The hold, in force.", Hold, status=201, headers={"Location": "Where it is."}
            ),
        ),
        errors=(NotFoundError,),
    ),
    Route(
        "GET",
        "/v1/holds",
        get_holds,
        scopes("operator", "officer"),
        group="Holds",
        answers=(Answer.json("The holds.", HoldList),),
    ),
    Route(
        "GET",
        "/v1/holds/{id}",
        get_hold,
        scopes("operator", "officer"),
        group="Holds",
        answers=(Answer.json("The hold.", HoldWithCopies),),
        errors=(NotFoundError,),
    ),
    Route(
        "GET",
        "/v1/holds/{id}/records",
        get_held_records,
        scopes("operator", "officer"),
        (COPIES_AFTER, PAGE_SIZE, LOOKING_REASON),
        group="Holds",
        answers=(Answer.json("The page.", HeldCopies, headers=LINK_HEADER),),
        errors=(NotFoundError,),
    ),
    Route(
        "POST",
        "/v1/holds/{id}/release",
        release_hold,
        scopes("operator"),
        group="Holds",
        text="The copies that it alone keeps are destroyed by the next run of retention.",
        answers=(Answer.json("The hold, released.", Hold),),
        errors=(NotFoundError,),
    ),
    Route(
        "POST",
        "/v1/holds/{id}/extend",
        extend_hold,
        scopes("operator"),
        group="Holds",
        body=Body.json(NewEnd, bytes_max=HOLD_BYTES_MAX),
        answers=(Answer.json("The hold with its new end.", Hold),),
        errors=(NotFoundError,),
    ),
    Route(
        "GET",
        "/v1/debug-logs",
        get_debug_logs,
        scopes("operator"),
        (DEBUG_ACCOUNT, DEBUG_RECORD, AFTER, BEFORE, PAGE_SIZE),
        group="Operation",
        answers=(Answer.json("The lines.", DebugLines),),
        errors=(NotFoundError,),
    ),
    Route(
        "GET",
        "/healthz",
        get_healthz,
        PUBLIC,
        group="Operation",
        answers=(Answer.json("It does.", Health),),
    ),
    Route(
        "GET",
        "/readyz",
        get_readyz,
        PUBLIC,
        group="Operation",
        answers=(Answer.json("They can.", Readiness),),
        errors=(DatabaseUnavailableError,),
    ),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        scopes("metrics", "operator"),
        group="Operation",
        answers=(Answer.stream("The text format 0.0.4.", "text/plain"),),
    ),
)
