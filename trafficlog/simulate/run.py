"""Sends the traffic at its own pace, whatever the service's: an open loop.

Each report is handed to the client when it is due, and its latency counts from then,
so that a service that is slow is seen as slow and not asked less often.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from trafficlog.client import (
    Client,
    Outcome,
    RecordRefusedError,
    RefusedRecord,
    RetryPolicy,
    ServiceUnreachableError,
    SpoolFullError,
)
from trafficlog.errors import TrafficlogError
from trafficlog.simulate.latency import Latencies
from trafficlog.simulate.summary import (
    NoProgress,
    Progress,
    SimulationFailedError,
    SimulationState,
    SimulationSummary,
)
from trafficlog.simulate.traffic import Planned, Traffic
from trafficlog.stopping import stopped_by_signals

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.simulate.options import SimulateOptions

# A pause shorter than this costs more than it brings; as many reports go without giving way.
PAUSE_SECONDS_MIN: Final = 0.002
STEP_REPORTS: Final = 50


async def simulate(
    options: SimulateOptions,
    start: datetime,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
) -> SimulationSummary:
    """Sends traffic whose first moment is ``start``, for its seconds or until ``stop`` is set.

    Raises:
        SimulationFailedError: the service refuses the key or the requests, or
            nothing could be brought to it at all.
        InvalidValueError, SpoolBusyError, SpoolFailedError: before anything is sent.
    """
    return await _Simulation(
        options, start, progress or NoProgress(), stop or asyncio.Event()
    ).run()


async def simulate_until_signal(
    options: SimulateOptions, start: datetime, progress: Progress | None = None
) -> SimulationSummary:
    """As ``simulate``; the first SIGINT or SIGTERM ends it with a summary, a second one at once."""
    with stopped_by_signals() as stop:
        return await simulate(options, start, progress, stop)


class _Simulation:
    """One run."""

    def __init__(
        self, options: SimulateOptions, start: datetime, progress: Progress, stop: asyncio.Event
    ) -> None:
        self._options = options
        self._progress = progress
        self._stop = stop
        self._traffic = Traffic(
            rate=options.rate,
            accounts=options.accounts,
            seconds=options.seconds,
            seed=options.seed,
            mix=options.mix,
            start=start,
        )
        self._client = Client(
            options.url,
            options.key,
            spool=options.spool,
            waiting_records_max=options.in_flight_max,
            close_seconds=options.close_seconds,
            retry=RetryPolicy(give_up_after_seconds=options.give_up_after_seconds),
            on_refused=self._note_refused,
            on_retry=progress.retrying,
        )
        self._time = asyncio.get_running_loop().time
        self._waiting = 0
        self._room = asyncio.Semaphore(options.in_flight_max)
        self._by_sort: Counter[str] = Counter()
        self._by_code: Counter[str] = Counter()
        self._all, self._interval = Latencies(), Latencies()
        self._unanswered = 0
        self._behind = 0.0
        self._failure: TrafficlogError | None = None
        self._began = self._ended = 0.0

    async def run(self) -> SimulationSummary:
        async with self._client:
            self._began = self._time()
            telling = asyncio.create_task(self._tell_always())
            try:
                # Each is answered, kept in the spool or given up in its own time.
                async with asyncio.TaskGroup() as sends:
                    await self._send_all(sends)
                    self._ended = self._time()
            finally:
                telling.cancel()
        summary = self._summed_up()
        if self._failure is not None:
            raise SimulationFailedError(self._failure, summary) from self._failure
        return summary

    async def _send_all(self, sends: asyncio.TaskGroup) -> None:
        steps = 0
        for planned in self._traffic.reports():
            due = self._began + planned.due
            pause = due - self._time()
            steps += 1
            if pause > PAUSE_SECONDS_MIN or steps >= STEP_REPORTS:
                await self._pause(pause)
                steps = 0
            if self._stop.is_set():
                return
            await self._room.acquire()
            self._behind = max(self._behind, self._time() - due)
            sends.create_task(self._send(planned, due))
            self._by_sort[planned.sort.value] += 1
        await self._pause(self._began + self._options.seconds - self._time())

    async def _pause(self, seconds: float) -> None:
        """Waits, but not when the simulation is to stop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _send(self, planned: Planned, due: float) -> None:
        self._waiting += 1
        try:
            outcome = await self._client.send(planned.record)
        except RecordRefusedError:
            self._note_latency(due)
        except (ServiceUnreachableError, SpoolFullError) as error:
            self._unanswered += 1
            if not self._client.figures.acknowledged:
                self._fail(error)
        except TrafficlogError as error:
            self._unanswered += 1
            self._fail(error)
        else:
            if outcome is Outcome.STORED:
                self._note_latency(due)
        finally:
            self._waiting -= 1
            self._room.release()

    def _note_latency(self, due: float) -> None:
        seconds = self._time() - due
        self._all.add(seconds)
        self._interval.add(seconds)

    def _note_refused(self, refused: RefusedRecord) -> None:
        self._by_code[refused.rejection.code] += 1

    def _fail(self, error: TrafficlogError) -> None:
        self._failure = self._failure or error
        self._stop.set()

    async def _tell_always(self) -> None:
        before = self._client.figures
        told = self._began
        while True:
            await asyncio.sleep(self._progress.seconds)
            figures, now = self._client.figures, self._time()
            latencies, self._interval = self._interval, Latencies()
            self._progress.moved(
                SimulationState(
                    seconds=now - self._began,
                    seconds_total=self._options.seconds,
                    sent=self._by_sort.total(),
                    acknowledged=figures.acknowledged,
                    refused=figures.refused,
                    waiting=self._waiting,
                    unanswered=self._unanswered,
                    spool_bytes=figures.spool_bytes,
                    retries=figures.retries,
                    sent_a_second=(figures.sent - before.sent) / (now - told),
                    acknowledged_a_second=(figures.acknowledged - before.acknowledged)
                    / (now - told),
                    p50_ms=latencies.quantile_ms(0.5),
                    p99_ms=latencies.quantile_ms(0.99),
                )
            )
            before, told = figures, now

    def _summed_up(self) -> SimulationSummary:
        figures, options = self._client.figures, self._options
        seconds = self._ended - self._began
        return SimulationSummary(
            seed=options.seed,
            rate=options.rate,
            accounts=options.accounts,
            seconds=seconds,
            sent=self._by_sort.total(),
            sent_by_sort=dict(self._by_sort),
            accepted=figures.accepted,
            updated=figures.updated,
            duplicates=figures.duplicates,
            refused=figures.refused,
            refused_by_code=dict(self._by_code),
            spooled=figures.spooled,
            spool_bytes=figures.spool_bytes,
            unanswered=self._unanswered,
            unreported=self._traffic.unreported,
            sent_a_second=self._by_sort.total() / seconds if seconds else 0.0,
            p50_ms=self._all.quantile_ms(0.5),
            p90_ms=self._all.quantile_ms(0.9),
            p99_ms=self._all.quantile_ms(0.99),
            p999_ms=self._all.quantile_ms(0.999),
            max_ms=self._all.quantile_ms(1.0),
            behind_seconds_max=self._behind,
            requests=figures.requests,
            retries=figures.retries,
            stopped=self._stop.is_set() and self._failure is None,
        )
