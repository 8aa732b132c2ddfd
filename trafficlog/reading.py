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
import numpy as np

from trafficlog.errors import InvalidValueError
from trafficlog.records import Limits, Report, is_status_of, parse_report
from trafficlog.retention import AHEAD_MAX
from trafficlog.table import ReportTable
from trafficlog.values import (
    ADDRESS_CHARS_MAX,
    NAME_CHARS,
    NAME_CHARS_MAX,
    are_normal_ips,
    is_name,
    is_owner,
    is_plain_address,
    is_tag,
    is_user_agent,
    normal_ip,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

# Of fewer lines each is read for itself: what columns cost, however short, is more (measured: 24
# lines take 75 us in either way, ten 43 together and 33 each for itself).
TOGETHER_MIN: Final = 24
# Of fewer bytes it costs more to ask numpy of them than to look at each.
SHORT_BYTES: Final = 8 * 1024

_decode: Final = msgspec.json.Decoder(Report).decode
_decode_lines: Final = msgspec.json.Decoder(Report).decode_lines
_NAME_BYTES: Final = NAME_CHARS.encode()
_ALPHANUMERIC_BYTES: Final = (string.ascii_letters + string.digits).encode()


@dataclass(frozen=True, slots=True)
class Refused:
    """A report that cannot be taken: its place among those read, its text, and why."""

    index: int
    raw: bytes
    error: InvalidValueError


def steps(body: bytes, bytes_max: int, lines_max: int) -> Iterator[bytes]:
    """The body in parts of whole lines, each of about ``bytes_max`` or of one line.

    Where lines are short a part is of ``lines_max``, for each costs something too.
    """
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + bytes_max) + 1 or len(body)
        if lines_in(body, start, end) > lines_max:
            end = start
            for _ in range(lines_max):
                end = body.find(b"\n", end) + 1
        yield body[start:end]
        start = end


def lines_in(body: bytes, start: int = 0, end: int | None = None) -> int:
    """How many lines end in the body, or between two places of it."""
    if len(body) < SHORT_BYTES:
        return body.count(b"\n", start, end)
    # bytes.count looks at one byte after the other, which takes four times as long.
    part = np.frombuffer(body, np.uint8)[start:end]
    return int(np.count_nonzero(part == ord("\n")))


@dataclass(frozen=True, slots=True)
class Read:
    """The reports of some texts, in their normal form, and those that are refused.

    ``table`` is that of the reports where reading needed it.
    """

    reports: list[Report]
    refused: list[Refused]
    table: ReportTable | None = None

    @property
    def count(self) -> int:
        """How many texts were read."""
        return len(self.reports) + len(self.refused)


def read_lines(part: bytes, limits: Limits) -> Read:
    """The reports of NDJSON lines; empty ones count for nothing."""
    if lines_in(part) < TOGETHER_MIN:
        return _read_each_line(part, limits)
    try:
        reports = _one_of_each_line(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_each_line(part, limits)
    table = ReportTable.of(reports)
    doubtful = doubtful_ones(table, limits)
    if not doubtful:
        return Read(reports, [], table)
    lines = part.split(b"\n")
    good: list[Report] = []
    refused = []
    for index, report in enumerate(reports):
        try:
            good.append(parse_report(lines[index], limits) if index in doubtful else report)
        except InvalidValueError as error:
            refused.append(Refused(index, lines[index], error))
    return Read(good, refused)


def _one_of_each_line(part: bytes) -> list[Report]:
    """The reports of lines none of which is empty, as they are.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: not every line is one.
    """
    text = np.frombuffer(part, np.uint8)
    ends = np.flatnonzero(text[1:-1] == ord("\n"))
    before, behind = text[ends], text[ends + 2]
    # Between two braces a line's end is in no text, where it cannot stand, and in no list or
    # object, where a comma would stand too: so it is the end of a report.
    if part[0] == ord("{") and np.all(before == ord("}")) and np.all(behind == ord("{")):
        reports = _decode_lines(part)
        if len(reports) == len(ends) + 1:
            return reports
    return [_decode(line) for line in part.removesuffix(b"\n").split(b"\n")]


def _read_each_line(part: bytes, limits: Limits) -> Read:
    return read_each([line for line in part.split(b"\n") if line and not line.isspace()], limits)


def read_each(items: Sequence[bytes | memoryview], limits: Limits) -> Read:
    """The same of JSON texts, one by one."""
    reports, refused = [], []
    for index, item in enumerate(items):
        try:
            reports.append(parse_report(item, limits))
        except InvalidValueError as error:
            refused.append(Refused(index, bytes(item), error))
    return Read(reports, refused)


def doubtful_ones(table: ReportTable, limits: Limits) -> set[int]:
    """Which of the reports, one or more, may be refused by ``parse_report``, or changed."""
    doubtful = _at_odd_times(table, limits)
    doubtful |= _not_all(_are_names, is_name, table.id)
    doubtful |= _not_all(_are_plain_addresses, is_plain_address, table.sender)
    doubtful |= _not_all(_are_plain_addresses, is_plain_address, table.recipient)
    doubtful |= _not_one_of(_are_names, is_name, table.account)
    doubtful |= _not_one_of(are_normal_ips, _is_normal_ip, table.ip)
    doubtful |= _not_one_of(_are_printable, is_user_agent, table.user_agent)
    doubtful |= _not_one_of(_are_printable, is_owner, table.owner)
    states = set(zip(table.kind, table.status, strict=True))
    if not all(is_status_of(kind, status) for kind, status in states):
        doubtful |= {
            index
            for index, (kind, status) in enumerate(zip(table.kind, table.status, strict=True))
            if not is_status_of(kind, status)
        }
    chars_max = limits.message_chars_max
    if not _are_messages([text for text in table.message if text], chars_max):
        doubtful |= {
            index
            for index, text in enumerate(table.message)
            if text and (len(text) > chars_max or "\0" in text)
        }
    if table.tags.count(None) < len(table):
        doubtful |= {
            index for index, tags in enumerate(table.tags) if tags and not all(map(is_tag, tags))
        }
    return doubtful


def _at_odd_times(table: ReportTable, limits: Limits) -> set[int]:
    earliest, latest = limits.surely_kept_after, limits.now + AHEAD_MAX
    doubtful: set[int] = set()
    created = table.created
    if not (
        [time.tzinfo for time in created].count(UTC) == len(created)
        and earliest < min(created)
        and max(created) <= latest
    ):
        doubtful |= {
            index
            for index, time in enumerate(created)
            if time.tzinfo is not UTC or not earliest < time <= latest
        }
    for column in (table.updated, table.delivered):
        if column.count(None) == len(column):
            continue
        doubtful |= {
            index
            for index, time in enumerate(column)
            if time is not None and (time.tzinfo is not UTC or time > latest)
        }
    return doubtful


def _are_messages(texts: Sequence[str], chars_max: int) -> bool:
    """None too long, and none with the character that PostgreSQL cannot keep."""
    return not texts or (max(map(len, texts)) <= chars_max and "\0" not in "".join(texts))


def _not_all(
    all_are: Callable[[Collection[str]], bool],
    is_one: Callable[[str], object],
    column: Sequence[str],
) -> set[int]:
    """The values that are not ``is_one``, of a column whose values are mostly different."""
    if all_are(column):
        return set()
    return {index for index, text in enumerate(column) if not is_one(text)}


def _not_one_of(
    all_are: Callable[[Collection[str]], bool],
    is_one: Callable[[str], object],
    column: Sequence[str | None],
) -> set[int]:
    """The same of a column whose values come again and again, or are none."""
    texts = {text for text in set(column) if text is not None}
    if not texts or all_are(texts):
        return set()
    odd = {text for text in texts if not is_one(text)}
    return {index for index, text in enumerate(column) if text in odd}


def _are_names(texts: Collection[str]) -> bool:
    lengths = set(map(len, texts))
    if min(lengths) < 1 or max(lengths) > NAME_CHARS_MAX:
        return False
    together = "".join(texts)
    return together.isascii() and not together.encode().translate(None, _NAME_BYTES)


def _are_printable(texts: Collection[str]) -> bool:
    """Short texts of characters that can all be printed."""
    lengths = set(map(len, texts))
    return min(lengths) >= 1 and max(lengths) <= ADDRESS_CHARS_MAX and "".join(texts).isprintable()


def _are_plain_addresses(texts: Collection[str]) -> bool:
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
