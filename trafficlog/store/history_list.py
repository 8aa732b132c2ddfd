"""What the list of a history is made of: its records, what is wanted of them, its places and pages.

The list is ordered by ``(created, id)``, newest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from trafficlog.records import DIRECTION_NAMES, KIND_NAMES, STATUS_NAMES
from trafficlog.retention import HistoryDays

if TYPE_CHECKING:
    from trafficlog.store.accounts import Account

LATEST: Final = datetime.max.replace(tzinfo=UTC)
# Sorts after every id: ids are ASCII.
AFTER_ALL_IDS: Final = "\x7f"


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


def record_from(row: Any, account: Account) -> HistoryRecord:
    """A record from its row, as its account shows it."""
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

    @property
    def chooses(self) -> bool:
        """Whether some records of a span of time are listed and others of it are not."""
        parties = (self.sender, self.recipient, self.tag)
        return any(v is not None for v in (self.kind, self.direction, self.status, *parties))


@dataclass(frozen=True, slots=True)
class Page:
    """Records of one page, and where the next one begins (None: there is none).

    With a bound on the records that are looked at, a page that is not the last may be short.
    """

    records: list[HistoryRecord] = field(default_factory=list)
    next: Position | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """How many records there are; more or less so many unless ``exact``."""

    estimate: int
    exact: bool


@dataclass(frozen=True, slots=True)
class ErasedRecords:
    """What was erased, how many rows that were, and the latest expiry one ever stood under.

    A row that a changed setting moved left its bytes where it stood before. ``last_expiry`` is
    None when another erasure was quicker.
    """

    records: list[HistoryRecord]
    rows: int
    last_expiry: datetime | None
