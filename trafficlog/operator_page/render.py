"""HTML of the operators' page: what is put in is escaped, and nothing on it can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import jinja2
from aiohttp import web

from trafficlog.dashboard.render import HEADERS as PAGE_HEADERS
from trafficlog.dashboard.render import PRIVATE, machine
from trafficlog.dashboard.static_files import read_static_files
from trafficlog.operator_page import texts

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.operator_page.pages import Visit

HEADERS: Final = {
    **PAGE_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class Renderer:
    """The templates of the package, read once; the stylesheets are served with the other page's."""

    def __init__(self) -> None:
        self._digests = {name: file.digest for name, file in read_static_files().items()}
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("trafficlog.operator_page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            t=texts.text, n=texts.counted, static=self._static_address, visit=None
        )
        self._templates.filters.update(
            instant=instant, machine=machine, number=number, span=texts.span
        )

    def page(
        self, template: str, *, visit: Visit | None, status: int = 200, **values: object
    ) -> web.Response:
        """A page from its template."""
        return web.Response(
            text=self._templates.get_template(template).render(visit=visit, **values),
            status=status,
            content_type="text/html",
            headers={**HEADERS, **PRIVATE},
        )

    def _static_address(self, name: str) -> str:
        return f"/static/{name}?{self._digests[name]}"


def instant(at: datetime) -> str:
    """An instant as operators read it: in UTC, to the second, as in logs."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def number(value: int) -> str:
    """A whole number in groups of three digits."""
    return f"{value:,}"
