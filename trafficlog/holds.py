"""An abuse hold: what it covers, for how long, and why. Pure values, no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

REASON_CHARS_MAX = 500
# As long as the address of a record.
NUMBER_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class HoldSelector:
    """What a hold covers: an account, one record of it, a number (either side) or an IP.

    The window, when there is one, is of creation times: ``[created_from, created_to)``.
    """

    account: str | None = None
    number: str | None = None
    ip: str | None = None
    record: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def __post_init__(self) -> None:
        given = [
            name
            for name, value in (("account", self.account), ("number", self.number), ("ip", self.ip))
            if value is not None
        ]
        if len(given) != 1:
            raise InvalidValueError(
                "selector",
                given,
                "name exactly one of: an account (or one record of it), a number, an IP",
            )
        number = self.number
        if number is not None and not (
            1 <= len(number) <= NUMBER_CHARS_MAX and number.replace("\u00a0", " ").isprintable()
        ):
            raise InvalidValueError(
                "number", number, f"must be a text of 1 to {NUMBER_CHARS_MAX} printable characters"
            )
        if self.record is not None and self.account is None:
            raise InvalidValueError("record", self.record, "goes with its account")
        start, end = self.created_from, self.created_to
        if start is not None and end is not None and start >= end:
            raise InvalidValueError(
                "created_to", end.isoformat(), "must be later than created_from"
            )


@dataclass(frozen=True, slots=True)
class AbuseHold:
    """A hold: rows it covers are kept from destruction until it is released or ends."""

    id: str
    selector: HoldSelector
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
