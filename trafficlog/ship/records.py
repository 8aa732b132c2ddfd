"""The records that lines of the access log become, and their ids.

A record's identity is ``(account, created, id)``, so everything here is a pure
function of the lines read before: the same file gives the same records.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from trafficlog.records import AccountId, RecordId
from trafficlog.ship.kannel import Message, ReportKind
from trafficlog.values import NAME_PATTERN

if TYPE_CHECKING:
    from datetime import datetime

Record = dict[str, object]
"""A record as ``POST /v1/records`` takes it."""

_NAME: Final = re.compile(NAME_PATTERN)

_STATUS: Final = {
    ReportKind.DELIVERED: "delivered",
    ReportKind.UNDELIVERABLE: "failed",
    ReportKind.REFUSED: "failed",
    ReportKind.BUFFERED: "sent",
    ReportKind.ACCEPTED: "sent",
}


@dataclass(frozen=True, slots=True)
class RecordKey:
    """What every report on a record repeats of it."""

    id: RecordId
    account: AccountId
    created: datetime
    sender: str
    recipient: str


def status_of(kind: ReportKind) -> str:
    """The status that a report gives its record."""
    return _STATUS[kind]


def message_record(message: Message, key: RecordKey) -> Record:
    """The first report of a message."""
    incoming = message.outcome == "received"
    record = _identity(key, "incoming" if incoming else "outgoing")
    record |= {"status": message.outcome, "message": message.text, "parts": message.parts}
    if message.owner:
        record["owner"] = message.owner
    return record


def report_record(key: RecordKey, kind: ReportKind, updated: datetime) -> Record:
    """A later report of an outgoing message."""
    record = _identity(key, "outgoing")
    record |= {"updated": updated.isoformat(), "status": _STATUS[kind]}
    if kind is ReportKind.DELIVERED:
        record["delivered"] = record["updated"]
    return record


def _identity(key: RecordKey, direction: str) -> Record:
    return {
        "id": key.id,
        "account": key.account,
        "kind": "sms",
        "direction": direction,
        "from": key.sender,
        "to": key.recipient,
        "created": key.created.isoformat(),
    }


@dataclass(slots=True)
class _Second:
    """The ids given to the messages of one second of the log."""

    digests: dict[str, int] = field(default_factory=dict)
    foreign_ids: dict[tuple[AccountId, str], str] = field(default_factory=dict)


class RecordIds:
    """Gives each message its id.

    That is the FID where there is one. A FID that the service would not take as
    an id is hashed (``f-…``). A message without FID gets the hash of its line
    (``k-…``); lines that are the same to the byte are different messages, so
    the second and later ones of a second carry their number (``k-…-2``). Some
    centres give every message the same FID: where one second of an account has
    it on two lines that differ, the later one is named as if it had none. A line
    with a FID that comes again to the byte is the same message.

    The last ``seconds_max`` seconds that had messages are remembered. A log that
    was divided within a second, and shipped as two files, numbers that second's
    equal lines anew.
    """

    def __init__(self, seconds_max: int = 60) -> None:
        self._seconds_max = seconds_max
        self._seconds: OrderedDict[datetime, _Second] = OrderedDict()

    def name(self, message: Message, account: AccountId) -> RecordId:
        """The id of the record that ``message`` becomes."""
        second = self._second(message.at)
        if message.foreign_id:
            known = second.foreign_ids.setdefault((account, message.foreign_id), message.digest)
            if known == message.digest:
                return _from_foreign_id(message.foreign_id)
        count = second.digests.get(message.digest, 0) + 1
        second.digests[message.digest] = count
        return RecordId(f"k-{message.digest}" + (f"-{count}" if count > 1 else ""))

    def _second(self, at: datetime) -> _Second:
        second = self._seconds.get(at)
        if second is None:
            second = self._seconds[at] = _Second()
            if len(self._seconds) > self._seconds_max:
                self._seconds.popitem(last=False)
        return second


def _from_foreign_id(foreign_id: str) -> RecordId:
    if _NAME.match(foreign_id):
        return RecordId(foreign_id)
    return RecordId("f-" + blake2b(foreign_id.encode(), digest_size=16).hexdigest())
