"""The form of a spool's segments: frames, each with the records of one batch.

A frame is a header of 16 bytes (the mark, the length of the content, the number
of records, a CRC-32 of all but the mark) and the content: NDJSON, compressed
with zstd. The mark lets the frames behind a damaged one be found again.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import zstandard

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK: Final = b"TLf1"
_HEADER: Final = struct.Struct("<4sIII")
_COUNTED: Final = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Frame:
    """The records of one frame, compressed."""

    content: bytes
    records: int

    def lines(self) -> list[bytes]:
        """The records as lines of JSON, each with its end."""
        plain: bytes = zstandard.ZstdDecompressor().decompress(self.content)
        return plain.splitlines(keepends=True)


@dataclass(frozen=True, slots=True)
class Frames:
    """What a segment holds.

    ``torn_bytes`` lie behind the last frame, as a process that was killed leaves
    them: nobody was told that they are kept. ``damaged_bytes`` lie before a
    frame; something has changed what was on the disk.
    """

    frames: tuple[Frame, ...]
    torn_bytes: int
    damaged_bytes: int


def framed(lines: Sequence[bytes]) -> bytes:
    """A frame of records, which are lines of JSON with their ends."""
    content = zstandard.ZstdCompressor(level=3).compress(b"".join(lines))
    return _HEADER.pack(MARK, len(content), len(lines), _sum(content, len(lines))) + content


def read_frames(data: bytes) -> Frames:
    """All frames that are whole, in their order, whatever lies between and behind them."""
    frames: list[Frame] = []
    ended = damaged = 0
    start = data.find(MARK)
    while start >= 0:
        frame = _frame_at(data, start)
        if frame is None:
            # The next mark may be the beginning of a whole frame.
            start = data.find(MARK, start + 1)
            continue
        frames.append(frame)
        damaged += start - ended
        ended = start + _HEADER.size + len(frame.content)
        start = data.find(MARK, ended)
    return Frames(tuple(frames), len(data) - ended, damaged)


def _frame_at(data: bytes, start: int) -> Frame | None:
    body = start + _HEADER.size
    if body > len(data):
        return None
    _, length, records, expected = _HEADER.unpack_from(data, start)
    content = data[body : body + length]
    if len(content) < length or _sum(content, records) != expected:
        return None
    return Frame(content, records)


def _sum(content: bytes, records: int) -> int:
    return zlib.crc32(content, zlib.crc32(_COUNTED.pack(len(content), records)))
