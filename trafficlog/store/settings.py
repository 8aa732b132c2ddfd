"""What a writer must know of accounts and policies, kept at hand and never stale.

Every change of a setting raises an epoch. A batch is encoded with what is cached
here, and its transaction compares the epoch before it writes: when they differ,
nothing is written and the cache catches up. So a row is never stored under a
setting whose change has been acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from trafficlog.patience import within
from trafficlog.queries import queries, rows
from trafficlog.records import AccountKey
from trafficlog.retention import (
    DataClass,
    HistoryDays,
    HistoryOff,
    HistoryRule,
    PolicyBook,
    RetentionPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trafficlog.store.database import Database


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account as the writer sees it; days are those any stored row may stand under.

    ``withheld`` are the fields that history omits of every new record, as bits.
    """

    key: AccountKey
    rule: HistoryRule
    days_min: int
    days_max: int
    withheld: int = 0


def known_account(row: Any) -> KnownAccount:
    """An account from its row."""
    days = row["history_days"]
    setting = HistoryOff() if days is None else HistoryDays(days)
    return KnownAccount(
        key=AccountKey(row["account_key"]),
        rule=HistoryRule(setting, row["history_after"]),
        days_min=row["history_days_min"],
        days_max=row["history_days_max"],
        withheld=row["withheld"],
    )


def policy_book(policy_rows: Iterable[Any]) -> PolicyBook:
    """The policies from their rows; one that holds from ever on comes as -infinity."""
    return PolicyBook(
        RetentionPolicy(
            DataClass(row["data_class"]),
            # asyncpg gives -infinity as the naive smallest datetime.
            row["effective_from"].replace(tzinfo=UTC)
            if row["effective_from"].tzinfo is None
            else row["effective_from"],
            timedelta(hours=row["period_hours"]),
            row["legal_basis"],
        )
        for row in policy_rows
    )


class SettingsCache:
    """Accounts and policies as of ``epoch``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self.epoch = 0
        self._refreshed = 0.0
        self._catching_up: asyncio.Task[None] | None = None
        self.accounts: dict[str, KnownAccount] = {}
        self.policies = PolicyBook(())

    async def refresh(self) -> None:
        """Catches up with every change that has been committed."""
        async with (
            self._lock,
            self._database.ingest() as connection,
            # One snapshot for all three, so that they belong to one epoch.
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            epoch = await queries.settings_epoch(connection)
            changed = await rows(queries.accounts_changed(connection, epoch=self.epoch))
            # The end of a move is no change of a setting, and frees later reports of having to look
            # in all days between.
            moving = [name for name, a in self.accounts.items() if a.days_min != a.days_max]
            if moving:
                changed += await rows(queries.accounts_by_id(connection, account_ids=moving))
            self.policies = policy_book(await rows(queries.policies(connection)))
            for row in changed:
                if row["account_id"] in self.accounts:
                    self.accounts[row["account_id"]] = known_account(row)
            self.epoch = epoch
            self._refreshed = time.monotonic()

    def is_older_than(self, seconds: float) -> bool:
        """Whether the last time that it caught up is so long past."""
        return time.monotonic() - self._refreshed >= seconds

    async def refresh_when_older(self, seconds: float, answer_seconds_max: float) -> None:
        """Catches up when the last time is this long past; all who ask meanwhile wait together.

        A policy is set at least ten minutes ahead, so one that is read each minute is
        known before it governs anything.

        Raises:
            DatabaseUnavailableError: that failed, or takes longer than ``answer_seconds_max``.
        """
        if not self.is_older_than(seconds):
            return
        if self._catching_up is None or self._catching_up.done():
            # One after the other, each would wait out a database that hangs.
            self._catching_up = asyncio.create_task(self.refresh())
        await within(answer_seconds_max, self._catching_up)

    async def withheld_by(self, account_ids: set[str]) -> dict[str | None, int]:
        """What those of the accounts that exist omit from their history, as bits."""
        missing = sorted(account_ids - self.accounts.keys())
        if missing:
            async with self._lock, self._database.ingest() as connection:
                for row in await rows(queries.accounts_by_id(connection, account_ids=missing)):
                    self.accounts[row["account_id"]] = known_account(row)
        return {name: self.accounts[name].withheld for name in account_ids if name in self.accounts}

    async def ensure_accounts(self, account_ids: set[str], now: datetime) -> None:
        """Learns of accounts not seen before, making those that do not exist."""
        missing = sorted(account_ids - self.accounts.keys())
        if not missing:
            return
        async with self._lock, self._database.ingest() as connection:
            # Read anew: the batch's transaction refuses what was encoded under old policies,
            # but an account that was made with an old default would keep it.
            policies = policy_book(await rows(queries.policies(connection)))
            default = policies.in_force(DataClass.HISTORY, now).retention_period
            await queries.add_accounts(
                connection, account_ids=missing, created_at=now, days=default.days
            )
            for row in await rows(queries.accounts_by_id(connection, account_ids=missing)):
                self.accounts[row["account_id"]] = known_account(row)
