"""Monthly reports: what an account used in a month, and until when that can still change.

The rule: a month's report is made as soon as the month has ended (UTC). It counts whatever
was stored until ``made_at``, and is made anew whenever a record of the month comes late or a
later state changes what one counts for. It is final once no record of the month can be stored
any more, because the law's period has passed for all of them; then it never changes again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.errors import InvalidValueError
from trafficlog.retention import DataClass, later_by

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trafficlog.retention import PolicyBook

# What was taken in the last moment is being written a little longer, and clocks differ.
FINAL_MARGIN: Final = timedelta(days=1)
_MONTH: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])\Z")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over records: ``seconds`` are of calls, ``cost`` in 1/10000 of the currency."""

    records: int
    parts: int
    seconds: int
    cost: int

    @classmethod
    def of(cls, totals: Iterable[Totals]) -> Totals:
        """All of them together."""
        each = list(totals)
        return cls(
            sum(t.records for t in each),
            sum(t.parts for t in each),
            sum(t.seconds for t in each),
            sum(t.cost for t in each),
        )


@dataclass(frozen=True, slots=True)
class ReportLine:
    """What was used with one kind, direction and status (None: none was ever reported)."""

    kind: str
    direction: str
    status: str | None
    used: Totals


@dataclass(frozen=True, slots=True)
class ReportDay:
    """What was used on one day (UTC, of creation)."""

    day: date
    used: Totals


@dataclass(frozen=True, slots=True)
class MonthlyReport:
    """An account's usage in a month. There is no number, address or text in it.

    ``month`` is its first day, ``currency`` that of the costs (ISO 4217) if it is known. All
    that was acknowledged before ``made_at`` is counted; ``final_from`` is when it becomes final.
    """

    account: str
    display_name: str | None
    month: date
    made_at: datetime
    final: bool
    final_from: datetime
    currency: str | None
    lines: list[ReportLine]
    days: list[ReportDay]

    @property
    def total(self) -> Totals:
        """What was used in all."""
        return Totals.of(line.used for line in self.lines)


def parse_month(text: str) -> date:
    """The first day of a month written as 2026-11.

    Raises:
        InvalidValueError: it is no month.
    """
    if _MONTH.match(text) and not text.startswith("0000"):
        return date(int(text[:4]), int(text[5:]), 1)
    raise InvalidValueError("month", text, "must be a month, as 2026-11", reason_code="bad_format")


def month_name(month: date) -> str:
    """The month as it is written: 2026-11."""
    return month.isoformat()[:7]


def month_of(at: datetime) -> date:
    """The first day of the month (UTC) that an instant lies in."""
    return at.astimezone(UTC).date().replace(day=1)


def month_after(month: date) -> date:
    """The first day of the following month."""
    return (month + timedelta(days=31)).replace(day=1)


def final_from(month: date, policies: PolicyBook) -> datetime:
    """When a month's report becomes final: a day after the last of its records has expired.

    A record that old is refused, whatever it says, so nothing can change what is counted.
    """
    begins, ends = (
        datetime.combine(day, time(), UTC) for day in (month.replace(day=1), month_after(month))
    )
    last = datetime.min.replace(tzinfo=UTC)
    of_class = policies.of(DataClass.TRAFFIC)
    following = [policy.effective_from for policy in of_class[1:]]
    for policy, until in zip(of_class, [*following, ends], strict=True):
        if until > begins and policy.effective_from < ends:
            last = max(last, later_by(min(until, ends), policy.retention_period))
    return later_by(last, FINAL_MARGIN)
