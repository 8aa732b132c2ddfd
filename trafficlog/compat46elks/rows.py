"""Records as 46elks shows an SMS, a call and an MMS. What is not known is absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trafficlog.compat46elks.times import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from trafficlog.records import AccountId
    from trafficlog.store.history_list import HistoryRecord

# 46elks has no state of its own for a call that nobody answered.
CALL_STATES: Final = {
    "ongoing": "ongoing",
    "success": "success",
    "failed": "failed",
    "busy": "busy",
    "no-answer": "failed",
}
NOT_PICKED_UP: Final = frozenset({"failed", "busy"})
FLASH_TAG: Final = "flashsms"


@dataclass(frozen=True, slots=True)
class Collection:
    """One of the lists under ``/a1/``: which kind of record it has, and how it shows one."""

    name: str
    kind: str
    row: Callable[[HistoryRecord, AccountId], dict[str, Any]]


def sms(record: HistoryRecord, _account: AccountId) -> dict[str, Any]:
    """A record as an SMS; a message has one part at the least, so ``parts`` is always there."""
    is_incoming = record.direction == "incoming"
    return _known(
        {
            **_common(record),
            "message": record.message,
            "status": None if is_incoming else record.status,
            "delivered": None if record.delivered is None else timestamp(record.delivered),
            "cost": record.cost,
            "parts": record.parts or 1,
            "flashsms": "yes" if FLASH_TAG in (record.tags or ()) else None,
        }
    )


def mms(record: HistoryRecord, account: AccountId) -> dict[str, Any]:
    """A record as an MMS; images are not kept."""
    return _known(
        {
            **_common(record),
            "message": record.message,
            "images": [],
            "cost": record.cost,
            "owner": record.owner or account,
        }
    )


def call(record: HistoryRecord, account: AccountId) -> dict[str, Any]:
    """A record as a call; its actions, legs and timeout are not kept.

    ``start`` is when it was picked up, which the gateway reports as ``delivered``.
    """
    state = None if record.status is None else CALL_STATES.get(record.status)
    row = {
        **_common(record),
        "owner": record.owner or account,
        "start": None if record.delivered is None else timestamp(record.delivered),
        "state": state,
        "cost": record.cost,
        "duration": record.duration,
        "actions": [],
        "legs": [],
    }
    if state in NOT_PICKED_UP:
        row |= {"start": None, "cost": None, "duration": None}
    return _known(row)


def _common(record: HistoryRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "created": timestamp(record.created),
        "direction": record.direction,
        "from": record.sender,
        "to": record.recipient,
    }


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


COLLECTIONS: Final = (
    Collection("sms", "sms", sms),
    Collection("mms", "mms", mms),
    Collection("calls", "call", call),
)
