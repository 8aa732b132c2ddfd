"""Puts the pages into the web application: who may see them, and how errors look there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import hdrs, web

from trafficlog.api.body import SlowBodyError
from trafficlog.api.problems import STATUSES
from trafficlog.dashboard import (
    erase,
    erasures,
    export,
    history,
    languages,
    own_data,
    record,
    reports,
    settings,
    sign_in,
    static_files,
    usage,
)
from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import HEADERS, PRIVATE, Renderer, see_other
from trafficlog.dashboard.routes import Dashboard, PublicPage, Visit
from trafficlog.dashboard.sessions import Sessions
from trafficlog.dashboard.sign_in import COOKIE, signed_out
from trafficlog.dashboard.texts import counted, speaking, text
from trafficlog.dashboard.texts_en import ENGLISH
from trafficlog.dashboard.wrong import reason_of
from trafficlog.errors import (
    InvalidValueError,
    NotFoundError,
    TooManyRequestsError,
    TrafficlogError,
)
from trafficlog.store.database import only_account
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


PAGES: Final[tuple[Page, ...]] = (
    *static_files.PAGES,
    *languages.PAGES,
    *sign_in.PAGES,
    *history.PAGES,
    *record.PAGES,
    *erase.PAGES,
    *erasures.PAGES,
    *export.PAGES,
    *usage.PAGES,
    *reports.PAGES,
    *own_data.PAGES,
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
            with speaking(languages.language_of(request)):
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
            return signed_out(_to_sign_in(request))
        request[VISIT] = visit
        dashboard.services.key_rates.admit(visit.principal)
        if request.method == hdrs.METH_POST:
            form = await read_form(request, dashboard.services.bodies)
            token = form.pop(CSRF_FIELD, "")
            if not dashboard.sessions.is_csrf_token(visit.session, token):
                return _error_page(dashboard, request, 403, text("error.403.form"))
            visit = replace(visit, form=form)
        with only_account(visit.account_key):
            return await guarded.handler(visit, dashboard)

    return answer_visit


def _to_sign_in(request: web.Request) -> web.Response:
    """Sends the whole page there, also when a script asked for a part of it."""
    address = "/?ended=yes" if COOKIE in request.cookies else "/"
    if "HX-Request" in request.headers:
        return web.Response(status=401, headers={"HX-Redirect": address, **HEADERS, **PRIVATE})
    return see_other(address)


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
        status = STATUSES.get(type(error), INTERNAL_ERROR)
        if status >= INTERNAL_ERROR:
            log.warning("page_failed", code=error.code, detail=error.detail)
        response = _error_page(dashboard, request, status, _telling(error))
        if isinstance(error, TooManyRequestsError):
            response.headers.update(error.headers)
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_seconds)
        return response
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


def _telling(error: TrafficlogError) -> str | None:
    """What an error says to the one who asked; None where that is for the log alone."""
    if isinstance(error, TooManyRequestsError):
        return counted("error.429.wait", error.retry_seconds)
    if isinstance(error, InvalidValueError):
        return text("filter.wrong", field=error.field, reason=reason_of(error))
    return error.detail if isinstance(error, NotFoundError) else None


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
