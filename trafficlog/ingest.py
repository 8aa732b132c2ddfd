"""Group commit: what waits to be written goes into one transaction.

Requests hand in their batches and wait. A few writers take whatever has gathered,
up to a bound, write it as one transaction and answer every request of it. So a
thousand small requests cost few commits, and a lone one does not wait for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog

from trafficlog.errors import BufferFullError, DatabaseUnavailableError, TrafficlogError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

log = structlog.get_logger()

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741 - the outcome of a batch B
B_contra = TypeVar("B_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)


class Writer(Protocol[B_contra, O_co]):
    """What puts a group of batches on disk, all or none of them."""

    async def write(self, batches: Sequence[B_contra], now: datetime) -> Sequence[O_co]:
        """The outcome of each batch, once all are on disk."""


@dataclass(slots=True)
class _Waiting(Generic[B, O]):
    batch: B
    size: int
    answer: asyncio.Future[O]


class IngestBuffer(Generic[B, O]):
    """The bounded buffer between requests and writers.

    Args:
        writer: puts groups on disk.
        clock: the present time, read once for each group.
        waiting_max: records that may wait; beyond it, requests are turned away.
        group_max: records written in one transaction.
        writers: transactions under way at once. A second one begins only when ``crowd``
            records wait, a tenth of a group: until then they gather for the next, for each
            transaction has its price.
        on_flush: told how long each transaction took, in seconds.
    """

    def __init__(
        self,
        writer: Writer[B, O],
        clock: Callable[[], datetime],
        *,
        waiting_max: int,
        group_max: int,
        writers: int,
        crowd: int | None = None,
        on_flush: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._waiting_max = waiting_max
        self._group_max = group_max
        self._writers = writers
        self._crowd = group_max // 10 if crowd is None else crowd
        self._on_flush = on_flush
        self._queue: deque[_Waiting[B, O]] = deque()
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._queued = 0
        self._busy = 0
        self.waiting = 0

    def start(self) -> None:
        """Starts the writers."""
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._writers)]

    async def close(self) -> None:
        """Writes what is waiting, then stops. New batches are turned away."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)

    async def submit(self, batch: B, size: int) -> O:
        """The outcome of ``batch`` (of ``size`` records), once it is on disk.

        Raises:
            BufferFullError: too many records wait already; nothing was taken.
            DatabaseUnavailableError: it could not be written.
        """
        if self._closing:
            raise DatabaseUnavailableError("the service is stopping")
        if self.waiting and self.waiting + size > self._waiting_max:
            raise BufferFullError(waiting=self.waiting, limit=self._waiting_max)
        entry = _Waiting[B, O](batch, size, asyncio.get_running_loop().create_future())
        self.waiting += size
        self._queued += size
        self._queue.append(entry)
        self._arrived.set()
        # A client that hangs up does not undo what it sent: its batch is written.
        return await asyncio.shield(entry.answer)

    async def _run(self) -> None:
        while True:
            group = self._take() if not self._busy or self._queued >= self._crowd else []
            if group:
                self._busy += 1
                try:
                    await self._write(group)
                finally:
                    self._busy -= 1
                    self.waiting -= sum(e.size for e in group)
            elif self._closing:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _take(self) -> list[_Waiting[B, O]]:
        group: list[_Waiting[B, O]] = []
        size = 0
        while self._queue and (not group or size + self._queue[0].size <= self._group_max):
            entry = self._queue.popleft()
            group.append(entry)
            size += entry.size
        self._queued -= size
        return group

    async def _write(self, group: list[_Waiting[B, O]]) -> None:
        began = time.perf_counter()
        try:
            outcomes = await self._writer.write([e.batch for e in group], self._clock())
            self._on_flush(time.perf_counter() - began)
            for entry, outcome in zip(group, outcomes, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(outcome)
        except TrafficlogError as error:
            log.warning("flush_failed", code=error.code, batches=len(group), reason=error.detail)
            _fail(group, error)
        except Exception as error:
            if len(group) > 1:
                # One batch that cannot be written must not take the others with it.
                log.warning("flush_split", batches=len(group), reason=str(error))
                for entry in group:
                    await self._write([entry])
                return
            log.exception("flush_broke")
            _fail(group, TrafficlogError("the batch could not be written"))


def _fail(group: list[_Waiting[B, O]], error: Exception) -> None:
    for entry in group:
        if not entry.answer.done():
            entry.answer.set_exception(error)
            # When nobody waits any more, the exception is not to be complained of.
            with contextlib.suppress(Exception):
                entry.answer.exception()
