"""Which language a visitor is answered in: the one that was chosen, or the browser's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.dashboard.forms import read_form
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.routes import PublicPage
from trafficlog.dashboard.texts import LANGUAGES

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page
    from trafficlog.dashboard.texts import Language

COOKIE: Final = "trafficlog_language"
YEAR_SECONDS: Final = 365 * 86_400
DEFAULT: Final = LANGUAGES["en"]
RANGES_MAX: Final = 20


def language_of(request: web.Request) -> Language:
    """The language that the visitor chose here, or else prefers."""
    chosen = LANGUAGES.get(request.cookies.get(COOKIE, ""))
    return chosen or _preferred(request.headers.get("Accept-Language", ""))


async def post_language(request: web.Request, dashboard: Dashboard) -> web.Response:
    """Keeps the chosen language, and goes back to the page that was shown."""
    form = await read_form(request, dashboard.services.bodies)
    response = see_other(_ours(form.get("back", "")))
    language = LANGUAGES.get(form.get("language", ""))
    if language is not None:
        response.set_cookie(
            COOKIE,
            language.code,
            max_age=YEAR_SECONDS,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
    return response


def _preferred(header: str) -> Language:
    """The first in a browser's list, by its weights, that is spoken here (RFC 9110, 12.5.4)."""
    best, highest = DEFAULT, 0.0
    for each in header.split(",")[:RANGES_MAX]:
        name, _, weight = each.partition(";")
        language = LANGUAGES.get(name.strip().lower().partition("-")[0])
        try:
            value = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language is not None and value > highest:
            best, highest = language, value
    return best


def _ours(address: str) -> str:
    """An address of this service; the first page instead of any other."""
    path = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if path and address.isascii() and address.isprintable() else "/"


PAGES: Final[tuple[Page, ...]] = (PublicPage("POST", "/language", post_language),)
