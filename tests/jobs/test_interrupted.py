"""A run that is killed anywhere leaves what the next run finishes, and nothing twice."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.jobs.stock import DAY, START, TRAFFIC_GONE, config, report, until
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.partitions import Bounds
from trafficlog.queries import queries
from trafficlog.selector import Selector
from trafficlog.store.retention import Retention


async def stocked(stock) -> str:
    """Three records that are due at TRAFFIC_GONE, one of them held; the partition's name."""
    await stock.write(report("m1"), report("m2"), report("b1", account="b"))
    await stock.hold(Selector(account="b"))
    return await stock.partition("traffic_record", START, 60)


async def assert_finished_once(stock, name: str) -> None:
    """The partition is gone, with one ledger row that counts right, and nothing is left over."""
    assert await stock.admin.fetchval("SELECT to_regclass($1)", name) is None
    entries = [e for e in await stock.ledger("expired") if e["object"] == name]
    assert [(e["rows"], e["held"]) for e in entries] == [(3, 1)]
    assert await stock.held() == {("traffic_record", "b1")}
    assert await stock.admin.fetchval("SELECT count(*) FROM partition_drop") == 0
    assert (await stock.verify(TRAFFIC_GONE)).findings == []


@pytest.mark.parametrize("step", ["begun", "detached", "counted", "in the last transaction"])
async def test_a_drop_broken_off_after_any_step_is_finished_by_the_next_run(stock, step):
    """The connection goes; what was begun is taken up where it stands."""
    name = await stocked(stock)
    async with Retention(stock.dsn, config()) as retention:
        await queries.begin_drop(
            retention.connection, table_name="traffic_record", name=name, at=TRAFFIC_GONE
        )
        if step != "begun":
            await retention.drops.detach("traffic_record", name, pending=False)
        if step == "in the last transaction":
            transaction = retention.connection.transaction()
            await transaction.start()
            await queries.finish_drop(retention.connection, name=name, at=TRAFFIC_GONE, rows=3)
        retention.connection.terminate()
    assert "unfinished" in " ".join((await stock.verify(TRAFFIC_GONE + DAY)).findings)
    result = await stock.run(TRAFFIC_GONE)
    assert result.failures == []
    assert [(d.name, d.rows, d.held) for d in result.dropped if d.rows] == [(name, 3, 1)]
    await assert_finished_once(stock, name)


@pytest.mark.parametrize("death", ["killed", "timed out"])
async def test_a_detach_that_waits_for_a_reader_and_dies_is_finalised(stock, death):
    """Writers go on meanwhile; the pending detach is finalised by the next run."""
    name = await stocked(stock)
    await stock.write(report("n1", START + 59 * DAY), now=START + 59 * DAY)
    async with stock.transaction("SELECT count(*) FROM traffic_record") as reader:
        run = asyncio.create_task(
            stock.run(TRAFFIC_GONE, detach_seconds_max=60 if death == "killed" else 1)
        )
        waiting = await until(stock.waiting_detach)
        async with asyncio.timeout(5):
            # One into a partition that is there, and one that has to be made.
            await stock.write(report("n2", START + 59 * DAY), now=START + 59 * DAY)
            await stock.write(report("n3", START + 55 * DAY), now=START + 59 * DAY)
        if death == "killed":
            await stock.admin.execute("SELECT pg_terminate_backend($1)", waiting)
            with pytest.raises(DatabaseUnavailableError):
                await run
        else:
            result = await run
            assert any(name in failure for failure in result.failures)
        assert await stock.admin.fetchval(
            "SELECT detach_pending FROM partition_catalogue WHERE name = $1", name
        )
        # The reader still sees what it saw, and no new one does.
        assert await reader.fetchval("SELECT count(*) FROM traffic_record") >= 3
        assert await stock.ids("traffic_record") == ["n1", "n2", "n3"]
        findings = (await stock.verify(TRAFFIC_GONE + DAY)).findings
        assert any(name in finding for finding in findings)
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)
    assert await stock.ids("traffic_record") == ["n1", "n2", "n3"]


async def test_writers_and_readers_are_not_held_up_while_a_detach_waits(stock):
    """A long reader delays the drop alone; once it ends, the same run finishes."""
    name = await stocked(stock)
    async with stock.transaction("SELECT count(*) FROM traffic_record") as reader:
        run = asyncio.create_task(stock.run(TRAFFIC_GONE))
        await until(stock.waiting_detach)
        async with asyncio.timeout(5):
            await stock.write(report("n1", START + 59 * DAY), now=START + 59 * DAY)
            assert await stock.ids("traffic_record") == ["n1"]
            assert "n1" in await stock.visible(START + 59 * DAY)
        await reader.close()
    assert (await run).failures == []
    await assert_finished_once(stock, name)


async def test_a_partition_can_be_made_while_a_detach_is_to_be_finalised(stock):
    """To finalise needs the parent's lock: it is let go of again and again, so ingest goes on."""
    name = await stocked(stock)
    async with stock.transaction("SELECT count(*) FROM traffic_record"):
        await stock.run(TRAFFIC_GONE, detach_seconds_max=1)
        run = asyncio.create_task(stock.run(TRAFFIC_GONE, drop_attempts_max=4))
        await until(stock.waiting_detach)
        async with asyncio.timeout(3):
            await stock.write(report("n1", START + 55 * DAY), now=START + 59 * DAY)
        assert any(name in failure for failure in (await run).failures)
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)


async def test_a_detach_left_pending_by_hand_is_finalised(stock):
    """Whoever began it: an expired partition whose detach is pending is dropped whole."""
    name = await stocked(stock)
    async with stock.transaction("SELECT count(*) FROM traffic_record"):
        operator = await asyncpg.connect(stock.dsn)
        await operator.execute("SET lock_timeout = '200ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await operator.execute(
                f"ALTER TABLE trafficlog.traffic_record DETACH PARTITION trafficlog.{name}"
                " CONCURRENTLY"
            )
        await operator.close()
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)


async def test_a_partition_attached_again_during_its_drop_is_not_dropped(stock):
    """The last step refuses: the rows may be needed."""
    name = await stocked(stock)
    async with Retention(stock.dsn, config()) as retention:
        begun = await queries.begin_drop(
            retention.connection, table_name="traffic_record", name=name, at=TRAFFIC_GONE
        )
        await retention.drops.detach("traffic_record", name, pending=False)
        await stock.admin.execute(
            f"ALTER TABLE traffic_record ATTACH PARTITION {name} FOR VALUES FROM"
            f" ('{begun['lower']}') TO ('{begun['upper']}')"
        )
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="attached again"):
            await retention.drops.finish(
                "traffic_record",
                name,
                Bounds(begun["lower"], begun["upper"]),
                TRAFFIC_GONE,
            )
    assert await stock.ids("traffic_record") == ["b1", "m1", "m2"]
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)
