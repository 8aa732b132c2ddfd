"""Accounts and their settings, as customers and operators change them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trafficlog.errors import ConflictError, NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.records import AccountKey
from trafficlog.retention import (
    AHEAD_MAX,
    DataClass,
    HistoryDays,
    HistorySetting,
    PolicyBook,
    RetentionPolicy,
    check_policy,
)
from trafficlog.store.history import Account, load_account
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.store.database import Database


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

    async def change(
        self,
        key: AccountKey,
        setting: HistorySetting,
        *,
        monthly_reports: bool,
        now: datetime,
        by: str,
    ) -> Account:
        """Sets an account's settings and gives it as it is then.

        From the return on no reader sees a row that the new setting hides, and no
        record is written under the old one.

        Raises:
            ConflictError: the account is closed.
        """
        async with self._database.as_account(key, operator=True) as connection:
            if (await load_account(connection, key)).closed_at is not None:
                raise ConflictError("the account is closed; its settings cannot be changed")
            await queries.change_settings(
                connection,
                days=setting.days if isinstance(setting, HistoryDays) else None,
                reports=monthly_reports,
                at=now,
                by=by,
            )
            return await load_account(connection, key)

    async def close(self, key: AccountKey, now: datetime, by: str) -> Account:
        """Closes an account: its history goes, its keys are revoked; the law's part stays."""
        async with self._database.as_account(key, operator=True) as connection:
            await queries.close_account(connection, account_key=key, at=now, by=by)
            return await load_account(connection, key)

    async def changes(self, key: AccountKey) -> list[Any]:
        """Every change of its settings as rows, oldest first."""
        async with self._database.operator() as connection:
            return await rows(queries.setting_changes(connection, account_key=key))

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
