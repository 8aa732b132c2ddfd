"""Placing, extending, releasing and reading holds; reading what they keep."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.holds import AbuseHold, check_end, check_purpose, check_reason
from trafficlog.queries import queries, rows
from trafficlog.selector import Selector
from trafficlog.store.access_log import note_access
from trafficlog.store.database import transaction
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from trafficlog.store.database import Database

LATEST: Final = datetime.max.replace(tzinfo=UTC)
# Sorts after every id: they are hexadecimal.
AFTER_ALL_IDS: Final = "g"


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """A copy that a hold keeps: its class, what it was, and from when only the hold keeps it."""

    key: int
    data_class: str
    record: str
    created_at: datetime
    expires_at: datetime
    copied_at: datetime
    content: dict[str, Any]


class Holds:
    """The holds of one installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _staff(self, *, officer: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.officer() if officer else self._database.operator()

    @tried_again
    async def place(
        self,
        selector: Selector,
        *,
        reason: str,
        case_ref: str,
        ends_at: datetime,
        by: str,
        now: datetime,
    ) -> AbuseHold:
        """Places a hold; from the return on nothing it covers is destroyed.

        Raises:
            InvalidValueError: reason, case or end are not acceptable.
            NotFoundError: there is no such account.
        """
        check_purpose(reason, case_ref)
        check_end(ends_at, now, timedelta(days=self._database.config.hold_days_max))
        selector = selector.normal()
        hold_id = secrets.token_hex(6)
        async with self._database.operator() as connection, transaction(connection):
            account_key = None
            if selector.account is not None:
                account_key = await queries.account_key_of(connection, account_id=selector.account)
                if account_key is None:
                    raise NotFoundError(
                        f"there is no account {selector.account!r}", account=selector.account
                    )
            await queries.place_hold(
                connection,
                hold_id=hold_id,
                account_key=account_key,
                number=selector.number,
                ip=selector.ip,
                record_id=selector.record,
                created_from=selector.created_from,
                created_to=selector.created_to,
                reason=reason,
                case_ref=case_ref,
                placed_by=by,
                placed_at=now,
                ends_at=ends_at,
            )
            await note_access(connection, now, by, "hold.place", f"hold {hold_id}", reason)
            return _hold(await queries.hold(connection, hold_id=hold_id))

    @tried_again
    async def release(self, hold_id: str, *, by: str, now: datetime) -> AbuseHold:
        """Ends a hold now; what only it kept is destroyed by the next retention run.

        Raises:
            NotFoundError: there is no such hold in force.
        """
        async with self._database.operator() as connection, transaction(connection):
            if await queries.release_hold(connection, hold_id=hold_id, at=now, by=by) is None:
                raise _not_in_force(hold_id)
            hold = _hold(await queries.hold(connection, hold_id=hold_id))
            await note_access(connection, now, by, "hold.release", f"hold {hold_id}", hold.reason)
            return hold

    @tried_again
    async def extend(self, hold_id: str, ends_at: datetime, *, by: str, now: datetime) -> AbuseHold:
        """Lets a hold in force end at another time.

        Raises:
            NotFoundError: there is no such hold in force.
            InvalidValueError: the end is not acceptable.
        """
        check_end(ends_at, now, timedelta(days=self._database.config.hold_days_max))
        async with self._database.operator() as connection, transaction(connection):
            # Alone, as it is placed: a destruction that took it for ended is not overtaken.
            await queries.lock_holds_alone(connection)
            if (
                await queries.extend_hold(connection, hold_id=hold_id, at=now, ends_at=ends_at)
                is None
            ):
                raise _not_in_force(hold_id)
            hold = _hold(await queries.hold(connection, hold_id=hold_id))
            await note_access(connection, now, by, "hold.extend", f"hold {hold_id}", hold.reason)
            return hold

    async def get(self, hold_id: str, *, officer: bool = False) -> tuple[AbuseHold, dict[str, int]]:
        """A hold, and how many copies it covers by class.

        Raises:
            NotFoundError: there is no such hold.
        """
        async with self._staff(officer=officer) as connection:
            row = await queries.hold(connection, hold_id=hold_id)
            if row is None:
                raise NotFoundError(f"there is no hold {hold_id!r}", hold=hold_id)
            counts = await rows(queries.held_counts(connection, hold_id=hold_id))
        return _hold(row), {r["data_class"]: r["rows"] for r in counts}

    async def all(self, *, officer: bool = False) -> list[AbuseHold]:
        """All holds, newest first."""
        async with self._staff(officer=officer) as connection:
            return [_hold(row) for row in await rows(queries.holds(connection))]

    async def page(
        self,
        *,
        is_active: bool,
        now: datetime,
        limit: int,
        after: tuple[datetime, str] | None = None,
    ) -> list[AbuseHold]:
        """Holds in force, or those that are over, newest first; ``after`` one placed then."""
        after_at, after_id = after or (LATEST, AFTER_ALL_IDS)
        async with self._database.operator() as connection:
            found = await rows(
                queries.holds_page(
                    connection,
                    is_active=is_active,
                    now=now,
                    after_at=after_at,
                    after_id=after_id,
                    limit=limit,
                )
            )
        return [_hold(row) for row in found]

    async def active(self, now: datetime) -> int:
        """How many holds are in force."""
        async with self._database.operator() as connection:
            return int(await queries.holds_active(connection, now=now))

    @tried_again
    async def copies(
        self,
        hold_id: str,
        *,
        by: str,
        now: datetime,
        after: int,
        limit: int,
        reason: str | None = None,
        officer: bool = False,
    ) -> list[HeldCopy]:
        """The copies a hold keeps that the reader may see; the reading is noted.

        Operators see all but the legal ones, officers these alone. An officer says why;
        an operator reads for the hold's own reason when none is given.

        Raises:
            InvalidValueError: the reason is missing or not acceptable.
            NotFoundError: there is no such hold.
        """
        if reason is not None:
            check_reason(reason)
        elif officer:
            raise InvalidValueError(
                "reason", None, "is required to read legal copies", reason_code="missing"
            )
        async with self._staff(officer=officer) as connection, transaction(connection):
            row = await queries.hold(connection, hold_id=hold_id)
            if row is None:
                raise NotFoundError(f"there is no hold {hold_id!r}", hold=hold_id)
            found = await rows(
                queries.held_records(connection, hold_id=hold_id, after=after, limit=limit, now=now)
            )
            await note_access(
                connection,
                now,
                by,
                "held.read",
                f"hold {hold_id}",
                row["reason"] if reason is None else reason,
                len(found),
                row["case_ref"],
            )
        return [
            HeldCopy(
                r["held_key"],
                r["data_class"],
                r["record_id"],
                r["created_at"],
                r["expires_at"],
                r["copied_at"],
                orjson.loads(r["content"]),
            )
            for r in found
        ]


def _not_in_force(hold_id: str) -> NotFoundError:
    return NotFoundError(f"there is no hold {hold_id!r} in force", hold=hold_id)


def _hold(row: Any) -> AbuseHold:
    return AbuseHold(
        id=row["hold_id"],
        selector=Selector(
            account=row["account_id"],
            number=row["number"],
            ip=row["ip"],
            record=row["record_id"],
            created_from=row["created_from"],
            created_to=row["created_to"],
        ),
        reason=row["reason"],
        case_ref=row["case_ref"],
        placed_by=row["placed_by"],
        placed_at=row["placed_at"],
        ends_at=row["ends_at"],
        released_at=row["released_at"],
        released_by=row["released_by"],
    )
