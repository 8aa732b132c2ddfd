"""A record as the gateway reports it: its fields, their rules, and its normal form.

A *report* says what is known of one communication at one time; several reports of
the same ``(account, created, id)`` are one record. Decoding is typed (msgspec) and
fast; when it fails, the failure is put into words a person can act on.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal, NewType

import msgspec

from trafficlog.errors import InvalidValueError
from trafficlog.retention import AHEAD_MAX, DataClass, PolicyBook, is_expired

AccountId = NewType("AccountId", str)
AccountKey = NewType("AccountKey", int)
RecordId = NewType("RecordId", str)

NAME_CHARS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+~=-"
NAME_CHARS_MAX: Final = 64
NAME_PATTERN: Final = rf"\A[{NAME_CHARS}]{{1,{NAME_CHARS_MAX}}}\Z"
ADDRESS_CHARS_MAX: Final = 64
USER_AGENT_CHARS_MAX: Final = 1024
TAGS_MAX: Final = 20
INTEGER_MAX: Final = 2**31 - 1

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
MESSAGE_STATUSES: Final = frozenset({"created", "sent", "delivered", "failed", "received"})
CALL_STATUSES: Final = frozenset({"ongoing", "success", "failed", "busy", "no-answer"})
WITHHELD_BITS: Final = {"message": 1, "from": 2, "to": 4}

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
WithheldField = Literal["message", "from", "to"]


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
        if self.dontlog is None:
            return 0
        fields = [self.dontlog] if isinstance(self.dontlog, str) else self.dontlog
        bits = 0
        for name in fields:
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


class Refusal(msgspec.Struct, frozen=True):
    """Why one record of a batch was not stored; ``raw`` is its text, cut to a bound."""

    index: int
    id: str | None
    field: str | None
    code: str
    detail: str
    raw: str


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

# What each field must be, as the second half of a sentence.
_FIELD_RULES: Final = {
    "id": "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
    "account": "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
    "kind": "must be one of sms, mms, call",
    "direction": "must be one of incoming, outgoing, outgoing-reply",
    "from": "must be a text of 1 to 64 printable characters",
    "to": "must be a text of 1 to 64 printable characters",
    "created": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "updated": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "delivered": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "status": "must be one of created, sent, delivered, failed, received; "
    "for calls ongoing, success, failed, busy, no-answer",
    "duration": f"must be a whole number of seconds from 0 to {INTEGER_MAX}",
    "parts": f"must be a whole number from 0 to {INTEGER_MAX}",
    "cost": f"must be a whole number from 0 to {INTEGER_MAX}, in 1/10000 of the currency",
    "ip": "must be an IPv4 or IPv6 address",
    "user_agent": f"must be a text of at most {USER_AGENT_CHARS_MAX} printable characters",
    "message": "must be a text",
    "dontlog": "must be message, from, to, or a list of these",
    "owner": "must be a text of 1 to 64 printable characters",
    "tags": f"must be a list of at most {TAGS_MAX} texts of 1 to 64 characters",
}

_REASON_CODES: Final = (
    ("missing required field", "missing"),
    ("Invalid enum value", "not_in_set"),
    ("Invalid RFC3339", "bad_time"),
    ("matching regex", "bad_format"),
    ("of length", "bad_length"),
    (">=", "out_of_range"),
    ("<=", "out_of_range"),
    ("Expected", "wrong_type"),
)

_NAME: Final = re.compile(NAME_PATTERN)
_SEPARATORS: Final = str.maketrans("", "", " -()[]\u00a0")
_NUMBER: Final = re.compile(r"\+?[0-9]{3,}\Z")
_TRUNK_PREFIX: Final = re.compile(r"00[1-9][0-9]{4,}\Z")
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}\Z")
_GROUP: Final = "[1-9a-f][0-9a-f]{0,3}"
_IPV6: Final = re.compile(rf"{_GROUP}(?::{_GROUP}){{0,5}}::(?:{_GROUP}(?::{_GROUP}){{0,4}})?\Z")
_IPV6_COLONS_MAX: Final = 6
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse_report(raw: bytes | memoryview, limits: Limits) -> Report:
    """The report that a JSON object states, checked and in its normal form.

    Raises:
        InvalidValueError: a field is missing or not what it must be.
    """
    try:
        report = _decoder.decode(raw)
        named = is_name(report.id) and is_name(report.account)
    except _UNREADABLE:
        named = False
    if not named:
        raise _fault(raw)
    check(report, limits)
    return report


def check(report: Report, limits: Limits) -> None:
    """Checks what types alone cannot say, and brings values to their normal form.

    Raises:
        InvalidValueError: naming the first field that is not acceptable.
    """
    latest = limits.now + AHEAD_MAX
    report.created = created = _instant("created", report.created, latest)
    if created <= limits.created_after:
        raise InvalidValueError(
            "created",
            created.isoformat(),
            f"must be later than {limits.created_after.isoformat()}: older traffic data must "
            "already be gone",
            reason_code="too_early",
        )
    if report.updated is not None:
        report.updated = _instant("updated", report.updated, latest)
    if report.delivered is not None:
        report.delivered = _instant("delivered", report.delivered, latest)
    report.sender = _address("from", report.sender)
    report.recipient = _address("to", report.recipient)
    if not is_status_of(report.kind, report.status):
        raise InvalidValueError(
            "status", report.status, f"is not a status of a {report.kind}", reason_code="not_in_set"
        )
    if report.ip is not None:
        report.ip = normal_ip(report.ip)
    if report.user_agent is not None:
        _text("user_agent", report.user_agent, 0, USER_AGENT_CHARS_MAX)
    if report.owner is not None:
        _text("owner", report.owner, 1, ADDRESS_CHARS_MAX)
    if report.tags is not None:
        for tag in report.tags:
            _text("tags", tag, 1, ADDRESS_CHARS_MAX)
    if report.message is not None:
        _check_message(report.message, limits.message_chars_max)
    if limits.policies is not None:
        _check_kept(created, limits.policies, limits.now)


def _check_message(message: str, chars_max: int) -> None:
    if len(message) > chars_max:
        raise InvalidValueError(
            "message",
            message,
            f"is {len(message)} characters long; at most {chars_max} are kept",
            reason_code="too_long",
        )
    if "\0" in message:
        raise InvalidValueError(
            "message", message, "must not contain the NUL character", reason_code="nul"
        )


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


def is_name(text: str) -> bool:
    """Whether it can be the id of a record or an account."""
    return _NAME.match(text) is not None


def is_plain_address(text: str) -> bool:
    """Whether it is letters and digits, with or without a ``+``: then it is normal as it is."""
    bare = text.removeprefix("+")
    return (
        bare.isascii()
        and bare.isalnum()
        and not text.startswith("00")
        and len(text) <= ADDRESS_CHARS_MAX
    )


def is_user_agent(text: str) -> bool:
    """Whether it can be the program that initiated a record."""
    return _is_text(text, 0, USER_AGENT_CHARS_MAX)


def is_owner(text: str) -> bool:
    """Whether it can be a sub-account."""
    return _is_text(text, 1, ADDRESS_CHARS_MAX)


def is_tag(text: str) -> bool:
    """Whether it can be a tag."""
    return _is_text(text, 1, ADDRESS_CHARS_MAX)


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
        return _in_words(bytes(raw), error)
    raise AssertionError("what typed decoding refused without names, it refuses with them")


def normal_number(text: str) -> str:
    """A telephone number without separators and with ``+``; any other address as it is."""
    bare = text.translate(_SEPARATORS)
    if not _NUMBER.match(bare):
        return text
    return "+" + bare[2:] if _TRUNK_PREFIX.match(bare) else bare


def normal_ip(text: str, field: str = "ip") -> str:
    """An IP address in the one form that equal addresses share."""
    # Four plain octets are that form, and most of what comes.
    if _IPV4.match(text):
        return text
    # So are groups none of which is zero, with the one run of zero groups, two at least, left out.
    if _IPV6.match(text) and text.rstrip(":").count(":") <= _IPV6_COLONS_MAX:
        return text
    # The zone of a link-local address may be any text.
    _text(field, text, 1, ADDRESS_CHARS_MAX)
    try:
        address = ip_address(text)
        # An IPv4 address as a dual-stack socket shows it, which newer Pythons write differently.
        return (getattr(address, "ipv4_mapped", None) or address).compressed
    except ValueError:
        raise InvalidValueError(field, text, _FIELD_RULES["ip"], reason_code="bad_format") from None


def _instant(field: str, value: datetime, latest: datetime) -> datetime:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    elif value.tzinfo is not UTC:
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise InvalidValueError(
                field, str(value), "lies outside of the calendar", reason_code="out_of_range"
            ) from None
    if value > latest:
        raise InvalidValueError(
            field,
            value.isoformat(),
            f"lies in the future: at most {latest.isoformat()} is taken "
            f"({AHEAD_MAX.seconds // 60} minutes ahead of the clock)",
            reason_code="too_late",
        )
    return value


def _address(field: str, text: str) -> str:
    # Nearly all are numbers with or without ``+``, short codes or plain names.
    if is_plain_address(text):
        return text
    _text(field, text, 1, ADDRESS_CHARS_MAX)
    return normal_number(text)


def _text(field: str, text: str, chars_min: int, chars_max: int) -> None:
    """Printable on one line, and of a length between the bounds (characters)."""
    if not chars_min <= len(text) <= chars_max:
        raise InvalidValueError(
            field,
            text,
            f"is {len(text)} characters long; it must be {chars_min} to {chars_max}",
            reason_code="bad_length",
        )
    if not _is_printable(text):
        raise InvalidValueError(
            field, text, "contains a character that cannot be printed", reason_code="unprintable"
        )


def _is_text(text: str, chars_min: int, chars_max: int) -> bool:
    return chars_min <= len(text) <= chars_max and _is_printable(text)


def _is_printable(text: str) -> bool:
    # A no-break space is as printable as any other, whatever str.isprintable() says.
    return text.isprintable() or text.replace("\u00a0", " ").isprintable()


def _in_words(raw: bytes, error: Exception) -> InvalidValueError:
    """What typed decoding objected to, as an error that names the field and its value."""
    try:
        # The standard decoder lets lone surrogates through, so that the field
        # they stand in can be named.
        value: Any = json.loads(raw)
    except (ValueError, RecursionError) as reason:
        return InvalidValueError(
            "record",
            raw[:200].decode("utf-8", "replace"),
            f"is not JSON: {reason}",
            reason_code="malformed_json",
        )
    if not isinstance(value, dict):
        return InvalidValueError("record", value, "must be a JSON object", reason_code="wrong_type")
    for name, content in value.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if _SURROGATE.search(text):
            return InvalidValueError(
                name if name in _FIELD_RULES else "record",
                text[:200].encode("utf-8", "backslashreplace").decode(),
                "contains half of a surrogate pair, which is no character",
                reason_code="unprintable",
            )
    message = str(error)
    code = next((c for words, c in _REASON_CODES if words in message), "invalid")
    if code == "missing":
        field = message.rsplit("`", 2)[1]
        return InvalidValueError(field, None, "is required", reason_code=code)
    found = re.search(r"`\$\.(\w+)", message)
    field = found[1] if found else "record"
    return InvalidValueError(
        field, value.get(field), _FIELD_RULES.get(field, message), reason_code=code
    )
