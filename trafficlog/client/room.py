"""The bound on what a client holds in memory."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """Room for so many records and bytes; who finds none waits in line.

    A record larger than ``bytes_max`` comes in when it is alone.
    """

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()
        self._bytes = 0
        self.records = 0

    async def take(self, size: int) -> None:
        """Waits until there is room for a record of ``size`` bytes, and takes it."""
        if not self._line and self._fits(size):
            self._hold(size)
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((admitted, size))
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                self.give(1, size)
            raise

    def give(self, records: int, size: int) -> None:
        """Gives room back."""
        self.records -= records
        self._bytes -= size
        while self._line:
            admitted, wanted = self._line[0]
            if not admitted.done():
                if not self._fits(wanted):
                    return
                self._hold(wanted)
                admitted.set_result(None)
            self._line.popleft()

    def close(self, error: Exception) -> None:
        """Turns away all that wait."""
        while self._line:
            admitted, _ = self._line.popleft()
            if not admitted.done():
                admitted.set_exception(error)

    def _fits(self, size: int) -> bool:
        return not self.records or (
            self.records < self._records_max and self._bytes + size <= self._bytes_max
        )

    def _hold(self, size: int) -> None:
        self.records += 1
        self._bytes += size
