"""The access log: which staff read or changed which personal data, and why."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from trafficlog.queries import queries, rows
from trafficlog.store.database import transaction
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from trafficlog.store.database import Database

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
AFTER_ALL_IDS: Final = uuid.UUID(int=2**128 - 1)
REVIEW: Final = "review of the access log"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One access: when, by whom, what was done with what, why, and how many rows it gave."""

    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    case_ref: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class AccessPosition:
    """A place in the log: what follows is older."""

    at: datetime = LATEST
    id: uuid.UUID = AFTER_ALL_IDS


@dataclass(frozen=True, slots=True)
class AccessPage:
    """Entries of one page, newest first, and where the next one begins (None: there is none)."""

    entries: list[AccessEntry] = field(default_factory=list)
    next: AccessPosition | None = None


class AccessLog:
    """Reads the access log, for officers; the reading is itself an access."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @tried_again
    async def page(
        self,
        *,
        by: str,
        now: datetime,
        limit: int,
        after: datetime | None = None,
        before: datetime | None = None,
        start: AccessPosition | None = None,
    ) -> AccessPage:
        """At most ``limit`` entries between two times (both exclusive) from ``start`` on."""
        position = start or AccessPosition()
        async with self._database.officer() as connection, transaction(connection):
            found = await rows(
                queries.access_entries(
                    connection,
                    now=now,
                    after=after or EARLIEST,
                    before=before or LATEST,
                    start_at=position.at,
                    start_id=position.id,
                    limit=limit + 1,
                )
            )
            shown = found[:limit]
            span = f"access log from {after or 'its start'} to {before or 'its end'}"
            await note_access(connection, now, by, "access-log.read", span, REVIEW, len(shown))
        last = AccessPosition(shown[-1]["at"], shown[-1]["access_id"]) if shown else None
        return AccessPage(
            [
                AccessEntry(
                    **{name: value for name, value in dict(row).items() if name != "access_id"}
                )
                for row in shown
            ],
            last if len(found) > limit else None,
        )


async def note_access(
    connection: Any,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    count: int = 0,
    case_ref: str | None = None,
) -> None:
    """Writes to the access log, in the transaction that the access is part of."""
    await queries.note_access(
        connection,
        at=now,
        actor=actor,
        action=action,
        subject=subject,
        reason=reason,
        case_ref=case_ref,
        rows=count,
    )
