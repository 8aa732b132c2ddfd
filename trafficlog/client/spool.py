"""Records on the gateway's disk, for as long as the service is away.

A directory with segments, each a file of frames that is written once, read once and
unlinked when the service has answered for all of it. What ``append`` returned from is
on the disk; a process that is killed leaves at worst a torn frame at the end of its
last segment, which is passed over when it is read and goes with the segment. The
directory has one owner at a time. All calls block, and are made one at a time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trafficlog.client.errors import SpoolBusyError, SpoolFailedError, SpoolFullError
from trafficlog.client.frames import Frames, framed, read_frames
from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

SPOOL_BYTES_MAX: Final = 2**30
SEGMENT_BYTES_MAX: Final = 2**20
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class ReadSegment:
    """The oldest segment, sealed: nothing more is written to it."""

    number: int
    frames: Frames


class Spool:
    """The spool in ``directory``, which is made when it is not there. A context manager.

    It holds at most ``bytes_max`` bytes of files. A segment is sealed when it
    has ``segment_bytes_max``; that is what is sent again after a crash at most.
    """

    def __init__(
        self,
        directory: Path,
        bytes_max: int = SPOOL_BYTES_MAX,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> None:
        if bytes_max < 1:
            raise InvalidValueError("spool_bytes_max", bytes_max, "must be at least 1")
        self._directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes_max = min(segment_bytes_max, bytes_max)
        self._segments: deque[_Segment] = deque()
        self._last_number = 0
        self._writing: int | None = None
        self._lock: int | None = None
        self.bytes_used = 0
        self.damaged_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here."""
        return not self._segments

    @property
    def numbers(self) -> tuple[int, int]:
        """The numbers of the oldest segment (0: there is none) and of the newest ever made."""
        try:
            return self._segments[0].number, self._last_number
        except IndexError:
            return 0, self._last_number

    def open(self) -> None:
        """Takes the directory, and looks what is there from before.

        Raises:
            SpoolBusyError: another client has it.
            SpoolFailedError: it cannot be made, read or written.
        """
        try:
            missing = [p for p in (self._directory, *self._directory.parents) if not p.exists()]
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for made in missing:
                _sync(made.parent)
            self._lock = os.open(
                self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self._directory.glob("*.segment"):
                self._segments.append(_Segment(int(path.stem), path, path.stat().st_size))
            # What was found damaged takes its room until somebody has looked at it.
            damaged = {path: path.stat().st_size for path in self._directory.glob("*.damaged")}
        except BlockingIOError as error:
            self.close()
            raise SpoolBusyError(
                f"another client has the spool {self._directory}; each needs one of its own"
            ) from error
        except (OSError, ValueError) as error:
            self.close()
            raise SpoolFailedError(f"the spool {self._directory}: {error}") from error
        self._segments = deque(sorted(self._segments, key=lambda each: each.number))
        # No number comes again, or one damaged segment would be set aside over another.
        numbers = [int(path.stem) for path in damaged if path.stem.isdecimal()]
        self._last_number = max([*numbers, *(each.number for each in self._segments)], default=0)
        self.damaged_bytes = sum(damaged.values())
        self.bytes_used = sum(each.size for each in self._segments) + self.damaged_bytes

    def close(self) -> None:
        """Gives the directory back. What it holds stays for the next owner."""
        self._seal()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, lines: Sequence[bytes]) -> None:
        """Keeps records; on return they are on the disk.

        Raises:
            SpoolFullError: there is no room for them, in the spool or on its disk.
            SpoolFailedError: they cannot be written.
        """
        data = framed(lines)
        if self.bytes_used + len(data) > self._bytes_max:
            raise SpoolFullError(
                f"the spool {self._directory} holds {self.bytes_used} bytes of at most "
                f"{self._bytes_max}: no room for {len(lines)} records",
                records=len(lines),
            )
        try:
            segment, file = self._open_segment()
            self._write(segment, file, data)
        except OSError as error:
            kind = SpoolFullError if error.errno in _NO_ROOM else SpoolFailedError
            raise kind(
                f"the spool {self._directory} cannot keep {len(lines)} records: {error}",
                records=len(lines),
            ) from error
        segment.size += len(data)
        self.bytes_used += len(data)
        if segment.size >= self._segment_bytes_max:
            self._seal()

    def oldest(self) -> ReadSegment | None:
        """The records that have waited longest; they stay until ``remove``.

        Raises:
            SpoolFailedError: they cannot be read.
        """
        if not self._segments:
            return None
        if len(self._segments) == 1:
            self._seal()
        segment = self._segments[0]
        try:
            frames = read_frames(segment.path.read_bytes())
        except OSError as error:
            raise SpoolFailedError(f"the spool {self._directory}: {error}") from error
        if frames.torn_bytes:
            log.warning("%s: %d torn bytes at its end are cut", segment.path, frames.torn_bytes)
        if frames.damaged_bytes:
            log.error("%s: %d bytes are damaged", segment.path, frames.damaged_bytes)
        return ReadSegment(segment.number, frames)

    def remove(self, read: ReadSegment) -> None:
        """Unlinks the oldest segment: the service has answered for all that could be read of it.

        One that is damaged is set aside as ``NUMBER.damaged``: what could not be
        read may still be of use to somebody.

        Raises:
            SpoolFailedError: it cannot be unlinked.
        """
        segment = self._segments[0]
        if segment.number != read.number:
            raise ValueError(f"segment {read.number} is not the oldest")
        try:
            if read.frames.damaged_bytes:
                segment.path.replace(segment.path.with_suffix(".damaged"))
                self.damaged_bytes += segment.size
            else:
                segment.path.unlink()
                self.bytes_used -= segment.size
        except OSError as error:
            raise SpoolFailedError(f"the spool {self._directory}: {error}") from error
        self._segments.popleft()

    def _open_segment(self) -> tuple[_Segment, int]:
        """The segment that is written to, and its descriptor."""
        if self._writing is not None:
            return self._segments[-1], self._writing
        number = self._last_number + 1
        path = self._directory / f"{number:016}.segment"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._last_number = number
        try:
            _sync(self._directory)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._writing = file
        self._segments.append(_Segment(number, path, 0))
        return self._segments[-1], file

    def _write(self, segment: _Segment, file: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            # What a failed fsync left behind is not known, and not trusted: the segment ends
            # before it, and what comes next goes into another.
            try:
                os.ftruncate(file, segment.size)
            except OSError:
                log.warning("%s keeps a torn end", segment.path)
            self._seal()
            if not segment.size:
                self._segments.pop()
                segment.path.unlink(missing_ok=True)
            raise

    def _seal(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None


def _sync(path: Path) -> None:
    """Puts a directory's entries on the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
