"""What a shipment is asked to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from trafficlog.errors import InvalidValueError
from trafficlog.ship.lines import LINE_BYTES_MAX
from trafficlog.ship.open_messages import MatchingLimits
from trafficlog.values import NAME_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from trafficlog.records import AccountId


@dataclass(frozen=True, slots=True)
class ShipOptions:
    """What to ship, where to, and how patiently.

    ``flush_seconds``: how old a record of a followed log gets before it is
    posted in a batch that is not full. ``poll_seconds``: how often a followed
    file is looked at. ``quiet_seconds``: how long nothing must have been written
    before reports with an unknown FID are matched by their route.
    ``give_up_after_seconds``: how long one request is tried; ``None`` is for
    ever. ``stop_seconds``: how long what has been read may take to be posted
    once the shipment is to stop. ``listed_max``: how many unreadable lines, and
    how many rejected records, the summary names.
    """

    path: Path
    url: str
    key: str = field(repr=False)
    incoming_account: AccountId
    follow: bool = False
    timezone: tzinfo = UTC
    batch_records_max: int = 1000
    give_up_after_seconds: float | None = 900.0
    flush_seconds: float = 1.0
    poll_seconds: float = 0.2
    quiet_seconds: float = 5.0
    stop_seconds: float = 30.0
    listed_max: int = 20
    line_bytes_max: int = LINE_BYTES_MAX
    limits: MatchingLimits = field(default_factory=MatchingLimits)

    def __post_init__(self) -> None:
        if not re.match(NAME_PATTERN, self.incoming_account):
            raise InvalidValueError(
                "incoming_account",
                self.incoming_account,
                "must be 1 to 64 of the letters, digits and . _ : @ + ~ = -",
            )
        if self.batch_records_max < 1:
            raise InvalidValueError("batch", self.batch_records_max, "must be at least 1")
