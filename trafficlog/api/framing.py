"""Where a plain request begins and ends, told from its bytes.

Stricter than HTTP is: what does not pass here is for the web framework's parser, which knows the
rest. So both always see the same requests in the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_END: Final = b"\r\n\r\n"
# The first line of any request that is answered here at all.
_ANY_LINE: Final = re.compile(rb"(?:GET|POST|PUT|DELETE|HEAD) [!-~]+ HTTP/1\.1\r\n")
# Names as RFC 9110 has them, each followed by its colon, and values that can be printed.
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
# What makes of the bytes something else than a body of so many, or of the connection.
_NOT_PLAIN: Final = frozenset(
    {
        b"transfer-encoding",
        b"content-encoding",
        b"trailer",
        b"te",
        b"upgrade",
        b"expect",
        # Read as Connection is.
        b"proxy-connection",
        # Refused, whatever it says.
        b"sec-websocket-key1",
    }
)


class Told(Enum):
    """What can be told of bytes that are no plain request."""

    NOTHING = "nothing"
    MORE_IS_TO_COME = "more is to come"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a plain request: its fields by their names in small letters.

    The body begins at ``body`` and the request ends at ``end``, counted in bytes from where the
    request began.
    """

    fields: Mapping[bytes, bytes]
    body: int
    end: int


def read_head(data: bytes, line: bytes, bytes_max: int, fields_max: int) -> Head | Told:
    """The head that ``data`` begins with, if it is plain and its first line is ``line``.

    Args:
        data: what came.
        line: the only first line that is looked for, with its end.
        bytes_max: how long the head may be.
        fields_max: how many fields it may have.
    """
    if not data.startswith(line):
        return Told.MORE_IS_TO_COME if line.startswith(data) else Told.NOTHING
    end = data.find(HEAD_END, 0, bytes_max)
    if end < 0:
        return Told.MORE_IS_TO_COME if len(data) < bytes_max else Told.NOTHING
    if not _FIELDS.fullmatch(data, len(line), end + 2):
        return Told.NOTHING
    lines = data[len(line) : end].split(b"\r\n")
    fields = {}
    for each in lines:
        name, _, value = each.partition(b":")
        fields[name.lower()] = value.strip(b"\t ")
    length = fields.get(b"content-length", b"0")
    if (
        # A field that comes twice may mean this or that.
        not len(lines) == len(fields) <= fields_max
        or b"host" not in fields
        or not _NOT_PLAIN.isdisjoint(fields)
        or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or not _LENGTH.fullmatch(length)
    ):
        return Told.NOTHING
    return Head(fields, end + len(HEAD_END), end + len(HEAD_END) + int(length))


def end_of(data: bytes, bytes_max: int, fields_max: int) -> int | None:
    """After how many bytes the request ends that ``data`` begins with; None: it is not plain.

    Args:
        data: what came, the whole head at least.
        bytes_max: how long the head may be.
        fields_max: how many fields it may have.
    """
    line = _ANY_LINE.match(data)
    head = Told.NOTHING if line is None else read_head(data, line[0], bytes_max, fields_max)
    return head.end if isinstance(head, Head) else None
