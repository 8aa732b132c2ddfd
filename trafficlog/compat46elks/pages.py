"""Pages whose only cursor is a timestamp, that lose and repeat nothing all the same.

The next page has what was created **before** ``next``, so a page must not end among records of
the same microsecond: the rest of them would never be shown. It ends before them instead, which
leaves it a little short. Only when they alone are more than a page holds is it longer than was
asked for, up to ``tied_max`` records; it has them all then, so that a client which makes a time
of ``next`` loses none. What is beyond that, ``next`` tells by digits after the sixth, which
reach those clients alone that hand it back as it is.

Many clients take an empty page for the last, so a list that has few records among those of the
other lists is looked on until one is found. Only when that takes longer than a client would wait
is the page empty, and ``next`` goes on from there; by the same rule it does not cut a microsecond.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.store.history_list import Page, Position

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.records import AccountKey
    from trafficlog.store.history import History
    from trafficlog.store.history_list import HistoryFilter

TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """One list, as of one instant.

    At most ``rows_max`` records are looked at in one go, and no further go begins when
    ``seconds_max`` have passed.
    """

    history: History
    key: AccountKey
    wanted: HistoryFilter
    now: datetime
    tied_max: int
    rows_max: int
    seconds_max: float

    async def page(self, start: Position | None, limit: int) -> Page:
        """A page of about ``limit`` records from ``start`` on, newest first."""
        first, until = start, time.monotonic() + self.seconds_max
        while True:
            page = await self._read(self.wanted, start, limit + 1, self.rows_max)
            found = page.records
            if len(found) > limit:
                return await self._whole(page, start, found[limit].created)
            if page.next is None:
                return page
            if found:
                return await self._whole(page, start, page.next.created)
            if time.monotonic() >= until:
                return Page([], _goes_on(page.next, first))
            start = page.next

    async def _whole(self, page: Page, start: Position | None, edge: datetime) -> Page:
        """What of a page is surely whole: all from before ``edge``, or else all of its instant."""
        if before := [record for record in page.records if record.created > edge]:
            # Not the edge itself: what comes in between the two later is on the next page.
            return Page(before, Position(before[-1].created, ""))
        tied = await self._read(replace(self.wanted, after=edge - TICK), start, self.tied_max)
        if tied.next is not None:
            return tied
        following = Position(edge, "")
        older = await self._read(self.wanted, following, 1, self.rows_max)
        is_last = not older.records and older.next is None
        return Page(tied.records, None if is_last else following)

    async def _read(
        self, wanted: HistoryFilter, start: Position | None, limit: int, rows_max: int | None = None
    ) -> Page:
        return await self.history.page(
            self.key, wanted, self.now, limit=limit, start=start, rows_max=rows_max
        )


def _goes_on(place: Position, first: Position | None) -> Position:
    """Where to go on from a place at which nothing was found yet since ``first``.

    At the newer end of its microsecond, if that is any further: what shares it and was not looked
    at is then lost to nobody, and what was looked at does not fit.
    """
    whole = Position(place.created + TICK, "")
    return whole if first is None or whole.created < first.created else place
