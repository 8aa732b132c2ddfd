"""The gateway's side: an access log read, matched and posted to the service."""

from trafficlog.ship.follow import LogNotFollowableError, LogUnreadableError
from trafficlog.ship.open_messages import MatchingLimits
from trafficlog.ship.options import ShipOptions
from trafficlog.ship.run import ship_kannel, ship_kannel_until_signal
from trafficlog.ship.summary import (
    NoProgress,
    Progress,
    RejectedRecord,
    ShipFailedError,
    ShipState,
    ShipSummary,
    UnreadableLine,
)

__all__ = [
    "LogNotFollowableError",
    "LogUnreadableError",
    "MatchingLimits",
    "NoProgress",
    "Progress",
    "RejectedRecord",
    "ShipFailedError",
    "ShipOptions",
    "ShipState",
    "ShipSummary",
    "UnreadableLine",
    "ship_kannel",
    "ship_kannel_until_signal",
]
