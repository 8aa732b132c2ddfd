"""Answers that a client may keep, and ask whether they still hold (RFC 9110, sections 8.8 and 13).

A tag is made from the very bytes of an answer, so two answers of one tag are the same. What is
kept is for the one who asked and is never used without asking again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from trafficlog.api.problems import json_response
from trafficlog.api.routes import Answer
from trafficlog.errors import PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.api.routes import Shape

ETAG: Final = "ETag"
KEPT: Final = "private, no-cache"
TAG_HEADERS: Final[Mapping[str, str]] = {
    ETAG: "The tag of this state, for `If-None-Match` and, where a route takes it, `If-Match`."
}
NOT_MODIFIED: Final = Answer(
    "What `If-None-Match` names is still so.", status=304, headers=TAG_HEADERS
)


def tagged(text: str, *shapes: Shape) -> tuple[Answer, Answer]:
    """How a route declares that it answers by ``json_tagged``."""
    return Answer.json(text, *shapes, headers=TAG_HEADERS), NOT_MODIFIED


def json_tagged(request: web.Request, data: object) -> web.Response:
    """``data`` as JSON under its tag, or, to a GET of a client that has it already, 304."""
    response = json_response(data, headers={"Cache-Control": KEPT})
    tag = _tag_of(response)
    response.headers[ETAG] = tag
    given = request.headers.get(hdrs.IF_NONE_MATCH)
    if request.method != hdrs.METH_GET or given is None or not _names(given, tag):
        return response
    return web.Response(status=304, headers={"Cache-Control": KEPT, ETAG: tag})


def demand_match(request: web.Request, data: object) -> None:
    """Refuses a change that was meant for another state than ``data``.

    Raises:
        PreconditionFailedError: ``If-Match`` names other states only.
    """
    given = request.headers.get(hdrs.IF_MATCH)
    if given is not None and not _names(given, _tag_of(json_response(data))):
        raise PreconditionFailedError


def _tag_of(response: web.Response) -> str:
    body = response.body
    return f'"{hashlib.sha256(body if isinstance(body, bytes) else b"").hexdigest()[:32]}"'


def _names(given: str, tag: str) -> bool:
    """Whether a list of tags names this one; a proxy may have made it a weak one on its way."""
    named = [each.strip().removeprefix("W/") for each in given.split(",")]
    return tag in named or named == ["*"]
