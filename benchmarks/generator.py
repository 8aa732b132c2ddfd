"""The load generator: a process of its own, told on standard input what to send.

The first line it reads is a ``Setup``. Each line after that is a ``Job``: it is
prepared, ``{}`` is answered, and an empty line starts it; the answer is a ``Done``.
Everything that can be made beforehand is: during a job only sockets are written.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec
import uvloop
from lifelike import CREATED_WITHIN, Lot, Traffic
from sending import AtOnce, Client, Paced, as_syslog, send_lines

from trafficlog.config import Config
from trafficlog.records import Limits, parse_report
from trafficlog.retention import DataClass
from trafficlog.store.columns import HISTORY, TRAFFIC, Sheet, binary, history_batch, traffic_batch
from trafficlog.store.database import Database, connect
from trafficlog.store.expiry import history_expiry, hours_of, per_account, traffic_expiry
from trafficlog.store.ingest import RecordWriter
from trafficlog.table import ReportTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

COPY_CHUNK_BYTES = 512 * 1024

# Requests between a record's first report and its later one, so that most find it stored.
MIXED_LAG_REQUESTS = 32

Road = Literal["http", "copy", "updates", "mixed", "syslog"]


class Setup(msgspec.Struct):
    """What all jobs share: the service, a key for it, the database, how many accounts."""

    url: str
    key: str
    dsn: str
    accounts: int


class Job(msgspec.Struct):
    """What to send: new records through HTTP, the same as COPY, or later reports through HTTP.

    ``mixed`` is half of each, in the same requests: as many first reports as later ones of the
    same records, which follow some requests behind. ``batch`` is the records of one request, or
    of one transaction on the COPY road. ``syslog`` sends the lines to a syslog server and waits
    until all are in its table.

    ``url`` is that of another server than the one under measurement. With a ``rate``, in records a
    second, requests are sent when they are due, however long those before them take; otherwise
    each connection sends its next when it has had its answer. ``created_within`` is in seconds.
    """

    road: Road
    records: int
    batch: int
    connections: int
    url: str = ""
    rate: float = 0
    created_within: float = CREATED_WITHIN.total_seconds()


class Done(msgspec.Struct):
    """What came of a job: counts that were acknowledged, and what it took."""

    stored: int
    kept_in_history: int
    seconds: float
    cpu_seconds: float
    latencies_ms: list[float]
    line_bytes: float


@dataclass(frozen=True)
class Prepared:
    """What is to be sent: requests, COPY streams for both tables, or chunks of syslog."""

    work: list[Any]
    kept: int
    line_bytes: float


class Generator:
    """Prepares jobs and does them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._traffic = Traffic(setup.accounts)
        self._last: Lot | None = None

    async def prepare(self, job: Job) -> Prepared:
        """Makes all that a job sends."""
        if job.road == "updates":
            if self._last is None:
                raise ValueError("there is nothing yet to report on")
            lot = self._traffic.later(self._last)
        else:
            count = job.records // 2 if job.road == "mixed" else job.records
            lot = self._traffic.lot(count, timedelta(seconds=job.created_within))
        # Records are kept only where they are reported on again: there are many of them.
        if job.road == "http" and not job.url and not job.rate:
            self._last = lot
        return Prepared(await self._work(job, lot), lot.kept, lot.line_bytes)

    async def _work(self, job: Job, lot: Lot) -> list[Any]:
        if job.road == "mixed":
            return [self._request(job, batch) for batch in self._mixed(lot, job.batch // 2)]
        if job.road == "syslog":
            return as_syslog(lot.lines)
        batches = [lot.lines[n : n + job.batch] for n in range(0, len(lot.lines), job.batch)]
        if job.road == "copy":
            return await self._copies(batches)
        return [self._request(job, batch) for batch in batches]

    def _mixed(self, lot: Lot, half: int) -> Iterator[list[bytes]]:
        """First reports beside later ones of records that came some requests earlier."""
        firsts = [lot.lines[n : n + half] for n in range(0, len(lot.lines), half)]
        laters = [
            self._traffic.later(Lot(lot.records[n : n + half], [], 0)).lines
            for n in range(0, len(lot.lines), half)
        ]
        none: list[list[bytes]] = [[]] * min(MIXED_LAG_REQUESTS, len(firsts) // 2)
        for first, later in zip(firsts + none, none + laters, strict=True):
            lines = first + later
            self._traffic.shuffle(lines)
            yield lines

    async def run(self, job: Job, prepared: Prepared) -> Done:
        """Sends what was prepared."""
        work = prepared.work
        latencies: list[float] = []
        cpu_before = time.process_time()
        began = time.perf_counter()
        if job.road == "copy":
            latencies = await self._run_copies(iter(work), job.connections)
            seconds = time.perf_counter() - began
            stored = job.records
        elif job.road == "syslog":
            dsn = self._setup.dsn
            stored = await send_lines(job.url, work, job.connections, dsn, job.records)
            seconds = time.perf_counter() - began
        else:
            clients = await self._run_requests(job, work)
            seconds = time.perf_counter() - began
            latencies = [each for client in clients for each in client.latencies]
            counted = {"updates": ["updated"], "mixed": ["accepted", "updated"]}
            stored = sum(
                client.count(outcome)
                for client in clients
                for outcome in counted.get(job.road, ["accepted"])
            )
        return Done(
            stored,
            prepared.kept,
            seconds,
            time.process_time() - cpu_before,
            [1000 * each for each in latencies],
            prepared.line_bytes,
        )

    def _request(self, job: Job, lines: list[bytes]) -> bytes:
        body = b"\n".join(lines)
        head = (
            f"POST /v1/records HTTP/1.1\r\nHost: {urlsplit(job.url or self._setup.url).netloc}\r\n"
            f"Authorization: Bearer {self._setup.key}\r\nContent-Type: application/x-ndjson\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _run_requests(self, job: Job, requests: list[bytes]) -> list[Client]:
        loop = asyncio.get_running_loop()
        at = urlsplit(job.url or self._setup.url)
        source = Paced(requests, job.batch / job.rate) if job.rate else AtOnce(requests)
        clients = [Client(source) for _ in range(job.connections)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, at.hostname, at.port)
        await asyncio.gather(source.run(), *(client.finished for client in clients))
        return clients

    async def _copies(self, batches: list[list[bytes]]) -> list[tuple[bytes, bytes]]:
        """The streams for both tables, made by the code with which the service makes them."""
        config = Config()
        async with Database(self._setup.dsn, config) as database:
            writer = RecordWriter(database, config)
            await writer.start()
            return [await self._copy(writer, batch) for batch in batches]

    async def _copy(self, writer: RecordWriter, lines: list[bytes]) -> tuple[bytes, bytes]:
        settings = writer.settings
        limits = _limits()
        sheet = Sheet.of(ReportTable.of([parse_report(line, limits) for line in lines]))
        await settings.ensure_accounts(set(sheet.account_ids), limits.now)
        accounts = [settings.accounts[name] for name in sheet.account_ids]
        keys = per_account(sheet, [a.key for a in accounts])
        gone_at = traffic_expiry(sheet.created, settings.policies)
        kept_until = history_expiry(sheet, accounts, limits.now)
        await writer.ensure_partitions(DataClass.TRAFFIC, hours_of(gone_at))
        await writer.ensure_partitions(DataClass.HISTORY, hours_of(kept_until))
        return (
            b"".join(binary(TRAFFIC, [traffic_batch(sheet, keys, gone_at)])),
            b"".join(binary(HISTORY, [history_batch(sheet, keys, kept_until)])),
        )

    async def _run_copies(
        self, waiting: Iterator[tuple[bytes, bytes]], connections: int
    ) -> list[float]:
        latencies = []

        async def stream() -> None:
            connection = await connect(self._setup.dsn, "trafficlog_ingest", Config())
            try:
                for traffic, history in waiting:
                    began = time.perf_counter()
                    async with connection.transaction():
                        for name, schema, content in (
                            ("traffic_record", TRAFFIC, traffic),
                            ("history_record", HISTORY, history),
                        ):
                            await connection.copy_to_table(
                                name, source=_chunks(content), columns=schema.names, format="binary"
                            )
                    latencies.append(time.perf_counter() - began)
            finally:
                await connection.close()

        await asyncio.gather(*(stream() for _ in range(connections)))
        return latencies


def _limits() -> Limits:
    now = datetime.now(UTC)
    return Limits(now, now - timedelta(days=1))


async def _chunks(content: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), COPY_CHUNK_BYTES):
        yield view[start : start + COPY_CHUNK_BYTES]


async def main() -> None:
    """Does jobs until there are no more."""
    generator = Generator(msgspec.json.decode(_line(), type=Setup))
    while line := _line():
        job = msgspec.json.decode(line, type=Job)
        prepared = await generator.prepare(job)
        gc.collect()
        _answer({})
        _line()
        done = await generator.run(job, prepared)
        _answer(done)


def _line() -> bytes:
    return sys.stdin.buffer.readline()


def _answer(value: object) -> None:
    os.write(sys.stdout.fileno(), msgspec.json.encode(value) + b"\n")


if __name__ == "__main__":
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
