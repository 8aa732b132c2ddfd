"""The line to PostgreSQL fails in the middle of a COPY, at a commit, or without a word."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.helpers import superuser
from tests.faults.line import COMMIT, Line, socket_dir_of
from tests.faults.load import (
    START,
    Load,
    MixedLoad,
    assert_all_there_once,
    kills,
    without_history,
)
from tests.serving import serving
from trafficlog.queries import queries
from trafficlog.store import database as connections
from trafficlog.store.ingest import PIECE_RECORDS

CUTS = kills(15)
# What stores a few new records, and commits them.
FEW = queries.store_few.sql
# So many requests of one record each come at once.
AT_ONCE = 8
# Less than any other limit that would end a wait.
ANSWER_SECONDS = 1
SETTINGS = {
    # A key is known already when the line fails.
    "key_cache_seconds": 300,
    # The jobs' connection would meet the failures that are meant for records.
    "move_interval_seconds": 3600,
}
# Where nobody is told of the failure.
SILENCE_SETTINGS = SETTINGS | {
    "answer_seconds_max": ANSWER_SECONDS,
    "statement_seconds_max": 1,
    "connect_seconds_max": 1,
}


@pytest_asyncio.fixture
async def line(database):
    """A line to the server of the tests."""
    server_dir = socket_dir_of(database)
    if server_dir is None:
        pytest.skip("the server has no socket here")
    with tempfile.TemporaryDirectory() as directory:
        async with Line(server_dir, Path(directory)) as opened:
            yield opened


async def failed(line: Line, load: Load, times: int) -> None:
    """Waits until the line has failed so often, and a batch was refused.

    A machine that is busy elsewhere may make one too late before.
    """
    while line.cuts < times:
        await load.refused()


async def test_a_line_cut_anywhere_in_a_transaction_loses_and_doubles_nothing(database, line):
    """Cut after any number of bytes: what was in doubt is sent again and is there once."""
    moments = random.Random(20261122)
    await without_history(database)
    async with serving(line.dsn(database), START, **SETTINGS) as service:
        async with MixedLoad(service.url, await service.key("ingest"), batch=20) as load:
            for number in range(1, CUTS + 1):
                # A large batch is some hundred kilobytes, most of them in its COPYs.
                line.fail_after(moments.randrange(1, 300_000))
                await failed(line, load, number)
                await load.progress(50)
        assert load.refusals.keys() == {(503, "1")}
    await assert_all_there_once(database, load)


@pytest.mark.parametrize("statement", [COMMIT, FEW], ids=["commit", "few"])
@pytest.mark.parametrize("let_through", [False, True], ids=["before", "after"])
async def test_a_commit_whose_outcome_is_unknown_is_no_acknowledgement(
    database, line, let_through, statement
):
    """Its answer lost, the client is told 503 whether or not it took place; again, it is once."""
    await without_history(database)
    async with serving(line.dsn(database), START, **SETTINGS) as service:
        async with MixedLoad(service.url, await service.key("ingest")) as load:
            for number in range(1, CUTS + 1):
                line.cut_at(statement, let_through=let_through)
                await failed(line, load, number)
                await load.progress(20)
        assert load.refusals.keys() == {(503, "1")}
    await assert_all_there_once(database, load)


@pytest.mark.parametrize("let_through", [False, True], ids=["before", "after"])
async def test_a_small_request_whose_answer_is_lost_is_stored_once(database, line, let_through):
    """Answered 503 it is stored in both tables, or in none; sent again, it is there once.

    It is stored exactly when the server heard of it, and then told to be a duplicate.
    """
    async with serving(line.dsn(database), START, **SETTINGS) as service:
        key = await service.key("ingest")

        async def post(name: str) -> tuple[int, str | None]:
            """The answer to a request of one record: its status, and what became of the record."""
            status, told = await service.post(key, service.record(name))
            return status, next((n for n in ("accepted", "duplicates") if told.get(n)), None)

        assert await post("first") == (200, "accepted")
        sent = {"first"}
        for number in range(1, CUTS + 1):
            names = [f"m{number}-{n}" for n in range(AT_ONCE)]
            sent.update(names)
            line.cut_at(FEW, let_through=let_through)
            answers = dict(zip(names, await asyncio.gather(*map(post, names)), strict=True))
            assert line.cuts == number
            assert set(answers.values()) <= {(200, "accepted"), (503, None)}
            doubtful = {name for name, (status, _) in answers.items() if status == 503}
            assert doubtful
            assert await stored(service) == sent - (set() if let_through else doubtful)
            again = await asyncio.gather(*map(post, doubtful))
            assert set(again) == {(200, "duplicates" if let_through else "accepted")}
        assert await stored(service) == sent


async def stored(service) -> set[str]:
    """The records that there are: each once in the legal table, and once in history."""
    async with superuser(service) as connection:
        tables = [
            [row["id"] for row in await connection.fetch(f"SELECT id FROM {table} ORDER BY id")]
            for table in ("traffic_record", "history_record")
        ]
    assert tables[0] == tables[1] == sorted(set(tables[0]))
    return set(tables[0])


@pytest.mark.parametrize("table", ["traffic_record", "history_record"])
async def test_a_line_that_falls_silent_in_a_copy_costs_a_bounded_time(
    database, line, table, monkeypatch
):
    """Nothing comes through and nobody is told: 503 in time, and no other request waits.

    Sent again, the records are stored at once, unless rows of theirs had come through before:
    then as soon as the server knows that the line is dead, which keepalives tell it.
    """
    # The silent connection is waited for at the end.
    monkeypatch.setattr(connections, "GRACE_SECONDS", 1)
    async with serving(line.dsn(database), START, **SILENCE_SETTINGS) as service:
        key = await service.key("ingest")
        async with Load(service.url, key, workers=2, batch=PIECE_RECORDS) as load:
            # The accounts are known then, and such batches go by COPY.
            await load.progress(3 * PIECE_RECORDS)
            line.fall_silent_in_copy(table, 5_000)
            await failed(line, load, 1)
            if table == "history_record":
                await load.refused()
                line.hang_up()
            await load.progress(2 * PIECE_RECORDS)
        assert load.refusals.keys() == {(503, "1")}
        assert load.slowest_seconds < ANSWER_SECONDS + 2
    await assert_all_there_once(database, load)
