"""What is wrong with a value, in the language of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trafficlog.dashboard.texts import spoken, text

if TYPE_CHECKING:
    from trafficlog.errors import InvalidValueError


def reason_of(error: InvalidValueError) -> str:
    """The reason of an error, by its code; the error's own words are for programs."""
    key = f"wrong.{error.reason_code}"
    return text(key if key in spoken().texts else "wrong.invalid")
