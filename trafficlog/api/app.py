"""The web application: every route with its scopes, and what surrounds each request."""

from __future__ import annotations

import functools
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import HttpVersion11, web

from trafficlog.api import (
    certificates,
    debug_logs,
    disclosures,
    erasures,
    export,
    history,
    in_transit,
    operate,
    records,
    reports,
    settings,
    statistics,
)
from trafficlog.api.body import SlowBodyError
from trafficlog.api.docs import with_description
from trafficlog.api.problems import SECURITY_HEADERS, TITLES, problem, problem_of
from trafficlog.api.query import only
from trafficlog.api.rates import UNLIMITED, client_address
from trafficlog.api.request_ids import HEADER, REQUEST_ID, request_id
from trafficlog.api.services import LIMITS, PRINCIPAL
from trafficlog.auth import require
from trafficlog.errors import InvalidValueError, ServiceStoppingError, TrafficlogError
from trafficlog.store.database import only_account

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import Counter, Histogram

    from trafficlog.api.routes import Route
    from trafficlog.api.services import Services

log = structlog.get_logger()

ROUTES: Final[tuple[Route, ...]] = with_description(
    (
        *records.ROUTES,
        *debug_logs.ROUTES,
        *in_transit.ROUTES,
        *history.ROUTES,
        *erasures.ROUTES,
        *export.ROUTES,
        *settings.ROUTES,
        *statistics.ROUTES,
        *reports.ROUTES,
        *operate.ROUTES,
        *disclosures.ROUTES,
        *certificates.ROUTES,
    )
)
UNKNOWN_ROUTE: Final = "unknown"
# In place of a status: the answer ended before its end, by whomever.
CUT: Final = "cut"
# For whoever is bound to no account; made once, as it is entered by every request with records.
AS_ASKED: Final = nullcontext()


def make_app(services: Services) -> web.Application:
    """The application. Bodies are bounded by our own reader, not by aiohttp."""
    app = web.Application(middlewares=[_observe(services), _answer_errors], client_max_size=2**40)
    for route in ROUTES:
        app.router.add_route(
            route.method,
            route.path,
            _guarded(route, services),
            expect_handler=_answer_expectation,
        )
    return app


async def _answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Lets a client send its body that waits to be told so; anything else is not expected here."""
    if request.headers["Expect"].strip().lower() == "100-continue":
        if request.version < HttpVersion11:
            # It does not know of answers before the answer (RFC 9110, 10.1.1).
            return None
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None
    # It is answered outside of what surrounds all other requests.
    answer = problem(417, "expectation_failed", "only `Expect: 100-continue` is met here")
    answer.headers.update(SECURITY_HEADERS)
    answer.force_close()
    return answer


def _guarded(
    route: Route, services: Services
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route's handler behind the check of its scopes."""
    names = route.names

    async def handle(request: web.Request) -> web.StreamResponse:
        customer = None
        if route.scopes:
            principal = await services.authenticator.principal(
                request.headers.get("Authorization"),
                lambda: client_address(request, services.config.trusted_proxies),
            )
            limits = services.key_rates.admit(principal)
            request[LIMITS] = limits
            require(principal, route.scopes, request.match_info.get("account"))
            request[PRINCIPAL] = principal
            customer = principal.account_key
        told = [*request.match_info.items()]
        if request.rel_url.raw_query_string:
            only(request.query.keys(), names)
            told += request.query.items()
        for name, text in told:
            if "\0" in text:
                raise InvalidValueError(
                    name, text, "must not contain the NUL character", reason_code="nul"
                )
        with AS_ASKED if customer is None else only_account(customer):
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
    metrics = services.metrics

    # To find the metric of a label takes longer than to count; routes and statuses are few.
    @functools.cache
    def counted(route: str, status: int | str) -> tuple[Counter, Histogram]:
        return (
            metrics.http_requests.labels(route, status),
            metrics.http_request_seconds.labels(route),
        )

    def count(request: web.Request, status: int | str, began: float) -> None:
        answered, seconds = counted(_route_of(request), status)
        answered.inc()
        seconds.observe(time.perf_counter() - began)

    @web.middleware
    async def observe(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = time.perf_counter()
        current = request_id(request.headers.get(HEADER))
        token = REQUEST_ID.set(current)
        try:
            response = await handler(request)
        except ConnectionResetError:
            # An answer that was begun and has no end.
            count(request, CUT, began)
            raise
        finally:
            services.bodies.release(request)
            # What the connection does between two requests belongs to none.
            REQUEST_ID.reset(token)
        if services.door.closing:
            # The next request is to find a process that stays.
            response.force_close()
        count(request, response.status, began)
        if not response.prepared:
            response.headers.update(request.get(LIMITS, UNLIMITED))
        response.headers[HEADER] = current
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return observe


def _route_of(request: web.Request) -> str:
    """The route's pattern: no account, number or id stands in it."""
    resource = request.match_info.route.resource
    return UNKNOWN_ROUTE if resource is None else resource.canonical
