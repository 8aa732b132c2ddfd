"""The gateway's client: records one by one, batched, sent, and kept while the service is away.

What ``send`` promises when it returns: the record is acknowledged by the service, or it
is in the spool on the disk. When it raises, the caller has the record still. No record
is dropped without one of these.

A batch goes to the service directly while that answers. When it has not answered for
``spool_after_seconds``, the batch goes to the spool, and so do those behind it until the
service has answered again. The spool is sent from its oldest records on, beside what
is new then: the store keeps the newest report of a record in whichever order they come.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, TypeVar

from trafficlog.client.batches import Batch, BatchQueue
from trafficlog.client.errors import ClientClosedError, ServiceUnreachableError
from trafficlog.client.figures import ClientFigures, Outcome, Tally
from trafficlog.client.posting import BATCH_BYTES_MAX, Encoding, Poster, as_line, in_batches
from trafficlog.client.retries import Retry, RetryPolicy
from trafficlog.client.room import Room
from trafficlog.client.spool import SPOOL_BYTES_MAX, Spool
from trafficlog.errors import InvalidValueError, TrafficlogError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from trafficlog.client.figures import RefusedRecord
    from trafficlog.client.spool import ReadSegment

log = logging.getLogger(__name__)

RECORD_BYTES_MAX: Final = 2**20

T = TypeVar("T")


class Client:
    """Sends records to a trafficlog service. An asynchronous context manager.

    ``url`` is the service's root, ``key`` an API key with the scope ``ingest``.

    ``spool``: a directory of this client alone for records that the service
        cannot take now; without one, ``send`` waits, and raises after
        ``retry.give_up_after_seconds``. ``spool_bytes_max`` bounds it, and
        ``spool_after_seconds`` is how long a batch is tried before it goes there, also
        when the service is silent; a request out of the spool may take ``request_seconds``.
    ``batch_records_max``, ``batch_bytes_max``, ``batch_seconds``: a request goes
        out when it has so many records or bytes of JSON, or when its oldest
        record is so old; and ``requests_max`` are under way at once.
    ``waiting_records_max``, ``waiting_bytes_max``: what may be in memory; when it
        is, ``send`` waits for room. ``record_bytes_max``: the largest record.
    ``close_seconds``: how long leaving the block waits for what is in memory,
        and for a spool that is being sent; what is left stays in the spool.
    ``on_refused`` is called for each record that the service refuses, and the
        ``send`` that still waits for it raises as well. Without it a refusal is
        logged. When it raises, the client stops.
    ``on_retry`` is called before each pause.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        spool: Path | None = None,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        spool_after_seconds: float = 2.0,
        batch_records_max: int = 1000,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        batch_seconds: float = 0.02,
        requests_max: int = 4,
        waiting_records_max: int = 20_000,
        waiting_bytes_max: int = 64 * 2**20,
        record_bytes_max: int = RECORD_BYTES_MAX,
        close_seconds: float = 5.0,
        encoding: Encoding = "zstd",
        request_seconds: float = 60.0,
        retry: RetryPolicy | None = None,
        on_refused: Callable[[RefusedRecord], None] | None = None,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> None:
        for name, value in (
            ("requests_max", requests_max),
            ("waiting_records_max", waiting_records_max),
            ("record_bytes_max", record_bytes_max),
            ("batch_bytes_max", batch_bytes_max),
        ):
            if value < 1:
                raise InvalidValueError(name, value, "must be at least 1")
        for name, seconds in (
            ("spool_after_seconds", spool_after_seconds),
            ("batch_seconds", batch_seconds),
            ("close_seconds", close_seconds),
        ):
            if not seconds >= 0:  # which NaN is not
                raise InvalidValueError(name, seconds, "must be a number of seconds from 0 on")
        self._retry = retry or RetryPolicy()
        self._spool_retry = replace(self._retry, give_up_after_seconds=None)
        self._spool_after_seconds = None if spool is None else spool_after_seconds
        if spool is not None:
            self._retry = replace(self._retry, give_up_after_seconds=spool_after_seconds)
        self._poster = Poster(
            url,
            key,
            batch_records_max=batch_records_max,
            batch_bytes_max=batch_bytes_max,
            encoding=encoding,
            request_seconds=request_seconds,
            retry=self._retry,
            on_retry=on_retry,
        )
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        self._batch_seconds = batch_seconds
        self._record_bytes_max = record_bytes_max
        self._requests_max = requests_max
        self._close_seconds = close_seconds
        self._tally = Tally(on_refused)
        self._spool = None if spool is None else Spool(spool, spool_bytes_max)
        self._room = Room(waiting_records_max, waiting_bytes_max)
        self._queue = BatchQueue(batch_records_max, batch_bytes_max, batch_seconds)
        self._thread: ThreadPoolExecutor | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._wake_drain = asyncio.Event()
        # Set whenever something that ``flush`` waits for may have come about.
        self._moved = asyncio.Event()
        self._away = False
        self._closing = False
        self._stopped: Exception | None = None
        self._told = False

    async def __aenter__(self) -> Self:
        if self._spool is not None:
            self._spool.open()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="trafficlog-spool")
        await self._poster.__aenter__()
        self._tasks = [asyncio.create_task(self._deliver_all()) for _ in range(self._requests_max)]
        if self._spool is not None:
            self._tasks.append(asyncio.create_task(self._drain_all(self._spool)))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._room.close(ClientClosedError())
        self._queue.hurry(from_now_on=True)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._close_seconds):
                    await self._until(self._may_leave)
        finally:
            await self._close()
        if kind is None and self._stopped is not None and not self._told:
            raise self._stopped

    @property
    def figures(self) -> ClientFigures:
        """The client's figures at this moment."""
        spool, counters, tally = self._spool, self._poster.counters, self._tally
        return ClientFigures(
            sent=tally.sent,
            accepted=tally.accepted,
            updated=tally.updated,
            duplicates=tally.duplicates,
            refused=tally.refused,
            spooled=tally.spooled,
            waiting=self._room.records,
            spool_bytes=0 if spool is None else spool.bytes_used,
            damaged_bytes=0 if spool is None else spool.damaged_bytes,
            requests=counters.requests,
            retries=counters.retries,
            service_away=self._away,
        )

    async def send(self, record: Mapping[str, object]) -> Outcome:
        """Hands over one record; returns when it is stored, or in the spool on the disk.

        Any number of calls may wait at once, and share requests. When the call is
        cancelled, the record may be stored or not.

        Raises:
            InvalidValueError: the record holds what JSON cannot, or is too large.
            RecordRefusedError: the service does not store it and never would.
            SpoolFullError, SpoolFailedError: the service is away, and it cannot be kept.
            ServiceUnreachableError: the service is away, and there is no spool.
            KeyMissingError, ScopeMissingError, RequestRefusedError,
            AnswerUnreadableError: the service takes nothing from this client.
                Nothing is sent any more; what is in the spool stays there.
            ClientClosedError: the block was left meanwhile.
        """
        self._check_running()
        line = as_line(record, "record")
        if len(line) > self._record_bytes_max:
            raise InvalidValueError(
                "record", record, f"has {len(line)} bytes; at most {self._record_bytes_max} go"
            )
        await self._room.take(len(line))
        # Nothing is awaited between the check and the queue, which leaving the block empties.
        try:
            self._check_running()
        except BaseException:
            self._room.give(1, len(line))
            raise
        self._tally.sent += 1
        return await self._queue.add(line)

    async def flush(self) -> None:
        """Returns when all that was handed over is acknowledged or refused, the spool included.

        Waits for as long as the service is away.

        Raises:
            As ``send``, when nothing is sent any more.
        """
        queue = self._queue
        queue.hurry()
        handed_over = queue.unsettled
        await self._until(lambda: not handed_over & queue.unsettled)
        spool = self._spool
        if spool is not None:
            _, newest = spool.numbers
            await self._until(
                lambda: spool.is_empty or spool.numbers[0] > newest or self._stopped is not None
            )
        self._check_running()

    async def _deliver_all(self) -> None:
        """Delivers batches until it is cancelled; then the one it has is kept or failed."""
        while True:
            batch = await self._queue.take()
            try:
                await self._deliver(batch)
            except asyncio.CancelledError:
                await self._keep(batch, ClientClosedError())
                raise
            except Exception as error:  # noqa: BLE001 - all that wait for it hear of it
                batch.fail(error)
                self._stop(error)
            finally:
                self._settled(batch)

    async def _deliver(self, batch: Batch) -> None:
        """Brings a batch to the service, or to the spool."""
        if self._stopped is not None:
            await self._keep(batch, self._stopped)
            return
        if self._away and self._spool is not None and not self._spool.is_empty:
            await self._keep(batch, None)
            return
        try:
            # A try that is cut off may have been stored, and comes again out of the spool.
            async with asyncio.timeout(self._spool_after_seconds):
                answer = await self._poster.post_lines(batch.lines, self._retry)
        except (ServiceUnreachableError, TimeoutError) as error:
            self._note(away=True)
            await self._keep(batch, error)
        except TrafficlogError as error:
            self._stop(error)
            await self._keep(batch, error)
        else:
            self._note(away=False)
            batch.settle(Outcome.STORED, self._tally.answered(batch.lines, answer))

    async def _keep(self, batch: Batch, error: Exception | None) -> None:
        """Puts a batch into the spool; without one its records fail with ``error``."""
        if self._spool is None:
            batch.fail(error or ClientClosedError())
            return
        try:
            await self._in_thread(self._spool.append, batch.lines)
        except TrafficlogError as failed:
            batch.fail(failed)
            return
        self._tally.spooled += len(batch.lines)
        batch.settle(Outcome.SPOOLED)
        self._wake_drain.set()

    def _settled(self, batch: Batch) -> None:
        # Whoever has heard nothing, as keeping it was cut off itself, waits for nothing any more.
        batch.fail(ClientClosedError())
        self._queue.settled(batch)
        self._room.give(len(batch.lines), batch.size)
        self._moved.set()

    async def _drain_all(self, spool: Spool) -> None:
        """Sends what is in the spool, whenever there is something."""
        try:
            while True:
                self._wake_drain.clear()
                segment = await self._in_thread(spool.oldest)
                if segment is None:
                    await self._wake_drain.wait()
                elif not await self._drain(segment):
                    return
                else:
                    await self._in_thread(spool.remove, segment)
                    self._moved.set()
        except Exception as error:  # noqa: BLE001 - the next send and flush raise it
            self._stop(error)

    async def _drain(self, segment: ReadSegment) -> bool:
        """Sends the records of a segment; whether the service has answered for all of them."""
        lines = (line for frame in segment.frames.frames for line in frame.lines())
        for batch in in_batches(lines, self._batch_records_max, self._batch_bytes_max):
            if self._stopped is not None:
                return False
            answer = await self._poster.post_lines(batch, self._spool_retry)
            self._note(away=False)
            self._tally.answered(batch, answer)
        return True

    def _note(self, *, away: bool) -> None:
        if away != self._away:
            log.warning("the service is away" if away else "the service is back")
        self._away = away
        # The disk has no use for batches: what comes while one is written shares the next.
        self._queue.seconds = 0.0 if away and self._spool is not None else self._batch_seconds
        self._moved.set()

    def _stop(self, error: Exception) -> None:
        """Sends nothing any more; whoever comes next hears why."""
        if self._stopped is None:
            log.error("nothing is sent any more: %s", error)
            self._stopped = error
        self._moved.set()

    def _check_running(self) -> None:
        if not self._tasks:
            raise RuntimeError("the client is used outside its async with block")
        if self._closing:
            raise ClientClosedError
        if self._stopped is not None:
            self._told = True
            # Raised again and again, it must not grow by a trace each time.
            raise self._stopped.with_traceback(None)

    def _may_leave(self) -> bool:
        if self._queue.unsettled:
            return False
        spool = self._spool
        return spool is None or spool.is_empty or self._away or self._stopped is not None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _close(self) -> None:
        """Ends the tasks, keeps or fails what is left, and gives the spool back."""
        try:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for batch in self._queue.take_all():
                await self._keep(batch, ClientClosedError())
                self._settled(batch)
        finally:
            for batch in self._queue.unsettled:
                self._settled(batch)
            if self._thread is not None:
                self._thread.shutdown()
            if self._spool is not None:
                self._spool.close()
            await self._poster.__aexit__(None, None, None)
