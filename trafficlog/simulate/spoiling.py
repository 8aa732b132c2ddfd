"""Records that the service refuses, each for another reason."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

Record = dict[str, Any]


def spoiled(record: Record, created: datetime, draw: random.Random) -> Record:
    """The record with one fault, for which every service refuses it whatever its settings."""
    return draw.choice(_FAULTS)(record, created)


def _without_recipient(record: Record, _created: datetime) -> Record:
    return {name: value for name, value in record.items() if name != "to"}


def _status_of_another_kind(record: Record, _created: datetime) -> Record:
    return record | {"status": "delivered" if record["kind"] == "call" else "busy"}


def _not_yet_created(record: Record, created: datetime) -> Record:
    return record | {"created": (created + timedelta(days=2)).isoformat()}


_FAULTS: Final[tuple[Callable[[Record, datetime], Record], ...]] = (
    _without_recipient,
    _status_of_another_kind,
    _not_yet_created,
    lambda record, _: record | {"created": "1999-12-31T23:59:59Z"},
    lambda record, _: record | {"created": "yesterday"},
    lambda record, _: record | {"kind": "fax"},
    lambda record, _: record | {"from": ""},
    lambda record, _: record | {"id": "not an id"},
    lambda record, _: record | {"parts": -1},
    lambda record, _: record | {"ip": "198.51.100.256"},
)
