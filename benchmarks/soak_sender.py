"""The load generator of ``soak.py``: a process of its own that makes its requests as it sends them.

Reads from standard input one ``Setup``, then one ``Order`` after another, each answered: one of
full speed with a ``Span``, one at a pace with a ``Span`` for each of its windows and an empty line.

A run of minutes is too much to be made beforehand, and to make records one by one would take more
than to store them. So there are patterns: bodies of records as ``lifelike`` draws them, in which
the number of the request and the times are filled in when it is sent. The id of a record is the
number of its request and that of its line, so each is new; request n reports later on what request
n - ``PATTERNS`` brought.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import orjson
import uvloop
from lifelike import Traffic
from report import share_of
from sending import Client

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERNS = 256
NEW, OLD = b"@new-number@", b"@old-number@"
NEW_TIME, OLD_TIME, NOW = b"@new-time@", b"@old-time@", b"@now@"
# One request of so many has a bad record.
BAD_EVERY = 4


class Setup(msgspec.Struct):
    """The service, a key for it, how many accounts there are, and records of a request."""

    url: str
    key: str
    accounts: int
    batch: int


class Order(msgspec.Struct):
    """So many seconds of load, at full speed or at a rate of requests a second, in windows."""

    seconds: float
    connections: int
    rate: float = 0
    window_seconds: float = 0


class Span(msgspec.Struct):
    """What came of a stretch of time; latencies count from when a request was due.

    ``accepted`` and so on are records, ``other_statuses`` requests that were not answered 200.
    """

    seconds: float
    requests: int
    accepted: int
    updated: int
    duplicates: int
    refused: int
    other_statuses: dict[int, int]
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @property
    def stored(self) -> int:
        """Records that were answered for, as new or as later reports."""
        return self.accepted + self.updated + self.duplicates


class Outcome(msgspec.Struct):
    """The answer to a request."""

    accepted: int
    updated: int
    duplicates: int
    rejected: list[msgspec.Raw]


class Patterns:
    """Makes requests: the first of each pattern brings new records only, the others reports too."""

    def __init__(self, setup: Setup) -> None:
        traffic = Traffic(setup.accounts)
        half = setup.batch // 2
        self._fresh: list[bytes] = []
        self._mixed: list[bytes] = []
        for number in range(PATTERNS):
            records = traffic.lot(half).records
            new = [_marked(r, n, NEW, NEW_TIME) for n, r in enumerate(records)]
            old = [_marked(r, n, OLD, OLD_TIME) for n, r in enumerate(records)]
            later = [_reported(traffic.later_of(r), old[n]) for n, r in enumerate(records)]
            # Of the first line there is no later report: it comes once more as it was.
            lines = [orjson.dumps(each) for each in (*new, *later[1:], old[0])]
            if number % BAD_EVERY == 0:
                lines.append(orjson.dumps(new[0] | {"kind": "fax"}))
            traffic.shuffle(lines)
            self._fresh.append(b"\n".join(map(orjson.dumps, new)))
            self._mixed.append(b"\n".join(lines))
        self._head = (
            f"POST /v1/records HTTP/1.1\r\nHost: {urlsplit(setup.url).netloc}\r\n"
            f"Authorization: Bearer {setup.key}\r\nContent-Type: application/x-ndjson\r\n"
            "Content-Length: "
        ).encode()
        self._times = [b""] * PATTERNS
        self._number = 0

    def make(self) -> bytes:
        """The next request."""
        number = self._number
        self._number += 1
        place = number % PATTERNS
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        before, self._times[place] = self._times[place], now
        body = (self._mixed if before else self._fresh)[place]
        body = body.replace(NEW, b"%012x" % number).replace(NEW_TIME, now)
        if before:
            body = body.replace(OLD, b"%012x" % (number - PATTERNS)).replace(OLD_TIME, before)
            body = body.replace(NOW, now)
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)


def _marked(record: dict[str, Any], line: int, number: bytes, at: bytes) -> dict[str, Any]:
    """A record with marks where the number of its request and its time come."""
    fraction = record["created"][19:]
    return record | {"id": f"{number.decode()}-{line}", "created": at.decode() + fraction}


def _reported(later: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """A later report, on the record as it was marked."""
    # Never before the record itself, of whose second it may be.
    at = NOW.decode() + ".999999Z"
    marked = later | {"id": old["id"], "created": old["created"], "updated": at}
    return marked | ({"delivered": at} if "delivered" in later else {})


class Tally:
    """What came since it was last told."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._latencies: list[float] = []
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()

    def add(self, seconds: float, head: bytearray, body: bytearray) -> None:
        """Counts one answer."""
        self._latencies.append(seconds)
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            self._statuses[status] += 1
            return
        outcome = msgspec.json.decode(body, type=Outcome)
        self._counts["accepted"] += outcome.accepted
        self._counts["updated"] += outcome.updated
        self._counts["duplicates"] += outcome.duplicates
        self._counts["refused"] += len(outcome.rejected)

    def tell(self) -> Span:
        """The span up to now; the next one begins."""
        ordered = sorted(self._latencies) or [0.0]
        now = time.perf_counter()
        span = Span(
            now - self._began,
            len(self._latencies),
            self._counts["accepted"],
            self._counts["updated"],
            self._counts["duplicates"],
            self._counts["refused"],
            dict(self._statuses),
            1000 * share_of(ordered, 0.5),
            1000 * share_of(ordered, 0.99),
            1000 * ordered[-1],
        )
        self._began = now
        self._latencies.clear()
        self._counts.clear()
        self._statuses.clear()
        return span


class CountingClient(Client):
    """A connection whose answers, of whatever status, are counted and not kept."""

    def __init__(self, source: Any, tally: Tally) -> None:
        super().__init__(source)
        self._tally = tally

    def answered(self, seconds: float, head: bytearray, body: bytearray) -> None:
        """Counts the answer and goes on."""
        self._tally.add(seconds, head, body)
        self.next()


class FullSpeed:
    """Each client's next request is due when it has had its answer, until the time is over."""

    def __init__(self, make: Callable[[], bytes], seconds: float) -> None:
        self._make = make
        self._end = time.perf_counter() + seconds

    def take(self, client: Client) -> tuple[float, bytes] | None:
        """The next request, of now."""
        now = time.perf_counter()
        if now < self._end:
            return now, self._make()
        client.end()
        return None

    async def run(self) -> None:
        """Nothing."""


class AtRate:
    """Requests fall due by themselves, as from many independent senders (a Poisson process).

    One that finds no client free waits for one. Its bytes are made when it is sent, its latency
    counts from when it was due.
    """

    def __init__(self, make: Callable[[], bytes], rate: float, seconds: float) -> None:
        self._make = make
        self._rate = rate
        self._seconds = seconds
        self._due: deque[float] = deque()
        # Who has been idle for longest comes first, as the service closes what stays unused.
        self._idle: deque[Client] = deque()
        self._over = False

    def take(self, client: Client) -> tuple[float, bytes] | None:
        """The request that has waited longest; without one, the client is told of the next."""
        if self._due:
            return self._due.popleft(), self._make()
        if self._over:
            client.end()
        else:
            self._idle.append(client)
        return None

    async def run(self) -> None:
        """Lets requests fall due, each at its time."""
        draw = random.Random(7)
        at = time.perf_counter()
        end = at + self._seconds
        while (at := at + draw.expovariate(self._rate)) < end:
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if self._idle:
                self._idle.popleft().send(at, self._make())
            else:
                self._due.append(at)
        self._over = True
        while self._idle:
            self._idle.pop().end()


async def obey(setup: Setup, patterns: Patterns, order: Order) -> None:
    """One order, with its answers."""
    loop = asyncio.get_running_loop()
    at = urlsplit(setup.url)
    source = (
        AtRate(patterns.make, order.rate, order.seconds)
        if order.rate
        else FullSpeed(patterns.make, order.seconds)
    )
    tally = Tally()
    clients = [CountingClient(source, tally) for _ in range(order.connections)]

    async def tell_windows() -> None:
        while order.window_seconds:
            await asyncio.sleep(order.window_seconds)
            answer(tally.tell())

    telling = asyncio.create_task(tell_windows())
    for client in clients:
        await loop.create_connection(lambda client=client: client, at.hostname, at.port)
    await asyncio.gather(source.run(), *(client.finished for client in clients))
    telling.cancel()
    # At a pace, what is left of the last window.
    answer(tally.tell())
    if order.rate:
        os.write(sys.stdout.fileno(), b"\n")


def answer(value: object) -> None:
    """One line of JSON."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(value) + b"\n")


async def main() -> None:
    """Does what is ordered until there is no more."""
    setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=Setup)
    patterns = Patterns(setup)
    gc.freeze()
    while line := sys.stdin.buffer.readline():
        await obey(setup, patterns, msgspec.json.decode(line, type=Order))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
