"""Puts ``/a1/`` into the web application: who may read, which requests there are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import hdrs, web

from trafficlog.api.history import erase_record, history_filter
from trafficlog.api.problems import json_response
from trafficlog.api.query import whole_number
from trafficlog.api.rates import client_address
from trafficlog.auth import require
from trafficlog.compat46elks.answers import plain, plain_of
from trafficlog.compat46elks.pages import Reading
from trafficlog.compat46elks.rows import COLLECTIONS
from trafficlog.compat46elks.times import parse_place, parse_time, place, timestamp
from trafficlog.errors import (
    ConflictError,
    KeyMissingError,
    NotFoundError,
    ServiceStoppingError,
    TrafficlogError,
)
from trafficlog.records import AccountId, AccountKey, RecordId
from trafficlog.store.database import only_account

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.api.services import Services
    from trafficlog.compat46elks.rows import Collection
    from trafficlog.store.history_list import HistoryRecord

log = structlog.get_logger()

PAGE_MAX: Final = 100
SCOPES: Final = frozenset({"customer"})
READS_ONLY: Final = "This store keeps the history; it sends nothing and places no calls"
ONGOING: Final = "This call is ongoing: deleting would not hang it up, and its record is not final"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a customer's client."""

    services: Services
    request: web.Request
    account_key: AccountKey
    account_id: AccountId

    @property
    def record(self) -> RecordId:
        """The id in the path.

        Raises:
            NotFoundError: no record can have it.
        """
        record = self.request.match_info["id"]
        if "\0" in record:
            raise NotFoundError
        return RecordId(record)


Handler = Callable[[Visit], Awaitable[web.Response]]


async def get_list(visit: Visit, collection: Collection) -> web.Response:
    """A page of SMS, MMS or calls, newest first. Unknown parameters are ignored."""
    # Some clients send what they leave out as an empty text.
    given = {name: text for name, text in visit.request.query.items() if text}
    end = given.get("end")
    filters = {"kind": collection.kind}
    if collection.kind == "sms" and "to" in given:
        filters["to"] = given["to"]
    if end is not None:
        filters["after"] = parse_time(end, "end").isoformat()
    services = visit.services
    reading = Reading(
        services.history,
        visit.account_key,
        history_filter(filters),
        services.clock.now(),
        tied_max=services.config.page_records_max,
        rows_max=services.config.history_scan_rows_max,
        seconds_max=services.config.answer_seconds_max,
    )
    start = parse_place(given["start"], "start") if "start" in given else None
    page = await reading.page(start, _limit(given))
    answer: dict[str, Any] = {
        "data": [collection.row(record, visit.account_id) for record in page.records]
    }
    if page.next is not None:
        answer["next"] = place(page.next)
    return json_response(answer)


async def get_one(visit: Visit, collection: Collection) -> web.Response:
    """One SMS, MMS or call; the newest, if its id was used again."""
    [record, *_] = await _records(visit, collection)
    return json_response(collection.row(record, visit.account_id))


async def delete_one(visit: Visit, collection: Collection) -> web.Response:
    """Erases what carries an id, as the store's own API does; not while the call goes on."""
    if any(record.status == "ongoing" for record in await _records(visit, collection)):
        raise ConflictError(ONGOING)
    receipt = await erase_record(
        visit.services, visit.account_key, visit.record, kind=collection.kind
    )
    return json_response({"id": visit.record, "deleted": timestamp(receipt["erased_at"])})


async def get_me(visit: Visit) -> web.Response:
    """Who the key belongs to, as far as the store knows: it keeps no balance and no address."""
    account = await visit.services.accounts.get(visit.account_key)
    known = {"displayname": account.display_name, "currency": account.currency}
    return json_response(
        {"id": account.id} | {name: value for name, value in known.items() if value is not None}
    )


async def _records(visit: Visit, collection: Collection) -> list[HistoryRecord]:
    """What of a kind carries the id in the path, newest first; at least one."""
    services = visit.services
    found = await services.history.all_of_id(visit.account_key, visit.record, services.clock.now())
    records = [record for record in found if record.kind == collection.kind]
    if not records:
        raise NotFoundError
    return records


def _limit(given: Mapping[str, str]) -> int:
    """How many are asked for; who asks for more than there are in a page gets a page."""
    return min(whole_number(given, "limit", PAGE_MAX, 2**31 - 1), PAGE_MAX)


def _on(handler: Callable[[Visit, Collection], Awaitable[web.Response]], of: Collection) -> Handler:
    return lambda visit: handler(visit, of)


def _paths() -> dict[str, dict[str, Handler]]:
    """What is answered: by path, and by method. Clients differ in how they write the paths."""
    root = "/{a1:(?i:a1)}"
    paths: dict[str, dict[str, Handler]] = {root + "/{me:(?i:me)}": {hdrs.METH_GET: get_me}}
    for collection in COLLECTIONS:
        path = f"{root}/{{{collection.name}:(?i:{collection.name})}}"
        paths[path] = {hdrs.METH_GET: _on(get_list, collection)}
        paths[path + "/{id}"] = {
            hdrs.METH_GET: _on(get_one, collection),
            hdrs.METH_DELETE: _on(delete_one, collection),
        }
    # The last: whatever else is asked for under /a1.
    paths[root + "{rest:(?:/.*)?}"] = {}
    return paths


def add_compat46elks(app: web.Application, services: Services) -> None:
    """Adds ``/a1/`` to an application that has the API's routes already."""
    for path, handlers in _paths().items():
        app.router.add_route("*", path, _guarded(handlers, services))


def _guarded(
    handlers: Mapping[str, Handler], services: Services
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handlers of a path behind the check of the key, and their errors as plain text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await _answer(request, handlers, services)
        except ServiceStoppingError as error:
            response = plain_of(error)
            response.force_close()
            return response
        except TrafficlogError as error:
            return plain_of(error)
        except ConnectionResetError:
            raise
        except Exception:
            log.exception("request_broke", method=request.method, route="/a1")
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong")

    return answer


async def _answer(
    request: web.Request, handlers: Mapping[str, Handler], services: Services
) -> web.StreamResponse:
    user, secret = _credentials(request.headers.get(hdrs.AUTHORIZATION))
    principal = await services.authenticator.by_secret(
        secret, lambda: client_address(request, services.config.trusted_proxies)
    )
    limits = services.key_rates.admit(principal)
    if principal.account_key is not None and principal.account_id != user:
        raise KeyMissingError("this account and this key do not belong together")
    require(principal, SCOPES, user)
    if principal.account_key is None or principal.account_id is None:
        raise NotFoundError
    if not handlers:
        raise NotFoundError
    handler = handlers.get(request.method)
    if handler is None:
        response = plain(
            HTTPStatus.METHOD_NOT_ALLOWED, READS_ONLY, {hdrs.ALLOW: ", ".join(sorted(handlers))}
        )
    else:
        visit = Visit(services, request, principal.account_key, principal.account_id)
        with only_account(principal.account_key):
            response = await handler(visit)
    response.headers.update(limits)
    return response


def _credentials(authorization: str | None) -> tuple[str, str]:
    """Account and key of an ``Authorization`` header.

    Raises:
        KeyMissingError: there are none in it.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        decoded = base64.b64decode(encoded.strip().encode("ascii"), validate=True).decode()
    except (ValueError, binascii.Error):
        raise KeyMissingError("API access requires Basic HTTP authentication") from None
    user, _, secret = decoded.partition(":")
    return user, secret.strip()
