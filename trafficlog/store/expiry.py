"""Expiries by the column: what ``trafficlog.retention`` says of one record, said of many.

All instants here are microseconds since 1970, as arrays of 64-bit integers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from trafficlog.retention import DataClass, HistoryDays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trafficlog.retention import PolicyBook
    from trafficlog.store.columns import Sheet
    from trafficlog.store.settings import KnownAccount

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
HOUR: Final = timedelta(hours=1) // MICROSECOND
DAY: Final = timedelta(days=1) // MICROSECOND
DAY_HOURS: Final = 24
# A day's number since 1970, of any that can be stored.
DAY_BITS: Final = 17
# Stands for the expiry of what is not to be kept at all; before any other.
NOT_KEPT: Final = np.iinfo(np.int64).min


def traffic_expiry(created: NDArray[np.int64], policies: PolicyBook) -> NDArray[np.int64]:
    """When each legal record must be gone: by the policy it was created under."""
    expires = None
    for policy in policies.of(DataClass.TRAFFIC):
        under_it = created + policy.retention_period // MICROSECOND
        if expires is None:
            expires = under_it
        else:
            expires = np.where(created >= micros(policy.effective_from), under_it, expires)
    if expires is None:
        raise LookupError("no policy for the legal record")
    return expires


def history_expiry(
    sheet: Sheet, accounts: Sequence[KnownAccount], now: datetime
) -> NDArray[np.int64]:
    """When each history row must be gone; ``NOT_KEPT`` where there is to be none.

    ``accounts`` are those of ``sheet.account_ids``.
    """
    created = sheet.created
    period = per_account(sheet, [_period(account) for account in accounts])
    expires = created + period
    not_kept = (period == 0) | (expires <= micros(now))
    if any(account.rule.gone_up_to for account in accounts):
        gone = [account.rule.gone_up_to for account in accounts]
        not_kept |= created <= per_account(
            sheet, [NOT_KEPT if each is None else micros(each) for each in gone]
        )
    expires[not_kept] = NOT_KEPT
    return expires


def per_account(sheet: Sheet, values: Sequence[int]) -> NDArray[np.int64]:
    """A column of what holds for each record's account."""
    return np.array(values, np.int64)[sheet.account_index]


def hours_of(instants: NDArray[np.int64]) -> set[datetime]:
    """The hours that the instants lie in."""
    hours = np.unique(instants[instants != NOT_KEPT] // HOUR).tolist()
    return {instant(hour * HOUR) for hour in hours}


def day_ranges(
    began: Sequence[int], hours_min: Sequence[int], hours_max: Sequence[int], ranges_max: int
) -> tuple[list[datetime], list[datetime]]:
    """Where ranges of whole days begin and where they end, ``ranges_max`` at most.

    All days lie in them from ``hours_min`` after each instant in ``began`` to ``hours_max`` after
    it, and of the others as few as can be.

    Whole days are whole partitions. To be asked for minutes of the present day, of which no
    statistics tell, the planner would take them to be empty, and hold every record of the day
    against each that is looked for.
    """
    hours = {
        (at // HOUR + least, at // HOUR + most)
        for at, least, most in zip(began, hours_min, hours_max, strict=True)
    }
    ranges: list[tuple[int, int]] = []
    for begins, ends in sorted({(a // DAY_HOURS, b // DAY_HOURS) for a, b in hours}):
        if ranges and begins <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], ends))
        else:
            ranges.append((begins, ends))

    def gap_before(place: int) -> int:
        return ranges[place][0] - ranges[place - 1][1]

    # The widest gaps are left open.
    gaps = sorted(range(1, len(ranges)), key=gap_before, reverse=True)[: ranges_max - 1]
    places = [0, *sorted(gaps), len(ranges)]
    joined = [(ranges[a][0], ranges[b - 1][1]) for a, b in pairwise(places)]
    return (
        [instant(begins * DAY) for begins, _ in joined],
        [instant((ends + 1) * DAY - 1) for _, ends in joined],
    )


def instant(micros: int) -> datetime:
    """The instant that is so many microseconds after 1970 began."""
    return EPOCH + timedelta(microseconds=micros)


def micros(at: datetime) -> int:
    """How many microseconds after 1970 began an instant is."""
    return (at - EPOCH) // MICROSECOND


def _period(account: KnownAccount) -> int:
    setting = account.rule.setting
    return DAY * setting.days if isinstance(setting, HistoryDays) else 0
