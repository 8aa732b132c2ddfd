"""A gateway's process for tests: sends without end, and notes each record that was taken.

``python -m tests.api.sender URL KEY SPOOL JOURNAL RUN [RECORDS]``: tasks send records
with ids of their own and write an id to the journal, a line each, when ``send`` has
returned. With RECORDS it flushes and ends after so many; without, it must be killed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.records import GOOD
from trafficlog.client import Client, RetryPolicy

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def record(record_id: str, number: int) -> dict[str, str]:
    """A record of the demonstration's day."""
    return GOOD | {
        "id": record_id,
        "account": f"a{number % 3}",
        "created": (START + timedelta(milliseconds=number)).isoformat(),
        "message": f"text {number}",
    }


async def main() -> None:
    """Sends from several tasks."""
    url, key, spool, journal, run = sys.argv[1:6]
    last = int(sys.argv[6]) if len(sys.argv) > 6 else None
    # A line reaches the system in one write, and outlives the process.
    notes = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers = itertools.count() if last is None else iter(range(last))
    async with Client(
        url,
        key,
        spool=Path(spool),
        batch_seconds=0.002,
        batch_records_max=20,
        spool_after_seconds=0.3,
        retry=RetryPolicy(first_seconds=0.01, pause_seconds_max=0.05),
        close_seconds=0.5,
    ) as client:

        async def work() -> None:
            for number in numbers:
                name = f"{run}.{number}"
                await client.send(record(name, number))
                os.write(notes, f"{name}\n".encode())

        await asyncio.gather(*(work() for _ in range(8)))
        await client.flush()


if __name__ == "__main__":
    asyncio.run(main())
