"""Pages of records as a Parquet file, each page a row group that is written as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pyarrow as pa
from pyarrow import parquet

from trafficlog.export.columns import MEANINGS, RECORDS, each_once
from trafficlog.export.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Mapping


class Parquet:
    """One Parquet file, compressed by Zstandard.

    Args:
        about: what the file's own metadata tell beside the meaning of each column.
    """

    def __init__(self, about: Mapping[str, str]) -> None:
        self._schema = pa.schema(
            [
                field.with_metadata({"description": MEANINGS[field.name]})
                if field.name in MEANINGS
                else field
                for field in RECORDS
            ],
            metadata={f"trafficlog.{name}": text for name, text in about.items()},
        )
        self._sink = Sink()
        self._writer = parquet.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd"
        )

    def page(self, records: pa.RecordBatch) -> bytes:
        """The row group of a page."""
        columns = [
            each_once(column, orjson.loads, field.type)
            if field.name == "tags"
            else column.cast(field.type)
            for field, column in zip(RECORDS, records.columns, strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        return self._sink.taken()

    def end(self) -> bytes:
        """The footer, without which no reader takes the file for one."""
        self._writer.close()
        return self._sink.taken()
