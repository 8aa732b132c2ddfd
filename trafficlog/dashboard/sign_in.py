"""Signing in with an account's key, and signing out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.api.rates import client_address
from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.routes import PublicPage, SessionPage
from trafficlog.errors import KeyMissingError

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.config import Config
    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.store.keys import Principal

COOKIE: Final = "trafficlog_session"


def session_period(config: Config) -> timedelta:
    """How long one stays signed in."""
    return timedelta(minutes=config.session_minutes)


async def get_sign_in(request: web.Request, dashboard: Dashboard) -> web.Response:
    """The form; whoever is signed in goes on to the history."""
    now = dashboard.services.clock.now()
    if dashboard.sessions.read(request.cookies.get(COOKIE), now) is not None:
        # A session that has ended otherwise comes back from there without its cookie.
        return see_other("/history")
    notice = next((n for n in ("ended", "signed_out") if n in request.query), None)
    return _form(dashboard, notice=notice)


async def post_sign_in(request: web.Request, dashboard: Dashboard) -> web.Response:
    """Opens a session when the key is one of the account's."""
    form = await read_form(request, dashboard.services.bodies)
    account = form.get("account", "").strip()
    principal = await _principal(request, dashboard, account, form.get("key", "").strip())
    if principal is None:
        return _form(dashboard, refused=True, account=account, status=403)
    session = dashboard.sessions.open(principal, dashboard.services.clock.now())
    response = see_other("/history")
    response.set_cookie(
        COOKIE,
        dashboard.sessions.write(session),
        max_age=int(dashboard.sessions.period.total_seconds()),
        path="/",
        httponly=True,
        samesite="Strict",
        # A proxy in front that speaks TLS says so; to believe it can only do good.
        secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
    )
    return response


async def post_sign_out(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Ends the session, for whoever has its cookie."""
    session = visit.session
    await dashboard.page_sessions.end(
        session.account_key, session.id, session.expires_at, dashboard.services.clock.now()
    )
    return signed_out(see_other("/?signed_out=yes"))


def signed_out(response: web.Response) -> web.Response:
    """``response``, which makes the browser forget its session."""
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response


async def _principal(
    request: web.Request, dashboard: Dashboard, account: str, secret: str
) -> Principal | None:
    """Who a key of this account belongs to; None when it is none."""
    services = dashboard.services
    try:
        principal = await services.authenticator.by_secret(
            secret, lambda: client_address(request, services.config.trusted_proxies)
        )
    except KeyMissingError:
        return None
    if principal.scope != "customer" or principal.account_id != account:
        return None
    return principal


def _form(
    dashboard: Dashboard,
    *,
    notice: str | None = None,
    refused: bool = False,
    account: str = "",
    status: int = 200,
) -> web.Response:
    return dashboard.renderer.page(
        "sign_in.html",
        visit=None,
        status=status,
        notice=notice,
        refused=refused,
        account=account,
        minutes=dashboard.services.config.session_minutes,
    )


PAGES: Final[tuple[Page, ...]] = (
    PublicPage("GET", "/", get_sign_in),
    PublicPage("POST", "/", post_sign_in),
    SessionPage("POST", "/sign-out", post_sign_out),
)
