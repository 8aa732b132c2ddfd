"""For staff: holds, debug lines; for machines: health, readiness, metrics."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from trafficlog.api.problems import json_response, problem
from trafficlog.api.query import (
    SELECTOR_FIELDS,
    instant,
    instant_field,
    json_object,
    only,
    parse_selector,
    required_text,
    whole_number,
)
from trafficlog.api.routes import PUBLIC, Route, scopes
from trafficlog.api.services import PRINCIPAL
from trafficlog.errors import InvalidValueError, TrafficlogError
from trafficlog.queries import queries

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.api.services import Services
    from trafficlog.holds import AbuseHold

HOLD_BYTES_MAX: Final = 65_536
HOLD_FIELDS: Final = (*SELECTOR_FIELDS, "reason", "case_ref", "until")
HELD_PARAMETERS: Final = ("after", "limit", "reason")
DEBUG_PARAMETERS: Final = ("account", "record", "after", "before", "limit")
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
    limit = whole_number(request.query, "limit", 100, services.config.page_records_max)
    after = 0
    if "after" in request.query:
        after = whole_number(request.query, "after", 0, 2**63 - 1)
    copies = await services.holds.copies(
        request.match_info["id"],
        by=request[PRINCIPAL].actor,
        now=services.clock.now(),
        after=after,
        limit=limit,
        reason=request.query.get("reason"),
        officer=_is_officer(request),
    )
    return json_response(
        {
            "data": [asdict(c) for c in copies],
            "next": copies[-1].key if len(copies) == limit else None,
        }
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
    before = instant(query, "before") or now + timedelta(hours=1)
    after = instant(query, "after") or now - DEBUG_WINDOW
    lines = await services.debug_log.lines(
        now,
        account=query.get("account"),
        record=query.get("record"),
        after=after,
        before=before,
        limit=whole_number(
            query, "limit", services.config.page_records, services.config.page_records_max
        ),
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
    Route("POST", "/v1/holds", post_hold, scopes("operator")),
    Route("GET", "/v1/holds", get_holds, scopes("operator", "officer")),
    Route("GET", "/v1/holds/{id}", get_hold, scopes("operator", "officer")),
    Route(
        "GET",
        "/v1/holds/{id}/records",
        get_held_records,
        scopes("operator", "officer"),
        HELD_PARAMETERS,
    ),
    Route("POST", "/v1/holds/{id}/release", release_hold, scopes("operator")),
    Route("POST", "/v1/holds/{id}/extend", extend_hold, scopes("operator")),
    Route("GET", "/v1/debug-logs", get_debug_logs, scopes("operator"), DEBUG_PARAMETERS),
    Route("GET", "/healthz", get_healthz, PUBLIC),
    Route("GET", "/readyz", get_readyz, PUBLIC),
    Route("GET", "/metrics", get_metrics, scopes("metrics", "operator")),
)
