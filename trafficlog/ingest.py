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
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import structlog

from trafficlog.errors import BufferFullError, DatabaseUnavailableError, TrafficlogError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

log = structlog.get_logger()

# Batches that came within so small a part of the time they may wait are given up together.
DUE_MOMENTS: Final = 100

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741 - the outcome of a batch B
B_contra = TypeVar("B_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)


class Writer(Protocol[B_contra, O_co]):
    """What puts a group of batches on disk, all or none of them."""

    async def write(self, batches: Sequence[B_contra], now: datetime) -> Sequence[O_co]:
        """The outcome of each batch, once all are on disk."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[B, O]):
    """A batch that was handed in: its ``answer`` will have the outcome, or why there is none."""

    batch: B
    size: int
    answer: asyncio.Future[O]
    # Those that have waited for too long at the same time, itself among them until it is answered.
    due: set[_Waiting[B, O]]
    queued: bool = True


class IngestBuffer(Generic[B, O]):
    """The bounded buffer between requests and writers.

    Args:
        writer: puts groups on disk.
        clock: the present time, read once for each group.
        waiting_max: records that may wait; beyond it, requests are turned away.
        group_max: records written in one transaction.
        writers: transactions under way at once. A second one begins only when as many
            records wait as the one under way has, or ``crowd``, a tenth of a group: until then
            they gather for the next, for each transaction has its price.
        answer_seconds_max: how long a request waits for its batch to be on disk.
        patience_seconds: how long a transaction may take before the next writer no longer
            waits for a crowd: whatever holds it up, a lock on one day for example, need not
            hold up the others.
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
        answer_seconds_max: float = 30,
        patience_seconds: float = 0.5,
        on_flush: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._waiting_max = waiting_max
        self._group_max = group_max
        self._writers = writers
        self._crowd = group_max // 10 if crowd is None else crowd
        self._answer_seconds_max = answer_seconds_max
        self._patience_seconds = patience_seconds
        self._on_flush = on_flush
        self._queue: deque[_Waiting[B, O]] = deque()
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._queued = 0
        # How many records the transaction has that was begun last.
        self._begun = 0
        self._moment = -1
        self._due: set[_Waiting[B, O]] = set()
        # Writers at work, but for those that are held up.
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
            what ``hand_in`` raises.
            DatabaseUnavailableError: it could not be written, or not in time; what a
                transaction had begun with may still come about.
        """
        # A client that hangs up does not undo what it sent: the writers have its batch.
        return await self.hand_in(batch, size)

    def hand_in(self, batch: B, size: int) -> asyncio.Future[O]:
        """The same for those who do not wait here.

        Raises:
            BufferFullError: too many records wait already; nothing was taken.
            DatabaseUnavailableError: the service is stopping; nothing was taken.
        """
        self.admit(size)
        loop = asyncio.get_running_loop()
        due = self._due_at(loop)
        entry = _Waiting(batch, size, loop.create_future(), due)
        due.add(entry)
        self.waiting += size
        self._queued += size
        self._queue.append(entry)
        self._arrived.set()
        return entry.answer

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Keeps room for a batch of at most ``size`` records while it is being read.

        To read what would be turned away afterwards costs those who wait more than to write it.

        Raises:
            what ``hand_in`` raises.
        """
        self.admit(size)
        self.waiting += size
        try:
            yield
        finally:
            self.waiting -= size

    def admit(self, size: int) -> None:
        """Says whether so many records could be handed in now.

        Raises:
            what ``hand_in`` raises.
        """
        if self._closing:
            raise DatabaseUnavailableError("the service is stopping")
        if self.waiting and self.waiting + size > self._waiting_max:
            raise BufferFullError(waiting=self.waiting, limit=self._waiting_max)

    def _due_at(self, loop: asyncio.AbstractEventLoop) -> set[_Waiting[B, O]]:
        """Those that have waited for too long when a batch of this moment has.

        A timer for each batch would cost as much as all the rest of handing it in.
        """
        moment = int(loop.time() / self._answer_seconds_max * DUE_MOMENTS)
        if moment != self._moment:
            self._moment, self._due = moment, set()
            # None of them is given less than its time.
            seconds = self._answer_seconds_max * (1 + 1 / DUE_MOMENTS)
            loop.call_later(seconds, self._too_late, self._due)
        return self._due

    def _too_late(self, entries: set[_Waiting[B, O]]) -> None:
        """Answers requests that have waited for long enough; not begun, a batch is given back."""
        size = sum(entry.size for entry in entries if entry.queued)
        if size:
            self._queue = deque(entry for entry in self._queue if entry not in entries)
            self._queued -= size
            self.waiting -= size
        _fail(
            list(entries),
            DatabaseUnavailableError(
                f"the records were not on disk in {self._answer_seconds_max:g} seconds; "
                "send them again"
            ),
        )

    async def _run(self) -> None:
        while True:
            group = self._take() if not self._busy or self._is_crowd() else []
            if group:
                try:
                    with self._at_work():
                        await self._write(group)
                finally:
                    self.waiting -= sum(e.size for e in group)
            elif self._closing:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _is_crowd(self) -> bool:
        """Whether enough wait for another transaction beside the one under way."""
        return self._queued >= min(self._crowd, self._begun)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Counts a writer among the busy ones, until it is done or held up."""
        held_up = False

        def hold_up() -> None:
            nonlocal held_up
            held_up = True
            self._busy -= 1
            self._arrived.set()

        self._busy += 1
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, hold_up)
        try:
            yield
        finally:
            timer.cancel()
            if not held_up:
                self._busy -= 1

    def _take(self) -> list[_Waiting[B, O]]:
        group: list[_Waiting[B, O]] = []
        size = 0
        while self._queue and (not group or size + self._queue[0].size <= self._group_max):
            entry = self._queue.popleft()
            entry.queued = False
            group.append(entry)
            size += entry.size
        self._queued -= size
        self._begun = size
        return group

    async def _write(self, group: list[_Waiting[B, O]]) -> None:
        began = time.perf_counter()
        try:
            outcomes = await self._writer.write([e.batch for e in group], self._clock())
            self._on_flush(time.perf_counter() - began)
            for entry, outcome in zip(group, outcomes, strict=True):
                entry.due.discard(entry)
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
        entry.due.discard(entry)
        if not entry.answer.done():
            entry.answer.set_exception(error)
            # When nobody waits any more, the exception is not to be complained of.
            with contextlib.suppress(Exception):
                entry.answer.exception()
