"""HTML from templates: what is put in is escaped, and no page may run anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

import jinja2
from aiohttp import web

from trafficlog.dashboard import texts

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.dashboard.routes import Visit

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE: Final = {"Cache-Control": "no-store"}
# Its address carries a digest of its content, so what is cached is never stale.
LASTING: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
BRIEF_CHARS: Final = 140
COST_UNIT: Final = 10_000
STATIC_TYPES: Final = {"page.css": "text/css", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages refer to; ``digest`` stands in its address."""

    content: bytes
    content_type: str
    digest: str


class Renderer:
    """The templates and static files of the package, read once."""

    def __init__(self) -> None:
        self.static = _static_files()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("trafficlog.dashboard"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            t=texts.text, n=texts.counted, static=self.static_address, visit=None
        )
        self._templates.filters.update(
            instant=instant, machine=machine, brief=brief, cost=cost, duration=texts.duration
        )

    def page(
        self,
        template: str,
        *,
        visit: Visit | None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: object,
    ) -> web.Response:
        """A page from its template."""
        return web.Response(
            text=self._templates.get_template(template).render(visit=visit, **values),
            status=status,
            content_type="text/html",
            headers={**HEADERS, **PRIVATE, **(headers or {})},
        )

    def static_address(self, name: str) -> str:
        """Where a static file is."""
        return f"/static/{name}?{self.static[name].digest}"


def see_other(address: str) -> web.Response:
    """Sends the browser to another page."""
    return web.Response(status=303, headers={"Location": address, **HEADERS, **PRIVATE})


def instant(at: datetime) -> str:
    """An instant as people read it: in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def machine(at: datetime) -> str:
    """An instant as machines read it."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def brief(message: str) -> str:
    """The beginning of a text, so that a list of long ones stays small."""
    return message if len(message) <= BRIEF_CHARS else message[: BRIEF_CHARS - 1] + "…"


def cost(value: int) -> str:
    """A cost, kept in 1/10000, as a decimal number."""
    whole, rest = divmod(value, COST_UNIT)
    return f"{whole:,}.{rest:04}"


def _static_files() -> dict[str, StaticFile]:
    directory = resources.files("trafficlog.dashboard") / "static"
    files = {}
    for name, content_type in STATIC_TYPES.items():
        content = (directory / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:12]
        files[name] = StaticFile(content, content_type, digest)
    return files
