"""Partitions as arithmetic: widths, bounds and what a table has. No database here.

All bounds are half-open, ``[lower, upper)``, and lie on UTC hours, days or months.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Width(StrEnum):
    """How much of ``expires_at`` one partition covers."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True, order=True)
class Bounds:
    """The half-open range of ``expires_at`` that a partition covers."""

    lower: datetime
    upper: datetime

    def __post_init__(self) -> None:
        if self.lower.utcoffset() is None or self.upper.utcoffset() is None:
            raise ValueError("partition bounds are aware datetimes")
        if self.lower >= self.upper:
            raise ValueError(f"empty partition: {self.lower} to {self.upper}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the catalogue knows it."""

    table: str
    name: str
    bounds: Bounds
    detach_pending: bool = False
    sealed: bool = False


def bounds_of(width: Width, instant: datetime) -> Bounds:
    """The partition of this width that holds ``instant`` (aware, any zone)."""
    if instant.utcoffset() is None:
        raise ValueError("an aware datetime is needed")
    at = instant.astimezone(UTC)
    match width:
        case Width.HOUR:
            lower = at.replace(minute=0, second=0, microsecond=0)
            return Bounds(lower, lower + timedelta(hours=1))
        case Width.DAY:
            lower = at.replace(hour=0, minute=0, second=0, microsecond=0)
            return Bounds(lower, lower + timedelta(days=1))
        case Width.MONTH:
            lower = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            # 32 days on from the first is always in the next month.
            return Bounds(lower, (lower + timedelta(days=32)).replace(day=1))


def bounds_between(width: Width, start: datetime, end: datetime) -> Iterator[Bounds]:
    """Every partition of this width that meets ``[start, end]``, oldest first."""
    current = bounds_of(width, start)
    while current.lower <= end:
        yield current
        current = bounds_of(width, current.upper)
