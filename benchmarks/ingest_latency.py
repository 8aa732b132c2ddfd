"""Latency at a share of what the service can do, and what it keeps in memory meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import msgspec
from generator import Job
from ingest_bench import resident_bytes
from report import share_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest_bench import Bench
    from report import Round

# Requests small enough that there are enough of them for the thousandth part to be seen.
BATCH = 100
CONNECTIONS = 32
CAPACITY_ROUNDS = 3
SHARES = (0.5, 0.8)
# So long after the last record memory is looked at again.
REST_SECONDS = 3
STEPS = CAPACITY_ROUNDS + len(SHARES) + 1


@dataclass(frozen=True)
class Paced:
    """One load: its share of capacity, the pace asked for in records a second, what came of it."""

    share: float
    pace: float
    round: Round

    def cells(self) -> list[str]:
        """One row of the table."""
        values = sorted(self.round.latencies_ms)
        return [
            f"{self.share:.0%}",
            f"{self.pace:,.0f}",
            f"{self.round.rate:,.0f}",
            f"{len(values):,}",
            *(f"{share_of(values, share):,.1f}" for share in (0.5, 0.99, 0.999)),
            f"{values[-1]:,.1f}",
        ]


PACED_HEADINGS = (
    *("of capacity", "records/s due", "records/s stored", "requests"),
    *("p50 ms", "p99 ms", "p99.9 ms", "worst ms"),
)


@dataclass
class Latency:
    """Capacity in records a second, latencies, and resident memory of the service in bytes."""

    capacity: float = 0
    paced: list[Paced] = field(default_factory=list)
    others_cores: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)


async def measure_latency(
    bench: Bench, records: int, seconds: float, step: Callable[[str], None]
) -> Latency:
    """Requests that fall due by themselves, at shares of a capacity measured just before."""
    found = Latency()
    # What it can take of requests of this very size, one after another on each connection.
    closed = Job("http", records, BATCH, CONNECTIONS)
    rounds = []
    for number in range(CAPACITY_ROUNDS):
        step(f"capacity {number + 1}")
        rounds.append(await bench.do(closed))
    found.capacity = median(r.rate for r in rounds)
    for share in SHARES:
        step(f"latency at {share:.0%}")
        pace = share * found.capacity
        count = max(BATCH, round(pace * seconds / BATCH) * BATCH)
        # More connections than before: a request must never wait for one to be free.
        job = msgspec.structs.replace(closed, records=count, connections=128, rate=pace)
        done = await bench.do(job)
        rounds.append(done)
        found.paced.append(Paced(share, pace, done))
        found.memory[f"at {share:.0%} of capacity"] = done.memory_bytes
    step("memory at rest")
    await asyncio.sleep(REST_SECONDS)
    found.memory[f"{REST_SECONDS} seconds after"] = resident_bytes(bench.service)
    found.others_cores = [r.others_cores for r in rounds]
    return found
