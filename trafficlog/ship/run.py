"""Ships an access log: reads it, matches it, posts it, and tells how far it is.

No state is kept on the disk. A shipment that starts again starts at the file's
first line, and what the service has already it counts among the duplicates.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from trafficlog.client import Poster, RetryPolicy, ServiceUnreachableError
from trafficlog.errors import TrafficlogError
from trafficlog.ship.follow import open_log
from trafficlog.ship.kannel import LineUnreadableError, LogClock, Remark, parse_line
from trafficlog.ship.matching import Matcher, Post
from trafficlog.ship.summary import (
    NoProgress,
    Progress,
    RejectedRecord,
    ShipFailedError,
    ShipState,
    ShipSummary,
    UnreadableLine,
)
from trafficlog.stopping import stopped_by_signals

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trafficlog.client import IngestAnswer
    from trafficlog.ship.follow import LogReader
    from trafficlog.ship.lines import RawLine
    from trafficlog.ship.options import ShipOptions


async def ship_kannel(
    options: ShipOptions,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
) -> ShipSummary:
    """Ships a Kannel access log, to its end or, when following, until ``stop`` is set.

    On ``stop`` what has been read is posted first.

    Raises:
        LogUnreadableError, LogNotFollowableError, InvalidValueError: before anything is read.
        ShipFailedError: the service refuses the key or the requests, cannot be
            reached for ``give_up_after_seconds``, or the file cannot be read on.
    """
    progress = progress or NoProgress()
    client = Poster(
        options.url,
        options.key,
        batch_records_max=options.batch_records_max,
        retry=RetryPolicy(give_up_after_seconds=options.give_up_after_seconds),
        on_retry=progress.retrying,
    )
    reader = open_log(options.path, follow=options.follow, line_bytes_max=options.line_bytes_max)
    try:
        async with client:
            shipment = _Shipment(options, reader, client, progress, stop or asyncio.Event())
            return await shipment.run()
    finally:
        reader.close()


async def ship_kannel_until_signal(
    options: ShipOptions, progress: Progress | None = None
) -> ShipSummary:
    """As ``ship_kannel``; the first SIGINT or SIGTERM stops it, and a second one at once."""
    with stopped_by_signals() as stop:
        return await ship_kannel(options, progress, stop)


class _Shipment:
    """One run over one log."""

    def __init__(
        self,
        options: ShipOptions,
        reader: LogReader,
        client: Poster,
        progress: Progress,
        stop: asyncio.Event,
    ) -> None:
        self._options = options
        self._reader = reader
        self._client = client
        self._progress = progress
        self._stop = stop
        self._log_clock = LogClock(options.timezone)
        self._matcher = Matcher(options.incoming_account, options.limits)
        self._batch: list[Post] = []
        self._batch_since = 0.0
        self._summary = ShipSummary()
        self._time = asyncio.get_running_loop().time
        self._started = self._time()

    async def run(self) -> ShipSummary:
        try:
            await self._read_all()
            await self._post(at_least=1)
        except TrafficlogError as error:
            raise ShipFailedError(error, self._summed_up()) from error
        return self._summed_up()

    async def _read_all(self) -> None:
        options = self._options
        written_at = self._time()
        at_end = False
        while not self._reader.finished and not self._stop.is_set():
            lines = self._reader.read_lines()
            at_end = not lines
            for line in lines:
                self._take(line)
            if lines:
                written_at = self._time()
                self._tell()
            await self._post(at_least=options.batch_records_max)
            if at_end and not self._reader.finished:
                if self._time() - written_at >= options.quiet_seconds:
                    self._add(self._matcher.settle())
                await self._pause()
            if options.follow and self._time() - self._batch_since >= options.flush_seconds:
                await self._post(at_least=1)
            await asyncio.sleep(0)  # a signal gets its turn however fast the disk is
        self._summary.stopped = not self._reader.finished
        if at_end or self._reader.finished:
            self._add(self._matcher.settle())
        # Stopped in the middle, the line that a report waits for may be the next one: to match the
        # report by its route would be a guess, and the next shipment reads both.
        self._matcher.give_up()

    async def _pause(self) -> None:
        """Waits until the file is to be looked at again, or until the shipment is to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.poll_seconds):
                await self._stop.wait()

    def _take(self, raw: RawLine) -> None:
        self._summary.lines += 1
        if raw.problem is not None:
            self._pass_over(raw.number, raw.problem)
            return
        try:
            line = parse_line(raw.data, self._log_clock)
            self._add(self._matcher.feed(raw.number, line))
        except LineUnreadableError as error:
            self._pass_over(raw.number, error.detail)
        else:
            self._summary.skipped += isinstance(line, Remark)

    def _pass_over(self, number: int, reason: str) -> None:
        self._summary.unreadable += 1
        if len(self._summary.unreadable_lines) < self._options.listed_max:
            self._summary.unreadable_lines.append(UnreadableLine(number, reason))

    def _add(self, posts: list[Post]) -> None:
        if posts and not self._batch:
            self._batch_since = self._time()
        self._batch += posts

    async def _post(self, *, at_least: int) -> None:
        """Posts full batches, and a last one of ``at_least`` records."""
        while len(self._batch) >= at_least:
            posts = self._batch[: self._options.batch_records_max]
            records = [post.record for post in posts]
            answer = await self._until_stopped(self._client.post_records(records))
            # Only now are they out of hand: a summary made on the way leaves none out.
            del self._batch[: len(posts)]
            self._batch_since = self._time()
            self._count(posts, answer)
            self._tell()

    async def _until_stopped(self, posting: Coroutine[None, None, IngestAnswer]) -> IngestAnswer:
        """Waits for the answer; once the shipment is to stop, no longer than ``stop_seconds``."""
        task = asyncio.create_task(posting)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(self._options.stop_seconds):
                return await task
        except TimeoutError as error:
            raise ServiceUnreachableError(
                f"stopped before {len(self._batch)} records that were read could be posted"
            ) from error
        finally:
            stopped.cancel()
            task.cancel()

    def _count(self, posts: list[Post], answer: IngestAnswer) -> None:
        summary = self._summary
        summary.records += len(posts)
        summary.accepted += answer.accepted
        summary.updated += answer.updated
        summary.duplicates += answer.duplicates
        summary.rejected += len(answer.rejected)
        for each in answer.rejected[: self._options.listed_max - len(summary.rejected_records)]:
            line = posts[each.index].line
            summary.rejected_records.append(
                RejectedRecord(line, each.id, each.field, each.code, each.detail)
            )

    def _tell(self) -> None:
        seconds = self._time() - self._started
        self._progress.moved(
            ShipState(
                lines=self._summary.lines,
                unreadable=self._summary.unreadable,
                bytes_read=self._reader.bytes_read,
                bytes_total=self._reader.bytes_total,
                records_posted=self._summary.records,
                records_per_second=self._summary.records / seconds if seconds else 0.0,
            )
        )

    def _summed_up(self) -> ShipSummary:
        summary = self._summary
        summary.unmatched = self._matcher.unmatched
        summary.superseded = self._matcher.superseded
        summary.requests = self._client.counters.requests
        summary.retries = self._client.counters.retries
        summary.unposted = len(self._batch)
        summary.seconds = self._time() - self._started
        return summary
