"""What a client tells of itself and of the records it was given."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from trafficlog.client.errors import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trafficlog.client.answers import IngestAnswer, Rejection

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """Where a record is when ``send`` returns."""

    STORED = "stored"
    """The service has acknowledged it: stored now, or known already."""
    SPOOLED = "spooled"
    """It is in the spool, on the disk, and is sent when the service is back."""


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that the service will not store, and why."""

    record: Mapping[str, Any]
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """A client's figures since it began; ``waiting`` and those of the spool are of this moment.

    ``sent`` records were handed to ``send``; ``spooled`` of them went by way of
    the spool. The service answered of ``accepted``, ``updated``, ``duplicates``
    and ``refused`` ones, among them those that an earlier process left in the
    spool. ``waiting`` are in memory: their ``send`` has not returned.
    ``damaged_bytes`` of the spool could not be read and are set aside.
    """

    sent: int
    accepted: int
    updated: int
    duplicates: int
    refused: int
    spooled: int
    waiting: int
    spool_bytes: int
    damaged_bytes: int
    requests: int
    retries: int
    service_away: bool

    @property
    def acknowledged(self) -> int:
        """Records that the service has, as far as it has answered."""
        return self.accepted + self.updated + self.duplicates


class Tally:
    """Counts what became of the records of a client, and tells of those that are refused.

    ``on_refused`` is called for each of them; without it they are logged.
    """

    def __init__(self, on_refused: Callable[[RefusedRecord], None] | None) -> None:
        self._on_refused = on_refused
        self.sent = self.spooled = 0
        self.accepted = self.updated = self.duplicates = self.refused = 0

    def answered(self, lines: Sequence[bytes], answer: IngestAnswer) -> dict[int, Exception]:
        """Counts an answer to records; the errors of those refused, by their indexes."""
        self.accepted += answer.accepted
        self.updated += answer.updated
        self.duplicates += answer.duplicates
        self.refused += len(answer.rejected)
        for each in answer.rejected:
            if self._on_refused is None:
                log.warning("a record is refused: %s %s", each.field, each.code)
            else:
                self._on_refused(RefusedRecord(orjson.loads(lines[each.index]), each))
        return {each.index: RecordRefusedError(each) for each in answer.rejected}
