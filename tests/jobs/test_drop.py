"""A retention run on real partitions: what expired is gone, all else is there."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.jobs.stock import (
    DAY,
    HISTORY_GONE,
    HOUR,
    START,
    TICK,
    TRAFFIC_GONE,
    config,
    report,
)
from trafficlog.selector import Selector
from trafficlog.store.retention import Retention
from trafficlog.store.transit import Transit


async def test_a_first_run_makes_the_partitions_and_drops_nothing(stock):
    """Every class gets its headroom; a second run at once has nothing to do."""
    first = await stock.run(START)
    assert {c.value for c, _ in first.created} == {
        *("traffic_record", "history_record", "debug_log", "in_transit", "access_log")
    }
    assert (first.dropped, first.failures) == ([], [])
    second = await stock.run(START)
    assert (second.created, second.dropped, second.failures) == ([], [], [])
    assert (await stock.verify(START)).findings == []


async def test_a_partition_goes_at_its_upper_bound_and_not_a_microsecond_before(stock):
    """One microsecond before, the row is still stored; at the bound it is gone."""
    await stock.write(report("m1"))
    upper = (START + 61 * DAY).replace(hour=0)
    result = await stock.run(upper - TICK)
    assert "traffic_record" not in {d.table for d in result.dropped}
    assert await stock.ids("traffic_record") == ["m1"]
    result = await stock.run(upper)
    assert [(d.table, d.rows) for d in result.dropped if d.rows] == [("traffic_record", 1)]
    assert await stock.ids("traffic_record") == []
    assert await stock.ids("history_record") == ["m1"]


async def test_one_day_of_history_is_kept_24_hours_and_no_less(stock):
    """With one day: a day later the row is hidden, and its partition goes the night after."""
    created = START.replace(hour=23, minute=59)
    await stock.write(report("m0"))
    await stock.set_days(1, START)
    await stock.write(report("m1", created), now=created)
    await stock.run(created + DAY - TICK)
    assert await stock.visible(created + DAY - TICK) == ["m1"]
    assert await stock.visible(created + DAY) == []
    await stock.run((created + 2 * DAY).replace(hour=0, minute=0))
    assert await stock.ids("history_record") == []


async def test_what_expired_is_physically_gone(stock):
    """No relation, no index, no file of it remains."""
    await stock.write(*[report(f"m{n}") for n in range(50)])
    name = await stock.partition("traffic_record", START, 60)
    files = [
        row["path"]
        for row in await stock.admin.fetch(
            "SELECT pg_relation_filepath(c.oid) AS path FROM pg_class c WHERE c.oid = $1::regclass"
            " OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1::regclass)"
            " OR c.oid = (SELECT reltoastrelid FROM pg_class WHERE oid = $1::regclass)",
            name,
        )
    ]
    assert len(files) == 3
    await stock.run(TRAFFIC_GONE)
    assert (
        await stock.admin.fetchval(
            "SELECT count(*) FROM pg_class WHERE relname LIKE $1 || '%'", name
        )
        == 0
    )
    # The server keeps the first file's empty name until its next checkpoint.
    await stock.admin.execute("CHECKPOINT")
    for path in files:
        assert await stock.admin.fetchval("SELECT (pg_stat_file($1, true)).size", path) is None


async def test_each_drop_leaves_a_ledger_row_with_exact_counts(stock):
    """Class, object, bounds, rows and how many a hold kept; the register forgets the partition."""
    await stock.write(*[report(f"m{n}") for n in range(7)], report("other", account="b"))
    await stock.hold(Selector(account="b"))
    result = await stock.run(TRAFFIC_GONE)
    (dropped,) = [d for d in result.dropped if d.rows]
    assert (dropped.table, dropped.rows, dropped.held) == ("traffic_record", 8, 1)
    entries = [e for e in await stock.ledger("expired") if e["object"] == dropped.name]
    assert [(e["rows"], e["held"], e["lower"], e["upper"], e["at"]) for e in entries] == [
        (8, 1, dropped.lower, dropped.upper, TRAFFIC_GONE)
    ]
    assert {e["object"] for e in await stock.ledger()} == {d.name for d in result.dropped}
    left = await stock.admin.fetchval(
        "SELECT count(*) FROM partition_register WHERE name = $1", dropped.name
    )
    assert left == 0
    assert (await stock.verify(TRAFFIC_GONE)).findings == []


async def test_a_drop_and_its_ledger_row_are_one_transaction(stock):
    """When the ledger cannot be written, the rows are still there."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    await stock.admin.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON purge_ledger EXECUTE FUNCTION refuse()"
    )
    result = await stock.run(TRAFFIC_GONE)
    assert any(name in failure for failure in result.failures)
    assert await stock.admin.fetchval(f"SELECT count(*) FROM {name}") == 1
    assert await stock.ledger() == []
    await stock.admin.execute("DROP TRIGGER refuse ON purge_ledger")
    result = await stock.run(TRAFFIC_GONE)
    assert result.failures == []
    assert [(e["rows"], e["object"]) for e in await stock.ledger() if e["rows"]] == [(1, name)]


async def test_a_plan_tells_what_a_run_then_does(stock):
    """The same partitions, the same rows, the same held ones; the plan changes nothing."""
    await stock.write(report("m1"), report("m2", account="b"))
    await stock.hold(Selector(account="b"))
    async with Retention(stock.dsn, config()) as retention:
        plan = await retention.plan(HISTORY_GONE)
        weighed = await retention.weigh(plan.drop, HISTORY_GONE)
    assert await stock.held() == set()
    assert await stock.ids("history_record") == ["m1", "m2"]
    assert [(d.table, d.rows, d.held) for d in weighed if d.rows] == [
        ("traffic_record", 2, 1),
        ("history_record", 2, 1),
    ]
    result = await stock.run(HISTORY_GONE)
    assert result.dropped == weighed
    assert sorted(result.created) == sorted(plan.create)


async def test_every_class_goes_at_its_own_time(stock):
    """72 hours in transit, 14 days of debug lines, 60 of traffic, 90 of history."""
    await stock.write(report("m1"))
    await stock.write_line("a line", "acme")
    await Transit(stock.database, stock.writer).put("t1", b"callback", "acme", START)
    gone = {
        "in_transit": START + timedelta(hours=73),
        "debug_log": START + 15 * DAY,
        "traffic_record": TRAFFIC_GONE,
        "history_record": HISTORY_GONE,
    }
    for table, at in gone.items():
        result = await stock.run(at)
        assert [(d.table, d.rows) for d in result.dropped if d.rows] == [(table, 1)]


async def test_a_run_drops_a_bounded_number_and_tells_what_is_left(stock):
    """The oldest first; the next run goes on."""
    for day in range(4):
        await stock.write(report(f"m{day}", START + day * DAY), now=START + day * DAY)
    result = await stock.run(START + 64 * DAY, drops_in_a_run_max=3)
    assert (len(result.dropped), result.left_over) == (3, 1)
    assert await stock.ids("traffic_record") == ["m3"]
    result = await stock.run(START + 64 * DAY, drops_in_a_run_max=3)
    assert (result.left_over, await stock.ids("traffic_record")) == (0, [])


async def test_bounds_come_from_the_catalogue_and_not_from_the_name(stock):
    """A partition under a misleading name goes by its bounds."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    await stock.admin.execute(f"ALTER TABLE {name} RENAME TO traffic_record_19990101")
    await stock.run(START)
    assert await stock.ids("traffic_record") == ["m1"]
    result = await stock.run(TRAFFIC_GONE)
    assert ("traffic_record_19990101", 1) in {(d.name, d.rows) for d in result.dropped}


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Kathmandu"])
async def test_the_zone_of_the_database_changes_nothing(stock, zone):
    """Partitions lie on UTC days wherever the server thinks it is."""
    name = await stock.admin.fetchval("SELECT current_database()")
    await stock.admin.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    await stock.run(START + HOUR)
    lowers = await stock.admin.fetch(
        "SELECT lower FROM partition_catalogue WHERE table_name = 'history_record'"
    )
    assert {row["lower"].hour for row in lowers} == {0}
