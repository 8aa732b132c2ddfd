"""An abuse hold: what it covers, for how long, and why. Pure values, no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from trafficlog.selector import Selector

REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class AbuseHold:
    """A hold: rows it covers are kept from destruction until it is released or ends."""

    id: str
    selector: Selector
    reason: str
    case_ref: str
    placed_by: str
    placed_at: datetime
    ends_at: datetime
    released_at: datetime | None = None
    released_by: str | None = None

    def is_active(self, now: datetime) -> bool:
        """Whether it protects at ``now``."""
        return self.released_at is None and self.ends_at > now


def check_purpose(reason: str, case_ref: str) -> None:
    """A hold, and a disclosure, states why and in which case.

    Raises:
        InvalidValueError: either is empty or too long.
    """
    check_reason(reason)
    check_reason(case_ref, "case_ref")


def check_reason(text: str, field: str = "reason") -> None:
    """What staff do is done for a stated reason.

    Raises:
        InvalidValueError: it is empty or too long.
    """
    if not text.strip() or len(text) > REASON_CHARS_MAX:
        raise InvalidValueError(
            field, text, f"must be a text of 1 to {REASON_CHARS_MAX} characters"
        )


def check_end(ends_at: datetime, now: datetime, longest: timedelta) -> None:
    """A hold ends, and not too far ahead; it may be extended before then.

    Raises:
        InvalidValueError: the end is past, or further away than ``longest``.
    """
    if ends_at <= now:
        raise InvalidValueError("until", ends_at.isoformat(), "must lie in the future")
    if ends_at - now > longest:
        raise InvalidValueError(
            "until",
            ends_at.isoformat(),
            f"may lie at most {longest.days} days ahead; a hold can be extended before it ends",
            reason_code="out_of_range",
        )
