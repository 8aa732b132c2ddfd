"""Where the next page of a list is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

LINK_HEADER: Final[Mapping[str, str]] = {"Link": "The next page, if any."}


def next_link(request: web.Request, parameter: str, value: str | int | None) -> dict[str, str]:
    """The header that leads on to the next page (RFC 8288), the request's own parameters kept.

    ``value`` is what ``parameter`` is there; None: this page is the last.
    """
    if value is None:
        return {}
    return {"Link": f'<{request.rel_url.update_query({parameter: str(value)})}>; rel="next"'}
