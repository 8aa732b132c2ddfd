"""What operators watch: retention of each table, jobs, what comes in; and verification of it all.

Counts, bounds and account ids; no record is read here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.errors import NotFoundError
from trafficlog.ledger import LedgerEntry
from trafficlog.queries import queries, rows
from trafficlog.retention import DataClass, PolicyBook, RetentionPolicy, is_expired
from trafficlog.store.accounts import account_from
from trafficlog.store.retention import Retention
from trafficlog.store.settings import policy_book
from trafficlog.store.state import read_state
from trafficlog.store.verify import Verification, verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trafficlog.partitions import Partition
    from trafficlog.records import AccountKey
    from trafficlog.store.accounts import Account
    from trafficlog.store.database import Database

AFTER_ALL_ENTRIES: Final = 2**63 - 1
# Longer than this, and no job has looked: the shortest interval is a matter of seconds.
QUIET_MAX: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class TableState:
    """How retention stands with one table.

    ``overdue`` is the age past its bound of the oldest partition that should be gone, when
    retention has had its interval to drop it; ``due`` counts those whose bound has passed.
    """

    data_class: DataClass
    policy: RetentionPolicy
    coming: tuple[RetentionPolicy, ...]
    partitions: int
    oldest: Partition | None
    due: int
    overdue: timedelta | None
    headroom: timedelta
    headroom_wanted: timedelta

    @property
    def is_short(self) -> bool:
        """Whether less than half of what is made ahead is there."""
        return self.headroom * 2 < self.headroom_wanted


@dataclass(frozen=True, slots=True)
class RetentionState:
    """How retention stands: its tables, what was begun and not finished, its last run."""

    tables: tuple[TableState, ...]
    drops_begun: int
    moves_pending: int
    moves_since: datetime | None
    last_reference: datetime | None


@dataclass(frozen=True, slots=True)
class JobState:
    """The last runs of one job, and how many have failed."""

    name: str
    ran_at: datetime
    succeeded_at: datetime | None
    failed_at: datetime | None
    failure: str | None
    failures: int
    is_late: bool

    @property
    def is_failing(self) -> bool:
        """Whether its last run failed."""
        if self.failed_at is None:
            return False
        return self.succeeded_at is None or self.succeeded_at < self.failed_at


class Oversight:
    """Reads it all in the role of operators; verifies in that of retention, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one = asyncio.Lock()

    async def retention(self, now: datetime) -> RetentionState:
        """How retention stands at ``now``."""
        config = self._database.config
        async with self._database.operator() as connection:
            state = await read_state(connection, config, now)
            policies = policy_book(await rows(queries.policies(connection)))
            begun = await rows(queries.drops_begun(connection))
            moves = await queries.moves_pending(connection)
        headroom = state.headroom(now)
        grace = timedelta(seconds=config.retention_interval_seconds)
        tables = tuple(
            _table(
                need.data_class,
                [p for p in state.partitions if p.table == need.data_class.value],
                policies,
                now,
                grace,
                headroom[need.data_class.value],
                need.headroom,
            )
            for need in state.needs
        )
        return RetentionState(
            tables, len(begun), moves["accounts"], moves["since"], state.last_reference
        )

    async def jobs(self, now: datetime) -> list[JobState]:
        """The jobs by their names, with their last runs on any instance."""
        interval = timedelta(seconds=self._database.config.retention_interval_seconds)
        async with self._database.operator() as connection:
            found = await rows(queries.job_runs(connection))
        return [
            JobState(
                name=row["job"],
                ran_at=row["ran_at"],
                succeeded_at=row["succeeded_at"],
                failed_at=row["failed_at"],
                failure=row["failure"],
                failures=row["failures"],
                is_late=now - row["ran_at"]
                > QUIET_MAX + (2 * interval if row["job"] == "retention" else timedelta(0)),
            )
            for row in found
        ]

    async def ingest(self, minutes: int) -> list[int]:
        """New records in each of the last minutes, of all instances; the present one first."""
        async with self._database.operator() as connection:
            return [
                r["records"]
                for r in await rows(queries.ingest_minutes(connection, minutes=minutes))
            ]

    async def accounts(self, part: str, after: str, limit: int) -> list[Any]:
        """Accounts with a text in their id or name, by id from one on, as rows."""
        async with self._database.operator() as connection:
            return await rows(
                queries.accounts_page(connection, part=part, after=after, limit=limit)
            )

    async def account(self, account_id: str) -> tuple[Account, list[Any]]:
        """An account, and every change of its settings as rows, oldest first.

        Raises:
            NotFoundError: there is no such account.
        """
        async with self._database.operator() as connection:
            key: AccountKey | None = await queries.account_key_of(connection, account_id=account_id)
            if key is None:
                raise NotFoundError(f"there is no account {account_id!r}", account=account_id)
            account = account_from(await queries.account_of_key(connection, account_key=key))
            return account, await rows(queries.setting_changes(connection, account_key=key))

    async def ledger(self, before: int | None, limit: int) -> list[LedgerEntry]:
        """The newest entries of the ledger, or those that stand before one."""
        async with self._database.operator() as connection:
            found = await rows(
                queries.ledger_latest(
                    connection, before=AFTER_ALL_ENTRIES if before is None else before, limit=limit
                )
            )
        return [LedgerEntry(**dict(row)) for row in found]

    async def verify(self, now: datetime) -> Verification:
        """What ``trafficlog retention verify`` finds at ``now``."""
        config = self._database.config
        async with self._one, Retention(self._database.dsn, config) as retention:
            return await verify(retention.connection, now, config)


def _table(
    data_class: DataClass,
    partitions: Sequence[Partition],
    policies: PolicyBook,
    now: datetime,
    grace: timedelta,
    headroom: timedelta,
    headroom_wanted: timedelta,
) -> TableState:
    oldest = min(partitions, key=lambda p: p.bounds.upper, default=None)
    late = oldest is not None and is_expired(oldest.bounds.upper + grace, now)
    return TableState(
        data_class=data_class,
        policy=policies.in_force(data_class, now),
        coming=tuple(p for p in policies.of(data_class) if p.effective_from > now),
        partitions=len(partitions),
        oldest=oldest,
        due=sum(is_expired(p.bounds.upper, now) for p in partitions),
        overdue=now - oldest.bounds.upper if oldest is not None and late else None,
        headroom=headroom,
        headroom_wanted=headroom_wanted,
    )
