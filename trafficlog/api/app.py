"""The web application: every route with its scopes, and what surrounds each request."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from trafficlog.api import certificates, disclosures, history, operate, records, statistics
from trafficlog.api.body import SlowBodyError
from trafficlog.api.problems import TITLES, problem, problem_of
from trafficlog.api.query import only
from trafficlog.api.services import PRINCIPAL
from trafficlog.auth import require
from trafficlog.errors import InvalidValueError, ServiceStoppingError, TrafficlogError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trafficlog.api.routes import Route
    from trafficlog.api.services import Services

log = structlog.get_logger()

ROUTES: Final[tuple[Route, ...]] = (
    *records.ROUTES,
    *history.ROUTES,
    *statistics.ROUTES,
    *operate.ROUTES,
    *disclosures.ROUTES,
    *certificates.ROUTES,
)
UNKNOWN_ROUTE: Final = "unknown"
SECURITY_HEADERS: Final = {
    # Instead of the versions of what it is made with.
    "Server": "trafficlog",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_app(services: Services) -> web.Application:
    """The application. Bodies are bounded by our own reader, not by aiohttp."""
    app = web.Application(middlewares=[_observe(services), _answer_errors], client_max_size=2**40)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _guarded(route, services))
    return app


def _guarded(
    route: Route, services: Services
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route's handler behind the check of its scopes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if route.scopes:
            principal = await services.authenticator.principal(request.headers.get("Authorization"))
            require(principal, route.scopes, request.match_info.get("account"))
            request[PRINCIPAL] = principal
        only(request.query.keys(), route.parameters)
        for name, text in (*request.match_info.items(), *request.query.items()):
            if "\0" in text:
                raise InvalidValueError(
                    name, text, "must not contain the NUL character", reason_code="nul"
                )
        return await route.handler(request, services)

    return handle


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error as a problem of its own kind; a stack trace goes to the log alone."""
    try:
        return await handler(request)
    except ServiceStoppingError as error:
        answer = problem_of(error)
        answer.force_close()
        return answer
    except TrafficlogError as error:
        return problem_of(error)
    except SlowBodyError:
        answer = problem(408, "too_slow", "the body did not arrive in time")
        answer.force_close()
        return answer
    except web.HTTPException as error:
        headers = {k: v for k, v in error.headers.items() if k in ("Allow", "Location")}
        detail = TITLES.get(error.status, error.reason)
        code = detail.lower().replace(" ", "_")
        return problem(error.status, code, detail, headers=headers)
    except ConnectionResetError:
        raise
    except Exception:
        log.exception("request_broke", method=request.method, route=_route_of(request))
        return problem(500, "internal", "something went wrong; the log says what")


def _observe(services: Services) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def observe(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            response = await handler(request)
        finally:
            services.bodies.release(request)
        if services.door.closing:
            # The next request is to find a process that stays.
            response.force_close()
        route = _route_of(request)
        services.metrics.http_requests.labels(route, response.status).inc()
        services.metrics.http_request_seconds.labels(route).observe(time.perf_counter() - began)
        response.headers["X-Request-Id"] = secrets.token_hex(8)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return observe


def _route_of(request: web.Request) -> str:
    """The route's pattern: no account, number or id stands in it."""
    resource = request.match_info.route.resource
    return UNKNOWN_ROUTE if resource is None else resource.canonical
