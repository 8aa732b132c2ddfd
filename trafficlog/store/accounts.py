"""Accounts and their settings, as customers and operators change them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trafficlog.errors import ConflictError, NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.records import AccountKey
from trafficlog.retention import (
    AHEAD_MAX,
    DataClass,
    HistoryDays,
    HistoryOff,
    HistoryRule,
    HistorySetting,
    PolicyBook,
    RetentionPolicy,
    check_policy,
)
from trafficlog.store.retrying import tried_again
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from trafficlog.store.database import Database


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its customer and operators see it."""

    key: AccountKey
    id: str
    created_at: datetime
    setting: HistorySetting
    gone_up_to: datetime | None
    days_min: int
    days_max: int
    monthly_reports: bool
    # What history omits of every new record: bits as in `withheld`.
    withheld: int
    display_name: str | None
    # ISO 4217; costs are in 1/10000 of it.
    currency: str | None
    closed_at: datetime | None
    moving_since: datetime | None
    # Goes up with every change of its settings.
    settings_epoch: int

    @property
    def rule(self) -> HistoryRule:
        """What of its history exists."""
        return HistoryRule(self.setting, self.gone_up_to)


def account_from(row: Any) -> Account:
    """An account from its row."""
    days = row["history_days"]
    return Account(
        key=AccountKey(row["account_key"]),
        id=row["account_id"],
        created_at=row["created_at"],
        setting=HistoryOff() if days is None else HistoryDays(days),
        gone_up_to=row["history_after"],
        days_min=row["history_days_min"],
        days_max=row["history_days_max"],
        monthly_reports=row["monthly_reports"],
        withheld=row["withheld"],
        display_name=row["display_name"],
        currency=row["currency"],
        closed_at=row["closed_at"],
        moving_since=row["moving_since"],
        settings_epoch=row["settings_epoch"],
    )


async def load_account(connection: Any, key: AccountKey) -> Account:
    """The account of this key.

    Raises:
        NotFoundError: there is none that this connection may see.
    """
    row = await queries.account_of_key(connection, account_key=key)
    if row is None:
        raise NotFoundError("there is no such account")
    return account_from(row)


class Accounts:
    """Makes, finds and changes accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def key_of(self, account_id: str) -> AccountKey:
        """The key of an account.

        Raises:
            NotFoundError: there is no such account.
        """
        async with self._database.operator() as connection:
            key = await queries.account_key_of(connection, account_id=account_id)
        if key is None:
            raise NotFoundError(f"there is no account {account_id!r}", account=account_id)
        return AccountKey(key)

    async def get(self, key: AccountKey) -> Account:
        """The account of a key, as operators see it."""
        async with self._database.as_account(key, operator=True) as connection:
            return await load_account(connection, key)

    async def all(self) -> list[Any]:
        """All accounts as rows: id, creation, days of history (None: off), closing."""
        async with self._database.operator() as connection:
            return await rows(queries.accounts(connection))

    @tried_again
    async def create(
        self, account_id: str, now: datetime, setting: HistorySetting | None
    ) -> AccountKey:
        """Makes an account; without a setting it gets the default.

        Raises:
            ConflictError: there is one of this id already.
        """
        async with self._database.operator() as connection:
            policies = policy_book(await rows(queries.policies(connection)))
            default = policies.in_force(DataClass.HISTORY, now).retention_period.days
            chosen = HistoryDays(default) if setting is None else setting
            key = await queries.add_account(
                connection,
                account_id=account_id,
                created_at=now,
                days=chosen.days if isinstance(chosen, HistoryDays) else None,
                fallback=default,
            )
        if key is None:
            raise ConflictError(f"there is an account {account_id!r} already")
        return AccountKey(key)

    @tried_again
    async def change(
        self,
        key: AccountKey,
        setting: HistorySetting | None = None,
        *,
        monthly_reports: bool | None = None,
        withheld: int | None = None,
        now: datetime,
        by: str,
        check: Callable[[Account], None] = lambda _: None,
    ) -> Account:
        """Sets an account's settings and gives it as it is then; None leaves one as it is.

        ``check`` may refuse by an error when the account is not as it was thought to be; nobody
        changes it between that and the change.

        From the return on no reader sees a row that the new setting hides, and no
        record is written under the old one.

        Raises:
            ConflictError: the account is closed.
        """
        async with self._database.as_account(key, operator=True) as connection:
            await queries.hold_settings(connection)
            before = await load_account(connection, key)
            if before.closed_at is not None:
                raise ConflictError("the account is closed; its settings cannot be changed")
            check(before)
            await queries.change_settings(
                connection,
                history=None if setting is None else isinstance(setting, HistoryDays),
                days=setting.days if isinstance(setting, HistoryDays) else None,
                reports=monthly_reports,
                withheld=withheld,
                at=now,
                by=by,
            )
            return await load_account(connection, key)

    @tried_again
    async def describe(
        self, key: AccountKey, *, name: str | None, currency: str | None, now: datetime, by: str
    ) -> Account:
        """Sets an account's name and currency, each checked; None leaves one, "" takes it away.

        Raises:
            ConflictError: the account is closed; its name was taken away then.
        """
        async with self._database.as_account(key, operator=True) as connection:
            await queries.hold_settings(connection)
            if (await load_account(connection, key)).closed_at is not None:
                raise ConflictError("the account is closed; it cannot be described")
            await queries.describe_account(connection, name=name, currency=currency, at=now, by=by)
            return await load_account(connection, key)

    @tried_again
    async def close(self, key: AccountKey, now: datetime, by: str) -> Account:
        """Closes an account: its history and its name go, its keys are revoked.

        What the law has kept stays.
        """
        async with self._database.as_account(key, operator=True) as connection:
            await queries.close_account(connection, account_key=key, at=now, by=by)
            return await load_account(connection, key)

    async def changes(self, key: AccountKey) -> list[Any]:
        """Every change of its settings as rows, oldest first."""
        async with self._database.operator() as connection:
            return await rows(queries.setting_changes(connection, account_key=key))

    @tried_again
    async def set_policy(self, policy: RetentionPolicy, now: datetime, by: str) -> None:
        """Sets a policy for records created from its effective date on.

        Raises:
            InvalidValueError: it may not be set.
        """
        check_policy(policy, now)
        async with self._database.operator() as connection:
            await queries.set_policy(
                connection,
                data_class=policy.data_class.value,
                effective_from=policy.effective_from,
                hours=policy.retention_period // timedelta(hours=1),
                legal_basis=policy.legal_basis,
                by=by,
                at=now,
                after=now + AHEAD_MAX,
            )

    async def policies(self) -> PolicyBook:
        """All retention policies."""
        async with self._database.operator() as connection:
            return policy_book(await rows(queries.policies(connection)))
