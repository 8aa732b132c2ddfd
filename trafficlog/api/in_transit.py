"""What a communication needs until it is delivered: kept for hours, removed on completion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from trafficlog.api.parameters import TextParameter
from trafficlog.api.problems import json_response
from trafficlog.api.records import GROUP
from trafficlog.api.routes import Answer, Body, Route, scopes
from trafficlog.api.schemas import InTransitKept
from trafficlog.errors import BodyUnreadableError, InvalidValueError, NotFoundError
from trafficlog.values import NAME_PATTERN

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.api.services import Services

_PATH: Final = "/v1/in-transit/{id}"
_ANYTHING: Final = {"description": "Any JSON.", "examples": [{"callback": "https://crm.example"}]}


async def put_in_transit(request: web.Request, services: Services) -> web.Response:
    """Keeps a JSON value until the communication is delivered, 72 hours at most."""
    transit_id = _name(request.match_info["id"], "id")
    account = request.query.get("account")
    if account is not None:
        _name(account, "account")
    content = await services.bodies.read(request, services.config.in_transit_bytes_max)
    try:
        msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUnreadableError(f"the body is not JSON: {error}") from None
    expires_at, is_new = await services.transit.put(
        transit_id, content, account, services.clock.now()
    )
    return json_response({"id": transit_id, "expires": expires_at}, 201 if is_new else 200)


async def get_in_transit(request: web.Request, services: Services) -> web.Response:
    """The JSON value as it was put."""
    transit_id = _name(request.match_info["id"], "id")
    found = await services.transit.get(transit_id, services.clock.now())
    return web.Response(
        body=found.content,
        content_type="application/json",
        headers={
            "Cache-Control": "no-store",
            "Last-Modified": _http_date(found.created_at),
            "Expires": _http_date(found.expires_at),
        },
    )


async def delete_in_transit(request: web.Request, services: Services) -> web.Response:
    """Removes it: the communication is complete."""
    transit_id = _name(request.match_info["id"], "id")
    await services.transit.complete(transit_id, services.clock.now())
    return web.Response(status=204)


def _name(text: str, field: str) -> str:
    if not re.match(NAME_PATTERN, text):
        raise InvalidValueError(
            field,
            text,
            "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
            reason_code="bad_format",
        )
    return text


def _http_date(at: datetime) -> str:
    return at.strftime("%a, %d %b %Y %H:%M:%S GMT")


ROUTES: Final = (
    Route(
        "PUT",
        _PATH,
        put_in_transit,
        scopes("ingest"),
        (TextParameter("account", "Whose communication it is.", example="acme"),),
        group=GROUP,
        body=Body.json(
            _ANYTHING,
            "What the gateway needs to complete it. Any Content-Type will do.",
            bytes_max=lambda config: config.in_transit_bytes_max,
        ),
        answers=(
            Answer.json("It took the place of what was there.", InTransitKept),
            Answer.json("It is kept.", InTransitKept, status=201),
        ),
    ),
    Route(
        "GET",
        _PATH,
        get_in_transit,
        scopes("ingest"),
        group=GROUP,
        answers=(
            Answer.json(
                "What was put.",
                _ANYTHING,
                headers={
                    "Last-Modified": "When it was put.",
                    "Expires": "When it goes if it is not removed before.",
                },
            ),
        ),
        errors=(NotFoundError,),
    ),
    Route(
        "DELETE",
        _PATH,
        delete_in_transit,
        scopes("ingest"),
        group=GROUP,
        answers=(Answer("It is removed.", status=204),),
        errors=(NotFoundError,),
    ),
)
