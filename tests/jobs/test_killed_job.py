"""A run whose process, or whose session on the server, is killed in the middle of a statement."""

from __future__ import annotations

import asyncio

import pytest
from asyncpg import LockNotAvailableError

from tests.cli.process import COMMAND, TIME_TRAVEL, environment
from tests.jobs.stock import DAY, START, TRAFFIC_GONE, config, report, until
from tests.jobs.test_interrupted import assert_finished_once, stocked
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.queries import queries
from trafficlog.store.retention import Retention

# What another session holds so that a run waits in the midst of a step.
IN_THE_WAY = {
    "the intent": "LOCK TABLE partition_drop IN EXCLUSIVE MODE",
    "the detach": "SELECT count(*) FROM traffic_record",
    "the copy": "SELECT FROM partition_drop FOR UPDATE",
    "the last transaction": "SELECT FROM purge_ledger_head FOR UPDATE",
}


async def begun(stock, step: str) -> str:
    """Rows that are due, and as far as the copy is to be met, a drop that was begun."""
    name = await stocked(stock)
    if step == "the copy":
        async with Retention(stock.dsn, config()) as retention:
            await queries.begin_drop(
                retention.connection, table_name="traffic_record", name=name, at=TRAFFIC_GONE
            )
    return name


async def waiting_run(stock) -> int | None:
    """The server's process of a run that waits."""
    return await stock.admin.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'trafficlog_retention' AND wait_event_type = 'Lock'"
    )


async def run_next(stock) -> None:
    """The next run, as soon as the server has let go of the one before."""
    async with Retention(stock.dsn, config()) as retention:
        await until(retention.lead)
        assert (await retention.run(TRAFFIC_GONE, guard_clock=False)).failures == []


@pytest.mark.parametrize("step", IN_THE_WAY)
async def test_a_run_whose_process_is_killed_is_made_up_for(stock, step):
    """Kill -9 while the server works: it ends its statement alone, and nothing is done twice."""
    name = await begun(stock, step)
    async with stock.transaction(IN_THE_WAY[step]):
        run = await asyncio.create_subprocess_exec(
            *(COMMAND, "retention", "run", "--at", TRAFFIC_GONE.isoformat()),
            env=environment(
                TIME_TRAVEL
                | {
                    "TRAFFICLOG_DATABASE_URL": stock.dsn,
                    "TRAFFICLOG_LOCK_TIMEOUT_MS": "20000",
                    "TRAFFICLOG_HEADROOM_DAYS": "1",
                    "TRAFFICLOG_HEADROOM_HOURS": "1",
                }
            ),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(lambda: waiting_run(stock))
        run.kill()
        await run.wait()
        # Nobody else leads as long as the server goes on with it.
        async with Retention(stock.dsn, config()) as other:
            assert not await other.lead()
    await run_next(stock)
    await assert_finished_once(stock, name)


@pytest.mark.parametrize("step", IN_THE_WAY)
async def test_a_run_whose_session_is_terminated_is_made_up_for(stock, step):
    """The server takes the statement back; the run says that the database was away."""
    name = await begun(stock, step)
    async with stock.transaction(IN_THE_WAY[step]):
        run = asyncio.create_task(stock.run(TRAFFIC_GONE, lock_timeout_ms=20_000))
        pid = await until(lambda: waiting_run(stock))
        await stock.admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(DatabaseUnavailableError):
            await run
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1"
        await until(lambda: stock.admin.fetchval(gone, pid))
    assert await stock.ledger() == []
    if step == "the intent":
        assert await stock.partition("traffic_record", START, 60) == name
    await run_next(stock)
    await assert_finished_once(stock, name)


@pytest.mark.parametrize("is_begun", [True, False])
async def test_a_pending_detach_is_finalised_before_others_of_its_table(stock, is_begun):
    """A table bears one at a time: a newer partition's goes first, and no drop fails for it."""
    name = await stocked(stock)
    await stock.write(report("n1", START + DAY), now=START + DAY)
    newer = await stock.partition("traffic_record", START + DAY, 60)
    async with (
        Retention(stock.dsn, config()) as retention,
        stock.transaction("SELECT FROM traffic_record"),
    ):
        for each in (name, newer) if is_begun else ():
            await queries.begin_drop(
                retention.connection, table_name="traffic_record", name=each, at=TRAFFIC_GONE + DAY
            )
        await retention.connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(LockNotAvailableError):
            await retention.connection.execute(
                f"ALTER TABLE traffic_record DETACH PARTITION {newer} CONCURRENTLY"
            )
    result = await stock.run(TRAFFIC_GONE + DAY)
    assert result.failures == []
    assert [d.name for d in result.dropped if d.rows] == [newer, name]
