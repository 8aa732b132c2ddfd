"""Many reports read at once: what is plainly right passes by columns, the rest one by one.

Nearly every report of a gateway is right and in its normal form already, and to see that
of a whole column costs a fraction of what it costs for each value. So the lines of a
body are decoded together and their columns looked over; a report that is not plainly
right is read again by ``parse_report``, which alone decides and says what is wrong.
What passes here is what ``parse_report`` would have given: no rule stands here that is
not stricter than one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from trafficlog.errors import InvalidValueError
from trafficlog.records import (
    KIND_CODES,
    STATUS_NAMES,
    Limits,
    Report,
    is_status_of,
    parse_report,
)
from trafficlog.retention import AHEAD_MAX
from trafficlog.table import ReportTable
from trafficlog.values import (
    ADDRESS_CHARS_MAX,
    USER_AGENT_CHARS_MAX,
    are_normal_ips,
    is_name,
    is_owner,
    is_plain_address,
    is_tag,
    is_user_agent,
    normal_ip,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Of fewer lines each is read for itself: what columns cost, however short, is more (measured: 100
# lines take 370 us together and 340 each for itself, 150 490 and 510, 1,000 2.5 and 3.4 ms).
TOGETHER_MIN: Final = 150
# Of fewer bytes it costs more to ask numpy of them than to look at each.
SHORT_BYTES: Final = 8 * 1024

_decode: Final = msgspec.json.Decoder(Report).decode
_decode_lines: Final = msgspec.json.Decoder(Report).decode_lines
# Whether a kind can have a status, by their codes: from 1 on for kinds, and 0 for no status.
_CAN_HAVE: Final = np.array(
    [
        [is_status_of(kind, STATUS_NAMES.get(status)) for status in range(max(STATUS_NAMES) + 1)]
        for kind in ("", *KIND_CODES)
    ]
)


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
    reports = table.reports
    doubtful = _at_odd_times(table, limits) | _in_odd_states(table)
    if not table.id.are_names():
        doubtful |= _odd_ones([r.id for r in reports], is_name)
    if not table.account.are_names():
        doubtful |= _odd_ones([r.account for r in reports], is_name)
    if not table.sender.are_plain_addresses():
        doubtful |= _odd_ones([r.sender for r in reports], is_plain_address)
    if not table.recipient.are_plain_addresses():
        doubtful |= _odd_ones([r.recipient for r in reports], is_plain_address)
    ips = {r.ip for r in reports if r.ip is not None}
    if ips and not are_normal_ips(ips):
        doubtful |= _odd_ones([r.ip for r in reports], _is_normal_ip)
    if not table.user_agent.are_printable(0, USER_AGENT_CHARS_MAX):
        doubtful |= _odd_ones([r.user_agent for r in reports], is_user_agent)
    if not table.owner.are_printable(1, ADDRESS_CHARS_MAX):
        doubtful |= _odd_ones([r.owner for r in reports], is_owner)
    if not table.message.are_storable(limits.message_chars_max):
        doubtful |= _odd_ones(
            [r.message for r in reports],
            lambda text: len(text) <= limits.message_chars_max and "\0" not in text,
        )
    if tags := {tag for tags in table.tags if tags for tag in tags}:
        odd = {tag for tag in tags if not is_tag(tag)}
        doubtful |= {n for n, tags in enumerate(table.tags) if tags and not odd.isdisjoint(tags)}
    return doubtful


def _odd_ones(column: Sequence[str | None], is_right: Callable[[str], object]) -> set[int]:
    """Where the texts stand that are not right; values come again and again."""
    odd = {text for text in set(column) if text is not None and not is_right(text)}
    return {index for index, text in enumerate(column) if text in odd} if odd else set()


def _in_odd_states(table: ReportTable) -> set[int]:
    """Which have a status that their kind cannot have."""
    kinds, statuses = (np.frombuffer(codes, np.uint8) for codes in (table.kind, table.status))
    right = _CAN_HAVE[kinds, statuses]
    return set() if right.all() else set(np.flatnonzero(~right).tolist())


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


def _is_normal_ip(text: str) -> bool:
    try:
        return normal_ip(text) == text
    except InvalidValueError:
        return False
