"""Why a record is still here, or why it is gone, in sentences.

Reads where a record is stored and until when, never what it says; so it answers for
the legal record too without reading it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from trafficlog.queries import queries, rows
from trafficlog.records import AccountKey
from trafficlog.retention import DataClass, HistoryDays, HistoryOff, PolicyBook, is_expired
from trafficlog.store.accounts import Account, load_account
from trafficlog.store.database import availability
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """One place where a record is stored; ``stored_in`` is the table."""

    data_class: str
    created_at: datetime
    expires_at: datetime
    stored_in: str


@dataclass(frozen=True, slots=True)
class CoveringHold:
    """A hold in force that covers the record."""

    id: str
    case_ref: str
    ends_at: datetime


@dataclass(slots=True)
class Explanation:
    """What is known of one record of one account, and the sentences that follow from it."""

    account: str
    record: str
    created_at: datetime | None
    stored: list[StoredCopy]
    holds: list[CoveringHold]
    sentences: list[str] = field(default_factory=list)


async def explain(
    connection: asyncpg.Connection,
    record: str,
    account: AccountKey | None,
    created: datetime | None,
    now: datetime,
) -> list[Explanation]:
    """Explains a record for each account that has it; for ``account`` in any case.

    Args:
        connection: of the retention role, which alone sees every class.
        record: the gateway's id.
        account: look at this account only.
        created: when it was created, if nothing that is stored tells.
        now: the present time.
    """
    with availability():
        policies = policy_book(await rows(queries.policies(connection)))
        found = await rows(queries.explain_accounts(connection, id=record, account_key=account))
        keys = [AccountKey(row["account_key"]) for row in found]
        if account is not None and account not in keys:
            keys.append(account)
        return [await _of_account(connection, record, key, created, now, policies) for key in keys]


async def _of_account(
    connection: asyncpg.Connection,
    record: str,
    key: AccountKey,
    created: datetime | None,
    now: datetime,
    policies: PolicyBook,
) -> Explanation:
    owner = await load_account(connection, key)
    stored = [
        StoredCopy(**dict(row))
        for row in await rows(queries.explain_stored(connection, id=record, account_key=key))
    ]
    held = await rows(queries.explain_holds(connection, id=record, account_key=key, now=now))
    records = [s for s in stored if s.data_class != DataClass.DEBUG]
    result = Explanation(
        account=owner.id,
        record=record,
        created_at=records[0].created_at if records else created,
        stored=stored,
        holds=[CoveringHold(h["hold_id"], h["case_ref"], h["ends_at"]) for h in held],
    )
    classes = {s.data_class for s in stored}
    for copy in stored:
        result.sentences.append(_why_here(copy, owner, now))
    for hold in result.holds:
        result.sentences.append(
            f"Hold {hold.id} ({hold.case_ref}) keeps it from destruction until "
            f"{_time(hold.ends_at)}."
        )
    if result.created_at is None:
        if not stored:
            result.sentences.append(
                "Nothing is stored under this id. With --created the ledger can be asked."
            )
        return result
    if DataClass.TRAFFIC not in classes:
        expiry = policies.expires_at(DataClass.TRAFFIC, result.created_at)
        result.sentences += await _why_gone(connection, DataClass.TRAFFIC, expiry, now)
    if DataClass.HISTORY not in classes:
        result.sentences += await _why_no_history(connection, owner, result.created_at, now)
    return result


def _why_here(copy: StoredCopy, owner: Account, now: datetime) -> str:
    where = f"{copy.data_class}: created {_time(copy.created_at)}, in {copy.stored_in}"
    if copy.stored_in == "held_record":
        return f"{where}; a copy that only a hold keeps since {_time(copy.expires_at)}."
    if is_expired(copy.expires_at, now):
        return f"{where}; expired {_time(copy.expires_at)}, it goes with its partition."
    if copy.data_class == DataClass.HISTORY and owner.moving_since is not None:
        return (
            f"{where}; it expires {_time(copy.expires_at)}, or as the setting changed "
            f"{_time(owner.moving_since)} says once it has been applied."
        )
    return f"{where}; it expires {_time(copy.expires_at)}."


async def _why_gone(
    connection: asyncpg.Connection, data_class: DataClass, expiry: datetime, now: datetime
) -> list[str]:
    if not is_expired(expiry, now):
        return [
            (
                f"{data_class}: not stored, though it would be kept until {_time(expiry)}: "
                "it never came in, or it was created at another time."
            )
        ]
    drops = await rows(
        queries.explain_destroyed(connection, data_class=data_class.value, expires_at=expiry)
    )
    if not drops:
        return [
            (
                f"{data_class}: expired {_time(expiry)}; no partition of that time was dropped. A "
                "change of setting, an erasure or an account's closing takes single rows."
            )
        ]
    return [
        f"{data_class}: expired {_time(expiry)}; its partition {d['object']} was destroyed "
        f"{_time(d['at'])} (ledger entry {d['seq']})."
        for d in drops
    ]


async def _why_no_history(
    connection: asyncpg.Connection, owner: Account, created: datetime, now: datetime
) -> list[str]:
    sentences = [
        f"The history setting was {_setting(c['old'])} until {_time(c['changed_at'])}, "
        f"then {_setting(c['new'])} ({c['changed_by']})."
        for c in await rows(queries.setting_changes(connection, account_key=owner.key))
    ]
    match owner.setting:
        case HistoryOff():
            return [*sentences, "history_record: none; the account keeps no history."]
        case HistoryDays():
            if owner.gone_up_to is not None and created <= owner.gone_up_to:
                return [
                    *sentences,
                    (
                        "history_record: none; a change of the setting gave up all created "
                        f"up to {_time(owner.gone_up_to)}."
                    ),
                ]
            expiry = created + owner.setting.retention_period
            if is_expired(expiry, now):
                gone = await _why_gone(connection, DataClass.HISTORY, expiry, now)
                return [*sentences, *gone]
            return [
                *sentences,
                (
                    f"history_record: none, though it would be kept until {_time(expiry)}: "
                    "its customer erased it, or history was off when it came in."
                ),
            ]


def _setting(text: Any) -> str:
    days = orjson.loads(text)["history_days"]
    return "off" if days is None else f"{days} days"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
