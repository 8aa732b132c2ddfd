"""The texts in a body of many: lines of NDJSON, or the elements of a JSON array."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.errors import BatchTooLargeError, BodyUnreadableError, MediaTypeUnsupportedError
from trafficlog.reading import lines_in, steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NDJSON_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON_TYPE: Final = "application/json"
# How the documentation describes what it cannot give a type of.
LINES_SCHEMA: Final = {
    "type": "string",
    "description": "NDJSON: one object a line, each of the shape described for application/json.",
}
# Parsing gives way to other requests after so much.
PARSE_STEP_RECORDS: Final = 500
PARSE_STEP_LINES_MAX: Final = 2_000
PARSE_STEP_BYTES: Final = 512 * 1024

_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_line_with_text: Final = re.compile(rb"\S[^\n]*")


@dataclass(frozen=True, slots=True)
class Steps:
    """A body's records in parts that one step reads, and how many they are at the most."""

    count: int
    parts: Iterator[bytes] | Iterator[Sequence[bytes | memoryview]]


def in_steps(content_type: str, body: bytes, records_max: int) -> Steps:
    """The records of a body in parts that one step reads: lines together, or JSON texts.

    Raises:
        what ``split`` raises.
    """
    if content_type in NDJSON_TYPES:
        lines = lines_in(body) + (not body.endswith(b"\n"))
        if lines <= records_max and body and not body.isspace():
            return Steps(lines, steps(body, PARSE_STEP_BYTES, PARSE_STEP_LINES_MAX))
    items = split(content_type, body, records_max)
    return Steps(len(items), _together(items))


def _together(items: Sequence[bytes | memoryview]) -> Iterator[Sequence[bytes | memoryview]]:
    """The texts in parts of so many, or of so many bytes if that is fewer."""
    start = size = 0
    for end, item in enumerate(items):
        if end - start == PARSE_STEP_RECORDS or size >= PARSE_STEP_BYTES:
            yield items[start:end]
            start, size = end, 0
        size += len(item)
    yield items[start:]


def split(content_type: str, body: bytes, records_max: int) -> Sequence[bytes | memoryview]:
    """The JSON texts of a body: its lines, or the elements of its array.

    Of a body that holds more than are taken nothing is made that grows with it.

    Raises:
        MediaTypeUnsupportedError: the type is neither.
        BodyUnreadableError: the array cannot be read, or there is nothing in the body.
        BatchTooLargeError: there are more than ``records_max``.
    """
    items: Sequence[bytes | memoryview]
    if content_type in NDJSON_TYPES:
        lines = (found[0] for found in _line_with_text.finditer(body))
        items = list(islice(lines, records_max + 1))
        if len(items) > records_max:
            raise _too_many(records_max)
    elif content_type == JSON_TYPE:
        items = _elements(body, records_max)
    else:
        raise MediaTypeUnsupportedError(
            f"Content-Type {content_type!r} is not read here: send application/x-ndjson "
            "(an object a line) or application/json (an array)"
        )
    if not items:
        raise BodyUnreadableError("the body holds no record")
    return items


def _elements(body: bytes, count_max: int) -> Sequence[memoryview]:
    """The elements of a JSON array, of which none is made if they are more than so many.

    Raises:
        BodyUnreadableError: it is no array.
        BatchTooLargeError: it has more.
    """
    # Elements may be of two bytes each, and each takes a hundred times as many when it is made.
    if body.count(b",") >= count_max and _has_more(body.strip(), count_max):
        raise _too_many(count_max)
    try:
        return [memoryview(raw) for raw in _items.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUnreadableError(f"the body is not a JSON array: {error}") from None


def _has_more(array: bytes, count: int) -> bool:
    """Whether a text, if it is an array, has more elements than so many."""
    if not array.startswith(b"["):
        return False
    try:
        # Without its end: what has no more is read up to there, and is cut short; what has more is
        # left at the first that is too many.
        _exactly(count).decode(memoryview(array)[:-1])
    except msgspec.ValidationError:
        return True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return False


@functools.lru_cache(maxsize=2)
def _exactly(count: int) -> msgspec.json.Decoder[tuple[msgspec.Raw, ...]]:
    return msgspec.json.Decoder(tuple[(msgspec.Raw,) * count])  # type: ignore[misc]


def _too_many(count_max: int) -> BatchTooLargeError:
    return BatchTooLargeError(
        f"the request holds more than {count_max} records, the most that are taken in one",
        limit=count_max,
    )
