"""The customer's history, and erasure of one record."""

from __future__ import annotations

import secrets
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.caching import json_tagged, tagged
from trafficlog.api.customer_schemas import HistoryPage, Receipt
from trafficlog.api.customer_schemas import HistoryRecord as ShownRecord
from trafficlog.api.paging import LINK_HEADER, next_link
from trafficlog.api.parameters import (
    CURSOR,
    PAGE_SIZE,
    ChoiceParameter,
    InstantParameter,
    TextParameter,
)
from trafficlog.api.problems import json_response
from trafficlog.api.routes import Answer, Route, scopes
from trafficlog.api.services import PRINCIPAL
from trafficlog.errors import InvalidValueError
from trafficlog.records import (
    DIRECTION_CODES,
    KIND_CODES,
    STATUS_CODES,
    AccountKey,
    RecordId,
)
from trafficlog.retention import (
    DataClass,
    is_expired,
)
from trafficlog.store.history_list import HistoryFilter, HistoryRecord
from trafficlog.values import normal_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiohttp import web

    from trafficlog.api.services import Services

KIND: Final = ChoiceParameter("kind", "Of this kind only.", known=tuple(KIND_CODES))
DIRECTION: Final = ChoiceParameter(
    "direction", "Of this direction only.", known=tuple(DIRECTION_CODES)
)
STATUS: Final = ChoiceParameter("status", "Of this status only.", known=tuple(STATUS_CODES))
FROM: Final = TextParameter("from", "From this number or name only.", example="Acme")
TO: Final = TextParameter("to", "To this number or name only.", example="+46701234567")
TAG: Final = TextParameter("tag", "With this tag only.", example="login")
AFTER: Final = InstantParameter("after", "Created later than this only.")
BEFORE: Final = InstantParameter("before", "Created earlier than this only.")
FILTER_PARAMETERS: Final = (KIND, DIRECTION, STATUS, FROM, TO, TAG, AFTER, BEFORE)
TOTAL: Final = ChoiceParameter("total", "Say how many there are in all, too.", known=("estimate",))
PAGE_PARAMETERS: Final = (*FILTER_PARAMETERS, PAGE_SIZE, CURSOR, TOTAL)
# The parties come last, under the names that they have outside.
PARTIES: Final = {"sender": "from", "recipient": "to"}
SHOWN: Final = tuple(
    (PARTIES.get(name, name), name)
    for name in sorted((f.name for f in fields(HistoryRecord)), key=PARTIES.__contains__)
    if name != "stored_until"
)
# A row's last trace goes with its partition: one width, and one job interval, after.
PARTITION_WIDTH: Final = timedelta(days=1)


async def get_history(request: web.Request, services: Services) -> web.Response:
    """A page of the account's history, newest first."""
    query = request.query
    key = await account_of(request, services)
    limit = PAGE_SIZE.read(query, services.config)
    cursor = CURSOR.read(query)
    wanted, now = history_filter(query), services.clock.now()
    rows_max = services.config.history_scan_rows_max
    page = await services.history.page(
        key,
        wanted,
        now,
        limit=limit,
        start=None if cursor is None else services.cursors.read(key, cursor),
        rows_max=rows_max,
    )
    following = None if page.next is None else services.cursors.write(key, page.next)
    answer: dict[str, Any] = {"data": [shown(record) for record in page.records], "next": following}
    if TOTAL.read(query) is not None:
        answer["total"] = await services.history.total(key, wanted, now, rows_max=rows_max)
    return json_response(answer, headers=next_link(request, CURSOR.name, following))


async def get_record(request: web.Request, services: Services) -> web.Response:
    """One record of the account's history."""
    key = await account_of(request, services)
    record = RecordId(request.match_info["id"])
    found = await services.history.by_id(key, record, services.clock.now())
    return json_tagged(request, shown(found))


async def delete_record(request: web.Request, services: Services) -> web.Response:
    """Erases one record of history; the receipt says what went and what the law keeps."""
    key = await account_of(request, services)
    return json_response(await erase_record(services, key, RecordId(request.match_info["id"])))


async def erase_record(
    services: Services, key: AccountKey, record: RecordId, *, kind: str | None = None
) -> dict[str, Any]:
    """Erases what an account's history has under an id, of one kind alone if it is named.

    Gives the receipt.

    Raises:
        NotFoundError: there is none, or none any more.
    """
    now = services.clock.now()
    erased = await services.history.erase(key, record, now, kind=kind)
    services.metrics.rows_erased.labels("erased").inc(erased.rows)
    # Where another erasure was quicker its row lay no longer than it was to be kept.
    last = erased.last_expiry or max(r.stored_until for r in erased.records)
    interval = timedelta(seconds=services.config.retention_interval_seconds)
    return {
        "receipt": secrets.token_hex(8),
        "erased_at": now,
        "erased": [{"data_class": DataClass.HISTORY, "rows": erased.rows}],
        "last_trace_gone_by": last + PARTITION_WIDTH + interval,
        "remains": remains_by_law(services, erased.records, now),
    }


def remains_by_law(
    services: Services, records: Iterable[HistoryRecord], now: datetime
) -> list[dict[str, Any]]:
    """What the law keeps of records that are erased: class, end and legal basis."""
    created = max(r.created for r in records)
    policy = services.writer.settings.policies.in_force(DataClass.TRAFFIC, created)
    until = created + policy.retention_period
    if is_expired(until, now):
        return []
    return [{"data_class": DataClass.TRAFFIC, "until": until, "legal_basis": policy.legal_basis}]


async def account_of(request: web.Request, services: Services) -> AccountKey:
    """The account that the path names; a customer's key carries it."""
    principal = request[PRINCIPAL]
    if principal.account_key is not None:
        return principal.account_key
    return await services.accounts.key_of(request.match_info["account"])


def history_filter(query: Mapping[str, str]) -> HistoryFilter:
    """What a request wants listed."""
    return HistoryFilter(
        kind=KIND.read(query),
        direction=DIRECTION.read(query),
        status=STATUS.read(query),
        sender=_number(query, FROM.name),
        recipient=_number(query, TO.name),
        tag=_text(query, TAG.name),
        after=AFTER.read(query),
        before=BEFORE.read(query),
    )


def shown(record: HistoryRecord) -> dict[str, Any]:
    """A record as it is shown: what is not known, or was not to be logged, is absent."""
    return {public: value for public, name in SHOWN if (value := getattr(record, name)) is not None}


def _number(query: Mapping[str, str], name: str) -> str | None:
    text = _text(query, name)
    # A plus sign in a query is a space once decoded.
    return None if text is None else normal_number("+" + text[1:] if text[:1] == " " else text)


def _text(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is not None and "\0" in text:
        raise InvalidValueError(name, text, "must not contain the NUL character")
    return text


_HISTORY: Final = "/v1/accounts/{account}/history"
ROUTES: Final = (
    Route(
        "GET",
        _HISTORY,
        get_history,
        scopes("customer"),
        PAGE_PARAMETERS,
        group="History",
        text="Paging loses and repeats nothing, whatever is written or erased meanwhile. A page "
        "that a filter chooses may be short, or empty, before the last: go on while there is a "
        "`next`.",
        answers=(Answer.json("The page.", HistoryPage, headers=LINK_HEADER),),
    ),
    Route(
        "GET",
        _HISTORY + "/{id}",
        get_record,
        scopes("customer"),
        group="History",
        answers=tagged("The record.", ShownRecord),
    ),
    Route(
        "DELETE",
        _HISTORY + "/{id}",
        delete_record,
        scopes("customer"),
        group="History",
        answers=(Answer.json("It is erased.", Receipt),),
    ),
)
