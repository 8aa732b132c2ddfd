"""Reports as columns: Arrow batches, and from them PostgreSQL's binary COPY format.

Encoding by column costs 0.3 us a row where row-wise encoding costs 3 to 4 (measured
with asyncpg's ``copy_records_to_table`` on 2 cores), which is why pyarrow and pgpq
are here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder

from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES, Report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

INSTANT: Final = pa.timestamp("us", tz="UTC")

TRAFFIC: Final = pa.schema(
    [
        ("created_at", INSTANT),
        ("expires_at", INSTANT),
        ("updated_at", INSTANT),
        ("account_key", pa.int64()),
        ("duration", pa.int32()),
        ("kind", pa.int16()),
        ("direction", pa.int16()),
        ("id", pa.string()),
        ("sender", pa.string()),
        ("recipient", pa.string()),
        ("ip", pa.string()),
        ("user_agent", pa.string()),
    ]
)
HISTORY: Final = pa.schema(
    [
        ("account_key", pa.int64()),
        ("created_at", INSTANT),
        ("expires_at", INSTANT),
        ("updated_at", INSTANT),
        ("delivered_at", INSTANT),
        ("duration", pa.int32()),
        ("parts", pa.int32()),
        ("cost", pa.int32()),
        ("kind", pa.int16()),
        ("direction", pa.int16()),
        ("status", pa.int16()),
        ("withheld", pa.int16()),
        ("id", pa.string()),
        ("sender", pa.string()),
        ("recipient", pa.string()),
        ("owner", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("message", pa.string()),
    ]
)
STAGE: Final = pa.schema(
    [
        ("account_key", pa.int64()),
        ("created_at", INSTANT),
        ("traffic_expires", INSTANT),
        ("history_expires", INSTANT),
        ("history_from", INSTANT),
        ("history_to", INSTANT),
        ("updated_at", INSTANT),
        ("delivered_at", INSTANT),
        ("ordinal", pa.int32()),
        ("duration", pa.int32()),
        ("parts", pa.int32()),
        ("cost", pa.int32()),
        ("kind", pa.int16()),
        ("direction", pa.int16()),
        ("status", pa.int16()),
        ("withheld", pa.int16()),
        ("id", pa.string()),
        ("sender", pa.string()),
        ("recipient", pa.string()),
        ("ip", pa.string()),
        ("user_agent", pa.string()),
        ("owner", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("message", pa.string()),
    ]
)

Columns = dict[str, list[Any]]
Arrays = dict[str, pa.Array]

_TYPES: Final = {field.name: field.type for schema in (TRAFFIC, HISTORY, STAGE) for field in schema}


def report_columns(reports: Sequence[Report]) -> Columns:
    """What the reports say, a list for each column, withheld fields still in place."""
    return {
        "created_at": [r.created for r in reports],
        "updated_at": [r.updated for r in reports],
        "delivered_at": [r.delivered for r in reports],
        "duration": [r.duration for r in reports],
        "parts": [r.parts for r in reports],
        "cost": [r.cost for r in reports],
        "kind": [KIND_CODES[r.kind] for r in reports],
        "direction": [DIRECTION_CODES[r.direction] for r in reports],
        "status": [None if r.status is None else STATUS_CODES[r.status] for r in reports],
        "withheld": [0 if r.dontlog is None else r.withheld for r in reports],
        "id": [r.id for r in reports],
        "sender": [r.sender for r in reports],
        "recipient": [r.recipient for r in reports],
        "ip": [r.ip for r in reports],
        "user_agent": [r.user_agent for r in reports],
        "owner": [r.owner for r in reports],
        "tags": [r.tags for r in reports],
        "message": [r.message for r in reports],
    }


def arrays(columns: Columns) -> Arrays:
    """The columns as Arrow arrays, for more than one batch to be made of."""
    return {name: pa.array(values, _TYPES[name]) for name, values in columns.items()}


def arrow(schema: pa.Schema, columns: Arrays) -> pa.RecordBatch:
    """Those of the columns that the schema names, as one Arrow batch."""
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def history_batch(
    everything: pa.RecordBatch, expires: Sequence[datetime | None], withheld: Sequence[int]
) -> pa.RecordBatch:
    """The rows that history is to hold, sorted by expiry, without what is withheld.

    Sorted, because COPY keeps buffers for 32 partitions only (POSTGRES: measured
    0.85 of one partition's speed against 0.72 unsorted with 100 settings).
    """
    batch = everything
    if any(withheld):
        for bit, name in ((1, "message"), (2, "sender"), (4, "recipient")):
            index = batch.schema.get_field_index(name)
            hidden = pa.array([bool(w & bit) for w in withheld])
            batch = batch.set_column(
                index, name, pc.if_else(hidden, pa.scalar(None, pa.string()), batch.column(index))
            )
    if None in expires:
        batch = batch.filter(pa.array([e is not None for e in expires]))
    if len(set(expires)) > 1:
        batch = batch.take(pc.sort_indices(batch.column("expires_at")))
    return batch


def binary(batch: pa.RecordBatch) -> bytes:
    """The batch in PostgreSQL's binary COPY format."""
    encoder = ArrowToPostgresBinaryEncoder(batch.schema)
    return bytes(encoder.write_header() + encoder.write_batch(batch) + encoder.finish())
