"""Errors as answers: ``application/problem+json`` (RFC 9457) with a stable code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from trafficlog.api.request_ids import REQUEST_ID
from trafficlog.errors import (
    BatchTooLargeError,
    BodyTooLargeError,
    BodyUnreadableError,
    BufferFullError,
    ConflictError,
    DatabaseUnavailableError,
    InvalidValueError,
    KeyMissingError,
    KeyReusedError,
    MediaTypeUnsupportedError,
    NotFoundError,
    PreconditionFailedError,
    ScopeMissingError,
    ServiceStoppingError,
    SigningKeyError,
    TooManyExportsError,
    TooManyRequestsError,
    TrafficlogError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES: Final[dict[type[TrafficlogError], int]] = {
    InvalidValueError: 400,
    BodyUnreadableError: 400,
    KeyMissingError: 401,
    ScopeMissingError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    PreconditionFailedError: 412,
    KeyReusedError: 409,
    BodyTooLargeError: 413,
    BatchTooLargeError: 413,
    MediaTypeUnsupportedError: 415,
    BufferFullError: 429,
    TooManyRequestsError: 429,
    TooManyExportsError: 429,
    DatabaseUnavailableError: 503,
    ServiceStoppingError: 503,
    SigningKeyError: 503,
}
TITLES: Final = {
    400: "Bad request",
    401: "No valid key",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unsupported media type",
    417: "Expectation failed",
    422: "No record was stored",
    429: "Too many requests",
    431: "Request line or header too long",
    500: "Internal error",
    503: "Not available",
}
RETRY_AFTER_SECONDS: Final = 1
# Of every answer, an error or not.
SECURITY_HEADERS: Final = {
    # Instead of the versions of what it is made with.
    "Server": "trafficlog",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def json_response(
    data: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """``data`` as JSON; datetimes as RFC 3339 in UTC with ``Z``."""
    return web.Response(
        body=orjson.dumps(data, option=orjson.OPT_UTC_Z),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem_body(status: int, code: str, detail: str) -> dict[str, object]:
    """The members that every problem has."""
    return {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
    }


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> web.Response:
    """An error as RFC 9457 puts it; ``more`` are its extension members."""
    body = problem_body(status, code, detail)
    request_id = REQUEST_ID.get()
    if request_id is not None:
        body["request_id"] = request_id
    return web.Response(
        body=orjson.dumps({**body, **(more or {})}),
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem_of(error: TrafficlogError) -> web.Response:
    """The answer to an error of ours."""
    status = STATUSES.get(type(error), 500)
    headers: dict[str, str] = {}
    more: dict[str, object] = {}
    if status == 401:  # noqa: PLR2004 - the table above says it
        headers["WWW-Authenticate"] = 'Bearer realm="trafficlog"'
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, TooManyRequestsError):
        headers |= {"Retry-After": str(error.retry_seconds), **error.headers}
    if isinstance(error, InvalidValueError):
        more = {"field": error.field, "value": error.data["value"], "reason": error.reason_code}
    if status == 500:  # noqa: PLR2004
        return problem(500, "internal", "something went wrong; the log says what")
    return problem(status, error.code, error.detail, headers=headers, more=more)
