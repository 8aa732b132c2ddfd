"""Single values of a record: which names, addresses and texts are taken, and their normal form.

Two values that mean the same have one normal form: a number without its separators, an
address as RFC 5952 writes it, an instant in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from trafficlog.errors import InvalidValueError
from trafficlog.retention import AHEAD_MAX

if TYPE_CHECKING:
    from collections.abc import Collection

NAME_CHARS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+~=-"
NAME_CHARS_MAX: Final = 64
NAME_PATTERN: Final = rf"\A[{NAME_CHARS}]{{1,{NAME_CHARS_MAX}}}\Z"
ADDRESS_CHARS_MAX: Final = 64
USER_AGENT_CHARS_MAX: Final = 1024
TAGS_MAX: Final = 20
INTEGER_MAX: Final = 2**31 - 1
IP_RULE: Final = "must be an IPv4 or IPv6 address"

_SEPARATORS: Final = str.maketrans("", "", " -()[]\u00a0")
_NUMBER: Final = re.compile(r"\+?[0-9]{3,}\Z")
_TRUNK_PREFIX: Final = re.compile(r"00[1-9][0-9]{4,}\Z")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}"

# Each finds something in a text that is one, and nothing in any other. They are methods of patterns
# themselves, for they are called as often as there are records.
# What can be the id of a record or an account:
is_name: Final = re.compile(NAME_PATTERN).match
# Letters and digits, with or without a ``+``, which are normal as they are:
is_plain_address: Final = re.compile(
    rf"(?!00)(?:\+[0-9A-Za-z]{{1,{ADDRESS_CHARS_MAX - 1}}}|[0-9A-Za-z]{{1,{ADDRESS_CHARS_MAX}}})\Z"
).match
is_ipv4: Final = re.compile(rf"{_IPV4}\Z").match

_GROUP: Final = "[1-9a-f][0-9a-f]{0,3}"
# Groups none of which is zero, with the one run of zero groups, two at least, left out.
_IPV6: Final = (
    "(?!(?:[0-9a-f]*:){7}[0-9a-f])"
    f"{_GROUP}(?::{_GROUP}){{0,5}}::(?:{_GROUP}(?::{_GROUP}){{0,4}})?"
)
_is_plain_ipv6: Final = re.compile(rf"{_IPV6}\Z").match
_are_plain_ips: Final = re.compile(rf"(?:(?:{_IPV4}|{_IPV6})\n)*+\Z").match


def is_address(text: str) -> bool:
    """Whether it can be a sender or a recipient."""
    return _is_text(text, 1, ADDRESS_CHARS_MAX)


def is_user_agent(text: str) -> bool:
    """Whether it can be the program that initiated a record."""
    return _is_text(text, 0, USER_AGENT_CHARS_MAX)


def is_owner(text: str) -> bool:
    """Whether it can be a sub-account."""
    return _is_text(text, 1, ADDRESS_CHARS_MAX)


def is_tag(text: str) -> bool:
    """Whether it can be a tag."""
    return _is_text(text, 1, ADDRESS_CHARS_MAX)


def normal_number(text: str) -> str:
    """A telephone number without separators and with ``+``; any other address as it is."""
    bare = text.translate(_SEPARATORS)
    if not _NUMBER.match(bare):
        return text
    return "+" + bare[2:] if _TRUNK_PREFIX.match(bare) else bare


def are_normal_ips(texts: Collection[str]) -> bool:
    """Whether all are plainly IP addresses in their normal form; of few others the answer is no.

    To ask of all together takes half as long as of one after the other.
    """
    together = "\n".join([*texts, ""])
    return together.count("\n") == len(texts) and _are_plain_ips(together) is not None


def normal_ip(text: str, field: str = "ip") -> str:
    """An IP address in the one form that equal addresses share."""
    # Four plain octets are that form, and most of what comes.
    if is_ipv4(text):
        return text
    if _is_plain_ipv6(text):
        return text
    # The zone of a link-local address may be any text.
    check_text(field, text, 1, ADDRESS_CHARS_MAX)
    try:
        address = ip_address(text)
        # An IPv4 address as a dual-stack socket shows it, which newer Pythons write differently.
        return (getattr(address, "ipv4_mapped", None) or address).compressed
    except ValueError:
        raise InvalidValueError(field, text, IP_RULE, reason_code="bad_format") from None


def normal_instant(field: str, value: datetime, latest: datetime) -> datetime:
    """An instant in UTC, which a time without a zone is taken for.

    Raises:
        InvalidValueError: it is later than ``latest``.
    """
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


def normal_address(field: str, text: str) -> str:
    """A sender or recipient in its normal form.

    Raises:
        InvalidValueError: it is empty, too long, or cannot be printed.
    """
    # Nearly all are numbers with or without ``+``, short codes or plain names.
    if is_plain_address(text):
        return text
    check_text(field, text, 1, ADDRESS_CHARS_MAX)
    return normal_number(text)


def check_text(field: str, text: str, chars_min: int, chars_max: int) -> None:
    """A text is printable on one line, and of a length between the bounds (characters).

    Raises:
        InvalidValueError: it is not.
    """
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


def check_currency(text: str) -> None:
    """It is three capital letters, as ISO 4217 has them.

    Raises:
        InvalidValueError: it is not.
    """
    if not _CURRENCY.match(text):
        raise InvalidValueError(
            "currency", text, "must be three capital letters, such as SEK", reason_code="bad_format"
        )


def check_message(message: str, chars_max: int) -> None:
    """A message is not too long (characters), and PostgreSQL can store it.

    Raises:
        InvalidValueError: it is, or cannot be stored.
    """
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


def _is_text(text: str, chars_min: int, chars_max: int) -> bool:
    return chars_min <= len(text) <= chars_max and _is_printable(text)


def _is_printable(text: str) -> bool:
    # A no-break space is as printable as any other, whatever str.isprintable() says.
    return text.isprintable() or text.replace("\u00a0", " ").isprintable()
