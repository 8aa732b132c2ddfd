"""What a simulation says of itself: while it runs, when it ends, and when it cannot go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from trafficlog.errors import TrafficlogError

if TYPE_CHECKING:
    from trafficlog.client import Retry


@dataclass(frozen=True, slots=True)
class SimulationState:
    """How a simulation gets on: totals, and of the last interval the rates and latencies.

    ``acknowledged`` reports are stored (or known) by the service, ``refused`` ones
    refused by it, and ``waiting`` have no answer yet. Latencies count from the
    moment a report was due; None: nothing was answered in the interval.
    """

    seconds: float
    seconds_total: float
    sent: int
    acknowledged: int
    refused: int
    waiting: int
    unanswered: int
    spool_bytes: int
    retries: int
    sent_a_second: float
    acknowledged_a_second: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(slots=True)
class SimulationSummary:
    """What was sent, by sort, and what became of it.

    Of ``sent`` reports the service answered of ``accepted``, ``updated``,
    ``duplicates`` and ``refused`` ones; ``spool_bytes`` of ``spooled`` ones are left
    on the disk; ``unanswered`` ones were given up. ``unreported``: later
    reports that would have been due after the end. ``stopped``: it was told to
    end before its time. ``behind_seconds_max``: how late a report was sent at
    most; more than a moment means that this machine, or the service, cannot
    keep the rate.
    """

    seed: int
    rate: float
    accounts: int
    seconds: float = 0.0
    sent: int = 0
    sent_by_sort: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    updated: int = 0
    duplicates: int = 0
    refused: int = 0
    refused_by_code: dict[str, int] = field(default_factory=dict)
    spooled: int = 0
    spool_bytes: int = 0
    unanswered: int = 0
    unreported: int = 0
    sent_a_second: float = 0.0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    behind_seconds_max: float = 0.0
    requests: int = 0
    retries: int = 0
    stopped: bool = False

    def as_dict(self) -> dict[str, object]:
        """The summary as it is printed in JSON."""
        rounded = ("seconds", "sent_a_second", "behind_seconds_max")
        return asdict(self) | {name: round(getattr(self, name), 3) for name in rounded}


class SimulationFailedError(TrafficlogError):
    """The simulation could not go on; ``summary`` says how far it came."""

    code = "simulation_failed"

    def __init__(self, cause: TrafficlogError, summary: SimulationSummary) -> None:
        super().__init__(cause.detail, cause=cause.code)
        self.cause = cause
        self.summary = summary


class Progress(Protocol):
    """Is told how a simulation gets on, every ``seconds``."""

    seconds: float

    def moved(self, state: SimulationState) -> None:
        """An interval has passed."""

    def retrying(self, retry: Retry) -> None:
        """A request failed and is sent again after a pause."""


class NoProgress:
    """Tells nobody."""

    seconds = 1.0

    def moved(self, state: SimulationState) -> None:
        """Passes over it."""

    def retrying(self, retry: Retry) -> None:
        """Passes over it."""
