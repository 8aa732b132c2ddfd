"""Where writers of files write to, and from where it goes on as it comes."""

from __future__ import annotations


class Sink:
    """A file that only grows, and forgets what has been taken from it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        """Takes bytes in."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """What was written stays to be taken."""
        self.closed = True

    def taken(self) -> bytes:
        """All that was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data
