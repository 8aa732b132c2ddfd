"""Erasures that a customer asks for by filter or of everything, and the receipt of each.

An erasure fixes at its acceptance which records it means: those that the filter means, were to
be seen and had been created up to then; everything is also what was stored then though it is
dated later, by a gateway's clock that is ahead. What is created later is never touched.

It is done when none of them is stored any more, those included that came in late: when all was
looked through, what is being written just then is waited for, and all is looked at once more.
So what was acknowledged up to ``finished_at`` is gone, and what was on its way before the wait.

A receipt names no account, number, text or record. Times of records are in it as days, so that
none can be told from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from trafficlog.partitions import bounds_of
from trafficlog.retention import WIDTHS, DataClass, is_expired, later_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.retention import PolicyBook

DAY: Final = timedelta(days=1)
MONTHLY_REPORT: Final = "monthly_report"
STATISTICS_STAY: Final = "Usage statistics stay: they hold counts, and no record, number or text."
STOPPED: Final = {
    "cancelled": "It was cancelled: what is counted here is gone for good, the rest was left.",
    "failed": "It was given up after failures: what is counted here is gone for good, the rest "
    "was left. Ask for it again.",
}


class ErasureState(StrEnum):
    """How an erasure stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """An erasure and how far it has come.

    ``filter`` has what was asked, as text by the fields of a history request, while the erasure
    is under way; afterwards only the names of its ``fields`` are known. ``found`` are the
    records that it meant when it was accepted, ``erased`` those that went, by ``kinds``.
    """

    id: str
    state: ErasureState
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    everything: bool
    fields: tuple[str, ...]
    filter: Mapping[str, str] | None
    found: int
    erased: int
    kinds: Mapping[str, int]
    oldest_day: date | None
    newest_day: date | None
    last_expiry: datetime | None
    reports: bool
    reports_erased: int
    run_seconds: int
    backup_days: int

    @property
    def is_finished(self) -> bool:
        """Whether nothing more of it will be erased."""
        return self.finished_at is not None

    @property
    def remaining(self) -> int:
        """How many of the records found it has not erased; those that expired are among them."""
        return 0 if self.state is ErasureState.DONE else max(0, self.found - self.erased)


def receipt(erasure: Erasure, policies: PolicyBook) -> dict[str, Any]:
    """The receipt of an erasure that is finished.

    Says what was erased, what is kept all the same, on what basis and until when at the latest,
    and when the last trace on disk and in backups is gone. What the law keeps follows from the
    policies and the days that erased records were created on: the legal record is not read.
    The same at whatever time it is made, because no policy reaches back.

    Raises:
        ValueError: it is not finished.
    """
    if erasure.finished_at is None:
        raise ValueError("an erasure that is under way has no receipt")
    erased: list[dict[str, Any]] = [
        {
            "data_class": DataClass.HISTORY.value,
            "rows": erasure.erased,
            "kinds": dict(erasure.kinds),
            "oldest_day": erasure.oldest_day,
            "newest_day": erasure.newest_day,
        }
    ]
    if erasure.reports_erased:
        erased.append({"data_class": MONTHLY_REPORT, "rows": erasure.reports_erased})
    trace = last_trace_gone_by(erasure)
    said = [STOPPED[erasure.state.value]] if erasure.state.value in STOPPED else []
    return {
        "receipt": erasure.id,
        "state": erasure.state.value,
        "scope": "everything" if erasure.everything else "filter",
        "fields": list(erasure.fields),
        "accepted_at": erasure.accepted_at,
        "started_at": erasure.started_at,
        "finished_at": erasure.finished_at,
        "erased": erased,
        "remaining": erasure.remaining,
        "last_trace_gone_by": trace,
        "backups_gone_by": trace and later_by(trace, timedelta(days=erasure.backup_days)),
        "remains": remains(erasure, policies, erasure.finished_at),
        "statements": [*said, STATISTICS_STAY],
    }


def last_trace_gone_by(erasure: Erasure) -> datetime | None:
    """When the partitions that erased rows stood in are dropped; None: no row was erased.

    A row that is deleted leaves its bytes on disk until then.
    """
    if erasure.last_expiry is None:
        return None
    upper = bounds_of(WIDTHS[DataClass.HISTORY], erasure.last_expiry).upper
    return upper + timedelta(seconds=erasure.run_seconds)


def remains(erasure: Erasure, policies: PolicyBook, now: datetime) -> list[dict[str, Any]]:
    """What is kept though history was erased: by class its period, its end and its basis.

    Of the legal record an entry for each policy that erased records were created under. Debug
    lines and what is in transit stand under no customer's order: whoever sends a communication
    needs the one until it is delivered, and whoever runs the service the other, briefly.
    """
    kept = []
    if erasure.oldest_day is not None and erasure.newest_day is not None:
        oldest, end = _midnight(erasure.oldest_day), _midnight(erasure.newest_day) + DAY
        book = policies.of(DataClass.TRAFFIC)
        for policy, following in zip(book, (*book[1:], None), strict=True):
            up_to = end if following is None else min(end, following.effective_from)
            if policy.effective_from < end and up_to > oldest:
                kept.append((policy, up_to))
    kept += [(policies.in_force(c, now), now) for c in (DataClass.DEBUG, DataClass.IN_TRANSIT)]
    said = []
    for policy, created_before in kept:
        until = later_by(created_before, policy.retention_period)
        if not is_expired(until, now):
            said.append(
                {
                    "data_class": policy.data_class.value,
                    "period_hours": policy.retention_period // timedelta(hours=1),
                    "until": until,
                    "legal_basis": policy.legal_basis,
                }
            )
    return said


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
