"""The stylesheet, scripts and icon: served by the service itself, and kept by browsers for good."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from trafficlog.dashboard.routes import PublicPage

if TYPE_CHECKING:
    from trafficlog.dashboard.routes import Dashboard, Page

CSS: Final = "text/css"
JAVASCRIPT: Final = "text/javascript"
# Each by its name in addresses, which has no directory.
FILES: Final = {
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "page.css": ("page.css", CSS),
    "operator.css": ("operator.css", CSS),
    "page.js": ("page.js", JAVASCRIPT),
    "usage.js": ("usage.js", JAVASCRIPT),
    "htmx.js": ("vendor/htmx.min.js", JAVASCRIPT),
    "uplot.js": ("vendor/uPlot.iife.min.js", JAVASCRIPT),
    "uplot.css": ("vendor/uPlot.min.css", CSS),
}
HEADERS: Final = {
    # Its address carries a digest of its content, so what is cached is never stale.
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    # An icon that is opened by itself is a document of its own.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages refer to; ``digest`` stands in its address."""

    content: bytes
    compressed: bytes
    content_type: str
    digest: str


def read_static_files() -> dict[str, StaticFile]:
    """The files of the package, by the names in their addresses."""
    directory = resources.files("trafficlog.dashboard") / "static"
    files = {}
    for name, (path, content_type) in FILES.items():
        content = directory.joinpath(path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:12]
        compressed = gzip.compress(content, mtime=0)
        files[name] = StaticFile(content, compressed, content_type, digest)
    return files


async def get_static(request: web.Request, dashboard: Dashboard) -> web.Response:
    """One of the files, compressed where the browser takes that."""
    file = dashboard.renderer.static.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        body, headers = file.compressed, {**HEADERS, hdrs.CONTENT_ENCODING: "gzip"}
    else:
        body, headers = file.content, HEADERS
    return web.Response(body=body, content_type=file.content_type, charset="utf-8", headers=headers)


PAGES: Final[tuple[Page, ...]] = (PublicPage("GET", "/static/{name}", get_static),)
