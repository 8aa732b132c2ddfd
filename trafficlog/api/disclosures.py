"""For officers: disclosures of the legal record, and who read what."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.cursor import INSTANT_BYTES, packed, unpacked
from trafficlog.api.paging import LINK_HEADER, next_link
from trafficlog.api.parameters import CURSOR, PAGE_SIZE, InstantParameter
from trafficlog.api.problems import json_response
from trafficlog.api.query import (
    json_object,
    only,
    parse_selector,
    required_text,
    text_field,
)
from trafficlog.api.routes import Answer, Body, Route, scopes
from trafficlog.api.schemas import names_of
from trafficlog.api.services import PRINCIPAL
from trafficlog.api.staff_schemas import AccessPage, Disclosure
from trafficlog.api.staff_schemas import DisclosureRequest as WantedDisclosure
from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.store.access_log import AccessPosition
from trafficlog.store.disclosures import DisclosureRequest, LegalPosition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.store.disclosures import TrafficRecord

DISCLOSURE_BYTES_MAX: Final = 65_536
AFTER: Final = InstantParameter("after", "Later than this only.")
BEFORE: Final = InstantParameter("before", "Earlier than this only.")
ACCESS_LIST: Final = "access-log"
ACCOUNT_KEY_BYTES: Final = 8


async def post_disclosure(request: web.Request, services: Services) -> web.Response:
    """A page of the legal record for a lawful request; the access log notes it."""
    # In a body, and not in the address: proxies log addresses.
    wanted = json_object(await services.bodies.read(request, DISCLOSURE_BYTES_MAX))
    only(wanted.keys(), names_of(WantedDisclosure), "field")
    asked = DisclosureRequest(
        parse_selector(wanted), required_text(wanted, "reason"), required_text(wanted, "case_ref")
    )
    list_name = _list_of(asked)
    cursor = text_field(wanted, "cursor")
    page = await services.disclosures.page(
        asked,
        by=request[PRINCIPAL].actor,
        now=services.clock.now(),
        limit=_limit(wanted, services),
        start=None if cursor is None else _legal_place(services.cursors.place(list_name, cursor)),
    )
    following = page.next
    return json_response(
        {
            "data": [record_shown(record) for record in page.records],
            "next": None
            if following is None
            else services.cursors.sign(
                list_name,
                packed(following.created)
                + following.account_key.to_bytes(ACCOUNT_KEY_BYTES)
                + following.id.encode(),
            ),
        }
    )


async def get_access_log(request: web.Request, services: Services) -> web.Response:
    """Who of the staff read or changed what, newest first; the access log notes this, too."""
    query = request.query
    start = None
    if "cursor" in query:
        place = services.cursors.place(ACCESS_LIST, query["cursor"])
        start = AccessPosition(unpacked(place), uuid.UUID(bytes=place[INSTANT_BYTES:]))
    page = await services.access_log.page(
        by=request[PRINCIPAL].actor,
        now=services.clock.now(),
        limit=PAGE_SIZE.read(query, services.config),
        after=AFTER.read(query),
        before=BEFORE.read(query),
        start=start,
    )
    following = None
    if page.next is not None:
        following = services.cursors.sign(ACCESS_LIST, packed(page.next.at) + page.next.id.bytes)
    return json_response(
        {"data": [asdict(entry) for entry in page.entries], "next": following},
        headers=next_link(request, CURSOR.name, following),
    )


def record_shown(record: TrafficRecord) -> dict[str, Any]:
    """A row of the legal record as it is shown: what is not known is absent."""
    fields = {k: v for k, v in asdict(record).items() if v is not None}
    return {{"sender": "from", "recipient": "to"}.get(k, k): v for k, v in fields.items()}


def _list_of(asked: DisclosureRequest) -> str:
    # Another selector's or window's cursor would leave rows out without a word.
    return "disclosure:" + hashlib.sha256(repr(astuple(asked.selector)).encode()).hexdigest()


def _legal_place(place: bytes) -> LegalPosition:
    rest = place[INSTANT_BYTES:]
    account_key = int.from_bytes(rest[:ACCOUNT_KEY_BYTES])
    return LegalPosition(unpacked(place), account_key, rest[ACCOUNT_KEY_BYTES:].decode())


def _limit(wanted: Mapping[str, Any], services: Services) -> int:
    limit, high = wanted.get("limit"), services.config.page_records_max
    if limit is None:
        return services.config.page_records
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise InvalidValueError("limit", limit, "must be a whole number", reason_code="wrong_type")
    if not 1 <= limit <= high:
        raise InvalidValueError(
            "limit", limit, f"must be from 1 to {high}", reason_code="out_of_range"
        )
    return limit


ROUTES: Final = (
    Route(
        "POST",
        "/v1/disclosures",
        post_disclosure,
        scopes("officer"),
        group="Disclosure",
        text="The request is a body and no address, since proxies log addresses.",
        body=Body.json(WantedDisclosure, bytes_max=DISCLOSURE_BYTES_MAX),
        answers=(Answer.json("The page.", Disclosure),),
        errors=(NotFoundError,),
    ),
    Route(
        "GET",
        "/v1/access-log",
        get_access_log,
        scopes("officer"),
        (AFTER, BEFORE, PAGE_SIZE, CURSOR),
        group="Disclosure",
        answers=(Answer.json("The page.", AccessPage, headers=LINK_HEADER),),
    ),
)
