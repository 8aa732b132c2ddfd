"""Certificates of destruction for staff, as JSON and as a page to print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from trafficlog.api.negotiation import preferred
from trafficlog.api.parameters import InstantParameter
from trafficlog.api.routes import JSON, Answer, Route, scopes
from trafficlog.api.services import PRINCIPAL
from trafficlog.api.staff_schemas import SignedCertificate
from trafficlog.certificate import Period
from trafficlog.certificate_page import CertificatePage
from trafficlog.errors import SigningKeyError

if TYPE_CHECKING:
    from trafficlog.api.services import Services

log = structlog.get_logger()

FROM: Final = InstantParameter(
    "from", "When the period begins.", required=True, example="2026-10-01T00:00:00Z"
)
TO: Final = InstantParameter(
    "to", "When it ends; it lies in the past.", required=True, example="2026-11-01T00:00:00Z"
)
HTML: Final = "text/html"
PAGE: Final = CertificatePage()
HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


async def get_certificate(request: web.Request, services: Services) -> web.Response:
    """Issues a certificate of a period that has ended."""
    now = services.clock.now()
    period = Period.ended(
        FROM.demand(request.query), TO.demand(request.query), now, names=(FROM.name, TO.name)
    )
    signed = await services.certificates.issue(period, now)
    log.info(
        "certificate_issued",
        by=request[PRINCIPAL].actor,
        lower=period.lower.isoformat(),
        upper=period.upper.isoformat(),
        digest=signed.digest,
    )
    if preferred(request.headers.get("Accept", ""), (JSON, HTML)) == HTML:
        return web.Response(
            text=PAGE.html(signed),
            content_type=HTML,
            headers={**HEADERS, "Content-Security-Policy": PAGE.content_security_policy},
        )
    # As it was signed, byte for byte, so that it can be checked without a reader of JSON.
    return web.Response(body=signed.text, content_type="application/json", headers=HEADERS)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/certificates",
        get_certificate,
        scopes("operator", "officer"),
        (FROM, TO),
        group="Operation",
        text="What was destroyed in the period by what the ledger says, signed (Ed25519). "
        "`Accept: text/html` gets it as a page to print.",
        answers=(
            Answer(
                "The certificate, byte for byte as it was signed.",
                {JSON: (SignedCertificate,), "text/html": ()},
                headers={"Vary": "Accept"},
            ),
        ),
        errors=(SigningKeyError,),
    ),
)
