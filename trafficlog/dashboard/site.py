"""Puts the pages into the web application: who may see them, and how errors look there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import hdrs, web

from trafficlog.api.body import SlowBodyError
from trafficlog.api.problems import STATUSES
from trafficlog.dashboard import history, settings, sign_in
from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import HEADERS, LASTING, Renderer, see_other
from trafficlog.dashboard.routes import Dashboard, PublicPage, Visit
from trafficlog.dashboard.sessions import Sessions
from trafficlog.dashboard.sign_in import COOKIE, signed_out
from trafficlog.dashboard.texts import ENGLISH, text
from trafficlog.errors import InvalidValueError, NotFoundError, TrafficlogError
from trafficlog.store.sessions import PageSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trafficlog.api.services import Services
    from trafficlog.dashboard.routes import Page

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

INTERNAL_ERROR: Final = 500
CSRF_FIELD: Final = "csrf_token"
VISIT: Final[web.RequestKey[Visit]] = web.RequestKey("visit", Visit)


async def static_file(request: web.Request, dashboard: Dashboard) -> web.Response:
    """The stylesheet or the icon."""
    file = dashboard.renderer.static.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    return web.Response(
        body=file.content, content_type=file.content_type, headers={**HEADERS, **LASTING}
    )


PAGES: Final[tuple[Page, ...]] = (
    PublicPage("GET", "/static/{name}", static_file),
    *sign_in.PAGES,
    *history.PAGES,
    *settings.PAGES,
)


def add_dashboard(app: web.Application, services: Services) -> None:
    """Adds the pages to an application that has the API's routes already."""
    dashboard = Dashboard(
        services,
        Sessions(services.secret, sign_in.session_period(services.config)),
        PageSessions(services.database),
        Renderer(),
    )
    ours = {
        app.router.add_route(page.method, page.path, _guarded(page, dashboard)).resource
        for page in PAGES
    }

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource in ours or (resource is None and _is_browser_lost(request)):
            return await _with_error_pages(request, handler, dashboard)
        return await handler(request)

    # The innermost: what it answers, the API's own handling of errors does not see.
    app.middlewares.append(answer_errors)


def _guarded(page: Page, dashboard: Dashboard) -> Handler:
    """The page's handler behind the check of its session and of what is posted to it."""
    if isinstance(page, PublicPage):
        public = page.handler

        async def answer(request: web.Request) -> web.StreamResponse:
            return await public(request, dashboard)

        return answer
    guarded = page

    async def answer_visit(request: web.Request) -> web.StreamResponse:
        visit = await _visit(request, dashboard)
        if visit is None:
            ended = COOKIE in request.cookies
            return signed_out(see_other("/?ended=yes" if ended else "/"))
        request[VISIT] = visit
        if request.method == hdrs.METH_POST:
            form = await read_form(request, dashboard.services.bodies)
            token = form.pop(CSRF_FIELD, "")
            if not dashboard.sessions.is_csrf_token(visit.session, token):
                return _error_page(dashboard, request, 403, text("error.403.form"))
            visit = replace(visit, form=form)
        return await guarded.handler(visit, dashboard)

    return answer_visit


async def _visit(request: web.Request, dashboard: Dashboard) -> Visit | None:
    """Who is asking; None unless the session and its key are in force at this moment."""
    now = dashboard.services.clock.now()
    session = dashboard.sessions.read(request.cookies.get(COOKIE), now)
    if session is None:
        return None
    principal = await dashboard.page_sessions.principal(
        session.account_key, session.key_id, session.id
    )
    if principal is None:
        return None
    return Visit(request, session, principal, dashboard.sessions.csrf_token(session))


def _is_browser_lost(request: web.Request) -> bool:
    """Whether an unknown address was asked for by a person rather than a program."""
    return "text/html" in request.headers.get("Accept", "") and not request.path.startswith("/v1/")


async def _with_error_pages(
    request: web.Request, handler: Handler, dashboard: Dashboard
) -> web.StreamResponse:
    """What the handler answers, or a page that says what went wrong; never a stack trace."""
    try:
        return await handler(request)
    except TrafficlogError as error:
        # These two say what was asked for in words that concern the one who asks.
        telling = isinstance(error, (InvalidValueError, NotFoundError))
        status = STATUSES.get(type(error), INTERNAL_ERROR)
        if status >= INTERNAL_ERROR:
            log.warning("page_failed", code=error.code, detail=error.detail)
        return _error_page(dashboard, request, status, error.detail if telling else None)
    except SlowBodyError:
        response = _error_page(dashboard, request, 408)
        response.force_close()
    except web.HTTPException as error:
        response = _error_page(dashboard, request, error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionResetError:
        raise
    except Exception:
        log.exception("page_broke", method=request.method)
        response = _error_page(dashboard, request, INTERNAL_ERROR)
    return response


def _error_page(
    dashboard: Dashboard, request: web.Request, status: int, detail: str | None = None
) -> web.Response:
    key = f"error.{status}"
    known = key if key in ENGLISH else f"error.{INTERNAL_ERROR}"
    return dashboard.renderer.page(
        "error.html",
        visit=request.get(VISIT),
        status=status,
        detail=detail or text(known),
    )
