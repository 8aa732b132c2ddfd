"""A sealed partition is searched by its look-up indexes, an open one by its key."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import orjson
import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, START, report, until
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.queries import queries
from trafficlog.store.explain import explain
from trafficlog.store.history import History
from trafficlog.store.retention import Retention

# When all that was created on the day of START is in: it ends at midnight, and 48 hours on.
QUIET = (START + 3 * DAY).replace(hour=0)
LOOK_UPS = {
    "traffic_record": {"by_account", "by_id", "by_ip", "by_recipient", "by_sender"},
    "history_record": {"by_id"},
}
SUFFIXES = set().union(*LOOK_UPS.values())


async def look_ups(stock, name):
    """The look-up indexes on a partition and whether each is valid."""
    found = await stock.admin.fetch(
        "SELECT c.relname AS name, i.indisvalid FROM pg_index i JOIN pg_class c"
        " ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1) AND NOT i.indisprimary",
        name,
    )
    return {row["name"].removeprefix(name + "_"): row["indisvalid"] for row in found}


async def both(stock):
    """The names of the partitions that what was created at START is in."""
    return [
        await stock.partition("traffic_record", START, 60),
        await stock.partition("history_record", START, 90),
    ]


async def seal_waiting(stock):
    """The process of an index build that waits for older transactions."""
    return await stock.admin.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
    )


async def test_sealing_builds_each_look_up_on_the_partition_alone(stock):
    """Each under the partition's name, not before the day is quiet; the tables have none."""
    await stock.write(report("m1"))
    traffic, history = await both(stock)
    early = await stock.run(QUIET - timedelta(microseconds=1))
    assert traffic not in early.sealed
    assert await look_ups(stock, traffic) == {}
    result = await stock.run(QUIET)
    assert {traffic, history} <= set(result.sealed)
    assert result.failures == []
    for table, name in (("traffic_record", traffic), ("history_record", history)):
        assert await look_ups(stock, name) == dict.fromkeys(LOOK_UPS[table], True)
        assert await look_ups(stock, table) == {}
    open_one = await stock.partition("traffic_record", QUIET, 60)
    assert await look_ups(stock, open_one) == {}
    assert (await stock.verify(QUIET)).findings == []
    assert (await stock.run(QUIET)).sealed == []


async def test_what_was_frozen_without_look_ups_gets_them(stock):
    """As an older version left it, or after one was dropped by hand; it is not frozen again."""
    await stock.write(report("m1"))
    traffic, _ = await both(stock)
    await stock.run(QUIET)
    frozen = "SELECT sealed_at FROM partition_register WHERE name = $1"
    sealed_at = await stock.admin.fetchval(frozen, traffic)
    for suffix in ("by_id", "by_sender"):
        await stock.admin.execute(f"DROP INDEX {traffic}_{suffix}")
    assert (await stock.run(QUIET + DAY)).sealed[:1] == [traffic]
    assert await look_ups(stock, traffic) == dict.fromkeys(LOOK_UPS["traffic_record"], True)
    assert await stock.admin.fetchval(frozen, traffic) == sealed_at


@pytest.mark.parametrize("death", ["killed", "timed out"])
async def test_a_build_that_waits_and_dies_is_begun_anew_by_the_next_run(stock, death):
    """Readers and writers go on meanwhile; what it left behind is no index and is replaced."""
    await stock.write(report("m1"))
    traffic, _ = await both(stock)
    # One that sees things as they were, such as a dump.
    statements = (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SELECT count(*) FROM traffic_record",
    )
    async with stock.transaction(*statements):
        wait = 60 if death == "killed" else 1
        run = asyncio.create_task(stock.run(QUIET, seal_wait_seconds_max=wait))
        pid = await until(lambda: seal_waiting(stock))
        async with asyncio.timeout(5):
            await stock.write(report("late"), now=QUIET)
            assert await stock.visible(QUIET) == ["late", "m1"]
        if death == "killed":
            await stock.admin.fetchval("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises((DatabaseUnavailableError, asyncpg.PostgresError)):
                await run
        else:
            async with asyncio.timeout(20):
                result = await run
            # The others would have waited for the same transaction.
            assert len(result.failures) == 1
            assert "sealing of" in result.failures[0]
        assert False in (await look_ups(stock, traffic)).values()
    result = await stock.run(QUIET)
    assert (result.failures, traffic in result.sealed) == ([], True)
    assert await look_ups(stock, traffic) == dict.fromkeys(LOOK_UPS["traffic_record"], True)


async def test_sealing_waits_for_who_is_at_the_partition_already(stock):
    """Such as a vacuum, in whose way nobody is: longer than for what others stand behind."""
    await stock.write(report("m1"))
    traffic, _ = await both(stock)
    async with stock.transaction(f"LOCK TABLE {traffic} IN SHARE UPDATE EXCLUSIVE MODE"):
        run = asyncio.create_task(stock.run(QUIET, lock_timeout_ms=50))
        await until(lambda: stock.waiting("VACUUM"))
        await stock.write(report("late"), now=QUIET)
        await asyncio.sleep(0.2)
    result = await run
    assert result.failures == []
    assert traffic in result.sealed


async def test_what_is_sealed_is_dropped_like_any_other(stock):
    """With its indexes; nothing of it is left in the catalogue."""
    await stock.write(report("m1"))
    names = await both(stock)
    await stock.run(QUIET)
    result = await stock.run(HISTORY_GONE)
    assert result.failures == []
    assert set(names) <= {d.name for d in result.dropped}
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE ANY ($1)"
    assert await stock.admin.fetchval(left, [f"{name}%" for name in names]) == 0
    assert (await stock.verify(HISTORY_GONE)).findings == []


@pytest.fixture
async def days(stock):
    """A sealed day and the open one after it, 3,000 records of 30 accounts each."""
    await stock.write(report("m1"), report("n1", START + 3 * DAY), now=START + 3 * DAY)
    await stock.admin.execute(
        "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
        " history_days_max) SELECT 'a' || n, now(), 90, 90, 90 FROM generate_series(2, 30) n"
    )
    for day, prefix in ((START, "m"), (START + 3 * DAY, "n")):
        for table, period in (("traffic_record", 60), ("history_record", 90)):
            rest = ", withheld" if table == "history_record" else ""
            await stock.admin.execute(
                f"INSERT INTO {table} (account_key, created_at, expires_at, kind, direction, id,"
                f" sender, recipient{rest})"
                " SELECT 1 + n % 30, $1::timestamptz + n * interval '1 second',"
                " $1::timestamptz + n * interval '1 second' + $2 * interval '1 day', 1, 2,"
                f" $3 || n, 'Acme', '+467' || n {', 0' if rest else ''}"
                " FROM generate_series(2, 3000) n",
                day,
                period,
                prefix,
            )
    assert set(await both(stock)) <= set((await stock.run(START + 3 * DAY)).sealed)
    # Late: into days that are sealed.
    await stock.write(report("late"), now=START + 3 * DAY)
    await stock.admin.execute("ANALYZE")
    return stock


async def plan_of(connection, statement, *values):
    """The indexes of a statement's plan: on which partition, and which one of its indexes."""
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values)
    return used(orjson.loads(text)[0]["Plan"])


def used(node):
    """The names of the indexes in a plan, and of the tables that are read without one."""
    names = {node["Index Name"]} if "Index Name" in node else set()
    if node["Node Type"] == "Seq Scan":
        names.add(node["Relation Name"])
    return names.union(*(used(child) for child in node.get("Plans", [])))


def of_tables(names, *tables):
    """Those of the names that belong to a retained table's partitions."""
    return {name for name in names if name.startswith(tables)}


async def test_explain_looks_a_record_up_on_sealed_days(days):
    """By the hash of its id there; an open day is read by its key or as a whole."""
    traffic, history = await both(days)
    for statement, values in (
        (queries.explain_accounts.sql, ("m7", None)),
        (queries.explain_stored.sql, ("m7", 8)),
        (queries.explain_holds.sql, ("m7", 8, START)),
    ):
        names = await plan_of(days.admin, statement, *values)
        sealed = of_tables(names, traffic, history)
        expected = {f"{traffic}_by_id", f"{history}_by_id"}
        assert sealed == (expected if "history_record" in statement else {f"{traffic}_by_id"})
        rest = of_tables(names, "traffic_record_", "history_record_") - sealed
        assert not [name for name in rest if name.endswith("_by_id")]
        open_traffic = await days.partition("traffic_record", START + 3 * DAY, 60)
        assert of_tables(rest, open_traffic)
    async with Retention(days.dsn, days.writer._config) as retention:
        for record, day in (("m7", START), ("n7", START + 3 * DAY), ("late", START)):
            [found] = await explain(retention.connection, record, None, None, START + 3 * DAY)
            assert {s.created_at.date() for s in found.stored} == {day.date()}
            assert len(found.stored) == 2


async def test_a_customers_record_is_looked_up_by_its_id_on_sealed_days(days):
    """Under row-level security; on an open day by the key, which begins with the account."""
    _, history = await both(days)
    open_one = await days.partition("history_record", START + 3 * DAY, 90)
    now = START + 3 * DAY
    async with days.database.as_account(8) as connection:
        bounds = (START - DAY, now + DAY, START + 80 * DAY, now + 91 * DAY)
        names = await plan_of(connection, queries.history_by_id.sql, 8, *bounds, "m7")
    assert of_tables(names, history) == {f"{history}_by_id"}
    assert of_tables(names, open_one) == {f"{open_one}_pkey"}
    key = await days.account_key()
    for record in ("m1", "n1", "late"):
        assert (await History(days.database).by_id(key, record, now)).id == record


async def test_a_record_that_comes_late_is_found_and_erased_by_its_id(days):
    """The index of a sealed partition keeps up with what is written to it and taken from it."""
    key, now = await days.account_key(), START + 3 * DAY
    traffic, history = await both(days)
    await days.admin.execute("SET enable_seqscan = off")
    count = f"SELECT count(*) FROM {history} WHERE id = $1"
    assert await plan_of(days.admin, count, "late") == {f"{history}_by_id"}
    assert await days.admin.fetchval(count, "late") == 1
    await History(days.database).erase(key, "late", now)
    assert await days.admin.fetchval(count, "late") == 0
    assert await days.admin.fetchval(f"SELECT count(*) FROM {traffic} WHERE id = 'late'") == 1


async def test_a_partition_that_was_renamed_keeps_its_look_ups(stock):
    """Bounds say which one it is, and the end of an index's name what it is for."""
    await stock.write(report("m1"))
    traffic, _ = await both(stock)
    await stock.run(QUIET)
    await stock.admin.execute(f"ALTER TABLE {traffic} RENAME TO renamed")
    before = await look_ups(stock, "renamed")
    assert (await stock.run(QUIET + timedelta(hours=1))).sealed == []
    await stock.admin.execute(f"DROP INDEX {traffic}_by_id")
    assert (await stock.run(QUIET + timedelta(hours=1))).sealed == ["renamed"]
    after = await look_ups(stock, "renamed")
    assert len(after) == len(before) == 5
    assert "by_id" in after
