"""What fails is noted, and the rest has its turn."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.jobs.stock import (
    DAY,
    HISTORY_GONE,
    HOUR,
    START,
    TRAFFIC_GONE,
    Stock,
    config,
    report,
    until,
)
from trafficlog import migrate, postgres
from trafficlog.errors import ClockJumpError, ConflictError
from trafficlog.retention import CLOCK_SKEW_MAX
from trafficlog.store.database import Database
from trafficlog.store.ingest import RecordWriter
from trafficlog.store.retention import Retention


async def test_a_table_that_is_locked_does_not_stop_the_others(stock):
    """Somebody holds one partition: it is in the failures, all else goes; then it goes too."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    async with stock.transaction(f"LOCK TABLE {name}"):
        async with asyncio.timeout(20):
            result = await stock.run(HISTORY_GONE, detach_seconds_max=1)
        assert [name in failure for failure in result.failures] == [True]
        assert [(d.table, d.rows) for d in result.dropped if d.rows] == [("history_record", 1)]
    result = await stock.run(HISTORY_GONE)
    assert (result.failures, [(d.name, d.rows) for d in result.dropped]) == ([], [(name, 1)])


async def test_who_waits_for_a_locked_partition_keeps_nobody_waiting(stock):
    """Partitions are made and records stored meanwhile; nobody asks for the whole table's lock."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    async with stock.transaction(f"LOCK TABLE {name}"):
        run = asyncio.create_task(stock.run(TRAFFIC_GONE, detach_seconds_max=3))
        await until(lambda: stock.waiting("LOCK TABLE"))
        # One into a partition that has to be made.
        async with asyncio.timeout(2):
            await stock.write(report("m2", START + 55 * DAY), now=START + 59 * DAY)
        while not run.done():
            assert not await stock.admin.fetchval(
                "SELECT count(*) FROM pg_locks WHERE relation = 'traffic_record'::regclass"
                " AND mode = 'AccessExclusiveLock'"
            )
            await asyncio.sleep(0.001)
        assert [name in failure for failure in (await run).failures] == [True]
    assert (await stock.run(TRAFFIC_GONE)).failures == []


async def test_a_detach_that_took_too_long_is_finalised_by_the_same_run(stock):
    """When the reader it waited for has ended by its next try."""
    await stock.write(report("m1"))
    async with stock.transaction("SELECT count(*) FROM traffic_record"):
        run = asyncio.create_task(stock.run(TRAFFIC_GONE, detach_seconds_max=1))
        await until(stock.waiting_detach)

        async def pending():
            return (
                await stock.admin.fetchval(
                    "SELECT bool_or(detach_pending) FROM partition_catalogue"
                )
                and not await stock.waiting_detach()
            )

        await until(pending)
    result = await run
    assert result.failures == []
    assert [(d.table, d.rows) for d in result.dropped if d.rows] == [("traffic_record", 1)]


@pytest.mark.parametrize("table", ["traffic_record", "history_record"])
async def test_a_locked_table_does_not_stop_partitions_of_others_being_made(stock, table):
    """Headroom of one table failing leaves the headroom of the rest."""
    async with stock.transaction(f"LOCK TABLE {table}"):
        result = await stock.run(START)
        assert {c.value for c, _ in result.created} >= {"debug_log", "in_transit", "access_log"}
        assert result.failures
        assert all(table in failure for failure in result.failures)


async def test_a_partition_detached_by_hand_is_found_and_the_rest_goes_on(stock):
    """Its rows are nobody's any more: verification names it, others are stored and dropped."""
    await stock.write(report("m1"), report("m2", START + DAY), now=START + DAY)
    name = await stock.partition("traffic_record", START, 60)
    await stock.admin.execute(f"ALTER TABLE traffic_record DETACH PARTITION {name}")
    findings = (await stock.verify(START + DAY)).findings
    assert {f.split(":")[0] for f in findings} == {"stray", "missing"}
    assert all(name in f for f in findings)
    assert (await stock.write(report("m3"), now=START + DAY)).accepted == 1
    result = await stock.run(HISTORY_GONE + DAY)
    assert [(d.table, d.rows) for d in result.dropped if d.rows] == [
        ("traffic_record", 1),
        ("traffic_record", 1),
        ("history_record", 2),
        ("history_record", 1),
    ]
    assert not (await stock.verify(HISTORY_GONE + DAY)).is_right


async def test_a_partition_dropped_by_hand_is_made_anew_and_never_forgotten(stock):
    """Records go on being stored; the loss is told until the time it was to be kept has passed."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    await stock.admin.execute(f"DROP TABLE {name}")
    findings = (await stock.verify(START)).findings
    assert [name in f and f.startswith("missing") for f in findings] == [True]
    outcome = await stock.write(report("m2"))
    assert outcome.accepted == 1
    findings = (await stock.verify(START)).findings
    assert [name in f for f in findings] == [True]
    assert (await stock.run(START)).failures == []
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    assert (await stock.verify(TRAFFIC_GONE)).findings == []


async def test_a_partition_dropped_by_hand_in_the_middle_of_its_drop_is_told_of(stock):
    """What it held was never counted: runs and verification name it until somebody decides."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    async with stock.transaction("SELECT count(*) FROM traffic_record"):
        await stock.run(TRAFFIC_GONE, detach_seconds_max=1)
    await stock.admin.execute(f"DROP TABLE {name}")
    result = await stock.run(TRAFFIC_GONE)
    assert [name in failure for failure in result.failures] == [True]
    assert any(name in f for f in (await stock.verify(TRAFFIC_GONE + DAY)).findings)


async def test_of_two_instances_one_leads(stock):
    """The other does nothing until it lets go, or its connection ends."""
    async with Retention(stock.dsn, config()) as other:
        async with Retention(stock.dsn, config()) as leader:
            assert await leader.lead()
            assert not await other.lead()
            await leader.step_down()
            assert await other.lead()
            await other.step_down()
            assert await leader.lead()
        assert await until(other.lead)


async def test_a_command_waits_for_the_leader_and_says_when_it_gives_up(stock):
    """It becomes the leader as soon as the round ends; it does not wait for ever."""
    async with (
        Retention(stock.dsn, config()) as leader,
        Retention(stock.dsn, config(statement_seconds_max=1)) as command,
    ):
        assert await leader.lead()
        with pytest.raises(ConflictError):
            await command.wait_for_lead()
        waiting = asyncio.create_task(command.wait_for_lead())
        await leader.step_down()
        await waiting
        assert not await leader.lead()


async def test_nothing_is_done_when_the_clock_has_jumped(stock):
    """Neither drop nor move: back, or ahead by more than the limit, until it is confirmed."""
    await stock.write(report("m1"))
    limit = timedelta(hours=30)
    async with Retention(stock.dsn, config(clock_forward_hours_max=30)) as retention:
        await retention.run(START, guard_clock=True)
        await stock.set_days(1, START)
        for at in (START - CLOCK_SKEW_MAX - HOUR, START + limit + HOUR, HISTORY_GONE):
            with pytest.raises(ClockJumpError):
                await retention.run(at, guard_clock=True)
            with pytest.raises(ClockJumpError):
                await retention.move(at, guard_clock=True)
        assert await stock.ids("history_record") == ["m1"]
        assert await stock.ledger() == []
        result = await retention.run(START + limit, guard_clock=True)
        assert result.failures == []


async def test_a_confirmed_clock_is_the_one_that_counts_from_then_on(stock):
    """Once an operator accepted it, runs go on from there, forward or back."""
    await stock.write(report("m1"))
    async with Retention(stock.dsn, config()) as retention:
        await retention.run(START, guard_clock=True)
        result = await retention.run(TRAFFIC_GONE, guard_clock=True, accept_clock=True)
        assert [d.rows for d in result.dropped if d.rows] == [1]
        await retention.run(TRAFFIC_GONE + HOUR, guard_clock=True)
        with pytest.raises(ClockJumpError):
            await retention.run(START, guard_clock=True)
        await retention.run(START, guard_clock=True, accept_clock=True)
        await retention.run(START + HOUR, guard_clock=True)


async def test_a_demonstrations_run_does_not_move_the_clock(stock):
    """A run at another time than the clock's leaves the guard's reference alone."""
    async with Retention(stock.dsn, config()) as retention:
        await retention.run(START, guard_clock=True)
        await retention.run(TRAFFIC_GONE, guard_clock=False)
        await retention.run(START + HOUR, guard_clock=True)


async def test_ninety_days_without_a_run_are_caught_up_within_the_default_locks():
    """Hundreds of partitions are due at once, and each is dropped in its own transaction."""
    few = {
        "max_locks_per_transaction": "64",
        "max_connections": "20",
        "fsync": "off",
        "shared_buffers": "32MB",
    }
    with (
        tempfile.TemporaryDirectory(prefix="trafficlog-locks-") as directory,
        postgres.running(Path(directory), settings=few) as server,
    ):
        await migrate.migrate(server.dsn)
        admin = await asyncpg.connect(server.dsn, server_settings={"search_path": "trafficlog"})
        async with Database(server.dsn, config()) as pools:
            writer = RecordWriter(pools, config())
            await writer.start()
            stock = Stock(server.dsn, pools, writer, admin)
            for day in range(91):
                at = START + day * DAY
                await stock.write(report(f"m{day}", at), now=at)
                await stock.write_line("a line", "acme", at)
            result = await stock.run(START + 180 * DAY)
            dropped = [d for d in result.dropped if d.rows]
            assert (result.failures, result.left_over) == ([], 0)
            assert sum(d.rows for d in dropped) == 3 * 91 - 1
            assert await stock.ids("history_record") == ["m90"]
            verified = await stock.verify(START + 180 * DAY)
            assert (verified.findings, verified.ledger_entries) == ([], len(result.dropped))
        await admin.close()
