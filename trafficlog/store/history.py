"""A customer's own history: reading it in pages, and erasing one record.

The list is read in windows of creation time that grow backwards from the newest day until a page
is full.

A page of everything costs one round trip to the database: its window is worked out from the
account as it was last seen, and the database refuses when its settings have changed since. For a
page that a filter chooses, records are looked at in the same order; how many can be bounded, and
the page is then short, or empty, and tells where to go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from trafficlog.errors import DatabaseUnavailableError, NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.store.accounts import load_account
from trafficlog.store.database import visible_key
from trafficlog.store.history_list import ErasedRecords, Page, Position, Total, record_from
from trafficlog.store.history_windows import (
    FIRST_WINDOW,
    WIDEST_WINDOW,
    chosen,
    growing,
    span,
    span_bounds,
    whole,
)
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from trafficlog.records import AccountKey, RecordId
    from trafficlog.store.accounts import Account
    from trafficlog.store.database import Database
    from trafficlog.store.history_list import HistoryFilter, HistoryRecord

# What a filter chooses is mostly rare.
FIRST_SEARCHED: Final = timedelta(days=8)
# For an account that was not seen yet, going by the others.
WIDEST_GUESS: Final = timedelta(days=16)
# By one statement, well within the time that a statement may take.
ROWS_LOOKED_AT: Final = 100_000
KNOWN_MAX: Final = 10_000
ATTEMPTS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class _Known:
    """An account as it was last seen, and how wide a window held a page of its history."""

    account: Account
    width: timedelta


class History:
    """Reads and erases the history of one account at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[AccountKey, _Known] = {}
        self._guess = FIRST_WINDOW

    async def page(
        self,
        key: AccountKey,
        wanted: HistoryFilter,
        now: datetime,
        *,
        limit: int,
        start: Position | None = None,
        rows_max: int | None = None,
    ) -> Page:
        """At most ``limit`` records from ``start`` on, newest first.

        ``rows_max`` is how many records are looked at for what a filter chooses; None: all.

        Raises:
            NotFoundError: there is no such account.
        """
        position = start or Position()
        if wanted.chooses:
            async with self._database.as_account(key, snapshot=True) as connection:
                account = await load_account(connection, key)
                await queries.take_in_order(connection)
                bounds = growing(account, wanted, now, position, FIRST_SEARCHED)
                ahead = (each | chosen(wanted) for each in bounds)
                return await _search(connection, account, ahead, limit, rows_max)
        for _ in range(ATTEMPTS_MAX):
            remembered = self._known.get(key)
            known = remembered or _Known(await self._account(key), self._guess)
            try:
                page = await self._list(known, wanted, now, position, limit)
            except asyncpg.SerializationError:
                self._known.pop(key, None)
                continue
            if page is not None or remembered is None:
                return page or Page()
            # By what is remembered nothing can be visible, so nothing was asked of the database.
            self._known.pop(key, None)
        raise DatabaseUnavailableError("the account's settings changed again and again")

    async def total(
        self, key: AccountKey, wanted: HistoryFilter, now: datetime, *, rows_max: int
    ) -> Total:
        """How many records a filter chooses: counted when they are few, else estimated.

        When more than ``rows_max`` records would have to be looked at, the planner's estimate of
        all records is multiplied by the share of those looked at that the filter chooses.
        """
        async with self._database.as_account(key, snapshot=True) as connection:
            account = await load_account(connection, key)
            bounds = whole(account, wanted, now)
            if bounds is None:
                return Total(0, exact=True)
            sample = await queries.history_sample(
                connection, **bounds, **chosen(wanted), rows_max=rows_max + 1
            )
            looked_at, fit = sample["looked_at"], sample["fit"]
            if looked_at <= rows_max:
                return Total(fit, exact=True)
            plan = json.loads(await queries.history_rows_expected(connection, **bounds))
        expected = max(int(plan[0]["Plan"]["Plan Rows"]), looked_at)
        return Total(round(expected * fit / looked_at), exact=False)

    async def _account(self, key: AccountKey) -> Account:
        async with self._database.as_account(key) as connection:
            return await load_account(connection, key)

    async def _list(
        self, known: _Known, wanted: HistoryFilter, now: datetime, position: Position, limit: int
    ) -> Page | None:
        """A page of everything; None when no record can be visible.

        Raises:
            asyncpg.SerializationError: the account's settings have changed.
        """
        account = known.account
        ahead = list(growing(account, wanted, now, position, known.width))
        if not ahead:
            return None
        found: list[HistoryRecord] = []
        async with self._database.customer() as connection:
            for window in ahead:
                got = await rows(
                    queries.history_page(
                        connection,
                        visible_key=visible_key(account.key),
                        **window,
                        epoch=account.settings_epoch,
                        limit=limit + 1 - len(found),
                    )
                )
                found += [record_from(row, account) for row in got]
                if len(found) > limit:
                    break
        page = _page(found, limit)
        oldest = window["lower"] if page.next is None else page.next.created
        width = min(max((ahead[0]["before_created"] - oldest) * 1.5, FIRST_WINDOW), WIDEST_WINDOW)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[account.key] = _Known(account, width)
        self._guess = min(width, WIDEST_GUESS)
        return page

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
        async with self._database.as_account(key, snapshot=True) as connection:
            return await _records_of_id(connection, key, record, now)

    @tried_again
    async def erase(
        self, key: AccountKey, record: RecordId, now: datetime, *, kind: str | None = None
    ) -> ErasedRecords:
        """Erases the records of this id, of one kind alone if it is named.

        Raises:
            NotFoundError: there is none, or none any more.
        """
        async with self._database.as_account(key) as connection:
            # Where its rows can be follows from the settings, which must not change meanwhile.
            await queries.keep_settings(connection)
            records = [
                each
                for each in await _records_of_id(connection, key, record, now)
                if kind in (None, each.kind)
            ]
            if not records:
                raise NotFoundError("there is no such record in this account's history")
            gone = await queries.erase_history(
                connection, id=record, created=[r.created for r in records], at=now
            )
        return ErasedRecords(records, gone["rows_erased"], gone["last_expiry"])

    async def count(self, key: AccountKey, now: datetime, *, created_up_to: datetime) -> int:
        """How many visible records were created up to an instant."""
        async with self._database.as_account(key, snapshot=True) as connection:
            account = await load_account(connection, key)
            listed = span(account, now, None, None)
            if listed is None or created_up_to <= listed[0]:
                return 0
            bounds = span_bounds(account, listed[0], min(listed[1], created_up_to))
            return int(await queries.history_count(connection, **bounds))


async def _search(
    connection: Any,
    account: Account,
    ahead: Iterator[dict[str, Any]],
    limit: int,
    rows_max: int | None,
) -> Page:
    """A page of what a filter chooses, in statements that each look at so many records."""
    found: list[HistoryRecord] = []
    looked_at = 0
    for window in ahead:
        place = Position(window["before_created"], window["before_id"])
        through = False
        while not through:
            most = ROWS_LOOKED_AT if rows_max is None else min(ROWS_LOOKED_AT, rows_max - looked_at)
            if most <= 0:
                return Page(found, place)
            before = {"before_created": place.created, "before_id": place.id}
            got = await rows(
                queries.history_scan(
                    connection, **window | before, rows_max=most, limit=limit + 1 - len(found)
                )
            )
            found += [record_from(row, account) for row in got if row["fits"]]
            if len(found) > limit:
                return _page(found, limit)
            through = not got or got[-1]["is_last"]
            if got:
                looked_at += got[-1]["place"]
                place = Position(got[-1]["created_at"], got[-1]["id"])
    return Page(found)


def _page(found: list[HistoryRecord], limit: int) -> Page:
    """The first of what was found; one more than fits tells that there is a next page."""
    if len(found) <= limit:
        return Page(found)
    last = found[limit - 1]
    return Page(found[:limit], Position(last.created, last.id))


async def _records_of_id(
    connection: Any, key: AccountKey, record: RecordId, now: datetime
) -> list[HistoryRecord]:
    account = await load_account(connection, key)
    listed = span(account, now, None, None)
    found = []
    if listed is not None:
        bounds = span_bounds(account, *listed)
        found = await rows(queries.history_by_id(connection, **bounds, id=record))
    if not found:
        raise NotFoundError("there is no such record in this account's history")
    return [record_from(row, account) for row in found]
