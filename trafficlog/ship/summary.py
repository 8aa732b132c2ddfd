"""What a shipment says of itself: while it runs, when it ends, and when it cannot go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from trafficlog.errors import TrafficlogError

if TYPE_CHECKING:
    from trafficlog.client import Retry


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that no record was made of."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that the service refused, by the line that it came from."""

    line: int
    id: str | None
    field: str | None
    code: str
    detail: str | None


@dataclass(slots=True)
class ShipSummary:
    """What became of the lines.

    A line is ``unreadable``, ``skipped`` (Kannel's own remarks and empty lines),
    a report that is ``unmatched`` or ``superseded``, or a record. A record is
    ``accepted``, ``updated``, one of the ``duplicates`` or ``rejected``, as the
    answers say of the requests that went through in the end; ``unposted`` are
    those that were left when a shipment could not go on. ``stopped``: the
    shipment was told to stop before the end of the file.
    """

    lines: int = 0
    skipped: int = 0
    unreadable: int = 0
    unmatched: int = 0
    superseded: int = 0
    records: int = 0
    accepted: int = 0
    updated: int = 0
    duplicates: int = 0
    rejected: int = 0
    unposted: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    stopped: bool = False
    unreadable_lines: list[UnreadableLine] = field(default_factory=list)
    rejected_records: list[RejectedRecord] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The summary as it is printed in JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


class ShipFailedError(TrafficlogError):
    """The shipment could not go on; ``summary`` says how far it came."""

    code = "ship_failed"

    def __init__(self, cause: TrafficlogError, summary: ShipSummary) -> None:
        super().__init__(cause.detail, cause=cause.code)
        self.cause = cause
        self.summary = summary


@dataclass(frozen=True, slots=True)
class ShipState:
    """How far a shipment is. The bytes are of the file that is open now, as it is on the disk."""

    lines: int
    unreadable: int
    bytes_read: int
    bytes_total: int
    records_posted: int
    records_per_second: float


class Progress(Protocol):
    """Is told how a shipment gets on."""

    def moved(self, state: ShipState) -> None:
        """More has been read or posted."""

    def retrying(self, retry: Retry) -> None:
        """A request failed and is sent again after a pause."""


class NoProgress:
    """Tells nobody."""

    def moved(self, state: ShipState) -> None:
        """Passes over it."""

    def retrying(self, retry: Retry) -> None:
        """Passes over it."""
