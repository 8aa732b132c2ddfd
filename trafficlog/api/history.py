"""The customer's side: history, erasure of one record, settings."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.problems import json_response
from trafficlog.api.query import flag, instant, json_object, one_of, only, whole_number
from trafficlog.api.routes import Route, scopes
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
    HistoryDays,
    HistoryOff,
    HistorySetting,
    check_history_days,
    is_expired,
)
from trafficlog.store.history import HistoryFilter, HistoryRecord
from trafficlog.values import normal_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.store.history import Account

PAGE_PARAMETERS: Final = (
    *("kind", "direction", "status", "from", "to", "tag"),
    *("after", "before", "limit", "cursor"),
)
SETTINGS_BYTES_MAX: Final = 65_536
# A row's last trace goes with its partition: one width, and one job interval, after.
PARTITION_WIDTH: Final = timedelta(days=1)


async def get_history(request: web.Request, services: Services) -> web.Response:
    """A page of the account's history, newest first."""
    query = request.query
    key = await account_of(request, services)
    limit = whole_number(
        query, "limit", services.config.page_records, services.config.page_records_max
    )
    cursor = query.get("cursor")
    page = await services.history.page(
        key,
        history_filter(query),
        services.clock.now(),
        limit=limit,
        start=None if cursor is None else services.cursors.read(key, cursor),
    )
    following = None if page.next is None else services.cursors.write(key, page.next)
    headers = {}
    if following is not None:
        url = request.rel_url.update_query(cursor=following)
        headers["Link"] = f'<{url}>; rel="next"'
    return json_response(
        {"data": [shown(record) for record in page.records], "next": following}, headers=headers
    )


async def get_record(request: web.Request, services: Services) -> web.Response:
    """One record of the account's history."""
    key = await account_of(request, services)
    record = RecordId(request.match_info["id"])
    return json_response(shown(await services.history.by_id(key, record, services.clock.now())))


async def delete_record(request: web.Request, services: Services) -> web.Response:
    """Erases one record of history; the receipt says what went and what the law keeps."""
    key = await account_of(request, services)
    return json_response(await erase_record(services, key, RecordId(request.match_info["id"])))


async def erase_record(services: Services, key: AccountKey, record: RecordId) -> dict[str, Any]:
    """Erases what an account's history has under an id; gives the receipt.

    Raises:
        NotFoundError: there is none, or none any more.
    """
    now = services.clock.now()
    records, erased = await services.history.erase(key, record, now)
    services.metrics.rows_erased.labels("erased").inc(erased)
    interval = timedelta(seconds=services.config.retention_interval_seconds)
    return {
        "receipt": secrets.token_hex(8),
        "erased_at": now,
        "erased": [{"data_class": DataClass.HISTORY, "rows": erased}],
        "last_trace_gone_by": max(r.stored_until for r in records) + PARTITION_WIDTH + interval,
        "remains": remains_by_law(services, records, now),
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


async def get_settings(request: web.Request, services: Services) -> web.Response:
    """The account's settings."""
    account = await services.accounts.get(await account_of(request, services))
    return json_response(settings_of(account))


async def put_settings(request: web.Request, services: Services) -> web.Response:
    """Sets the account's settings, or says what setting them would hide."""
    key = await account_of(request, services)
    wanted = json_object(await services.bodies.read(request, SETTINGS_BYTES_MAX))
    now = services.clock.now()
    before = await services.accounts.get(key)
    setting, reports = parse_settings(wanted, before)
    if flag(request.query, "dry_run"):
        hidden = await rows_hidden(services, before, setting, now)
        return json_response({"dry_run": True, "rows_hidden": hidden})
    after = await services.accounts.change(
        key, setting, monthly_reports=reports, now=now, by=request[PRINCIPAL].actor
    )
    return json_response(settings_of(after))


async def rows_hidden(
    services: Services, account: Account, setting: HistorySetting, now: datetime
) -> int:
    """How many rows that are visible now a setting would hide."""
    created_up_to = (
        datetime.max.replace(tzinfo=UTC)
        if isinstance(setting, HistoryOff)
        else now - setting.retention_period
    )
    return await services.history.count(account.key, now, created_up_to=created_up_to)


async def account_of(request: web.Request, services: Services) -> AccountKey:
    """The account that the path names; a customer's key carries it."""
    principal = request[PRINCIPAL]
    if principal.account_key is not None:
        return principal.account_key
    return await services.accounts.key_of(request.match_info["account"])


def history_filter(query: Mapping[str, str]) -> HistoryFilter:
    """What a request wants listed."""
    return HistoryFilter(
        kind=one_of(query, "kind", KIND_CODES),
        direction=one_of(query, "direction", DIRECTION_CODES),
        status=one_of(query, "status", STATUS_CODES),
        sender=_number(query, "from"),
        recipient=_number(query, "to"),
        tag=_text(query, "tag"),
        after=instant(query, "after"),
        before=instant(query, "before"),
    )


def parse_settings(wanted: Mapping[str, Any], before: Account) -> tuple[HistorySetting, bool]:
    """The settings that a body asks for; what it leaves out stays as it is.

    Raises:
        InvalidValueError: naming the part that is not acceptable.
    """
    only(wanted.keys(), ("history", "monthly_reports"), "setting")
    reports = wanted.get("monthly_reports", before.monthly_reports)
    if not isinstance(reports, bool):
        raise InvalidValueError(
            "monthly_reports", reports, "must be true or false", reason_code="wrong_type"
        )
    if "history" not in wanted:
        return before.setting, reports
    history = wanted["history"]
    if not isinstance(history, dict):
        raise InvalidValueError("history", history, "must be an object", reason_code="wrong_type")
    only(history.keys(), ("enabled", "days"), "setting of history")
    enabled = history.get("enabled", True)
    if not isinstance(enabled, bool):
        raise InvalidValueError(
            "history.enabled", enabled, "must be true or false", reason_code="wrong_type"
        )
    if not enabled:
        if history.get("days") is not None:
            check_history_days(history["days"])
        return HistoryOff(), reports
    if "days" in history:
        return HistoryDays(check_history_days(history["days"])), reports
    if isinstance(before.setting, HistoryDays):
        return before.setting, reports
    raise InvalidValueError(
        "history.days", None, "is required to turn history on", reason_code="missing"
    )


def settings_of(account: Account) -> dict[str, Any]:
    """An account's settings as they are shown."""
    match account.setting:
        case HistoryDays(days):
            history: dict[str, Any] = {"enabled": True, "days": days}
        case HistoryOff():
            history = {"enabled": False, "days": None}
    return {
        "history": history,
        "monthly_reports": account.monthly_reports,
        "applying_since": account.moving_since,
    }


def shown(record: HistoryRecord) -> dict[str, Any]:
    """A record as it is shown: what is not known, or was not to be logged, is absent."""
    fields = {k: v for k, v in asdict(record).items() if v is not None}
    del fields["stored_until"]
    for name, public in (("sender", "from"), ("recipient", "to")):
        if name in fields:
            fields[public] = fields.pop(name)
    return fields


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
_SETTINGS: Final = "/v1/accounts/{account}/settings"
ROUTES: Final = (
    Route("GET", _HISTORY, get_history, scopes("customer"), PAGE_PARAMETERS),
    Route("GET", _HISTORY + "/{id}", get_record, scopes("customer")),
    Route("DELETE", _HISTORY + "/{id}", delete_record, scopes("customer")),
    Route("GET", _SETTINGS, get_settings, scopes("customer", "operator")),
    Route("PUT", _SETTINGS, put_settings, scopes("customer", "operator"), ("dry_run",)),
)
