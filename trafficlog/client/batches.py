"""Records on their way from ``send`` to a request or to the spool."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.client.figures import Outcome


class Batch:
    """Records that go into one request, and who waits for each; ``due`` is when it goes."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.lines: list[bytes] = []
        self.size = 0
        self._waiting: list[asyncio.Future[Outcome]] = []

    def add(self, line: bytes) -> asyncio.Future[Outcome]:
        """Takes a record; the future is told what became of it."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.lines.append(line)
        self.size += len(line)
        self._waiting.append(future)
        return future

    def settle(self, outcome: Outcome, errors: Mapping[int, Exception] | None = None) -> None:
        """Tells all that wait, those at the indexes in ``errors`` by an exception."""
        for index, future in enumerate(self._waiting):
            if future.done():
                continue  # its send was cancelled
            error = errors.get(index) if errors else None
            if error is None:
                future.set_result(outcome)
            else:
                future.set_exception(error)

    def fail(self, error: Exception) -> None:
        """Tells all that wait that nothing became of their records."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)


class BatchQueue:
    """Batches in their order. The last takes records until it is full or somebody takes it.

    A batch is due ``seconds`` after its first record.
    """

    def __init__(self, records_max: int, bytes_max: int, seconds: float) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self.seconds = seconds
        self._queue: deque[Batch] = deque()
        self._unsettled: set[Batch] = set()
        self._more = asyncio.Event()
        self._hurried = False

    def add(self, line: bytes) -> asyncio.Future[Outcome]:
        """Puts a record into the last batch, or a new one."""
        last = self._queue[-1] if self._queue else None
        if last is None or self._is_full(last) or last.size + len(line) > self._bytes_max:
            last = Batch(asyncio.get_running_loop().time() + self.seconds)
            self._queue.append(last)
            self._unsettled.add(last)
            self._more.set()
        future = last.add(line)
        if self._is_full(last):
            self._more.set()
        return future

    async def take(self) -> Batch:
        """The next batch, once it is full or due."""
        clock = asyncio.get_running_loop().time
        while True:
            self._more.clear()
            pause = None
            if self._queue:
                first = self._queue[0]
                pause = first.due - clock()
                if len(self._queue) > 1 or self._hurried or pause <= 0 or self._is_full(first):
                    return self._queue.popleft()
            try:
                async with asyncio.timeout(pause):
                    await self._more.wait()
            except TimeoutError:
                continue

    def hurry(self, *, from_now_on: bool = False) -> None:
        """Makes all that wait due, and with ``from_now_on`` what comes later too."""
        self._hurried |= from_now_on
        for batch in self._queue:
            batch.due = 0.0
        self._more.set()

    def settled(self, batch: Batch) -> None:
        """Notes that all records of a batch that was taken have been told their outcome."""
        self._unsettled.discard(batch)

    @property
    def unsettled(self) -> frozenset[Batch]:
        """All batches that hold records whose outcome is open, taken or not."""
        return frozenset(self._unsettled)

    def take_all(self) -> list[Batch]:
        """All that are left."""
        left = list(self._queue)
        self._queue.clear()
        return left

    def _is_full(self, batch: Batch) -> bool:
        return len(batch.lines) >= self._records_max or batch.size >= self._bytes_max
