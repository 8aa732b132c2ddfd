"""The description of the API, served: for programs ``/openapi.json``, for people ``/docs``."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from trafficlog.api.docs_page import DocsPage
from trafficlog.api.openapi import document
from trafficlog.api.routes import JSON, PUBLIC, Answer, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trafficlog.api.routes import Handler
    from trafficlog.api.services import Services
    from trafficlog.config import Config

# The settings are in it, and they may change with the next start.
CACHING: Final = "no-cache"
DOCUMENT: Final = {"type": "object", "description": "OpenAPI 3.1.", "examples": [{}]}


def with_description(routes: Sequence[Route]) -> tuple[Route, ...]:
    """``routes``, and those that describe all of them, themselves included."""

    @functools.cache
    def described(config: Config) -> bytes:
        return orjson.dumps(document(every, config))

    @functools.cache
    def page(config: Config) -> tuple[bytes, str]:
        made = DocsPage()
        html = made.html(orjson.loads(described(config)))
        return html.encode(), made.content_security_policy

    async def get_openapi(request: web.Request, services: Services) -> web.Response:
        """This description, in OpenAPI 3.1."""
        return _unless_known(request, described(services.config), JSON, {})

    async def get_docs(request: web.Request, services: Services) -> web.Response:
        """This description, as a page."""
        html, policy = page(services.config)
        return _unless_known(request, html, "text/html", {"Content-Security-Policy": policy})

    every = (
        *routes,
        _public("/openapi.json", get_openapi, Answer.json("The document.", DOCUMENT)),
        _public("/docs", get_docs, Answer.stream("The page.", "text/html")),
    )
    return every


def _public(path: str, handler: Handler, answer: Answer) -> Route:
    return Route(
        "GET",
        path,
        handler,
        PUBLIC,
        group="Description",
        answers=(answer, Answer("It is still the one of `If-None-Match`.", status=304)),
    )


def _unless_known(
    request: web.Request, content: bytes, media_type: str, headers: dict[str, str]
) -> web.Response:
    """The content, unless the client has it already."""
    tag = hashlib.sha256(content).hexdigest()[:16]
    headers = headers | {"Cache-Control": CACHING, "ETag": f'"{tag}"'}
    known = request.if_none_match or ()
    if any(each.value in (tag, "*") for each in known):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=content,
        content_type=media_type,
        charset="utf-8" if media_type.startswith("text/") else None,
        headers=headers,
    )
