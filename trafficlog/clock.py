"""The clock: read by loops, requests and commands, and handed on as ``now``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trafficlog.errors import InvalidValueError, TimeTravelRefusedError

TIME_TRAVEL = "TRAFFICLOG_TIME_TRAVEL"
NOW = "TRAFFICLOG_NOW"


@dataclass(frozen=True, slots=True)
class Clock:
    """The system's clock, set off by ``offset`` in demonstrations and tests."""

    offset: timedelta = timedelta(0)

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC) + self.offset

    @classmethod
    def from_environment(cls) -> Clock:
        """The clock that the environment asks for.

        Raises:
            TimeTravelRefusedError: TRAFFICLOG_NOW is set without TRAFFICLOG_TIME_TRAVEL=1.
        """
        text = os.environ.get(NOW)
        if not text:
            return cls()
        if not time_travel_allowed():
            raise TimeTravelRefusedError(f"{NOW} is set, but {TIME_TRAVEL} is not 1")
        return cls(parse_instant(text, NOW) - datetime.now(UTC))


def time_travel_allowed() -> bool:
    """Whether this process may go by a time that is not the clock's."""
    return os.environ.get(TIME_TRAVEL) == "1"


def parse_instant(text: str, field: str) -> datetime:
    """An instant as a person or another program writes it; without a zone it is UTC.

    Raises:
        InvalidValueError: it is not a date or time of ISO 8601.
    """
    try:
        value = datetime.fromisoformat(text.strip())
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValueError(
            field,
            text,
            "must be a date or time such as 2026-03-14 or 2026-03-14T09:52:07Z",
            reason_code="bad_time",
        ) from None
