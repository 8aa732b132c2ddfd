"""One line of Kannel's access log, read.

Kannel's bearerbox writes one line for each thing that happens to a message
(``gw/bb_alog.c``, the format without ``access-log-format``)::

    2026-11-21 22:11:44 Sent SMS [SMSC:FAKE] [SVC:u0011] [ACT:sub3] [BINF:] [FID:2880a6c0]
    [META:] [from:Elks] [to:+46734670811] [flags:-1:2:-1:-1:31] [msg:4:00680069] [udh:0:]

The flags are message class, coding, message waiting, compression and the DLR
mask, which is the report on a ``Receive DLR``. ``msg`` and ``udh`` carry their
length in octets; a text in UCS-2 or 8 bits stands as hexadecimal digits, any
other with a dot for each octet that is not printable. A text may hold brackets:
its length says where it ends, and a line whose length does not agree with its
text was cut short and is not read.

What cannot be kept as it is: an octet sequence that is no UTF-8 is read as
Latin-1, and NUL characters and lone surrogates, which no PostgreSQL text holds,
become U+FFFD.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from typing import Final, Literal

from trafficlog.errors import TrafficlogError
from trafficlog.ship.parts import parts_of_octets, parts_of_text


class LineUnreadableError(TrafficlogError):
    """The line is not one that Kannel's access log has."""

    code = "line_unreadable"


class ReportKind(enum.IntEnum):
    """The report that a ``Receive DLR`` brings, by its bit in Kannel's DLR mask."""

    DELIVERED = 1
    UNDELIVERABLE = 2
    BUFFERED = 4
    ACCEPTED = 8
    REFUSED = 16

    @property
    def final(self) -> bool:
        """Whether nothing more is to happen to the message."""
        return self in _FINAL

    @property
    def by_gateway(self) -> bool:
        """Whether Kannel itself wrote it, right after the line of the message it reports on."""
        return self in _BY_GATEWAY


_FINAL: Final = frozenset({ReportKind.DELIVERED, ReportKind.UNDELIVERABLE, ReportKind.REFUSED})
_BY_GATEWAY: Final = frozenset({ReportKind.ACCEPTED, ReportKind.REFUSED})
_KINDS: Final = {kind.value: kind for kind in ReportKind}

Outcome = Literal["sent", "failed", "received"]


@dataclass(frozen=True, slots=True)
class Message:
    """A short message that went out, failed to, or came in.

    ``digest`` is of the whole line, so that the same line always has the same.
    """

    outcome: Outcome
    at: datetime
    smsc: str
    service: str
    owner: str
    foreign_id: str
    sender: str
    recipient: str
    text: str
    parts: int
    digest: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the centre, or Kannel on its answer, says of a message sent before."""

    at: datetime
    smsc: str
    service: str
    foreign_id: str
    sender: str
    recipient: str
    kind: ReportKind


@dataclass(frozen=True, slots=True)
class Remark:
    """A line of Kannel's that is about no message kept here, such as ``Log begins``."""

    event: str


Line = Message | Report | Remark


class LogClock:
    """Turns the log's local times into instants.

    Where summer time ends, an hour of local times comes twice. The log is in
    the order of time, so the first of the two is meant unless the line before
    it stands more than a minute later.
    """

    _DISORDER: Final = timedelta(minutes=1)

    _YEARS: Final = range(1990, 9000)  # short messages are not older, and no sum overflows

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone
        self._stamp = b""
        self._instant = datetime.min.replace(tzinfo=UTC)

    def instant(self, stamp: bytes) -> datetime:
        """The instant, in UTC, of ``stamp`` (``2026-11-21 22:11:44``).

        Raises:
            ValueError: there is no such date or time of day.
        """
        if stamp != self._stamp:
            local = datetime.fromisoformat(stamp.decode("ascii")).replace(tzinfo=self._zone)
            if local.year not in self._YEARS:
                raise ValueError(local.year)
            self._instant = self._placed(local)
            self._stamp = stamp
        return self._instant

    def _placed(self, local: datetime) -> datetime:
        first = local.astimezone(UTC)
        if self._zone is UTC:
            return first
        second = local.replace(fold=1).astimezone(UTC)
        repeated = first < second
        return second if repeated and first < self._instant - self._DISORDER else first


# Each field is closed by the opening of the next, so that a bracket inside one does no harm, and
# each step is atomic, so that a line made to look like many others costs no more than its length.
_HEAD: Final = re.compile(
    rb"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<event>[^\[]{1,64}) \[SMSC:"
    rb"(?>(?P<smsc>.*?)\] \[SVC:)"
    rb"(?>(?P<service>.*?)\] \[ACT:)"
    rb"(?>(?P<owner>.*?)\] \[BINF:)"
    rb"(?>.*?\] \[(?=FID:|META:|from:))"
    rb"(?:FID:(?>(?P<foreign_id>.*?)\] \[(?=META:|from:)))?"  # older versions do not write it
    rb"(?:META:(?>.*?\] \[(?=from:)))?"
    rb"from:(?>(?P<sender>.*?)\] \[to:)"
    rb"(?>(?P<recipient>.*?)\] \[flags:(?=-?\d+:-?\d+:-?\d+:-?\d+:-?\d+\] \[msg:\d))"
    rb"-?\d+:(?P<coding>-?\d{1,9}):-?\d+:-?\d+:(?P<mask>-?\d{1,9})\] "
    rb"\[msg:(?P<octets>\d{1,9}):",
    re.DOTALL,
)
_TAIL: Final = re.compile(rb"\] \[udh:(?P<octets>\d{1,9}):(?P<hex>[0-9A-Fa-f]*)\]")
_MARKER: Final = re.compile(rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d )?Log (?:begins|ends)")
_STAMPED: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")

_OUTCOMES: Final[dict[bytes, Outcome]] = {
    b"Sent SMS": "sent",
    b"Receive SMS": "received",
    b"FAILED Send SMS": "failed",
    b"DISCARDED SMS": "failed",
    b"EXPIRED SMS": "failed",
}
_REPORT: Final = b"Receive DLR"
_REMARK: Final = re.compile(
    rb"Sent DLR|(?:FAILED Send|DISCARDED|EXPIRED) DLR|FAILED DLR SMS"
    rb"|DROPPED Received (?:SMS|DLR)|REJECTED - .*",
    re.DOTALL,
)
"""Reports passed on to a box of Kannel's own, and messages that Kannel did not take: the centre
delivers those again or they never reached anyone."""

_CODING_OCTETS: Final = 1
_CODING_UCS2: Final = 2


def parse_line(raw: bytes, clock: LogClock) -> Line:
    """Reads one line, given without its line end.

    Raises:
        LineUnreadableError: with the reason in words that quote nothing of the
            line, since the line is personal data.
    """
    head = _HEAD.match(raw)
    if head is None:
        return _parse_other(raw)
    try:
        at = clock.instant(head["stamp"])
    except ValueError:
        raise LineUnreadableError("there is no such date or time of day") from None
    octets, coding = int(head["octets"]), int(head["coding"])
    hexadecimal = coding in {_CODING_OCTETS, _CODING_UCS2}
    start = head.end()
    end = start + (2 * octets if hexadecimal else octets)
    tail = _TAIL.fullmatch(raw, end)
    if tail is None or int(tail["octets"]) * 2 != len(tail["hex"]):
        raise LineUnreadableError("the text is not as long as the line says")
    event = head["event"]
    if event == _REPORT:
        return Report(
            at=at,
            smsc=_text(head["smsc"]),
            service=_text(head["service"]),
            foreign_id=_text(head["foreign_id"] or b""),
            sender=_text(head["sender"]),
            recipient=_text(head["recipient"]),
            kind=_report_kind(int(head["mask"])),
        )
    outcome = _OUTCOMES.get(event)
    if outcome is None:
        if _REMARK.fullmatch(event):
            return Remark(event.decode("ascii", "replace"))
        raise LineUnreadableError("what happened to the message is not an event that is known")
    text, parts = _body(raw[start:end], coding, int(tail["octets"]))
    return Message(
        outcome=outcome,
        at=at,
        smsc=_text(head["smsc"]),
        service=_text(head["service"]),
        owner=_text(head["owner"]),
        foreign_id=_text(head["foreign_id"] or b""),
        sender=_text(head["sender"]),
        recipient=_text(head["recipient"]),
        text=text,
        parts=parts,
        digest=blake2b(raw, digest_size=16).hexdigest(),
    )


def _parse_other(raw: bytes) -> Remark:
    """A line that is about no message, if Kannel writes such a line."""
    if not raw.strip():
        return Remark("empty line")
    if _MARKER.fullmatch(raw):
        return Remark("log marker")
    if not _STAMPED.match(raw):
        raise LineUnreadableError(
            "the line does not start with a date and time (as with access-log-clean)"
        )
    raise LineUnreadableError("the line is not in the access log's default format, or was cut")


def _report_kind(mask: int) -> ReportKind:
    kind = _KINDS.get(mask)
    if kind is None:
        raise LineUnreadableError(f"the report {mask} is none of 1, 2, 4, 8 and 16")
    return kind


def _body(raw: bytes, coding: int, udh_octets: int) -> tuple[str, int]:
    """The text of a message and its parts. Binary data stay the hexadecimal digits they are."""
    if coding not in {_CODING_OCTETS, _CODING_UCS2}:
        text = _text(raw)
        return text, parts_of_text(text, udh_octets)
    try:
        data = bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        raise LineUnreadableError("the text is not hexadecimal as its coding says") from None
    if 2 * len(data) != len(raw):  # blanks, which bytes.fromhex passes over
        raise LineUnreadableError("the text is not hexadecimal as its coding says")
    parts = parts_of_octets(len(data), udh_octets)
    if coding == _CODING_OCTETS:
        return raw.decode("ascii"), parts
    return _without_nul(data.decode("utf-16-be", "replace")), parts


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return _without_nul(text)


def _without_nul(text: str) -> str:
    return text.replace("\0", "\ufffd")
