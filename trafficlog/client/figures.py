"""What a client tells of itself and of the records it was given."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.client.answers import Rejection


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
