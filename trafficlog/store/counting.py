"""What new records add to the usage statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import orjson
import pyarrow.compute as pc

from trafficlog.store.expiry import DAY, DAY_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from trafficlog.store.columns import Sheet

# The arguments of the query ``count_usage``: a column for each, as the text of an array. As a list
# each would take ten times as long (measured: 0.6 us a record for all of them), for asyncpg asks of
# each element whether it is a list.
Columns = dict[str, str]

NO_USAGE: Final = dict.fromkeys(
    (
        "account_keys",
        "days",
        "kinds",
        "directions",
        "statuses",
        "records",
        "parts",
        "seconds",
        "costs",
    ),
    "{}",
)

# How many bits of a group's number hold each part of it; the account's key has the rest.
STATUS_BITS: Final = 4
DIRECTION_BITS: Final = 2
KIND_BITS: Final = 2
BELOW_ACCOUNT: Final = STATUS_BITS + DIRECTION_BITS + KIND_BITS + DAY_BITS


def usage_of(parts: Sequence[tuple[Sheet, NDArray[np.int64]]]) -> Columns:
    """What these records count for, by account, day of creation (UTC), kind, direction, status.

    Each part is a sheet and the key of each record's account. All that a record is grouped by
    makes one number, and equal numbers are added up (measured: 0.2 us a record of 1,000,
    0.4 of 320 and 2.4 of 31; by a dictionary of tuples 1.0).
    """
    groups = np.concatenate([_groups(sheet, keys) for sheet, keys in parts])
    found, place = np.unique(groups, return_inverse=True)

    def summed(name: str) -> str:
        values = np.concatenate([_plain(sheet.columns[name]) for sheet, _ in parts])
        # As a float each sum is exact up to 2**53: of 2**22 records of the largest value.
        return _array(np.bincount(place, values, len(found)).astype(np.int64))

    return {
        "account_keys": _array(found >> BELOW_ACCOUNT),
        "days": _array(found >> BELOW_ACCOUNT - DAY_BITS & (1 << DAY_BITS) - 1),
        "kinds": _array(found >> STATUS_BITS + DIRECTION_BITS & (1 << KIND_BITS) - 1),
        "directions": _array(found >> STATUS_BITS & (1 << DIRECTION_BITS) - 1),
        "statuses": _array(found & (1 << STATUS_BITS) - 1),
        "records": _array(np.bincount(place)),
        "parts": summed("parts"),
        "seconds": summed("duration"),
        "costs": summed("cost"),
    }


def _array(values: np.ndarray) -> str:
    """Whole numbers as PostgreSQL writes an array of them: that of JSON but for the brackets."""
    return f"{{{orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode()}}}"


def _groups(sheet: Sheet, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each record's group."""
    if keys.size and keys.max() >= 1 << 63 - BELOW_ACCOUNT:
        raise OverflowError("an account's key is too large to be counted by")
    groups = keys
    for bits, column in (
        (DAY_BITS, sheet.created // DAY),
        (KIND_BITS, _plain(sheet.columns["kind"])),
        (DIRECTION_BITS, _plain(sheet.columns["direction"])),
        (STATUS_BITS, _plain(sheet.columns["status"])),
    ):
        groups = groups << bits | column
    return groups


def _plain(column: pa.Array) -> np.ndarray:
    """The values of a column, zero where it says nothing."""
    values: np.ndarray = (pc.fill_null(column, 0) if column.null_count else column).to_numpy()
    return values
