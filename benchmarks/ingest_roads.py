"""Every way to write records, in turns, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from generator import Job
from ingest_bench import MissingRecordsError
from ingest_peers import EXECUTEMANY, FLOOR, PLAIN_COPY, RSYSLOG, WORKERS
from report import Ratio, Road

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest_bench import Bench
    from ingest_peers import Peers

WARM_UP_RECORDS = 10_000
# One record a request takes so much longer that fewer say as much.
SINGLE_SHARE = 4
# Of the minutes before, records go all over those of the load before; of seconds, behind them.
JUST_NOW_SECONDS = 2.0
# Reports on the records of the road before are taken as those are; so these two stay in order.
ORDERS = (
    (
        *("http", "updates", "copy1", WORKERS, "single", FLOOR, "copy2", "small"),
        *(EXECUTEMANY, PLAIN_COPY, RSYSLOG, "mixed", "http now", "copy1 now", "small now"),
    ),
    (
        *("mixed", PLAIN_COPY, RSYSLOG, "copy2", "http", "updates", WORKERS, "copy1"),
        *(FLOOR, "single", EXECUTEMANY, "small", "small now", "copy1 now", "http now"),
    ),
)


@dataclass
class Roads:
    """What was measured, by name."""

    roads: dict[str, Road]

    def ratios(self) -> list[Ratio]:
        """What the rounds are for."""
        get = self.roads.__getitem__
        http = get("http")
        ratios = [
            Ratio.of("R1", "HTTP ÷ COPY in one stream", "≥ 0.85", http, get("copy1")),
            Ratio.of(
                "R1, workers", "two workers ÷ that COPY", "≥ 0.85", get(WORKERS), get("copy1")
            ),
            Ratio.of("R1, two", "HTTP ÷ COPY in two streams", "", http, get("copy2")),
            Ratio.of(
                *("R1, just created", "HTTP ÷ COPY in one stream", "≥ 0.85"),
                *(get("http now"), get("copy1 now")),
            ),
            Ratio.of("R2", "10 ÷ 1,000 a request", "≥ 0.6", get("small"), http),
            Ratio.of(
                *("R2, just created", "10 ÷ 1,000 a request", "≥ 0.6"),
                *(get("small now"), get("http now")),
            ),
            Ratio.of("R3", "1 a request ÷ an empty handler", "≥ 0.5", get("single"), get(FLOOR)),
            Ratio.of("R4", "updates ÷ fresh", "≥ 0.4", get("updates"), http),
            # What the aim for updates alone comes to when they are half of all.
            Ratio.of("Mixed", "half updates ÷ fresh", "≥ 0.57", get("mixed"), http),
            Ratio.of(
                "PostgreSQL µs",
                "HTTP ÷ COPY in one stream, its processor time",
                "≤ 1.15",
                http,
                get("copy1"),
                lambda r: r.postgres_us,
            ),
        ]
        return ratios + [
            Ratio.of("Peer", f"HTTP ÷ {words}", "", http, get(name))
            for name, words in (
                (EXECUTEMANY, "plain service, executemany"),
                (PLAIN_COPY, "plain service, copy_records_to_table"),
                (RSYSLOG, "rsyslog to PostgreSQL"),
            )
            if name in self.roads
        ]


def jobs_of(records: int, peers: Peers) -> dict[str, Job]:
    """What is sent on each road."""
    transaction = min(20_000, max(1_000, records // 4))
    single = max(500, records // SINGLE_SHARE)

    def url(name: str) -> str:
        return peers.running[name][1]

    jobs = {
        "http": Job("http", records, 1_000, 8),
        WORKERS: Job("http", records, 1_000, 8, url(WORKERS)),
        "copy1": Job("copy", records, transaction, 1),
        "copy2": Job("copy", records, transaction, 2),
        "small": Job("http", records // 2, 10, 32),
        "updates": Job("updates", records, 1_000, 8),
        "mixed": Job("mixed", records, 1_000, 8),
        "single": Job("http", single, 1, 64),
        FLOOR: Job("http", single, 1, 64, url(FLOOR)),
        EXECUTEMANY: Job("http", records // 2, 1_000, 8, url(EXECUTEMANY)),
        PLAIN_COPY: Job("http", records // 2, 1_000, 8, url(PLAIN_COPY)),
    }
    for name in ("http", "copy1", "small"):
        now = msgspec.structs.replace(jobs[name], created_within=JUST_NOW_SECONDS)
        jobs[f"{name} now"] = now
    if RSYSLOG in peers.running:
        jobs[RSYSLOG] = Job("syslog", max(1_000, records // 5), 1, 2, url(RSYSLOG))
    return jobs


def titles(jobs: dict[str, Job]) -> dict[str, str]:
    """What the roads are called."""
    found = {
        "http": "HTTP, 1,000 a request x 8",
        WORKERS: "HTTP, 1,000 a request x 8, two workers",
        "copy1": f"COPY, {jobs['copy1'].batch:,} a transaction x 1",
        "copy2": f"COPY, {jobs['copy2'].batch:,} a transaction x 2",
        "small": "HTTP, 10 a request x 32",
        "single": "HTTP, 1 a request x 64",
        FLOOR: "empty handler, 1 a request x 64",
        "updates": "updates, 1,000 a request x 8",
        "mixed": "half updates, 1,000 a request x 8",
        EXECUTEMANY: "plain executemany, 1,000 x 8",
        PLAIN_COPY: "plain copy_records, 1,000 x 8",
        RSYSLOG: "rsyslog x 2",
    }
    found |= {f"{name} now": f"{found[name]}, just created" for name in ("http", "copy1", "small")}
    return {name: title for name, title in found.items() if name in jobs}


async def measure_roads(
    bench: Bench,
    peers: Peers,
    records: int,
    rounds: int,
    step: Callable[[str], None],
) -> Roads:
    """All rounds, after one to warm up. ``step`` is told what is done next.

    A peer that does not store all that it is sent takes no part from then on, and the reason is
    noted with it.
    """
    jobs = jobs_of(records, peers)
    roads = {name: Road(title) for name, title in titles(jobs).items()}
    for number in range(rounds + 1):
        # Tables grow and machines tire: no road is always the first of a round.
        for name in ORDERS[number % len(ORDERS)]:
            if number == 0:
                step(f"warming up: {name}")
            else:
                step(f"round {number}: {name}")
            if name not in roads:
                continue
            job = jobs[name]
            if number == 0:
                job = msgspec.structs.replace(job, records=min(job.records, WARM_UP_RECORDS))
            service = peers.running[name][0] if name in peers.running else None
            try:
                done = await bench.do(job, service, elsewhere=name in (FLOOR, RSYSLOG))
            except MissingRecordsError as error:
                if name != RSYSLOG:
                    raise
                peers.absent[name] = str(error)
                del roads[name]
                continue
            if number:
                roads[name].rounds.append(done)
    return Roads(roads)


def steps(rounds: int) -> int:
    """How often ``measure_roads`` calls ``step``."""
    return (rounds + 1) * len(ORDERS[0])
