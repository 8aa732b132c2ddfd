"""Records as columns: their names and types, and how a page is read from PostgreSQL's CSV."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from trafficlog.records import DIRECTION_NAMES, KIND_NAMES, STATUS_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

INSTANT: Final = pa.timestamp("us", tz="UTC")
# The columns of an export, under the names that records have on the wire.
RECORDS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("created", INSTANT, nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        ("from", pa.string()),
        ("to", pa.string()),
        ("status", pa.string()),
        ("updated", INSTANT),
        ("delivered", INSTANT),
        ("duration", pa.int32()),
        ("parts", pa.int32()),
        ("cost", pa.int32()),
        ("owner", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("message", pa.string()),
        pa.field("expires", INSTANT, nullable=False),
    ]
)
# A page's columns. Instants stay texts, as RFC 3339 has them, because to write one costs 1.1 us
# (measured) and PostgreSQL has done it already; tags are a JSON array.
PAGE: Final = pa.schema(
    [
        pa.field(f.name, f.type if pa.types.is_integer(f.type) else pa.string(), f.nullable)
        for f in RECORDS
    ]
)
# What each column has where its name does not tell; the currency is the account's.
MEANINGS: Final = {
    "created": "UTC; with the id it tells a record from all others",
    "updated": "UTC; when the last report that changed it was made",
    "delivered": "UTC",
    "duration": "seconds; of calls",
    "parts": "how many messages the network counted",
    "cost": "1/10000 of the account's currency",
    "owner": "the part of the account that it belongs to",
    "expires": "UTC; from this instant on it is gone",
}
_STORED: Final = {
    "id": pa.string(),
    "created_at": pa.string(),
    "updated_at": pa.string(),
    "delivered_at": pa.string(),
    "expires_at": pa.string(),
    "duration": pa.int32(),
    "parts": pa.int32(),
    "cost": pa.int32(),
    "kind": pa.int16(),
    "direction": pa.int16(),
    "status": pa.int16(),
    "sender": pa.string(),
    "recipient": pa.string(),
    "owner": pa.string(),
    "tags": pa.string(),
    "message": pa.string(),
}
# The day in RFC 3339, and in PostgreSQL's form, which has a space after it.
_DAY_CHARS: Final = 10
_SECOND_CHARS: Final = 19
_MICROSECOND_CHARS: Final = 26
_PARSE: Final = csv.ParseOptions(newlines_in_values=True)
_CONVERT: Final = csv.ConvertOptions(
    column_types=_STORED,
    include_columns=list(_STORED),
    null_values=[""],
    strings_can_be_null=True,
    # As PostgreSQL writes them: "" is an empty text, and nothing at all is none.
    quoted_strings_can_be_null=False,
)
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')


def read_page(blocks: Iterable[bytes], period: timedelta | None) -> pa.RecordBatch:
    """A page from what ``COPY (history_window) TO STDOUT (FORMAT csv, HEADER)`` gave.

    Args:
        blocks: each with its header and at least one row; times in them are in UTC.
        period: for how many whole days the account's setting keeps a record; None: as stored.
    """
    table = pa.concat_tables([_read(block) for block in blocks]).combine_chunks()
    stored = {name: table.column(name).chunk(0) for name in table.column_names}
    created = _instants(stored["created_at"])
    columns = {
        **stored,
        "created": created,
        "kind": _named(stored["kind"], KIND_NAMES),
        "direction": _named(stored["direction"], DIRECTION_NAMES),
        "from": stored["sender"],
        "to": stored["recipient"],
        "status": _named(stored["status"], STATUS_NAMES),
        "updated": _instants(stored["updated_at"]),
        "delivered": _instants(stored["delivered_at"]),
        "tags": each_once(stored["tags"], lambda t: orjson.dumps(tags_of(t)).decode(), pa.string()),
        # A row that is still to be moved shows the expiry it has under the present setting.
        "expires": _instants(stored["expires_at"]) if period is None else _later(created, period),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in PAGE.names], schema=PAGE)


def instant_of(text: str) -> datetime:
    """An instant of a page."""
    return datetime.fromisoformat(text)


def _instants(text: pa.Array) -> pa.Array:
    """As the pages of history write them, from PostgreSQL's ``2026-11-22 12:00:00.5+00``.

    RFC 3339 in UTC, with no fraction of a second or with six digits of it.
    """
    raw = pc.binary_slice(text.cast(pa.binary()), 0, -len("+00"))
    raw = pc.binary_replace_slice(raw, _DAY_CHARS, _DAY_CHARS + 1, b"T").cast(pa.string())
    length = pc.binary_length(raw)
    short = pc.and_(pc.greater(length, _SECOND_CHARS), pc.less(length, _MICROSECOND_CHARS))
    if pc.any(short).as_py():
        raw = pc.if_else(short, pc.ascii_rpad(raw, _MICROSECOND_CHARS, "0"), raw)
    return pc.binary_join_element_wise(raw, "Z", "")


def _later(instants: pa.Array, period: timedelta) -> pa.Array:
    """Each instant whole days later: few days are in a page, and the time of day stays."""
    raw = instants.cast(pa.binary())
    days = pc.binary_slice(raw, 0, _DAY_CHARS).cast(pa.string())
    times = pc.binary_slice(raw, _DAY_CHARS, 2**31 - 1).cast(pa.string())
    moved = each_once(days, lambda day: str(date.fromisoformat(day) + period), pa.string())
    return pc.binary_join_element_wise(moved, times, "")


def _read(block: bytes) -> pa.Table:
    # One block, or a long row would not fit; one thread, which is the caller's.
    options = csv.ReadOptions(use_threads=False, block_size=len(block) + 1)
    return csv.read_csv(pa.BufferReader(block), options, _PARSE, _CONVERT)


def _named(codes: pa.Array, names: dict[int, str]) -> pa.Array:
    return pa.array([names.get(code) for code in range(max(names) + 1)], pa.string()).take(codes)


def each_once(values: pa.Array, what: Callable[[str], Any], gives: pa.DataType) -> pa.Array:
    """``what`` of each value, called once for those that are equal."""
    encoded = values.dictionary_encode()
    found = [what(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(found, gives).take(encoded.indices)


def tags_of(literal: str) -> list[str]:
    """The elements of a text array as PostgreSQL writes it: ``{a,"b c"}``."""
    return [bare or re.sub(r"\\(.)", r"\1", quoted) for quoted, bare in _ELEMENT.findall(literal)]
