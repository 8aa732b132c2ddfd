"""A page to print: one HTML file with its own style, that needs and asks for no other."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from collections.abc import Callable


class PrintPage:
    """Makes pages from one of the package's templates, which puts ``style`` into its head."""

    def __init__(self, template: str, **filters: Callable[..., str]) -> None:
        self._style = (resources.files("trafficlog") / "templates" / "print.css").read_text("utf-8")
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("trafficlog"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(filters, number=number)
        self._template = environment.get_template(template)

    @property
    def content_security_policy(self) -> str:
        """Under which the page may be served: its own style by its hash, and nothing else."""
        digest = hashlib.sha256(self._style.encode()).digest()
        return (
            f"default-src 'none'; style-src 'sha256-{base64.b64encode(digest).decode()}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def render(self, **values: Any) -> str:
        """The page with these values."""
        return self._template.render(style=self._style, **values)


def number(value: int) -> str:
    """With thin spaces between thousands, as a table for people of any country has them."""
    return f"{value:,}".replace(",", "\u202f")
