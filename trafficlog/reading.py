"""Many reports read at once: what is plainly right passes by columns, the rest one by one.

Nearly every report of a gateway is right and in its normal form already, and to see that
of a whole column costs a fraction of what it costs for each value. So the lines of a
body are decoded together and their columns looked over; a report that is not plainly
right is read again by ``parse_report``, which alone decides and says what is wrong.
What passes here is what ``parse_report`` would have given: no rule stands here that is
not stricter than one of its own.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.errors import InvalidValueError
from trafficlog.records import Limits, Report, is_status_of, parse_report
from trafficlog.retention import AHEAD_MAX
from trafficlog.values import (
    ADDRESS_CHARS_MAX,
    NAME_CHARS,
    NAME_CHARS_MAX,
    is_name,
    is_owner,
    is_plain_address,
    is_tag,
    is_user_agent,
    normal_ip,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_decoder: Final = msgspec.json.Decoder(Report)
_NAME_BYTES: Final = NAME_CHARS.encode()
_ALPHANUMERIC_BYTES: Final = (string.ascii_letters + string.digits).encode()


@dataclass(frozen=True, slots=True)
class Refused:
    """A report that cannot be taken: its place among those read, its text, and why."""

    index: int
    raw: bytes
    error: InvalidValueError


def steps(body: bytes, bytes_max: int) -> Iterator[bytes]:
    """The body in parts of whole lines, each of about ``bytes_max`` or of one line."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + bytes_max) + 1 or len(body)
        yield body[start:end]
        start = end


def read_lines(part: bytes, limits: Limits) -> tuple[list[Report], list[Refused]]:
    """The reports of NDJSON lines, in their normal form, and those that are refused."""
    reports = _decoded(part)
    if reports is None:
        return read_each([line for line in part.split(b"\n") if line.strip()], limits)
    doubtful = doubtful_ones(reports, limits)
    if not doubtful:
        return reports, []
    refused = []
    lines = part.split(b"\n")
    for index in sorted(doubtful):
        try:
            reports[index] = parse_report(lines[index], limits)
        except InvalidValueError as error:
            refused.append(Refused(index, lines[index], error))
    if refused:
        gone = {each.index for each in refused}
        reports = [r for index, r in enumerate(reports) if index not in gone]
    return reports, refused


def read_each(
    items: Sequence[bytes | memoryview], limits: Limits
) -> tuple[list[Report], list[Refused]]:
    """The same of JSON texts, one by one."""
    reports, refused = [], []
    for index, item in enumerate(items):
        try:
            reports.append(parse_report(item, limits))
        except InvalidValueError as error:
            refused.append(Refused(index, bytes(item), error))
    return reports, refused


def _decoded(part: bytes) -> list[Report] | None:
    """The reports of the lines; None when some line is not plainly one object."""
    try:
        reports = _decoder.decode_lines(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # The decoder takes objects that share a line, or cover many. A line's end cannot stand in a
    # string, so these two counts say that each object is a line and each line is an object.
    ends = part.count(b"\n") - part.endswith(b"\n")
    if not ends == part.count(b"}\n{") == len(reports) - 1:
        return None
    return reports


def doubtful_ones(reports: Sequence[Report], limits: Limits) -> set[int]:
    """Which of the reports, one or more, may be refused by ``parse_report``, or changed."""
    doubtful = _at_odd_times(reports, limits)
    doubtful |= _not_all(_are_names, is_name, [r.id for r in reports])
    doubtful |= _not_all(_are_plain_addresses, is_plain_address, [r.sender for r in reports])
    doubtful |= _not_all(_are_plain_addresses, is_plain_address, [r.recipient for r in reports])
    doubtful |= _not_one_of(is_name, [r.account for r in reports])
    doubtful |= _not_one_of(_is_normal_ip, [r.ip for r in reports])
    doubtful |= _not_one_of(is_user_agent, [r.user_agent for r in reports])
    doubtful |= _not_one_of(is_owner, [r.owner for r in reports])
    states = [(r.kind, r.status) for r in reports]
    odd = {(kind, status) for kind, status in set(states) if not is_status_of(kind, status)}
    if odd:
        doubtful |= {index for index, state in enumerate(states) if state in odd}
    chars_max = limits.message_chars_max
    for index, report in enumerate(reports):
        message = report.message
        if message is not None and (len(message) > chars_max or "\0" in message):
            doubtful.add(index)
        if report.tags and not all(map(is_tag, report.tags)):
            doubtful.add(index)
    return doubtful


def _at_odd_times(reports: Sequence[Report], limits: Limits) -> set[int]:
    earliest, latest = limits.surely_kept_after, limits.now + AHEAD_MAX
    doubtful = {
        index
        for index, created in enumerate([r.created for r in reports])
        if created.tzinfo is not UTC or not earliest < created <= latest
    }
    for column in ([r.updated for r in reports], [r.delivered for r in reports]):
        if column.count(None) == len(column):
            continue
        doubtful |= {
            index
            for index, time in enumerate(column)
            if time is not None and (time.tzinfo is not UTC or time > latest)
        }
    return doubtful


def _not_all(
    all_are: Callable[[Sequence[str]], bool], is_one: Callable[[str], bool], column: Sequence[str]
) -> set[int]:
    """The values that are not ``is_one``, of a column whose values are mostly different."""
    if all_are(column):
        return set()
    return {index for index, text in enumerate(column) if not is_one(text)}


def _not_one_of(is_one: Callable[[str], bool], column: Sequence[str | None]) -> set[int]:
    """The same of a column whose values come again and again: each is looked at once."""
    odd = {text for text in set(column) if text is not None and not is_one(text)}
    return {index for index, text in enumerate(column) if text in odd} if odd else set()


def _are_names(texts: Sequence[str]) -> bool:
    lengths = set(map(len, texts))
    if min(lengths) < 1 or max(lengths) > NAME_CHARS_MAX:
        return False
    together = "".join(texts)
    return together.isascii() and not together.encode().translate(None, _NAME_BYTES)


def _are_plain_addresses(texts: Sequence[str]) -> bool:
    """Letters and digits, at most a ``+`` before them, and no ``00`` that stands for one."""
    if max(map(len, texts)) > ADDRESS_CHARS_MAX:
        return False
    together = "\n".join(["", *texts, ""])
    if not together.isascii():
        return False
    joined = together.encode()
    signs = joined.count(b"\n+")
    return (
        # Besides letters and digits there are the separators and what stands right behind one,
        len(joined.translate(None, _ALPHANUMERIC_BYTES)) == len(texts) + 1 + signs
        # and nothing is empty, a sign alone, or a number with the prefix that a sign replaces.
        and not any(odd in joined for odd in (b"\n\n", b"\n+\n", b"\n00"))
    )


def _is_normal_ip(text: str) -> bool:
    try:
        return normal_ip(text) == text
    except InvalidValueError:
        return False
