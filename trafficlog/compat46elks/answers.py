"""Errors as clients of 46elks know them: a line of plain text."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from trafficlog.api.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.errors import TrafficlogError

BASIC: Final = 'Basic realm="46elks API"'
NOT_FOUND: Final = "Not found"


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A line of text."""
    return web.Response(
        text=text, status=status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def plain_of(error: TrafficlogError) -> web.Response:
    """The answer to an error of ours: with the status that it has everywhere."""
    problem = problem_of(error)
    headers = {
        name: value
        for name, value in problem.headers.items()
        if name.lower() not in ("content-type", "content-length", "www-authenticate")
    }
    if problem.status == HTTPStatus.NOT_FOUND:
        return plain(problem.status, NOT_FOUND, headers)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["Www-Authenticate"] = BASIC
    body = problem.body
    detail = orjson.loads(body)["detail"] if isinstance(body, bytes) else problem.reason
    return plain(problem.status, detail, headers)
