"""Certificates of destruction for staff, as JSON and as a page to print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from trafficlog.api.query import instant
from trafficlog.api.routes import Route, scopes
from trafficlog.api.services import PRINCIPAL
from trafficlog.certificate import Period
from trafficlog.certificate_page import CertificatePage
from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from trafficlog.api.services import Services

log = structlog.get_logger()

PARAMETERS: Final = ("from", "to")
PAGE: Final = CertificatePage()
HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


async def get_certificate(request: web.Request, services: Services) -> web.Response:
    """Issues a certificate of a period that has ended."""
    now = services.clock.now()
    period = Period.ended(
        _required(request.query, "from"), _required(request.query, "to"), now, names=PARAMETERS
    )
    signed = await services.certificates.issue(period, now)
    log.info(
        "certificate_issued",
        by=request[PRINCIPAL].actor,
        lower=period.lower.isoformat(),
        upper=period.upper.isoformat(),
        digest=signed.digest,
    )
    if wants_page(request.headers.get("Accept", "")):
        return web.Response(
            text=PAGE.html(signed),
            content_type="text/html",
            headers={**HEADERS, "Content-Security-Policy": PAGE.content_security_policy},
        )
    # As it was signed, byte for byte, so that it can be checked without a reader of JSON.
    return web.Response(body=signed.text, content_type="application/json", headers=HEADERS)


def wants_page(accept: str) -> bool:
    """Whether a page is asked for by name, and liked better than JSON (RFC 9110, 12.5.1)."""
    liked = {"text/html": 0.0, "application/json": 0.0}
    for each in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in each.split(";"))
        if media_type in liked:
            liked[media_type] = _quality(parameters)
    return liked["text/html"] > liked["application/json"]


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _required(query: Mapping[str, str], name: str) -> datetime:
    at = instant(query, name)
    if at is None:
        raise InvalidValueError(name, None, "is required", reason_code="missing")
    return at


ROUTES: Final = (
    Route("GET", "/v1/certificates", get_certificate, scopes("operator", "officer"), PARAMETERS),
)
