"""How the load generator sends: over HTTP as fast as answers come or at a pace, and as syslog."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

SYSLOG_CHUNK_LINES = 500
# The rows of a syslog server come when it likes: it is asked so often, and given up on when none
# has come for so long.
LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 15
SYSLOG_TABLE = "rsyslog_peer.record"


class Source(Protocol):
    """Where clients take requests from."""

    def take(self, client: Client) -> tuple[float, bytes] | None:
        """The next request and when its time began; None: there is none, or not yet."""

    async def run(self) -> None:
        """What has to be done meanwhile."""


class AtOnce:
    """Each client's next request is due when it has had its answer."""

    def __init__(self, requests: Iterable[bytes]) -> None:
        self._waiting = iter(requests)

    def take(self, client: Client) -> tuple[float, bytes] | None:
        """The next request, of now."""
        request = next(self._waiting, None)
        if request is None:
            client.end()
            return None
        return time.perf_counter(), request

    async def run(self) -> None:
        """Nothing."""


class Paced:
    """Requests fall due by themselves, as from many independent senders (a Poisson process).

    One that finds no client free waits for one, and its latency counts from when it was due.
    """

    def __init__(self, requests: Iterable[bytes], pause_seconds: float) -> None:
        self._requests = list(requests)
        self._pause = pause_seconds
        self._due: deque[tuple[float, bytes]] = deque()
        self._idle: list[Client] = []
        self._over = False

    def take(self, client: Client) -> tuple[float, bytes] | None:
        """The request that has waited longest; without one, the client is told of the next."""
        if self._due:
            return self._due.popleft()
        if self._over:
            client.end()
        else:
            self._idle.append(client)
        return None

    async def run(self) -> None:
        """Lets requests fall due, each at its time."""
        draw = random.Random(7)
        at = time.perf_counter()
        for request in self._requests:
            at += draw.expovariate(1 / self._pause)
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if self._idle:
                self._idle.pop().send(at, request)
            else:
                self._due.append((at, request))
        self._over = True
        while self._idle:
            self._idle.pop().end()


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for its answer, sends the next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._received = bytearray()
        self._began = 0.0
        self._transport: Any = None
        self.latencies: list[float] = []
        self._answers: list[bytes] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self, outcome: str) -> int:
        """How many records were answered with this outcome."""
        return sum(msgspec.json.decode(answer)[outcome] for answer in self._answers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = transport
        self.next()

    def data_received(self, data: bytes) -> None:
        """Takes a part of an answer; an answer that is whole brings the next request."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._received.clear()
        self.answered(time.perf_counter() - self._began, head, body)

    def answered(self, seconds: float, head: bytearray, body: bytearray) -> None:
        """Takes an answer that is whole: another one than 200 is the end."""
        self.latencies.append(seconds)
        if not head.startswith(b"HTTP/1.1 200"):
            self.end(RuntimeError(f"the service answered {(head + body).decode()}"))
            return
        self._answers.append(bytes(body))
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends; early when the service closed the connection."""
        self.end(exc or ConnectionResetError("the service closed the connection"))

    def next(self) -> None:
        """Sends the next request, if there is one."""
        found = self._source.take(self)
        if found is not None:
            self.send(*found)

    def send(self, began: float, request: bytes) -> None:
        """Sends a request whose time began then."""
        self._began = began
        self._transport.write(request)

    def end(self, error: Exception | None = None) -> None:
        """Closes the connection."""
        if self.finished.done():
            return
        if error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(error)
        self._transport.close()


def as_syslog(lines: list[bytes]) -> list[bytes]:
    """The lines as syslog messages (RFC 5424, one a line), in chunks to be sent."""
    head = f"<134>1 {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} gateway records - - - ".encode()
    return [
        b"".join(head + line + b"\n" for line in lines[start : start + SYSLOG_CHUNK_LINES])
        for start in range(0, len(lines), SYSLOG_CHUNK_LINES)
    ]


async def send_lines(
    url: str, chunks: list[bytes], connections: int, dsn: str, records: int
) -> int:
    """Sends syslog messages and waits until they are in the table; how many came."""
    at = urlsplit(url)
    waiting = iter(chunks)

    async def send() -> None:
        _, writer = await asyncio.open_connection(at.hostname, at.port)
        for chunk in waiting:
            writer.write(chunk)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    database = await asyncpg.connect(dsn)
    try:
        before = came = await _count(database)
        await asyncio.gather(*(send() for _ in range(connections)))
        moved = time.perf_counter()
        while came < before + records and time.perf_counter() < moved + PATIENCE_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            found = await _count(database)
            if found != came:
                came, moved = found, time.perf_counter()
        return came - before
    finally:
        await database.close()


async def _count(database: asyncpg.Connection) -> int:
    return await database.fetchval(f"SELECT count(*) FROM {SYSLOG_TABLE}")
