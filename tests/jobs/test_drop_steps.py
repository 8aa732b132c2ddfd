"""The middle and the last step of a drop: what is looked at again, and what need not be."""

from __future__ import annotations

import pytest

from tests.jobs.stock import START, TRAFFIC_GONE, config, report
from trafficlog.queries import queries
from trafficlog.selector import Selector
from trafficlog.store.retention import Retention


async def settled(stock, retention: Retention) -> str:
    """A partition of three rows, detached, counted and with its held rows copied; its name."""
    await stock.write(report("m1"), report("m2"), report("b1", account="b"))
    name = await stock.partition("traffic_record", START, 60)
    await queries.begin_drop(
        retention.connection, table_name="traffic_record", name=name, at=TRAFFIC_GONE
    )
    await retention.drops.detach("traffic_record", name, pending=False)
    assert await queries.settle_drop(retention.connection, name=name, at=TRAFFIC_GONE)
    return name


@pytest.mark.parametrize(
    ("selector", "ids"),
    [
        (Selector(account="b"), {"b1"}),
        (Selector(number="+46701234567"), {"m1", "m2", "b1"}),
        (Selector(account="acme", record="m2"), {"m2"}),
    ],
)
async def test_a_hold_placed_after_the_middle_step_is_honoured_by_the_last(stock, selector, ids):
    """The last step looks at the rows once more when a hold is in force that came since."""
    async with Retention(stock.dsn, config()) as retention:
        name = await settled(stock, retention)
        await stock.hold(selector, TRAFFIC_GONE)
        kept = await queries.finish_drop(retention.connection, name=name, at=TRAFFIC_GONE, rows=3)
    assert kept == len(ids)
    assert await stock.held() == {("traffic_record", each) for each in ids}


async def test_without_a_new_hold_the_last_step_relies_on_the_middle_one(stock):
    """It reads no row under the lock that placements wait for, and says what was copied."""
    await stock.write(report("a1", account="b"))
    await stock.hold(Selector(account="b"))
    async with Retention(stock.dsn, config()) as retention:
        await stock.write(report("m1"), report("b1", account="b"))
        name = await stock.partition("traffic_record", START, 60)
        await queries.begin_drop(
            retention.connection, table_name="traffic_record", name=name, at=TRAFFIC_GONE
        )
        await retention.drops.detach("traffic_record", name, pending=False)
        await queries.settle_drop(retention.connection, name=name, at=TRAFFIC_GONE)
        await stock.admin.execute("DELETE FROM held_record WHERE record_id = 'b1'")
        kept = await queries.finish_drop(retention.connection, name=name, at=TRAFFIC_GONE, rows=3)
    assert kept == 2
    assert await stock.held() == {("traffic_record", "a1")}


async def test_rows_that_came_while_it_was_attached_again_are_looked_at(stock):
    """Attached by hand after the middle step, a partition's drop settles anew."""
    await stock.write(report("b0", account="b"))
    await stock.hold(Selector(account="b"))
    async with Retention(stock.dsn, config()) as retention:
        name = await settled(stock, retention)
        bounds = await stock.admin.fetchrow("SELECT lower, upper FROM partition_drop")
        await stock.admin.execute(
            f"ALTER TABLE traffic_record ATTACH PARTITION {name}"
            f" FOR VALUES FROM ('{bounds['lower']}') TO ('{bounds['upper']}')"
        )
        await stock.write(report("b2", account="b"))
    result = await stock.run(TRAFFIC_GONE)
    assert result.failures == []
    assert [(d.rows, d.held) for d in result.dropped if d.name == name] == [(5, 3)]
    assert await stock.held() == {("traffic_record", each) for each in ("b0", "b1", "b2")}
