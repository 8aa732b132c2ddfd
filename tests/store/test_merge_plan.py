import json
from datetime import timedelta

import pyarrow as pa
import pytest

from tests.store.helpers import NOW, at, report
from trafficlog.config import Config
from trafficlog.queries import queries
from trafficlog.store.expiry import EPOCH, MICROSECOND, whole_days
from trafficlog.store.retention import Retention, RunResult
from trafficlog.store.roads import SecondRoad


def ranges(merge, bounds):
    """The bounds as a merge takes them: for history they are one of several ranges."""
    return [[bound] for bound in bounds] if merge == "merge_history" else bounds


def scans(plan):
    """The nodes of a plan that read a table, and that table."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan["Relation Name"], plan["Node Type"]
    for below in plan.get("Plans", ()):
        yield from scans(below)


@pytest.mark.parametrize("merge", ["merge_traffic", "merge_history"])
async def test_a_merge_looks_records_up_by_their_key(store, merge):
    """What an update costs does not grow with the day it falls in: no partition is read whole."""
    await store.write(*(report(f"m{n}") for n in range(500)))
    await store.write(*(report(f"m{n}", updated=at(1), status="sent") for n in range(50)))
    async with store.database.ingest() as connection:
        await queries.make_stage(connection)
        async with connection.transaction():
            await queries.merge_by_key(connection)
            bounds = await store.superuser.fetchrow(
                "SELECT min(expires_at), max(expires_at) FROM"
                " (SELECT expires_at FROM trafficlog.traffic_record"
                "  UNION ALL SELECT expires_at FROM trafficlog.history_record) e"
            )
            text = await connection.fetchval(
                f"EXPLAIN (FORMAT JSON) {getattr(queries, merge).sql}", *ranges(merge, bounds)
            )
    found = [s for s in scans(json.loads(text)[0]["Plan"]) if s[0] != "staged_report"]
    assert found
    assert {node for _, node in found} <= {"Index Scan", "Bitmap Heap Scan"}


def look_ups(plan):
    """The conditions under which an index of the day is read."""
    if "Index Cond" in plan:
        yield plan["Index Cond"]
    for below in plan.get("Plans", ()):
        yield from look_ups(below)


@pytest.mark.parametrize("merge", ["merge_traffic", "merge_history"])
async def test_a_merge_into_a_young_day_compares_no_report_with_every_record(store, merge):
    """While a day is small the whole of it beside the whole batch seems cheap, and is not."""
    await store.write(*(report(f"m{n}") for n in range(3000)))
    async with store.database.ingest() as connection:
        await queries.make_stage(connection)
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO staged_report SELECT t.account_key, t.created_at, t.expires_at,"
                " t.created_at + interval '90 days', t.created_at + interval '90 days',"
                " t.created_at + interval '90 days', now(), NULL, 1, NULL, NULL, NULL,"
                " 1, 2, 5, 0, 0, t.id, 'Acme', '+46', NULL, NULL, NULL, NULL, NULL"
                " FROM (SELECT account_key, created_at, id, expires_at FROM traffic_record) t"
            )
            await queries.merge_by_key(connection)
            bounds = await connection.fetchrow(
                "SELECT min(traffic_expires), max(history_expires) FROM staged_report"
            )
            text = await connection.fetchval(
                f"EXPLAIN (FORMAT JSON) {getattr(queries, merge).sql}", *ranges(merge, bounds)
            )
    found = list(look_ups(json.loads(text)[0]["Plan"]))
    assert found
    assert all("(id = s.id)" in condition for condition in found), found


@pytest.mark.parametrize("stored", [300, 3000])
async def test_a_merge_over_many_periods_compares_no_report_with_every_record(store, stored):
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
    new = [report(f"m{n}", account=f"a{n % len(days)}") for n in range(stored)]
    await store.write(*new)
    async with store.database.ingest() as connection:
        await queries.make_stage(connection)
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO staged_report (account_key, created_at, traffic_expires, history_from,"
                " history_to, updated_at, ordinal, kind, direction, status, withheld, omitted, id,"
                " sender, recipient)"
                " SELECT account_key, created_at, expires_at, created_at + interval '7 days',"
                " created_at + interval '1095 days', now(), 1, 1, 2, 5, 0, 0, id, 'Acme', '+46'"
                " FROM traffic_record, generate_series(1, 5)"
            )
            await queries.merge_by_key(connection)
            bounds = await connection.fetchrow(
                "SELECT min(history_from), max(history_to) FROM staged_report"
            )
            text = await connection.fetchval(
                f"EXPLAIN (FORMAT JSON) {queries.merge_history.sql}",
                *ranges("merge_history", bounds),
            )
    found = list(look_ups(json.loads(text)[0]["Plan"]))
    assert len(found) > 40
    assert all("(id = s.id)" in condition for condition in found), found[0]


@pytest.mark.parametrize("merge", ["merge_traffic", "merge_history"])
async def test_a_merge_of_the_last_minutes_goes_by_key_though_statistics_are_older(store, merge):
    """To a planner whose statistics end before them, the last minutes of a day seem empty."""
    created = (at(n / 100 - 60).isoformat() for n in range(1000))
    await store.write(*(report(f"o{n}", created=at_) for n, at_ in enumerate(created)))
    await store.superuser.execute("ANALYZE trafficlog.traffic_record, trafficlog.history_record")
    later = [report(f"m{n}", created=at(n / 100).isoformat()) for n in range(500)]
    await store.write(*later)
    async with store.database.ingest() as connection:
        await queries.make_stage(connection)
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO staged_report (account_key, created_at, traffic_expires, history_from,"
                " history_to, updated_at, ordinal, kind, direction, status, withheld, omitted, id,"
                " sender, recipient)"
                " SELECT account_key, created_at, expires_at, created_at + interval '90 days',"
                " created_at + interval '90 days', now(), 1, 1, 2, 5, 0, 0, id, 'Acme', '+46'"
                " FROM traffic_record WHERE id LIKE 'm%'"
            )
            await queries.merge_by_key(connection)
            days = timedelta(days=60 if merge == "merge_traffic" else 90)
            expires = pa.array([(r.created + days - EPOCH) // MICROSECOND for r in later])
            text = await connection.fetchval(
                f"EXPLAIN (FORMAT JSON) {getattr(queries, merge).sql}",
                *ranges(merge, whole_days(expires, expires)),
            )
    found = list(look_ups(json.loads(text)[0]["Plan"]))
    assert found
    assert all("(id = s.id)" in condition for condition in found), found


async def test_a_merge_opens_no_partition_that_it_has_no_record_in(store, monkeypatch):
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
    opened = []

    async def merge(self, connection, whole=SecondRoad.merge):
        merged = await whole(self, connection)
        opened.append(
            await store.superuser.fetchval(
                "SELECT count(DISTINCT relation) FROM pg_locks JOIN pg_inherits ON"
                " inhrelid = relation WHERE inhparent = 'history_record'::regclass"
                " AND pid <> pg_backend_pid()"
            )
        )
        return merged

    monkeypatch.setattr(SecondRoad, "merge", merge)
    later = [
        report("m2", account=a, updated=at(1), status="sent") for a in ("brief", "acme", "long")
    ]
    assert await store.write(*later) == (0, 3, 0)
    assert {row["status"] for row in await store.history("id = 'm2'")} == {3}
    assert opened == [3]


async def test_the_setting_of_a_merge_ends_with_its_transaction(store):
    """Other work on the same connection is planned as ever."""
    await store.write(report("m1"))
    await store.write(report("m1", updated=at(1), status="sent"))
    async with store.database.ingest() as connection:
        for name in (
            *("enable_hashjoin", "enable_mergejoin"),
            *("enable_seqscan", "enable_material"),
        ):
            assert await connection.fetchval(f"SHOW {name}") == "on"
        assert await connection.fetchval("SHOW plan_cache_mode") == "auto"
        assert await connection.fetchval("SHOW seq_page_cost") == "1"


async def test_many_small_merges_are_planned_for_what_they_bring(store):
    """The tenth merge on a connection is planned for its own bounds like the first."""
    for n in range(10):
        await store.write(report(f"m{n}"), report("m", updated=at(n), status="sent"))
    async with store.database.ingest() as connection:
        made = await connection.fetch(
            "SELECT custom_plans, generic_plans FROM pg_prepared_statements"
            " WHERE statement LIKE 'UPDATE traffic_record%'"
        )
    assert [(r["custom_plans"], r["generic_plans"]) for r in made] == [(10, 0)]
