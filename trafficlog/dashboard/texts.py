"""Words, numbers and times in the language of whoever asks.

Every text of the page stands in one table for each language, under the same keys. A text that
counts something stands under two: ``….one`` and ``….other``. Which language is spoken is decided
once for a request (see ``trafficlog.dashboard.languages``) and holds for all that it does.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.dashboard.texts_en import ENGLISH
from trafficlog.dashboard.texts_sv import SWEDISH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date, datetime

COST_UNIT: Final = 10_000
NO_BREAK_SPACE: Final = "\N{NO-BREAK SPACE}"
UNITS: Final = (
    ("days", timedelta(days=1)),
    ("hours", timedelta(hours=1)),
    ("minutes", timedelta(minutes=1)),
)


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its texts, and how it writes numbers and days.

    Args:
        code: as in the attribute ``lang``.
        name: what it calls itself.
        texts: every text of the page.
        thousands: what stands between groups of three digits.
        point: what stands before decimals.
        day: a day, as a template of ``day``, ``month`` (its number), ``name`` and ``year``.
    """

    code: str
    name: str
    texts: Mapping[str, str]
    thousands: str
    point: str
    day: str


LANGUAGES: Final = {
    "en": Language("en", "English", ENGLISH, ",", ".", "{day} {name} {year}"),
    "sv": Language("sv", "Svenska", SWEDISH, NO_BREAK_SPACE, ",", "{year}-{month:02}-{day:02}"),
}

_spoken: ContextVar[Language] = ContextVar("spoken", default=LANGUAGES["en"])


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Lets everything within be said in this language."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def spoken() -> Language:
    """The language in which this request is answered."""
    return _spoken.get()


def text(key: str, **values: object) -> str:
    """The text of a key, with its values put in.

    Raises:
        KeyError: there is no such text.
    """
    return spoken().texts[key].format(**values)


def counted(key: str, count: int) -> str:
    """The text of a key that counts something."""
    return text(f"{key}.one" if count == 1 else f"{key}.other", count=number(count))


def number(value: int) -> str:
    """A whole number in groups of three digits."""
    return f"{value:,}".replace(",", spoken().thousands)


def cost(value: int) -> str:
    """A cost, kept in 1/10000, as a decimal number."""
    whole, rest = divmod(abs(value), COST_UNIT)
    return f"{'-' if value < 0 else ''}{number(whole)}{spoken().point}{rest:04}"


def day(on: date) -> str:
    """A day as people read it."""
    name = text(f"month.{on.month}.short")
    return spoken().day.format(day=on.day, month=on.month, name=name, year=on.year)


def month(on: date) -> str:
    """The month that a day is in, with its year."""
    return f"{text(f'month.{on.month}')} {on.year}"


def instant(at: datetime) -> str:
    """An instant as people read it: in UTC, to the second."""
    return f"{day(at)} {at:%H:%M:%S}"


def until(period: timedelta) -> str:
    """How long it still is, or has been if negative, in the largest whole unit."""
    key = "time" if period >= timedelta(0) else "ago"
    for name, unit in UNITS:
        if abs(period) >= unit:
            return counted(f"{key}.{name}", abs(period) // unit)
    return text(f"{key}.moment")


def duration(seconds: int) -> str:
    """A length of time in minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    parts = [counted("minutes", minutes)] if minutes else []
    if rest or not minutes:
        parts.append(counted("seconds", rest))
    return " ".join(parts)
