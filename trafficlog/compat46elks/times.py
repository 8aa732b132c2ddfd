"""Timestamps as clients of 46elks write and read them: naive, in UTC, with six fraction digits.

In ``next`` a timestamp may go on after the sixth digit, where it tells a place among records of
the same microsecond: their ids, two digits a character. Such timestamps sort as the places do.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Final

from trafficlog.clock import parse_instant
from trafficlog.store.history_list import Position

if TYPE_CHECKING:
    from datetime import datetime

ID_CHARS_MAX: Final = 64
DIGITS_A_CHAR: Final = 2
# The character before the first that is printable, so that each has two digits.
CHAR_BASE: Final = 32
_FINER: Final = re.compile(
    rf"(?P<instant>.+[.,][0-9]{{6}})(?P<place>[0-9]{{1,{DIGITS_A_CHAR * ID_CHARS_MAX}}})Z?"
)


def timestamp(at: datetime) -> str:
    """An instant as it is shown."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"


def place(position: Position) -> str:
    """A place in a list, as ``next`` shows it; a plain timestamp where no id tells it."""
    digits = "".join(f"{ord(char) - CHAR_BASE:0{DIGITS_A_CHAR}}" for char in position.id)
    return timestamp(position.created) + digits


def parse_place(text: str, field: str) -> Position:
    """The place that a timestamp tells: what follows was created before it.

    Raises:
        InvalidValueError: it is not a date or time.
    """
    finer = _FINER.fullmatch(text)
    if finer is None:
        return Position(parse_time(text, field), "")
    digits = finer["place"] + "0" * (len(finer["place"]) % DIGITS_A_CHAR)
    pairs = (digits[at : at + DIGITS_A_CHAR] for at in range(0, len(digits), DIGITS_A_CHAR))
    return Position(
        parse_time(finer["instant"], field), "".join(chr(CHAR_BASE + int(pair)) for pair in pairs)
    )


def parse_time(text: str, field: str) -> datetime:
    """An instant as clients write it: 0 to 6 fraction digits, with or without ``Z``.

    Raises:
        InvalidValueError: it is not a date or time.
    """
    # A plus sign in a query is a space once decoded.
    return parse_instant(text.strip().replace(" ", "+"), field)
