"""A process that writes records at a steady pace through the product's writer.

Reads from standard input: one line of JSON with ``dsn``, ``now`` and the pace, then ``stop``. Each
writer has a time-table, and a batch's latency counts from when it was due: while one is stuck, all
that are due behind it are late as well. Answers ``ready`` once it is under way and at the end one
line of JSON: for each batch when it was due (the machine's monotonic clock) and its latency.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from datetime import datetime, timedelta

import msgspec
import structlog

from trafficlog.config import Config
from trafficlog.records import Report
from trafficlog.store.database import Database
from trafficlog.store.ingest import Batch, RecordWriter


class Pace(msgspec.Struct):
    """What is written: so many batches a second from each writer, of accounts a0, a1 and so on."""

    dsn: str
    now: datetime
    accounts: int
    writers: int = 3
    batches_a_second: float = 6
    batch_records: int = 500


class Load(msgspec.Struct):
    """What came of it: for each batch when it was due, and how late its answer was."""

    due: list[float]
    latencies_ms: list[float]


async def write(
    pace: Pace, writer: RecordWriter, number: int, load: Load, stop: asyncio.Event
) -> None:
    """One writer, until it is told to stop."""
    pause = 1 / pace.batches_a_second
    due = time.monotonic() + number * pause / pace.writers
    chosen = random.Random(number)
    sent = 0
    while not stop.is_set():
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        reports = [
            Report(
                id=f"{number}.{time.monotonic_ns():x}.{n}",
                account=f"a{chosen.randrange(pace.accounts)}",
                created=pace.now + timedelta(microseconds=sent + n),
                kind="sms",
                direction="outgoing",
                sender="Acme",
                recipient=f"+4670{chosen.randrange(10**7):07}",
                message="Your order is on its way and arrives tomorrow. Reply STOP to end.",
            )
            for n in range(pace.batch_records)
        ]
        sent += pace.batch_records
        await writer.write([Batch(reports)], pace.now)
        load.due.append(due)
        load.latencies_ms.append((time.monotonic() - due) * 1000)
        due += pause


async def main() -> None:
    """Writes until the second line of standard input."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    pace = msgspec.json.decode(await lines.readline(), type=Pace)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    config = Config(ingest_connections=pace.writers)
    async with Database(pace.dsn, config) as database:
        writer = RecordWriter(database, config)
        await writer.start()
        load = Load([], [])
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(pace.writers):
                group.create_task(write(pace, writer, number, load, stop))
            print("ready", flush=True)
            await lines.readline()
            stop.set()
    print(msgspec.json.encode(load).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
