"""Accounts: the list, searched and in pages, and one of them with its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson

from trafficlog.api.query import only
from trafficlog.errors import InvalidValueError
from trafficlog.operator_page.pages import OperatorPage
from trafficlog.operator_page.texts import distance, text
from trafficlog.retention import HistoryDays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.operator_page.pages import Operation, Page, Visit

ROWS: Final = 50


async def get_accounts(visit: Visit, operation: Operation) -> web.Response:
    """A page of accounts by their ids."""
    query = visit.request.query
    only(query.keys(), ("search", "after"))
    search, after = query.get("search", "").strip(), query.get("after", "")
    for name, value in (("search", search), ("after", after)):
        if "\0" in value:
            raise InvalidValueError(name, value, "must not contain the NUL character")
    found = await operation.oversight.accounts(search, after, ROWS + 1)
    shown = found[:ROWS]
    given = {"search": search} if search else {}
    following = None
    if len(found) > ROWS:
        following = _address(given, after=shown[-1]["account_id"])
    return operation.renderer.page(
        "accounts.html",
        visit=visit,
        accounts=shown,
        search=search,
        first=_address(given) if after else None,
        following=following,
    )


def _address(given: Mapping[str, str], **more: str) -> str:
    query = urlencode({**given, **more})
    return "/operate/accounts" + ("?" + query if query else "")


async def get_account(visit: Visit, operation: Operation) -> web.Response:
    """One account: its settings, and every change of them."""
    only(visit.request.query.keys(), ())
    now = operation.services.clock.now()
    # No account has such an id, so this one is not found.
    account_id = visit.request.match_info["account"].replace("\0", " ")
    account, changes = await operation.oversight.account(account_id)
    setting = account.setting
    return operation.renderer.page(
        "account.html",
        visit=visit,
        account=account,
        days=setting.days if isinstance(setting, HistoryDays) else None,
        changes=[
            {"at": row["changed_at"], "by": row["changed_by"], "what": _changed(row)}
            for row in reversed(changes)
        ],
        distance=lambda then: distance(then - now),
    )


def _changed(row: Any) -> list[str]:
    """What a change changed: each setting by its name, from what to what."""
    old, new = orjson.loads(row["old"]), orjson.loads(row["new"])
    return [
        f"{name.replace('_', ' ')}: {_said(old.get(name))} → {_said(value)}"
        for name, value in new.items()
        if old.get(name) != value
    ]


def _said(value: object) -> str:
    match value:
        case None:
            return text("none")
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


PAGES: Final[tuple[Page, ...]] = (
    OperatorPage("GET", "/operate/accounts", get_accounts),
    OperatorPage("GET", "/operate/accounts/{account}", get_account),
)
