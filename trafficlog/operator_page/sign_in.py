"""Signing in with an operator key, and signing out: a session apart from those of customers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.api.rates import client_address
from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.sessions import SESSION_ID_BYTES, Session, Sessions
from trafficlog.errors import KeyMissingError
from trafficlog.operator_page.pages import OperatorPage, PublicPage
from trafficlog.records import AccountKey

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.operator_page.pages import Operation, Page, Visit

COOKIE: Final = "trafficlog_operator"
HOME: Final = "/operate"
SIGN_IN: Final = "/operate/sign-in"
# Keys of accounts begin at 1.
NO_ACCOUNT: Final = AccountKey(0)


def operator_sessions(services: Services) -> Sessions:
    """Sessions signed with a key of their own, so that a customer's is none of them."""
    secret = hmac.digest(services.secret, b"operator session", hashlib.sha256)
    return Sessions(secret, timedelta(minutes=services.config.session_minutes))


async def get_sign_in(request: web.Request, operation: Operation) -> web.Response:
    """The form."""
    notice = next((n for n in ("ended", "signed_out") if n in request.query), None)
    return _form(operation, notice=notice)


async def post_sign_in(request: web.Request, operation: Operation) -> web.Response:
    """Opens a session when the key is an operator's."""
    services = operation.services
    form = await read_form(request, services.bodies)
    try:
        principal = await services.authenticator.by_secret(
            form.get("key", "").strip(),
            lambda: client_address(request, services.config.trusted_proxies),
        )
    except KeyMissingError:
        principal = None
    if principal is None or principal.scope != "operator":
        return _form(operation, refused=True, status=403)
    sessions = operation.sessions
    session = Session(
        secrets.token_bytes(SESSION_ID_BYTES),
        principal.key_id,
        NO_ACCOUNT,
        services.clock.now() + sessions.period,
    )
    response = see_other(HOME)
    response.set_cookie(
        COOKIE,
        sessions.write(session),
        max_age=int(sessions.period.total_seconds()),
        path=HOME,
        httponly=True,
        samesite="Strict",
        # A proxy in front that speaks TLS says so; to believe it can only do good.
        secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
    )
    return response


async def post_sign_out(visit: Visit, operation: Operation) -> web.Response:
    """Ends the session, for whoever has its cookie."""
    await operation.operator_sessions.end(
        visit.session.id, visit.session.expires_at, operation.services.clock.now()
    )
    return signed_out(see_other(f"{SIGN_IN}?signed_out=yes"))


def signed_out(response: web.Response) -> web.Response:
    """``response``, which makes the browser forget its session."""
    response.del_cookie(COOKIE, path=HOME, httponly=True, samesite="Strict")
    return response


def _form(
    operation: Operation, *, notice: str | None = None, refused: bool = False, status: int = 200
) -> web.Response:
    return operation.renderer.page(
        "sign_in.html",
        visit=None,
        status=status,
        notice=notice,
        refused=refused,
        minutes=operation.services.config.session_minutes,
    )


PAGES: Final[tuple[Page, ...]] = (
    PublicPage("GET", SIGN_IN, get_sign_in),
    PublicPage("POST", SIGN_IN, post_sign_in),
    OperatorPage("POST", "/operate/sign-out", post_sign_out),
)
