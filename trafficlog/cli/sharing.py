"""What the workers of one service share, and which of them runs the jobs."""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trafficlog.api.listening import Standing
    from trafficlog.ingest import IngestBuffer
    from trafficlog.metrics import Metrics

log = structlog.get_logger()

DUTY_SECONDS: Final = 1
WAITING_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Shared:
    """A worker's part: the sockets all of them accept on, and files all of them use."""

    sockets: tuple[socket.socket, ...]
    standing: Standing
    duty_file: Path


@dataclass(slots=True)
class Leaving:
    """How a service is to stop, decided while it runs.

    ``idle_seconds`` is how long connections that are idle may still come with a request,
    which is answered; ``hurry`` cuts that short.
    """

    hurry: asyncio.Event
    idle_seconds: int = 0


async def on_duty(path: Path, work: Callable[[], Awaitable[None]]) -> None:
    """Does ``work`` if no other worker does, and as soon as the one that does is gone.

    The kernel lets go of the lock of a process that was killed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(DUTY_SECONDS)
        log.info("jobs_taken_on", process=os.getpid())
        await work()
    finally:
        os.close(descriptor)


async def tell_waiting(buffer: IngestBuffer[Any, Any], metrics: Metrics) -> None:
    """Keeps the gauge of what waits right, whichever worker is asked for it."""
    while True:
        metrics.ingest_waiting_records.set(buffer.waiting)
        await asyncio.sleep(WAITING_SECONDS)
