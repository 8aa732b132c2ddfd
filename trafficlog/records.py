"""A record as the gateway reports it: its fields, their rules, and its normal form.

A *report* says what is known of one communication at one time; several reports of
the same ``(account, created, id)`` are one record. What a single value may be stands in
``values``, how a refusal is worded in ``refusals``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NewType

import msgspec

from trafficlog.errors import InvalidValueError
from trafficlog.refusals import in_words
from trafficlog.retention import AHEAD_MAX, DataClass, PolicyBook, is_expired
from trafficlog.values import (
    ADDRESS_CHARS_MAX,
    INTEGER_MAX,
    NAME_PATTERN,
    TAGS_MAX,
    USER_AGENT_CHARS_MAX,
    check_message,
    check_text,
    is_ipv4,
    is_name,
    is_plain_address,
    normal_address,
    normal_instant,
    normal_ip,
)

AccountId = NewType("AccountId", str)
AccountKey = NewType("AccountKey", int)
RecordId = NewType("RecordId", str)

KIND_CODES: Final = {"sms": 1, "mms": 2, "call": 3}
DIRECTION_CODES: Final = {"incoming": 1, "outgoing": 2, "outgoing-reply": 3}
# In this order a later state outranks an earlier one reported for the same instant.
STATUS_CODES: Final = {
    "created": 1,
    "ongoing": 2,
    "sent": 3,
    "received": 4,
    "delivered": 5,
    "failed": 6,
    "success": 7,
    "busy": 8,
    "no-answer": 9,
}
STATUS_CODES_OR_NONE: Final[dict[str | None, int]] = {None: 0} | {**STATUS_CODES}
KIND_NAMES: Final = {code: name for name, code in KIND_CODES.items()}
DIRECTION_NAMES: Final = {code: name for name, code in DIRECTION_CODES.items()}
STATUS_NAMES: Final = {code: name for name, code in STATUS_CODES.items()}
MESSAGE_STATUSES: Final = frozenset({"created", "sent", "delivered", "failed", "received"})
CALL_STATUSES: Final = frozenset({"ongoing", "success", "failed", "busy", "no-answer"})

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
WithheldField = Literal["message", "from", "to"]
WITHHELD_BITS: Final[dict[WithheldField, int]] = {"message": 1, "from": 2, "to": 4}


def withheld_names(bits: int) -> list[WithheldField]:
    """The fields that bits stand for, as ``dontlog`` has them."""
    return [name for name, bit in WITHHELD_BITS.items() if bits & bit]


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Report(msgspec.Struct, gc=False):
    """One report of a record; after ``check`` its values are in their normal form.

    Unknown fields of the input are not stored. Instants are aware and in UTC,
    ``duration`` is in seconds, ``cost`` in 1/10000 of the account's currency.
    """

    id: str
    account: str
    kind: Literal["sms", "mms", "call"]
    direction: Literal["incoming", "outgoing", "outgoing-reply"]
    sender: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    created: datetime
    updated: datetime | None = None
    status: (
        Literal[
            "created",
            "sent",
            "delivered",
            "failed",
            "received",
            "ongoing",
            "success",
            "busy",
            "no-answer",
        ]
        | None
    ) = None
    delivered: datetime | None = None
    duration: Count | None = None
    parts: Count | None = None
    cost: Count | None = None
    ip: str | None = None
    user_agent: str | None = None
    message: str | None = None
    dontlog: WithheldField | list[WithheldField] | None = None
    owner: str | None = None
    tags: Annotated[list[Tag], msgspec.Meta(max_length=TAGS_MAX)] | None = None

    @property
    def identity(self) -> tuple[str, datetime, str]:
        """What makes two reports the same record."""
        return (self.account, self.created, self.id)

    @property
    def withheld(self) -> int:
        """The fields that history must not keep, as bits."""
        return 0 if self.dontlog is None else withheld_bits(self.dontlog)


def withheld_bits(dontlog: WithheldField | list[WithheldField]) -> int:
    """The fields of a ``dontlog``, as bits."""
    bits = 0
    for name in [dontlog] if isinstance(dontlog, str) else dontlog:
        bits |= WITHHELD_BITS[name]
    return bits


class Limits(msgspec.Struct, frozen=True):
    """What one check goes by: the time, the oldest creation taken, the longest message.

    ``policies`` where some of what was created after ``created_after`` may be over already,
    under another policy than the present one.
    """

    now: datetime
    created_after: datetime
    message_chars_max: int = 65_536
    policies: PolicyBook | None = None

    @property
    def surely_kept_after(self) -> datetime:
        """What was created after this is to be kept, under whatever policy."""
        if self.policies is None:
            return self.created_after
        return self.policies.surely_kept_after(DataClass.TRAFFIC, self.now)


def limits_of(policies: PolicyBook, now: datetime, message_chars_max: int) -> Limits:
    """What records that arrive at ``now`` are checked by."""
    return Limits(
        now,
        policies.created_after(DataClass.TRAFFIC, now),
        message_chars_max,
        policies if policies.has_changed(DataClass.TRAFFIC) else None,
    )


_decoder: Final = msgspec.json.Decoder(Report)
# The same with the names checked too, which costs as much as all the rest: for a report that is
# refused, so that of its faults the one is named that stands first.
_strict_decoder: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "StrictReport",
        [
            (
                each.name,
                Name if each.name in ("id", "account") else each.type,
                msgspec.field(name=each.encode_name, default=each.default),
            )
            for each in msgspec.structs.fields(Report)
        ],
    )
)


def parse_report(raw: bytes | memoryview, limits: Limits) -> Report:
    """The report that a JSON object states, checked and in its normal form.

    Raises:
        InvalidValueError: a field is missing or not what it must be.
    """
    try:
        report = _decoder.decode(raw)
    except _UNREADABLE:
        raise _fault(raw) from None
    if not is_name(report.id) or not is_name(report.account):
        raise _fault(raw)
    check(report, limits)
    return report


def check(report: Report, limits: Limits) -> None:
    """Checks what types alone cannot say, and brings values to their normal form.

    Raises:
        InvalidValueError: naming the first field that is not acceptable.
    """
    # What is plainly normal, as nearly all is, is not asked about further.
    latest = limits.now + AHEAD_MAX
    created = report.created
    if created.tzinfo is not UTC or created > latest:
        report.created = created = normal_instant("created", created, latest)
    if created <= limits.created_after:
        raise InvalidValueError(
            "created",
            created.isoformat(),
            f"must be later than {limits.created_after.isoformat()}: older traffic data must "
            "already be gone",
            reason_code="too_early",
        )
    if report.updated is not None:
        report.updated = normal_instant("updated", report.updated, latest)
    if report.delivered is not None:
        report.delivered = normal_instant("delivered", report.delivered, latest)
    if not is_plain_address(report.sender):
        report.sender = normal_address("from", report.sender)
    if not is_plain_address(report.recipient):
        report.recipient = normal_address("to", report.recipient)
    if not is_status_of(report.kind, report.status):
        raise InvalidValueError(
            "status", report.status, f"is not a status of a {report.kind}", reason_code="not_in_set"
        )
    if report.ip is not None and not is_ipv4(report.ip):
        report.ip = normal_ip(report.ip)
    _check_texts(report, limits)
    if limits.policies is not None:
        _check_kept(created, limits.policies, limits.now)


def _check_texts(report: Report, limits: Limits) -> None:
    """Refuses texts that are too long, or cannot be printed or stored."""
    if report.user_agent is not None:
        check_text("user_agent", report.user_agent, 0, USER_AGENT_CHARS_MAX)
    if report.owner is not None:
        check_text("owner", report.owner, 1, ADDRESS_CHARS_MAX)
    if report.tags is not None:
        for tag in report.tags:
            check_text("tags", tag, 1, ADDRESS_CHARS_MAX)
    if report.message is not None:
        check_message(report.message, limits.message_chars_max)


def _check_kept(created: datetime, policies: PolicyBook, now: datetime) -> None:
    """Refuses a record that is over already under the policy it was created under."""
    until = policies.expires_at(DataClass.TRAFFIC, created)
    if is_expired(until, now):
        raise InvalidValueError(
            "created",
            created.isoformat(),
            f"was to be kept until {until.isoformat()}: such traffic data must already be gone",
            reason_code="too_early",
        )


def is_status_of(kind: str, status: str | None) -> bool:
    """Whether records of this kind can have this status; all can have none."""
    return status is None or status in (CALL_STATUSES if kind == "call" else MESSAGE_STATUSES)


def _fault(raw: bytes | memoryview) -> InvalidValueError:
    """What typed decoding, names included, objects to first."""
    try:
        _strict_decoder.decode(raw)
    except RecursionError:
        return InvalidValueError(
            "record", "…", "is nested too deeply", reason_code="malformed_json"
        )
    except _UNREADABLE as error:
        return in_words(bytes(raw), error)
    raise AssertionError("what typed decoding refused without names, it refuses with them")
