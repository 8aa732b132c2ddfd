"""HTML from templates: what is put in is escaped, and no page runs a script that is not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import jinja2
from aiohttp import web

from trafficlog.dashboard import texts
from trafficlog.dashboard.static_files import read_static_files

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.dashboard.routes import Visit

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE: Final = {"Cache-Control": "no-store"}
BRIEF_CHARS: Final = 140


class Renderer:
    """The templates and static files of the package, read once."""

    def __init__(self) -> None:
        self.static = read_static_files()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("trafficlog.dashboard"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            t=texts.text,
            n=texts.counted,
            static=self.static_address,
            visit=None,
            spoken=texts.spoken,
            languages=tuple(texts.LANGUAGES.values()),
        )
        self._templates.filters.update(
            instant=texts.instant,
            machine=machine,
            brief=brief,
            number=texts.number,
            cost=texts.cost,
            day=texts.day,
            month=texts.month,
            duration=texts.duration,
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
            headers={
                **HEADERS,
                **PRIVATE,
                "Content-Language": texts.spoken().code,
                **(headers or {}),
            },
        )

    def static_address(self, name: str) -> str:
        """Where a static file is."""
        return f"/static/{name}?{self.static[name].digest}"


def see_other(address: str) -> web.Response:
    """Sends the browser to another page."""
    return web.Response(status=303, headers={"Location": address, **HEADERS, **PRIVATE})


def machine(at: datetime) -> str:
    """An instant as machines read it."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def brief(message: str) -> str:
    """The beginning of a text, so that a list of long ones stays small."""
    return message if len(message) <= BRIEF_CHARS else message[: BRIEF_CHARS - 1] + "…"
