"""Records as arrays of PostgreSQL, for the statements that are handed all they store.

The arrays go as text: asyncpg asks of each element of a list whether it is a list itself, which
takes longer than all the rest (measured in groups of 160: 12 us a record).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES
from trafficlog.store.expiry import micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trafficlog.records import Report

_NONE: Final = "\ud800"


def arrays_of(reports: Sequence[Report]) -> dict[str, str]:
    """What one or more reports say of themselves, but for when, whose and what is withheld."""
    return {
        "delivered": array_of_instants([r.delivered for r in reports]),
        "durations": array_of_numbers([r.duration for r in reports]),
        "parts": array_of_numbers([r.parts for r in reports]),
        "costs": array_of_numbers([r.cost for r in reports]),
        "kinds": array_of_numbers([KIND_CODES[r.kind] for r in reports]),
        "directions": array_of_numbers([DIRECTION_CODES[r.direction] for r in reports]),
        "statuses": array_of_numbers([r.status and STATUS_CODES[r.status] for r in reports]),
        "ids": array_of_texts([r.id for r in reports]),
        "senders": array_of_texts([r.sender for r in reports]),
        "recipients": array_of_texts([r.recipient for r in reports]),
        "ips": array_of_texts([r.ip for r in reports]),
        "user_agents": array_of_texts([r.user_agent for r in reports]),
        "owners": array_of_texts([r.owner for r in reports]),
        "tags": array_of_texts([None if r.tags is None else _json(r.tags) for r in reports]),
        "messages": array_of_texts([r.message for r in reports]),
    }


def array_of_instants(values: Sequence[datetime | None]) -> str:
    """An array of instants, as microseconds since 1970."""
    return array_of_numbers([None if value is None else micros(value) for value in values])


def array_of_flags(values: Sequence[bool]) -> str:
    """An array of what is true or false."""
    return f"{{{','.join(['t' if value else 'f' for value in values])}}}"


def array_of_numbers(values: Sequence[int | None]) -> str:
    """An array of numbers."""
    if _says_nothing(values):
        return "{}"
    # That of JSON but for the brackets, and the quickest way to make text of numbers.
    return f"{{{orjson.dumps(values)[1:-1].decode()}}}"


def array_of_texts(values: Sequence[str | None]) -> str:
    """The same of texts, in which anything may stand but the character NUL.

    Raises:
        ValueError: NUL stands in one.
    """
    if _says_nothing(values):
        return "{}"
    # That of JSON serves too, and is made quickest, where no control character is escaped in it.
    listed = orjson.dumps(values).decode()
    if "\\" not in listed or "\\" not in listed.replace("\\\\", "").replace('\\"', ""):
        return f"{{{listed[1:-1]}}}"
    # One text, in which NUL stands between two and a surrogate, which is no character, for none.
    joined = "\0".join([_NONE if value is None else value for value in values])
    if joined.count("\0") != len(values) - 1:
        raise ValueError("a text holds the character NUL")
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{quoted}"}}'.replace(f'"{_NONE}"', "NULL")


def _says_nothing(values: Sequence[object]) -> bool:
    """Whether an empty array does as well: the statement makes up for what is missing."""
    return values.count(None) == len(values)


def _json(tags: list[str]) -> str:
    # As an array of arrays they would all have to be of one length.
    return orjson.dumps(tags).decode()
