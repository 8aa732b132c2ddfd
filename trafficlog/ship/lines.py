"""Bytes as they are read, cut into numbered lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LINE_BYTES_MAX: Final = 1024 * 1024
"""Kannel's own lines stay far below it; it bounds what a file that is no log can take."""


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line without its end. ``number`` counts from 1 in the file that the line stands in.

    ``problem`` says why there is no content to look at.
    """

    number: int
    data: bytes
    problem: str | None = None


class LineSplitter:
    """Cuts what is read into lines. What follows the last line end is kept for the next piece."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._rest = b""
        self._overlong = False
        self._number = 0

    def split(self, piece: bytes) -> list[RawLine]:
        """The lines that are complete with ``piece``."""
        *complete, self._rest = (self._rest + piece).split(b"\n")
        lines = [self._line(each) for each in complete]
        self._overlong = self._overlong or len(self._rest) > self._line_bytes_max
        if self._overlong:
            self._rest = b""
        return lines

    def finish(self, problem: str | None = None) -> list[RawLine]:
        """What is left as the last line, and a start from line 1.

        With a ``problem`` there is always a last line, which has that problem.
        """
        lines = []
        if problem is not None:
            lines = [RawLine(self._number + 1, b"", problem)]
        elif self._rest or self._overlong:
            lines = [self._line(self._rest)]
        self.restart()
        return lines

    def restart(self) -> None:
        """Forgets what is left, as at the start of another file."""
        self._rest, self._overlong, self._number = b"", False, 0

    def _line(self, data: bytes) -> RawLine:
        self._number += 1
        if self._overlong or len(data) > self._line_bytes_max:
            self._overlong = False
            problem = f"the line is longer than {self._line_bytes_max} bytes"
            return RawLine(self._number, b"", problem)
        return RawLine(self._number, data.removesuffix(b"\r"))
