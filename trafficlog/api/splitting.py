"""The texts in a body of many: lines of NDJSON, or the elements of a JSON array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.errors import BatchTooLargeError, BodyUnreadableError, MediaTypeUnsupportedError
from trafficlog.reading import steps

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
PARSE_STEP_BYTES: Final = 512 * 1024

_items = msgspec.json.Decoder(list[msgspec.Raw])


def in_steps(
    content_type: str, body: bytes, records_max: int
) -> Iterator[bytes] | Iterator[Sequence[bytes | memoryview]]:
    """The records of a body in parts that one step reads: lines together, or JSON texts.

    Raises:
        what ``split`` raises.
    """
    if content_type in NDJSON_TYPES and body.count(b"\n") < records_max and body.strip():
        return steps(body, PARSE_STEP_BYTES)
    items = split(content_type, body, records_max)
    return (
        items[start : start + PARSE_STEP_RECORDS]
        for start in range(0, len(items), PARSE_STEP_RECORDS)
    )


def split(content_type: str, body: bytes, records_max: int) -> Sequence[bytes | memoryview]:
    """The JSON texts of a body: its lines, or the elements of its array.

    Raises:
        MediaTypeUnsupportedError: the type is neither.
        BodyUnreadableError: the array cannot be read, or there is nothing in the body.
        BatchTooLargeError: there are more than ``records_max``.
    """
    items: Sequence[bytes | memoryview]
    if content_type in NDJSON_TYPES:
        items = [line for line in body.split(b"\n") if line.strip()]
    elif content_type == JSON_TYPE:
        try:
            items = [memoryview(raw) for raw in _items.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BodyUnreadableError(f"the body is not a JSON array: {error}") from None
    else:
        raise MediaTypeUnsupportedError(
            f"Content-Type {content_type!r} is not read here: send application/x-ndjson "
            "(an object a line) or application/json (an array)"
        )
    if not items:
        raise BodyUnreadableError("the body holds no record")
    if len(items) > records_max:
        raise BatchTooLargeError(
            f"the request holds {len(items)} records; at most {records_max} are taken in one",
            limit=records_max,
        )
    return items
