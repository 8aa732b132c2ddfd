"""Where in its tables an account's history can be: arithmetic of settings and times.

The account knows the shortest and the longest period any of its rows can stand under, which
bounds their expiry, and so the partitions that a window of creation time touches.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES
from trafficlog.retention import AHEAD_MAX
from trafficlog.store.history_list import Position

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from trafficlog.store.accounts import Account
    from trafficlog.store.history_list import HistoryFilter

FIRST_WINDOW: Final = timedelta(days=1)
# One statement opens no more partitions than this has days.
WIDEST_WINDOW: Final = timedelta(days=128)


def windows(
    account: Account, wanted: HistoryFilter, now: datetime, position: Position
) -> Iterator[dict[str, Any]]:
    """The windows in which to look for what follows ``position``, the newest first.

    Each is what the query ``history_window`` takes beside its limit.
    """
    for bounds in growing(account, wanted, now, position, FIRST_WINDOW):
        yield bounds | chosen(wanted)


def growing(
    account: Account, wanted: HistoryFilter, now: datetime, position: Position, width: timedelta
) -> Iterator[dict[str, Any]]:
    """The bounds of each window: the first is so wide, and each twice as wide as the one before."""
    listed = span(account, now, wanted.after, wanted.before)
    if listed is None:
        return
    oldest, newest = listed
    if newest < position.created:
        position = Position(newest)
    while position.created > oldest:
        lower = max(oldest, position.created - width)
        yield _bounds(account, lower, position)
        position, width = Position(lower), min(width * 2, WIDEST_WINDOW)


def whole(account: Account, wanted: HistoryFilter, now: datetime) -> dict[str, Any] | None:
    """All that can be listed in one window; None when nothing can be."""
    listed = span(account, now, wanted.after, wanted.before)
    return None if listed is None else _bounds(account, listed[0], Position(listed[1]))


def span(
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


def span_bounds(account: Account, lower: datetime, upper: datetime) -> dict[str, Any]:
    """What queries take that look at all that was created in ``(lower, upper]``."""
    return {
        "account_key": account.key,
        "lower": lower,
        "upper": upper,
        **_expiry_bounds(account, lower, upper),
    }


def chosen(wanted: HistoryFilter) -> dict[str, Any]:
    """A filter as the queries take it, times aside."""
    return {
        "kind": _code(KIND_CODES, wanted.kind),
        "direction": _code(DIRECTION_CODES, wanted.direction),
        "status": _code(STATUS_CODES, wanted.status),
        "sender": wanted.sender,
        "recipient": wanted.recipient,
        "tag": wanted.tag,
    }


def _bounds(account: Account, lower: datetime, before: Position) -> dict[str, Any]:
    return {
        "account_key": account.key,
        "lower": lower,
        "before_created": before.created,
        "before_id": before.id,
        **_expiry_bounds(account, lower, before.created),
    }


def _expiry_bounds(account: Account, lower: datetime, upper: datetime) -> dict[str, datetime]:
    return {
        "expires_from": lower + timedelta(days=account.days_min),
        "expires_to": upper + timedelta(days=account.days_max),
    }


def _code(codes: dict[str, int], name: str | None) -> int | None:
    return None if name is None else codes[name]
