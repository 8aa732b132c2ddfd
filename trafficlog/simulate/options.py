"""What a simulation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from pathlib import Path

RATE_MAX: Final = 1_000_000
ACCOUNTS_MAX: Final = 1_000_000
SECONDS_MAX: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Mix:
    """Of what the traffic is made: shares from 0 to 1.

    ``calls``, ``mms``: of the communications; the others are SMS. ``incoming``:
    of all. ``replies``: of the messages sent, those that answer one received.
    ``reports``: of the messages sent, those with delivery reports; ``failed``: of
    these, those that fail. ``duplicates``, ``late`` and ``bad`` are shares of all
    that is sent: again what was sent before, records of hours ago, and records
    that the service refuses.
    """

    calls: float = 0.1
    mms: float = 0.05
    incoming: float = 0.25
    replies: float = 0.1
    reports: float = 0.9
    failed: float = 0.05
    duplicates: float = 0.01
    late: float = 0.01
    bad: float = 0.005

    def __post_init__(self) -> None:
        for each in fields(self):
            share = getattr(self, each.name)
            if not 0 <= share <= 1:
                raise InvalidValueError(each.name, share, "must be a share from 0 to 1")
        if self.duplicates + self.late + self.bad > 1:
            raise InvalidValueError(
                "duplicates", self.duplicates, "is with late and bad more than the whole"
            )
        if self.calls + self.mms > 1:
            raise InvalidValueError("calls", self.calls, "is with mms more than the whole")


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What to send, where to, and how patiently.

    ``rate`` is in reports a second, whatever they are: first ones, later ones,
    duplicates. ``spool``: a directory for what the service does not take; without
    one, a record is given up after ``give_up_after_seconds``. ``in_flight_max``:
    how many may wait for their answer before the simulation waits too.
    ``close_seconds``: how long the last ones are waited for.
    """

    url: str
    key: str = field(repr=False)
    rate: float = 50.0
    accounts: int = 200
    seconds: float = 60.0
    seed: int = 1
    mix: Mix = field(default_factory=Mix)
    spool: Path | None = None
    give_up_after_seconds: float = 20.0
    in_flight_max: int = 20_000
    close_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("rate", self.rate, RATE_MAX),
            ("accounts", self.accounts, ACCOUNTS_MAX),
            ("seconds", self.seconds, SECONDS_MAX),
        ):
            # A comparison that NaN fails as well.
            if not 0 < value <= most:
                raise InvalidValueError(name, value, f"must be more than 0 and at most {most}")
