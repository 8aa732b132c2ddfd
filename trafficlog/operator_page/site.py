"""Puts the operators' pages into the web application: who may see them, and how errors look."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import hdrs, web

from trafficlog.api.body import SlowBodyError
from trafficlog.api.problems import STATUSES
from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import see_other
from trafficlog.errors import InvalidValueError, NotFoundError, TrafficlogError
from trafficlog.operator_page import accounts, holds, ledger, overview, sign_in
from trafficlog.operator_page.pages import Operation, OperatorPage, PublicPage, Visit
from trafficlog.operator_page.render import Renderer
from trafficlog.operator_page.sign_in import COOKIE, SIGN_IN, operator_sessions, signed_out
from trafficlog.operator_page.texts import ENGLISH, text
from trafficlog.store.oversight import Oversight
from trafficlog.store.sessions import OperatorSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trafficlog.api.services import Services
    from trafficlog.operator_page.pages import Page

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

INTERNAL_ERROR: Final = 500
CSRF_FIELD: Final = "csrf_token"
VISIT: Final[web.RequestKey[Visit]] = web.RequestKey("operator visit", Visit)


async def get_nothing(_visit: Visit, _operation: Operation) -> web.Response:
    """Says that there is no such page."""
    raise NotFoundError(text("error.404"))


PAGES: Final[tuple[Page, ...]] = (
    *sign_in.PAGES,
    *overview.PAGES,
    *accounts.PAGES,
    *holds.PAGES,
    *ledger.PAGES,
    # The last: whatever else is asked for.
    OperatorPage("GET", "/operate/{rest:.*}", get_nothing),
)


def add_operator_page(app: web.Application, services: Services) -> None:
    """Adds the pages to an application that has the API's routes already."""
    operation = Operation(
        services,
        operator_sessions(services),
        OperatorSessions(services.database),
        Oversight(services.database),
        Renderer(),
    )
    for page in PAGES:
        app.router.add_route(page.method, page.path, _with_error_pages(page, operation))


async def _answer(page: Page, request: web.Request, operation: Operation) -> web.Response:
    """The page, behind the check of its session and of what is posted to it."""
    if isinstance(page, PublicPage):
        return await page.handler(request, operation)
    visit = await _visit(request, operation)
    if visit is None:
        address = f"{SIGN_IN}?ended=yes" if COOKIE in request.cookies else SIGN_IN
        return signed_out(see_other(address))
    request[VISIT] = visit
    if request.method == hdrs.METH_POST:
        form = await read_form(request, operation.services.bodies)
        token = form.pop(CSRF_FIELD, "")
        if not operation.sessions.is_csrf_token(visit.session, token):
            return _error_page(operation, request, 403, text("error.403.form"))
        visit = replace(visit, form=form)
    return await page.handler(visit, operation)


async def _visit(request: web.Request, operation: Operation) -> Visit | None:
    """Who is asking; None unless the session and its key are in force at this moment."""
    session = operation.sessions.read(request.cookies.get(COOKIE), operation.services.clock.now())
    if session is None:
        return None
    principal = await operation.operator_sessions.principal(session.key_id, session.id)
    if principal is None:
        return None
    return Visit(request, session, principal, operation.sessions.csrf_token(session))


def _with_error_pages(page: Page, operation: Operation) -> Handler:
    """What the page answers, or a page that says what went wrong; never a stack trace."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await _answer(page, request, operation)
        except TrafficlogError as error:
            # These two say what was asked for in words that concern the one who asks.
            telling = isinstance(error, (InvalidValueError, NotFoundError))
            status = STATUSES.get(type(error), INTERNAL_ERROR)
            if status >= INTERNAL_ERROR:
                log.warning("page_failed", code=error.code, detail=error.detail)
            return _error_page(operation, request, status, error.detail if telling else None)
        except SlowBodyError:
            response = _error_page(operation, request, 408)
            response.force_close()
            return response
        except ConnectionResetError:
            raise
        except Exception:
            log.exception("page_broke", method=request.method)
            return _error_page(operation, request, INTERNAL_ERROR)

    return answer


def _error_page(
    operation: Operation, request: web.Request, status: int, detail: str | None = None
) -> web.Response:
    key = f"error.{status}"
    known = key if key in ENGLISH else f"error.{INTERNAL_ERROR}"
    return operation.renderer.page(
        "error.html", visit=request.get(VISIT), status=status, detail=detail or text(known)
    )
