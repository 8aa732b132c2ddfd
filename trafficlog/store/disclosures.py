"""Disclosures: the legal record read by an officer, to answer an authority's lawful request.

The database reads it in a function that writes the access log in the same transaction;
there is no other way to it for an officer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.holds import check_purpose
from trafficlog.queries import queries, rows
from trafficlog.records import DIRECTION_NAMES, KIND_NAMES
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.selector import Selector
    from trafficlog.store.database import Database


@dataclass(frozen=True, slots=True)
class DisclosureRequest:
    """What is asked for, by a selector with both its times, and why."""

    selector: Selector
    reason: str
    case_ref: str


@dataclass(frozen=True, slots=True)
class TrafficRecord:
    """One row of the legal record; ``expires`` is when it must be gone."""

    account: str
    id: str
    created: datetime
    kind: str
    direction: str
    sender: str
    recipient: str
    updated: datetime | None
    duration: int | None
    ip: str | None
    user_agent: str | None
    expires: datetime


@dataclass(frozen=True, slots=True)
class LegalPosition:
    """A place in the legal record: what follows was created later, or has a greater key."""

    created: datetime
    account_key: int
    id: str


@dataclass(frozen=True, slots=True)
class DisclosurePage:
    """Rows of one page, oldest first, and where the next one begins (None: there is none)."""

    records: list[TrafficRecord] = field(default_factory=list)
    next: LegalPosition | None = None


class Disclosures:
    """Gives out the legal record, a page at a time, each in the access log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @tried_again
    async def page(
        self,
        request: DisclosureRequest,
        *,
        by: str,
        now: datetime,
        limit: int,
        start: LegalPosition | None = None,
    ) -> DisclosurePage:
        """At most ``limit`` rows that are under retention, from ``start`` on.

        What comes in between two pages is in a later one when it was created after the
        place where that begins; no row is given twice or left out.

        Raises:
            InvalidValueError: the request is not acceptable; nothing was read.
            NotFoundError: there is no such account; the access log has the attempt.
        """
        check_disclosure(request, timedelta(days=self._database.config.disclosure_days_max))
        selector = request.selector.normal()
        async with self._database.officer() as connection:
            found = await rows(
                queries.disclose(
                    connection,
                    account=selector.account,
                    record=selector.record,
                    number=selector.number,
                    ip=selector.ip,
                    created_from=selector.created_from,
                    created_to=selector.created_to,
                    after_created=None if start is None else start.created,
                    after_account=None if start is None else start.account_key,
                    after_id=None if start is None else start.id,
                    limit=limit,
                    at=now,
                    by=by,
                    reason=request.reason,
                    case_ref=request.case_ref,
                )
            )
            if not found and selector.account is not None:
                # Nobody is to answer that there is nothing because of a misspelt name.
                account = selector.account
                if await queries.account_key_of(connection, account_id=account) is None:
                    raise NotFoundError(f"there is no account {account!r}", account=account)
        # As many rows as were asked for: no more is read than is given, so whether one
        # follows is not known yet.
        return DisclosurePage(
            [_record(row) for row in found],
            LegalPosition(found[-1]["created_at"], found[-1]["account_key"], found[-1]["id"])
            if len(found) == limit
            else None,
        )


def check_disclosure(request: DisclosureRequest, longest: timedelta) -> None:
    """A disclosure states why, in which case, and a window of creation times that is not too long.

    Raises:
        InvalidValueError: naming what is missing or not acceptable.
    """
    check_purpose(request.reason, request.case_ref)
    start, end = request.selector.created_from, request.selector.created_to
    for name, value in (("created_from", start), ("created_to", end)):
        if value is None:
            raise InvalidValueError(
                name, None, "is required: a disclosure has a window", reason_code="missing"
            )
    if start is not None and end is not None and end - start > longest:
        raise InvalidValueError(
            "created_to",
            end.isoformat(),
            f"may lie at most {longest.days} days after created_from; ask again for the rest",
            reason_code="out_of_range",
        )


def _record(row: Any) -> TrafficRecord:
    return TrafficRecord(
        account=row["account_id"],
        id=row["id"],
        created=row["created_at"],
        kind=KIND_NAMES[row["kind"]],
        direction=DIRECTION_NAMES[row["direction"]],
        sender=row["sender"],
        recipient=row["recipient"],
        updated=row["updated_at"],
        duration=row["duration"],
        ip=row["ip"],
        user_agent=row["user_agent"],
        expires=row["expires_at"],
    )
