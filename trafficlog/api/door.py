"""The door: how many connections there may be, and of which kind each is.

When there are as many as may be, a further one is told so at once and closed: a client that can
read the answer waits and comes again, where one left in the queue would only time out.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import TYPE_CHECKING, Final, cast

import structlog

from trafficlog.api.connections import LINGER_SECONDS, Connection, bare
from trafficlog.api.express_connection import ExpressConnection

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.api.express import Express
    from trafficlog.config import Config
    from trafficlog.metrics import Metrics

log = structlog.get_logger()

# Files that a process needs besides its connections: the database's, logs, listeners.
FILES_BESIDE: Final = 256
# So many of those turned away linger at once.
LINGERING_MAX: Final = 512
LOOK_SECONDS: Final = 0.02


class Door:
    """Makes the protocols of new connections, and knows how many there are.

    ``closing`` is set when the service is about to stop: every answer from then on tells
    its client to come back on another connection.
    """

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self.config = config
        self.metrics = metrics
        self.connections_max = connections_possible(config.connections_max)
        self.open = 0
        self.lingering = 0
        self.closing = False
        self._server: web.Server | None = None
        self._express: Express | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def serve(self, server: web.Server, express: Express) -> None:
        """Has connections answered by these from now on."""
        self._server, self._express = server, express

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one new connection."""
        if self._server is None or self._express is None:
            raise RuntimeError("the door was opened before there was a server")
        if self.open >= self.connections_max:
            self.metrics.connections_refused.labels("limit").inc()
            return TurnedAway(self)
        return ExpressConnection(self, self._server, self._express)

    def entered(self) -> None:
        """Notes a connection that is served."""
        self.open += 1
        self._empty.clear()
        self.metrics.connections.set(self.open)

    def left(self) -> None:
        """Notes the end of one that was served."""
        self.open -= 1
        self.metrics.connections.set(self.open)
        if not self.open:
            self._empty.set()

    async def bodies_come(self, seconds: float) -> None:
        """Waits until every request that was begun has come whole, or was answered without.

        For so long at most: from then on what arrives is dropped.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(  # noqa: ASYNC110 - nobody tells, and it is once
            isinstance(each, Connection) and each.awaits_body
            for each in (() if self._server is None else self._server.connections)
        ):
            await asyncio.sleep(LOOK_SECONDS)

    async def emptied(self, seconds: float) -> None:
        """Waits until no connection is open, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            log.info("connections_left", count=self.open)


class TurnedAway(asyncio.Protocol):
    """A connection too many: told so, and closed once it has had the time to read that."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._lingers = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers before anything is asked."""
        line = cast("asyncio.Transport", transport)
        line.write(
            bare(503, "too_many_connections", "too many connections are open; try again shortly")
        )
        if self._door.lingering >= LINGERING_MAX:
            line.close()
            return
        # Closed with something unread, the line would be reset and the answer lost with it.
        self._lingers = True
        self._door.lingering += 1
        line.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, line.abort)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002
        """Gives the place back."""
        if self._lingers:
            self._door.lingering -= 1


def connections_possible(wanted: int) -> int:
    """How many connections this process can serve; raises its limit of open files for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + LINGERING_MAX + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY:
            needed = min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            soft = needed
        except (OSError, ValueError):
            pass
        possible = max(1, soft - LINGERING_MAX - FILES_BESIDE)
        if possible < wanted:
            log.warning("connections_bounded", wanted=wanted, possible=possible, files=soft)
        return min(wanted, possible)
    return wanted
