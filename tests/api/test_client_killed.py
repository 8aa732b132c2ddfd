"""The gateway's process is killed and the service goes away: no record that was taken is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.api.sender import record
from tests.jobs.stock import until
from trafficlog.client import Client, Outcome, RetryPolicy

ROOT = Path(__file__).parents[2]
KILLS = 6
FAST = RetryPolicy(first_seconds=0.01, pause_seconds_max=0.05)

pytestmark = pytest.mark.service_now("2026-11-22T00:00:00Z")


async def stored(dsn: str) -> list[str]:
    """The ids of the legal record, which are those of history too, each once."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = [
            sorted(
                row["id"] for row in await connection.fetch(f"SELECT id FROM trafficlog.{table}")
            )
            for table in ("traffic_record", "history_record")
        ]
    finally:
        await connection.close()
    assert tables[0] == tables[1]
    assert len(set(tables[0])) == len(tables[0])
    return tables[0]


async def test_a_gateway_that_is_killed_again_and_again_loses_nothing(service, relay, tmp_path):
    """Kill -9 while it sends and while it spools: all that ``send`` returned from arrives once."""
    moments = random.Random(20261122)
    journal = tmp_path / "journal"
    journal.touch()
    key = await service.key("ingest")

    async def start(run: int, *more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.api.sender", relay.url, key),
            *(str(tmp_path / "spool"), str(journal), f"run{run}", *more),
            cwd=ROOT,
            env=dict(os.environ),
        )

    async def grown(by: int) -> None:
        wanted = journal.read_text().count("\n") + by

        async def enough() -> bool:
            return journal.read_text().count("\n") >= wanted

        await until(enough)

    spooled = 0
    for run in range(KILLS):
        away = run % 3 != 0
        sender = await start(run)
        try:
            await grown(moments.randrange(1, 100))
            if away:
                relay.close()
                await grown(moments.randrange(1, 100))
            if run % 3 == 2:
                # Killed while it sends what it has spooled.
                await relay.listen_again()
                await asyncio.sleep(moments.random() / 50)
        finally:
            sender.send_signal(signal.SIGKILL)
            await sender.wait()
        spooled += sum(each.stat().st_size for each in (tmp_path / "spool").glob("*.segment"))
        if run % 3 == 1:
            await relay.listen_again()
    assert spooled > 0
    last = await start(KILLS, "10")
    async with asyncio.timeout(30):
        assert await last.wait() == 0
    assert list((tmp_path / "spool").glob("*.segment")) == []
    taken = journal.read_text().splitlines()
    assert len(taken) > KILLS
    assert set(taken) <= set(await stored(service.dsn))


async def test_a_service_that_is_away_for_a_while_gets_all_in_the_end(service, relay, tmp_path):
    """Stored before, spooled while it is away, stored again after; each record once."""
    key = await service.key("ingest")
    async with Client(
        relay.url,
        key,
        spool=tmp_path / "spool",
        batch_seconds=0.01,
        spool_after_seconds=0.3,
        retry=FAST,
    ) as client:

        async def send(run: str, count: int) -> set[Outcome]:
            return set(
                await asyncio.gather(*(client.send(record(f"{run}{n}", n)) for n in range(count)))
            )

        assert await send("before", 50) == {Outcome.STORED}
        relay.close()
        assert await send("while", 2000) == {Outcome.SPOOLED}
        # The same again, as gateways do when in doubt.
        assert await send("while", 50) == {Outcome.SPOOLED}
        await relay.listen_again()
        async with asyncio.timeout(30):
            await client.flush()
        assert await send("after", 50) == {Outcome.STORED}
        figures = client.figures
    assert (figures.accepted, figures.duplicates) == (2100, 50)
    assert (figures.refused, figures.waiting, figures.spool_bytes) == (0, 0, 0)
    assert len(await stored(service.dsn)) == 2100


async def test_an_answer_that_is_lost_makes_duplicates_and_nothing_twice(service, relay):
    """The request is sent again, and the service says that it has the records."""
    relay.lose_answers_of = {1}
    async with Client(relay.url, await service.key("ingest"), retry=FAST) as client:
        told = await asyncio.gather(*(client.send(record(f"m{n}", n)) for n in range(20)))
        assert set(told) == {Outcome.STORED}
        assert (client.figures.duplicates, client.figures.retries) == (20, 1)
    assert len(await stored(service.dsn)) == 20


async def test_the_same_record_twice_in_one_request_is_told_of_twice(service):
    """The service accounts for each line of a request, whatever it makes of them."""
    later = record("m1", 1) | {"updated": "2026-11-21T13:00:00Z", "status": "delivered"}
    given = [record("m1", 1), record("m1", 1), later, later, record("m2", 2)]
    async with Client(service.url, await service.key("ingest"), retry=FAST) as client:
        for _ in range(2):
            told = await asyncio.gather(*map(client.send, given))
            assert told == [Outcome.STORED] * 5
        assert client.figures.acknowledged == 10
        assert client.figures.requests == 2
    assert await stored(service.dsn) == ["m1", "m2"]
