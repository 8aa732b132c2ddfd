"""A log file read to its end, or followed as it is written.

A plain file can be followed. Rotation is noticed by what the name points to:

- *renamed and made anew*: what is still written to the old file is read until
  the new one holds something, since the writer has left the old one then;
- *copied and truncated*: the file is shorter than what was read of it, or
  starts with other bytes. What was written between the last look and the
  truncation is only in the copy, and a line that was half read then is lost.

A file compressed with gzip, told by its first bytes, is read to its end.
"""

from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from trafficlog.errors import TrafficlogError
from trafficlog.ship.lines import LINE_BYTES_MAX, LineSplitter, RawLine

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES: Final = 256 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
_HEAD_BYTES: Final = 256


class LogUnreadableError(TrafficlogError):
    """The log file cannot be opened or read."""

    code = "log_unreadable"


class LogNotFollowableError(TrafficlogError):
    """A compressed file does not grow; it can be shipped but not followed."""

    code = "log_not_followable"


class LogReader(Protocol):
    """Gives the lines of a log, a piece at a time, without waiting for more to be written."""

    @property
    def finished(self) -> bool:
        """Whether no more lines can come."""

    @property
    def bytes_read(self) -> int:
        """How far the file has been read."""

    @property
    def bytes_total(self) -> int:
        """How long the file is now."""

    def read_lines(self) -> list[RawLine]:
        """The lines of the next piece; none means that none is complete yet.

        Raises:
            LogUnreadableError: the file cannot be read any further.
        """

    def close(self) -> None:
        """Lets go of the file."""


def open_log(path: Path, *, follow: bool, line_bytes_max: int = LINE_BYTES_MAX) -> LogReader:
    """Opens a log file, plain or compressed with gzip.

    Raises:
        LogUnreadableError: there is no such file, or it cannot be opened.
        LogNotFollowableError: a compressed file is to be followed.
    """
    file = _open(path)
    compressed = os.pread(file.fileno(), len(_GZIP_MAGIC), 0) == _GZIP_MAGIC
    splitter = LineSplitter(line_bytes_max)
    if not compressed:
        return PlainLog(path, file, splitter, follow=follow)
    if follow:
        file.close()
        raise LogNotFollowableError(
            f"{path} is compressed with gzip: it can be shipped, but not followed"
        )
    return GzipLog(path, file, splitter)


def _open(path: Path) -> BinaryIO:
    try:
        # What opens may be a pipe, which would wait for its writer; a log is a file.
        if path.exists() and not path.is_file():
            raise LogUnreadableError(f"{path} is not a file")
        return path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> LogUnreadableError:
    return LogUnreadableError(f"{path} cannot be read: {error.strerror or error}")


class GzipLog:
    """A compressed log, read to its end. Its bytes are counted as they are on the disk."""

    def __init__(self, path: Path, file: BinaryIO, splitter: LineSplitter) -> None:
        self._path = path
        self._file = file
        self._unpacked = gzip.GzipFile(fileobj=file)
        self._splitter = splitter
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the end has been reached."""
        return self._finished

    @property
    def bytes_read(self) -> int:
        """How far the compressed file has been read."""
        return self._file.tell()

    @property
    def bytes_total(self) -> int:
        """The length of the compressed file."""
        return os.fstat(self._file.fileno()).st_size

    def read_lines(self) -> list[RawLine]:
        """The lines of the next piece. A file that was cut short ends in a line that says so."""
        try:
            piece = self._unpacked.read1(CHUNK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            self._finished = True
            return self._splitter.finish("the compressed file is damaged or cut short from here")
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if piece:
            return self._splitter.split(piece)
        self._finished = True
        return self._splitter.finish()

    def close(self) -> None:
        """Lets go of the file."""
        self._unpacked.close()
        self._file.close()


class PlainLog:
    """A log as it is written, read to its end or followed."""

    def __init__(self, path: Path, file: BinaryIO, splitter: LineSplitter, *, follow: bool) -> None:
        self._path = path
        self._file = file
        self._splitter = splitter
        self._follow = follow
        self._finished = False
        self._offset = 0
        self._head = b""

    @property
    def finished(self) -> bool:
        """Whether the end has been reached, which a followed file never has."""
        return self._finished

    @property
    def bytes_read(self) -> int:
        """How far the file that is open now has been read."""
        return self._offset

    @property
    def bytes_total(self) -> int:
        """How long the file that is open now is."""
        return os.fstat(self._file.fileno()).st_size

    def read_lines(self) -> list[RawLine]:
        """The lines of the next piece. When following, a last line without end waits for it."""
        try:
            if self._follow and self._truncated():
                self._restart()
            if piece := self._read():
                return self._splitter.split(piece)
            if not self._follow:
                self._finished = True
                return self._splitter.finish()
            return self._rotate() if self._replaced() else []
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _read(self) -> bytes:
        piece = self._file.read(CHUNK_BYTES)
        if len(self._head) < _HEAD_BYTES:
            self._head = (self._head + piece)[:_HEAD_BYTES]
        self._offset += len(piece)
        return piece

    def _truncated(self) -> bool:
        """Whether what has been read is no longer what the file starts with."""
        descriptor = self._file.fileno()
        if os.fstat(descriptor).st_size < self._offset:
            return True
        return os.pread(descriptor, len(self._head), 0) != self._head

    def _replaced(self) -> bool:
        """Whether the name points to another file, and that one is written to already."""
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        opened = os.fstat(self._file.fileno())
        same = (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
        return not same and named.st_size > 0

    def _rotate(self) -> list[RawLine]:
        """Goes on to the new file once the old one, which is complete now, is read."""
        if piece := self._read():
            return self._splitter.split(piece)
        last = self._splitter.finish()
        old, self._file = self._file, _open(self._path)
        old.close()
        self._restart()
        return last

    def _restart(self) -> None:
        self._file.seek(0)
        self._splitter.restart()
        self._offset = 0
        self._head = b""
