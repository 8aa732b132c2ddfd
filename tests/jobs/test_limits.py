"""Settings of the jobs that no other test is about: each does what its description says."""

from __future__ import annotations

import asyncio

import pytest

from tests.jobs.stock import DAY, HOUR, START, TICK, TRAFFIC_GONE, report, until


async def partitions(stock, table: str) -> int:
    """How many partitions a table has."""
    return await stock.admin.fetchval(
        "SELECT count(*) FROM partition_catalogue WHERE table_name = $1", table
    )


async def test_partitions_are_made_so_far_ahead(stock):
    """Daily ones by the days of the setting, hourly ones by its hours."""
    await stock.run(START, headroom_days=2, headroom_hours=3)
    before = [await partitions(stock, table) for table in ("traffic_record", "in_transit")]
    await stock.run(START, headroom_days=6, headroom_hours=10)
    after = [await partitions(stock, table) for table in ("traffic_record", "in_transit")]
    assert [new - old for old, new in zip(before, after, strict=True)] == [4, 7]


async def test_a_day_is_sealed_so_many_hours_after_its_end(stock):
    """To the microsecond; records later than that find it sealed."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    quiet = (START + DAY).replace(hour=0) + 5 * HOUR
    assert name not in (await stock.run(quiet - TICK, late_hours=5)).sealed
    assert name in (await stock.run(quiet, late_hours=5)).sealed


@pytest.mark.parametrize(("attempts", "failures"), [(1, 1), (2, 0)])
async def test_a_lock_is_tried_for_so_often_in_a_run(stock, attempts, failures):
    """One that is let go after the first try is had by the second, if there is one."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    async with stock.transaction(f"LOCK TABLE {name}"):
        run = asyncio.create_task(
            stock.run(TRAFFIC_GONE, drop_attempts_max=attempts, detach_seconds_max=1)
        )

        async def tried():
            return not await stock.waiting("LOCK TABLE")

        await until(lambda: stock.waiting("LOCK TABLE"))
        await until(tried)
    assert len((await run).failures) == failures
