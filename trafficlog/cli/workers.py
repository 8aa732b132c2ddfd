"""Several workers behind one port: starts them, starts one again that died, replaces them.

The parent holds the listening socket and the embedded PostgreSQL and answers no request
itself. Its workers are processes of their own from the first instruction on, so a
replacement runs the code that is installed by then.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from trafficlog import metrics as sharing
from trafficlog.api.listening import Standing
from trafficlog.cli.worker import Order
from trafficlog.errors import TrafficlogError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trafficlog.cli.composition import Where
    from trafficlog.clock import Clock
    from trafficlog.config import Config
    from trafficlog.metrics import Metrics

log = structlog.get_logger()

# One that served for so long before it died is started again at once.
STEADY_SECONDS: Final = 60
PAUSE_SECONDS: Final = 0.5
# On top of what a worker may take to finish what is in flight.
STOP_SECONDS: Final = 15


class WorkerFailedError(TrafficlogError):
    """A worker did not start."""

    code = "worker_failed"

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a worker did not start (it ended with {exit_code})")
        self.exit_code = exit_code


@dataclass(eq=False)
class Worker:
    """A worker's process, and its place among the others while it lives."""

    place: int
    process: asyncio.subprocess.Process
    since: float = field(default_factory=time.monotonic)
    leaving: bool = False
    watch: asyncio.Task[None] | None = None

    def send(self, number: int) -> None:
        """Sends a signal, if it still lives."""
        if self.process.returncode is None:
            self.process.send_signal(number)


class Workers:
    """Keeps ``count`` workers serving until ``stop`` is called.

    Args:
        where: the database and the address.
        count: how many.
        sockets: bound; the first worker listens.
        directory: where they share their metrics and more; private to this service.
    """

    def __init__(
        self,
        where: Where,
        count: int,
        sockets: Sequence[socket.socket],
        directory: Path,
        config: Config,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._where = where
        self._count = count
        self._sockets = sockets
        self._directory = directory
        self._config = config
        self._clock = clock
        self._metrics = metrics
        # Twice as many places: each may have a successor while it still finishes.
        self._places = 2 * count
        self._standing = Standing(directory / "connections", self._places, 0)
        self._live: set[Worker] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._replace = False
        self._pause = 0.0

    def stop(self) -> None:
        """Has all workers finish what is in flight, and ``run`` return."""
        self._stopping = True
        self._wake.set()

    def replace(self) -> None:
        """Has every worker replaced by a new one, one after another."""
        self._replace = True
        self._wake.set()

    async def run(self, ready: Callable[[str | None], None]) -> None:
        """Serves until ``stop``; ``ready`` is told the first operator key once requests are served.

        Raises:
            WorkerFailedError: the first worker did not start.
        """
        try:
            # Alone, so that the schema is brought up to date and the first key made once.
            ready(await self._start())
            while not self._stopping:
                await self._fill()
                if self._replace and not self._stopping:
                    self._replace = False
                    await self._replace_all()
                elif not self._stopping:
                    await self._woken()
        finally:
            await self._stop_all()

    async def _woken(self, seconds: float | None = None) -> None:
        """Waits until something happened, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    @property
    def _serving(self) -> list[Worker]:
        return [w for w in self._live if not w.leaving]

    async def _fill(self) -> None:
        """Starts workers until there are as many as there should be."""
        while len(self._serving) < self._count and not self._stopping:
            if self._pause and not await self._rested(self._pause):
                return
            try:
                await self._start()
            except WorkerFailedError as error:
                log.error("worker_failed", exit_code=error.exit_code)
                self._slow_down()

    async def _rested(self, seconds: float) -> bool:
        """Waits so long; false when the service is to stop meanwhile."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            await self._woken(left)
        return not self._stopping

    def _slow_down(self) -> None:
        self._pause = min(self._config.restart_seconds_max, max(PAUSE_SECONDS, 2 * self._pause))

    async def _replace_all(self) -> None:
        log.info("replacing_workers", count=len(self._serving))
        for old in self._serving:
            if self._stopping or old.process.returncode is not None:
                continue
            try:
                await self._start()
            except WorkerFailedError as error:
                # What serves goes on serving, rather than going down with what does not.
                log.error("replacing_stopped", exit_code=error.exit_code)
                return
            old.leaving = True
            old.send(signal.SIGHUP)
            await self._gone(old, self._config.drain_seconds_max + self._patience())
        log.info("workers_replaced")

    async def _gone(self, old: Worker, seconds: float) -> None:
        """Waits for a worker to end, and meanwhile replaces others that die."""
        end = time.monotonic() + seconds
        while old in self._live and not self._stopping:
            if time.monotonic() > end:
                log.error("worker_hangs", process=old.process.pid)
                old.send(signal.SIGKILL)
            await self._fill()
            await self._woken(1)

    async def _start(self) -> str | None:
        """A further worker, serving: the first operator key, when it made that.

        Raises:
            WorkerFailedError: it ended, or was not ready in time.
        """
        place = min(set(range(self._places)) - {w.place for w in self._live})
        order = Order(
            where=self._where,
            files=tuple(each.fileno() for each in self._sockets),
            directory=str(self._directory),
            place=place,
            places=self._places,
            clock_offset_seconds=self._clock.offset.total_seconds(),
        )
        process = await asyncio.create_subprocess_exec(
            # Not what lies in the present directory.
            *(sys.executable, "-P", "-m", "trafficlog.cli.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=order.files,
            # A terminal's Ctrl-C is for the parent, which tells its workers.
            start_new_session=True,
        )
        worker = Worker(place, process)
        self._live.add(worker)
        worker.watch = asyncio.create_task(self._watch(worker))
        worker.leaving = True  # not serving yet
        try:
            told = await self._told(process, order)
        except BaseException:
            worker.send(signal.SIGKILL)
            raise
        if told is None:
            worker.send(signal.SIGKILL)
            raise WorkerFailedError(await process.wait())
        worker.leaving = False
        worker.since = time.monotonic()
        log.info("worker_serves", process=process.pid, place=place)
        return json.loads(told)["operator_key"]  # type: ignore[no-any-return]

    async def _told(self, process: asyncio.subprocess.Process, order: Order) -> bytes | None:
        """What a worker says when it serves; None when it does not come to that."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker was started without its pipes")
        try:
            process.stdin.write(order.line())
            await process.stdin.drain()
            async with asyncio.timeout(self._config.worker_start_seconds_max):
                return await process.stdout.readline() or None
        except ConnectionError:
            return None
        except TimeoutError:
            # It waits for something, and cannot say so itself.
            log.error("worker_not_ready", seconds=self._config.worker_start_seconds_max)
            return None

    async def _watch(self, worker: Worker) -> None:
        """Notes a worker's end."""
        code = await worker.process.wait()
        self._live.discard(worker)
        self._standing.leave(worker.place)
        sharing.forget(self._directory, str(worker.place))
        if not (worker.leaving or self._stopping):
            self._metrics.worker_exits.inc()
            if time.monotonic() - worker.since < STEADY_SECONDS:
                self._slow_down()
            else:
                self._pause = 0
            log.error(
                "worker_died",
                process=worker.process.pid,
                exit_code=code,
                pause_seconds=self._pause,
            )
        self._wake.set()

    def _patience(self) -> float:
        """How long a worker may take from SIGTERM to its end, in seconds."""
        return 2 * self._config.shutdown_seconds_max + STOP_SECONDS

    async def _stop_all(self) -> None:
        """Ends every worker: in good order, and those that hang otherwise."""
        self._stopping = True
        for each in self._sockets:
            each.close()
        watches = [w.watch for w in self._live if w.watch is not None]
        for worker in self._live:
            worker.send(signal.SIGTERM)
        if watches:
            await asyncio.wait(watches, timeout=self._patience())
        for worker in list(self._live):
            log.error("worker_hangs", process=worker.process.pid)
            worker.send(signal.SIGKILL)
        await asyncio.gather(*watches)


def start_again_by_hangup() -> bool:
    """Whether SIGHUP asks for new workers, and does not tell that the terminal is gone."""
    try:
        return not os.isatty(0)
    except OSError:
        return True
