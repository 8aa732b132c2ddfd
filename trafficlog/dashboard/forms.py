"""Forms as a browser posts them, read within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from trafficlog.api.body import media_type
from trafficlog.errors import BodyUnreadableError, MediaTypeUnsupportedError, ScopeMissingError

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.api.body import BodyReader

FORM_TYPE: Final = "application/x-www-form-urlencoded"
FORM_BYTES_MAX: Final = 65_536
FIELDS_MAX: Final = 20


async def read_form(request: web.Request, bodies: BodyReader) -> dict[str, str]:
    """The fields of a posted form.

    Raises:
        ScopeMissingError: the browser says that another site sent it.
        MediaTypeUnsupportedError: it is no form.
        BodyUnreadableError: it cannot be read as one.
    """
    # Browsers say where a request comes from; nothing that is not one carries our cookie.
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise ScopeMissingError("forms are taken from this site's own pages only")
    if media_type(request) != FORM_TYPE:
        raise MediaTypeUnsupportedError(f"a form is sent as {FORM_TYPE}")
    body = await bodies.read(request, FORM_BYTES_MAX)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise BodyUnreadableError(f"the form cannot be read: {error}") from None
    return dict(pairs)
