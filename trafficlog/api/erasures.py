"""The customer's side: erasures by filter or of everything, their progress and receipts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.cursor import INSTANT_BYTES, packed, unpacked
from trafficlog.api.erasure_schemas import Erasure as Shown
from trafficlog.api.erasure_schemas import (
    ErasureList,
    ErasurePreview,
    ErasureReceipt,
    WantedErasure,
)
from trafficlog.api.history import account_of, history_filter
from trafficlog.api.paging import LINK_HEADER, next_link
from trafficlog.api.parameters import CURSOR, PAGE_SIZE, TextParameter
from trafficlog.api.problems import json_response
from trafficlog.api.query import json_object, only, text_field
from trafficlog.api.routes import Answer, Body, Route, scopes
from trafficlog.errors import ConflictError, InvalidValueError, KeyReusedError, NotFoundError
from trafficlog.store.erasures import FIELDS, Place, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.erasures import Erasure
    from trafficlog.records import AccountKey
    from trafficlog.store.erasures import Preview

ERASURE_BYTES_MAX: Final = 65_536
ERASURE_FIELDS: Final = ("filter", "everything", "reports", "dry_run")
REPEAT_HEADER: Final = TextParameter(
    "Idempotency-Key",
    "Yours for this erasure: sent again with it, the same request makes no second one.",
    example="2f4c1f0e-close-account",
)
REPEAT_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")


async def post_erasure(request: web.Request, services: Services) -> web.Response:
    """Erases what a filter means, or everything; or says what that would be."""
    key = await account_of(request, services)
    body = json_object(await services.bodies.read(request, ERASURE_BYTES_MAX))
    only(body.keys(), ERASURE_FIELDS, "field")
    wanted = wanted_of(body)
    repeat_key = _repeat_key(REPEAT_HEADER.read(request.headers))
    now = services.clock.now()
    if _flag(body, "dry_run"):
        return json_response(preview_shown(await services.erasures.preview(key, wanted, now)))
    erasure = await services.erasures.start(key, wanted, now, repeat_key=repeat_key)
    return json_response(
        erasure_shown(erasure),
        202,
        {"Location": f"{request.path}/{erasure.id}"},
    )


async def get_erasures(request: web.Request, services: Services) -> web.Response:
    """The account's erasures, newest first."""
    key = await account_of(request, services)
    cursor = CURSOR.read(request.query)
    page = await services.erasures.page(
        key,
        limit=PAGE_SIZE.read(request.query, services.config),
        start=None if cursor is None else _place(services.cursors.place(_list_name(key), cursor)),
    )
    following = None
    if page.next is not None:
        place = packed(page.next.accepted_at) + page.next.id.encode()
        following = services.cursors.sign(_list_name(key), place)
    return json_response(
        {"data": [erasure_shown(e) for e in page.erasures], "next": following},
        headers=next_link(request, CURSOR.name, following),
    )


async def get_erasure(request: web.Request, services: Services) -> web.Response:
    """One erasure, and how far it has come."""
    key = await account_of(request, services)
    return json_response(
        erasure_shown(await services.erasures.get(key, request.match_info["id"])),
    )


async def cancel_erasure(request: web.Request, services: Services) -> web.Response:
    """Ends an erasure that is under way; what has been erased stays so."""
    key = await account_of(request, services)
    erasure = await services.erasures.cancel(key, request.match_info["id"], services.clock.now())
    return json_response(erasure_shown(erasure))


async def get_receipt(request: web.Request, services: Services) -> web.Response:
    """The receipt of an erasure that is finished; no personal data is in it."""
    key = await account_of(request, services)
    return json_response(await services.erasures.receipt(key, request.match_info["id"]))


def wanted_of(body: Mapping[str, Any]) -> Wanted:
    """What a body wants erased.

    Raises:
        InvalidValueError: naming the part that is not acceptable.
    """
    everything = _flag(body, "everything")
    chosen = body.get("filter")
    if everything and chosen is not None:
        raise InvalidValueError(
            "filter", chosen, "does not go with everything", reason_code="not_together"
        )
    if everything:
        return Wanted(None, reports=_flag(body, "reports"))
    if chosen is None:
        raise InvalidValueError(
            "filter",
            None,
            'is required; to erase everything say {"everything": true}',
            reason_code="missing",
        )
    if not isinstance(chosen, dict):
        raise InvalidValueError("filter", chosen, "must be an object", reason_code="wrong_type")
    only(chosen.keys(), tuple(FIELDS.values()), "field of a filter")
    texts = {name: text_field(chosen, name) for name in chosen}
    for name, text in texts.items():
        if not text:
            # Null or empty might mean any, or none: nothing is erased by a guess.
            raise InvalidValueError(name, text, "must not be empty", reason_code="missing")
    given = {name: text for name, text in texts.items() if text}
    return Wanted(history_filter(given), reports=_flag(body, "reports"))


def preview_shown(preview: Preview) -> dict[str, Any]:
    """What an erasure would mean, as it is shown."""
    return {
        "dry_run": True,
        "records": preview.records,
        "oldest": preview.oldest,
        "newest": preview.newest,
        "reports": preview.reports,
        "created_up_to": preview.created_up_to,
    }


def erasure_shown(erasure: Erasure) -> dict[str, Any]:
    """An erasure as it is shown."""
    return {
        "id": erasure.id,
        "state": erasure.state,
        "scope": "everything" if erasure.everything else "filter",
        "filter": None if erasure.filter is None else dict(erasure.filter),
        "reports": erasure.reports,
        "found": erasure.found,
        "erased": erasure.erased,
        "remaining": erasure.remaining,
        "reports_erased": erasure.reports_erased,
        "accepted_at": erasure.accepted_at,
        "started_at": erasure.started_at,
        "finished_at": erasure.finished_at,
    }


def _repeat_key(text: str | None) -> str | None:
    if text is not None and not REPEAT_KEY.match(text):
        raise InvalidValueError(
            "Idempotency-Key",
            text,
            "must be 1 to 255 printable ASCII characters without a space",
            reason_code="bad_format",
        )
    return text


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidValueError(name, value, "must be true or false", reason_code="wrong_type")
    return value


def _list_name(key: AccountKey) -> str:
    return f"erasures:{key}"


def _place(packed_place: bytes) -> Place:
    return Place(unpacked(packed_place), packed_place[INSTANT_BYTES:].decode())


_ERASURES: Final = "/v1/accounts/{account}/erasures"
ROUTES: Final = (
    Route(
        "POST",
        _ERASURES,
        post_erasure,
        scopes("customer"),
        group="Erasures",
        text="Means what the history shows and was created up to the acceptance.",
        headers=(REPEAT_HEADER,),
        body=Body.json(WantedErasure, bytes_max=ERASURE_BYTES_MAX),
        answers=(
            Answer.json("With `dry_run`: what it would mean.", ErasurePreview),
            Answer.json(
                "It is accepted, and carried out soon.",
                Shown,
                status=202,
                headers={"Location": "Where it is."},
            ),
        ),
        errors=(ConflictError, KeyReusedError),
    ),
    Route(
        "GET",
        _ERASURES,
        get_erasures,
        scopes("customer"),
        (PAGE_SIZE, CURSOR),
        group="Erasures",
        answers=(Answer.json("The page.", ErasureList, headers=LINK_HEADER),),
    ),
    Route(
        "GET",
        _ERASURES + "/{id}",
        get_erasure,
        scopes("customer"),
        group="Erasures",
        answers=(Answer.json("The erasure.", Shown),),
        errors=(NotFoundError,),
    ),
    Route(
        "POST",
        _ERASURES + "/{id}/cancel",
        cancel_erasure,
        scopes("customer"),
        group="Erasures",
        text="From the answer on nothing more of it is erased.",
        answers=(Answer.json("The erasure, cancelled.", Shown),),
        errors=(NotFoundError, ConflictError),
    ),
    Route(
        "GET",
        _ERASURES + "/{id}/receipt",
        get_receipt,
        scopes("customer"),
        group="Erasures",
        answers=(Answer.json("The receipt.", ErasureReceipt),),
        errors=(NotFoundError, ConflictError),
    ),
)
