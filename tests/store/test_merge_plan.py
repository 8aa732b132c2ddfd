"""A merge finds each record by its key, in the partitions it has records in and no other."""

import json
import re
from datetime import timedelta

from tests.store.helpers import NOW, at, report
from tests.store.plans import explained, look_ups, scans
from trafficlog.config import Config
from trafficlog.queries import queries
from trafficlog.store.expiry import day_ranges, micros
from trafficlog.store.later import LaterRoad
from trafficlog.store.retention import Retention, RunResult

# A later report of each record that is stored, whose history stands for so many days.
LATER = """
    ARRAY(SELECT ROW(row_number() OVER ()::integer, t.account_key, t.created_at, now(), NULL,
                     t.expires_at, t.created_at + make_interval(days => {days}),
                     t.created_at + make_interval(days => {days}),
                     t.created_at + make_interval(days => {days_max}), NULL, NULL, NULL,
                     1, 2, 5, 0, 0, t.id, 'Acme', '+46', NULL, NULL, NULL, NULL, NULL,
                     false)::later_report
          FROM (SELECT account_key, created_at, expires_at, id FROM traffic_record) t {more})
"""
BY_KEY = {"Index Scan", "Bitmap Heap Scan", "Bitmap Index Scan"}


async def merged(on, bounds, days=90, days_max=90, more=""):
    """The plan by which these reports are merged, looked for in these partitions."""
    reports = LATER.format(days=days, days_max=days_max, more=more)
    changed = await on.connection.fetchval(
        f"SELECT cardinality(merge_later({reports}, $1, $2, $3, $4))", *bounds
    )
    [plan] = await on.merges()
    return plan, changed


async def all_bounds(store):
    """From the first expiry to the last, in both tables."""
    legal = await store.superuser.fetchrow(
        "SELECT min(expires_at), max(expires_at) FROM traffic_record"
    )
    history = await store.superuser.fetchrow(
        "SELECT min(expires_at), max(expires_at) FROM history_record"
    )
    return [*legal, *([bound] for bound in history)]


def assert_by_key(plan):
    """No partition is read whole, and each record is asked for by all of its key."""
    assert {node for _, node in scans(plan)} <= BY_KEY
    tables = {relation.rsplit("_", 1)[0] for relation, _ in scans(plan)}
    assert tables == {"traffic_record", "history_record"}
    assert all(re.search(r"\(id = s\w*\.id\)", each) for each in look_ups(plan)), look_ups(plan)


async def test_a_merge_looks_records_up_by_their_key(store):
    """What an update costs does not grow with the day it falls in."""
    await store.write(*(report(f"m{n}") for n in range(500)))
    await store.write(*(report(f"m{n}", updated=at(1), status="sent") for n in range(50)))
    async with explained(store.dsn) as on:
        bounds = await all_bounds(store)
        for more in ("", "LIMIT 1", "LIMIT 0"):
            plan, changed = await merged(on, bounds, more=more)
            assert_by_key(plan)
            assert changed == (1000 if not more else None)


async def test_a_merge_into_a_young_day_compares_no_report_with_every_record(store):
    """While a day is small the whole of it beside the whole batch seems cheap, and is not."""
    await store.write(*(report(f"m{n}") for n in range(3000)))
    async with explained(store.dsn) as on:
        plan, changed = await merged(on, await all_bounds(store))
    assert_by_key(plan)
    assert changed == 6000


async def test_a_merge_over_many_periods_compares_no_report_with_every_record(store):
    """Many partitions, nearly all empty, make each look-up seem dear; it is not."""
    days = (7, 14, 30, 60, 90, 120, 180, 365, 730, 1095)
    await store.write(*(report("first", account=f"a{n}") for n in range(len(days))))
    for number, period in enumerate(days):
        await store.set_history(period, account=f"a{number}")
    for ago in range(6):
        # As the days before, and those to come, have theirs.
        created = at(-1440 * ago).isoformat()
        day = (report(f"d{ago}.{n}", account=f"a{n}", created=created) for n in range(len(days)))
        await store.write(*day)
    for first, end in ((0, 300), (300, 3000)):
        new = [report(f"m{n}", account=f"a{n % len(days)}") for n in range(first, end)]
        await store.write(*new)
        async with explained(store.dsn) as on:
            plan, _ = await merged(
                on, await all_bounds(store), 7, 1095, "CROSS JOIN generate_series(1, 2)"
            )
        assert_by_key(plan)
        assert len(look_ups(plan)) > 40


async def test_a_merge_of_the_last_minutes_goes_by_key_though_statistics_are_older(store):
    """To a planner whose statistics end before them, the last minutes of a day seem empty."""
    created = (at(n / 100 - 60).isoformat() for n in range(1000))
    await store.write(*(report(f"o{n}", created=at_) for n, at_ in enumerate(created)))
    await store.superuser.execute("ANALYZE trafficlog.traffic_record, trafficlog.history_record")
    later = [report(f"m{n}", created=at(n / 100).isoformat()) for n in range(500)]
    await store.write(*later)
    began = [micros(r.created) for r in later]
    [traffic_from], [traffic_to] = day_ranges(began, [60 * 24] * 500, [60 * 24] * 500, 1)
    bounds = [traffic_from, traffic_to, *day_ranges(began, [90 * 24] * 500, [90 * 24] * 500, 1)]
    async with explained(store.dsn) as on:
        plan, changed = await merged(on, bounds, more="WHERE t.id LIKE 'm%'")
    assert_by_key(plan)
    assert changed == 1000


async def test_a_merge_opens_no_partition_that_it_has_no_record_in(store):
    """However many there are between the shortest period and the longest, in days or years."""
    await store.write(report("m1", account="brief"), report("m1"), report("m1", account="long"))
    await store.set_history(1, account="brief")
    await store.set_history(1095, account="long")
    await store.write(*(report("m2", account=a) for a in ("brief", "acme", "long")))
    async with Retention(store.dsn, Config()) as retention:
        await retention.move_history(NOW, RunResult(NOW))
    day = (NOW + timedelta(days=2)).replace(hour=0)
    for number in range(200):
        await store.superuser.fetchval(
            "SELECT ensure_partition('history_record', $1, $2)",
            day + timedelta(days=number),
            day + timedelta(days=number + 1),
        )
    await store.writer.settings.refresh()
    later = [
        report("m2", account=a, updated=at(1), status="sent") for a in ("brief", "acme", "long")
    ]
    async with store.database.ingest() as connection, connection.transaction():
        merged = await LaterRoad.of(later, store.writer.settings, NOW).write(connection)
        opened = await store.superuser.fetchval(
            "SELECT count(DISTINCT relation) FROM pg_locks JOIN pg_inherits ON"
            " inhrelid = relation WHERE inhparent = 'history_record'::regclass"
            " AND pid <> pg_backend_pid()"
        )
    assert (merged.fresh, merged.changed) == (set(), {0, 1, 2})
    assert {row["status"] for row in await store.history("id = 'm2'")} == {3}
    assert opened == 3


async def test_what_a_merge_sets_ends_with_it(store):
    """Other work in the same transaction is planned as ever, and so is any after it."""
    await store.write(report("m1"))
    as_ever = {
        **dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_nestloop"), "on"),
        **dict.fromkeys(("enable_seqscan", "enable_material", "enable_memoize"), "on"),
        "plan_cache_mode": "auto",
        "seq_page_cost": "1",
        "cpu_tuple_cost": "0.01",
        "cpu_index_tuple_cost": "0.005",
    }
    later = [report("m1", updated=at(1), status="sent")]
    async with store.database.ingest() as connection, connection.transaction():
        assert (await LaterRoad.of(later, store.writer.settings, NOW).write(connection)).changed
        for name, value in as_ever.items():
            assert await connection.fetchval(f"SHOW {name}") == value
    # What looks known records up sets some of them for its transaction.
    assert await store.write(report("m1"), report("m2")) == (1, 0, 1)
    async with store.database.ingest() as connection:
        for name, value in as_ever.items():
            assert await connection.fetchval(f"SHOW {name}") == value


async def test_many_small_merges_are_planned_for_what_they_bring(store):
    """The tenth merge on a connection is planned for its own bounds like the first."""
    days = [at(-1440 * n) for n in range(10)]
    await store.write(*(report(f"m{n}", created=day.isoformat()) for n, day in enumerate(days)))
    async with explained(store.dsn) as on:
        for n, created in enumerate(days):
            later = [report(f"m{n}", created=created.isoformat(), updated=at(1))]
            merged = await LaterRoad.of(later, store.writer.settings, NOW).write(on.connection)
            assert merged.changed == {0}
            [plan] = await on.merges()
            assert {relation for relation, _ in scans(plan)} == {
                f"traffic_record_{created + timedelta(days=60):%Y%m%d}",
                f"history_record_{created + timedelta(days=90):%Y%m%d}",
            }


async def test_what_is_known_is_looked_up_by_its_key(store):
    """After a unique key was met, which records of the group it was is not read from whole days."""
    await store.write(*(report(f"m{n}") for n in range(3000)))
    known = [row["id"] for row in await store.traffic("id < 'm2'")]
    account_key = await store.account_key()
    async with store.database.ingest() as connection, connection.transaction():
        await queries.look_up_by_key(connection)
        text = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) {queries.known_records.sql}",
            [NOW] * len(known),
            [account_key] * len(known),
            known,
            [NOW + timedelta(days=60)] * len(known),
            NOW + timedelta(days=60),
            NOW + timedelta(days=60),
        )
    plan = json.loads(text)[0]["Plan"]
    assert {node for _, node in scans(plan)} <= BY_KEY | {"Index Only Scan"}
    assert [condition for condition in look_ups(plan) if "(id = s.id)" in condition]
