"""A customer's own history: reading it in pages, and erasing one record.

The list is ordered by ``(created, id)``, newest first, and read in windows of
creation time that grow backwards from the newest day until a page is full. The
account knows the shortest and the longest period any of its rows can stand under,
which bounds their expiry, so each window touches few partitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.errors import NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.records import (
    DIRECTION_CODES,
    DIRECTION_NAMES,
    KIND_CODES,
    KIND_NAMES,
    STATUS_CODES,
    STATUS_NAMES,
    AccountKey,
    RecordId,
)
from trafficlog.retention import AHEAD_MAX, HistoryDays, HistoryOff, HistoryRule, HistorySetting

if TYPE_CHECKING:
    from trafficlog.store.database import Database

FIRST_WINDOW: Final = timedelta(days=1)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
# Sorts after every id: ids are ASCII.
AFTER_ALL_IDS: Final = "\x7f"


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
    closed_at: datetime | None
    moving_since: datetime | None

    @property
    def rule(self) -> HistoryRule:
        """What of its history exists."""
        return HistoryRule(self.setting, self.gone_up_to)


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One record of a customer's history, as it is shown."""

    id: str
    created: datetime
    kind: str
    direction: str
    sender: str | None
    recipient: str | None
    status: str | None
    updated: datetime | None
    delivered: datetime | None
    duration: int | None
    parts: int | None
    cost: int | None
    owner: str | None
    tags: list[str] | None
    message: str | None
    expires: datetime
    # Where its row lies: later than ``expires`` while a shorter setting is still applying.
    stored_until: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list: what follows is older, or as old with a smaller id."""

    created: datetime = LATEST
    id: str = AFTER_ALL_IDS


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """What to list; None does not restrict. ``before`` and ``after`` are exclusive."""

    kind: str | None = None
    direction: str | None = None
    status: str | None = None
    sender: str | None = None
    recipient: str | None = None
    tag: str | None = None
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Records of one page, and where the next one begins (None: there is none)."""

    records: list[HistoryRecord] = field(default_factory=list)
    next: Position | None = None


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
        closed_at=row["closed_at"],
        moving_since=row["moving_since"],
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


class History:
    """Reads and erases the history of one account at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        key: AccountKey,
        wanted: HistoryFilter,
        now: datetime,
        *,
        limit: int,
        start: Position | None = None,
    ) -> Page:
        """At most ``limit`` records from ``start`` on, newest first."""
        position = start or Position()
        found: list[HistoryRecord] = []
        async with self._database.as_account(key) as connection:
            account = await load_account(connection, key)
            span = _span(account, now, wanted.after, wanted.before)
            if span is None:
                return Page()
            oldest, newest = span
            upper, width = min(newest, position.created), FIRST_WINDOW
            while upper > oldest and len(found) <= limit:
                lower = max(oldest, upper - width)
                expires_from, expires_to = _expiry_bounds(account, lower, upper)
                found += [
                    _record(row, account)
                    async for row in queries.history_window(
                        connection,
                        account_key=key,
                        lower=lower,
                        upper=upper,
                        after_created=position.created,
                        after_id=position.id,
                        expires_from=expires_from,
                        expires_to=expires_to,
                        kind=_code(KIND_CODES, wanted.kind),
                        direction=_code(DIRECTION_CODES, wanted.direction),
                        status=_code(STATUS_CODES, wanted.status),
                        sender=wanted.sender,
                        recipient=wanted.recipient,
                        tag=wanted.tag,
                        limit=limit + 1 - len(found),
                    )
                ]
                upper, width = lower, width * 2
        more = len(found) > limit
        records = found[:limit]
        return Page(records, Position(records[-1].created, records[-1].id) if more else None)

    async def by_id(self, key: AccountKey, record: RecordId, now: datetime) -> HistoryRecord:
        """The newest record of this id.

        Raises:
            NotFoundError: there is none, or none any more.
        """
        return (await self.all_of_id(key, record, now))[0]

    async def all_of_id(
        self, key: AccountKey, record: RecordId, now: datetime
    ) -> list[HistoryRecord]:
        """Every record of this id, newest first; a gateway may use an id again.

        Raises:
            NotFoundError: there is none, or none any more.
        """
        async with self._database.as_account(key) as connection:
            return await _records_of_id(connection, key, record, now)

    async def erase(
        self, key: AccountKey, record: RecordId, now: datetime
    ) -> tuple[list[HistoryRecord], int]:
        """Erases the records of this id; gives what they were and how many rows went.

        Raises:
            NotFoundError: there is none, or none any more.
        """
        async with self._database.as_account(key) as connection:
            records = await _records_of_id(connection, key, record, now)
            erased = await queries.erase_history(
                connection, id=record, created=[r.created for r in records], at=now
            )
        return records, erased

    async def count(self, key: AccountKey, now: datetime, *, created_up_to: datetime) -> int:
        """How many visible records were created up to an instant."""
        async with self._database.as_account(key) as connection:
            account = await load_account(connection, key)
            span = _span(account, now, None, None)
            if span is None or created_up_to <= span[0]:
                return 0
            lower, upper = span[0], min(span[1], created_up_to)
            expires_from, expires_to = _expiry_bounds(account, lower, upper)
            return int(
                await queries.history_count(
                    connection,
                    account_key=key,
                    lower=lower,
                    upper=upper,
                    expires_from=expires_from,
                    expires_to=expires_to,
                )
            )


async def _records_of_id(
    connection: Any, key: AccountKey, record: RecordId, now: datetime
) -> list[HistoryRecord]:
    account = await load_account(connection, key)
    span = _span(account, now, None, None)
    found = []
    if span is not None:
        lower, upper = span
        expires_from, expires_to = _expiry_bounds(account, lower, upper)
        found = await rows(
            queries.history_by_id(
                connection,
                account_key=key,
                id=record,
                lower=lower,
                upper=upper,
                expires_from=expires_from,
                expires_to=expires_to,
            )
        )
    if not found:
        raise NotFoundError("there is no such record in this account's history")
    return [_record(row, account) for row in found]


def _span(
    account: Account, now: datetime, after: datetime | None, before: datetime | None
) -> tuple[datetime, datetime] | None:
    """The creation times ``(oldest, newest]`` to be listed; None when nothing can be."""
    oldest = account.rule.visible_after(now)
    if oldest is None:
        return None
    newest = now + AHEAD_MAX
    if before is not None:
        if before <= oldest:
            return None
        newest = min(newest, before - timedelta(microseconds=1))
    if after is not None:
        oldest = max(oldest, after)
    return (oldest, newest) if oldest < newest else None


def _expiry_bounds(account: Account, lower: datetime, upper: datetime) -> tuple[datetime, datetime]:
    return lower + timedelta(days=account.days_min), upper + timedelta(days=account.days_max)


def _code(codes: dict[str, int], name: str | None) -> int | None:
    return None if name is None else codes[name]


def _record(row: Any, account: Account) -> HistoryRecord:
    # A row that is still to be moved shows the expiry it has under the present setting.
    setting = account.setting
    expires = (
        row["created_at"] + setting.retention_period
        if isinstance(setting, HistoryDays)
        else row["expires_at"]
    )
    return HistoryRecord(
        id=row["id"],
        created=row["created_at"],
        kind=KIND_NAMES[row["kind"]],
        direction=DIRECTION_NAMES[row["direction"]],
        sender=row["sender"],
        recipient=row["recipient"],
        status=STATUS_NAMES.get(row["status"]),
        updated=row["updated_at"],
        delivered=row["delivered_at"],
        duration=row["duration"],
        parts=row["parts"],
        cost=row["cost"],
        owner=row["owner"],
        tags=row["tags"],
        message=row["message"],
        expires=expires,
        stored_until=row["expires_at"],
    )
