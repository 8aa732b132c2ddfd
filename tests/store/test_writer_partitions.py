"""Records find or make the partition that their expiry needs."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.helpers import NOW, at, opened, report
from trafficlog.store.debug_log import DebugLine
from trafficlog.store.ingest import Batch

_accounts = itertools.count()
BOUNDS = """
SELECT r.tableoid::regclass::text AS partition, r.expires_at,
       r.expires_at >= c.lower AND r.expires_at < c.upper AS fits
FROM {table} r JOIN partition_catalogue c ON c.table_oid = r.tableoid
"""


async def test_missing_partitions_are_made_on_the_way(store):
    """On a database without any partition the first record makes its own and is stored."""
    assert await store.superuser.fetch("SELECT * FROM partition_catalogue") == []
    assert await store.write(report("m1")) == (1, 0, 0)
    made = await store.superuser.fetch("SELECT name FROM partition_catalogue ORDER BY name")
    assert [r["name"] for r in made] == ["history_record_20270219", "traffic_record_20270120"]


async def test_a_late_record_goes_where_it_expires(store):
    """A record of almost 60 days ago lands in the partition that goes tomorrow."""
    created = NOW - timedelta(days=59, hours=23)
    await store.write(report("old", created=created), report("new"))
    rows = await store.superuser.fetch(BOUNDS.format(table="traffic_record"))
    assert {(r["partition"], r["fits"]) for r in rows} == {
        ("traffic_record_20261121", True),
        ("traffic_record_20270120", True),
    }


@pytest.mark.parametrize("updated", [None, at(1)], ids=["first road", "second road"])
@pytest.mark.parametrize("table", ["traffic_record", "history_record"])
async def test_a_partition_dropped_behind_its_back_is_made_again(store, table, updated):
    """What the writer believed to be there is looked up again; the batch is stored whole."""
    await store.write(report("m1"))
    partition = {"traffic_record": "traffic_record_20270120"}.get(table, "history_record_20270219")
    await store.superuser.execute(
        f"DROP TABLE {partition}; DELETE FROM partition_register WHERE name = '{partition}'"
    )
    assert await store.write(report("m2", updated=updated), report("m3")) == (2, 0, 0)
    assert [r["id"] for r in await store.traffic("id <> 'm1'")] == ["m2", "m3"]
    assert [r["id"] for r in await store.history("id <> 'm1'")] == ["m2", "m3"]


async def test_debug_lines_of_other_days_find_their_partition(store):
    """Lines of today and of almost two weeks ago are stored in one transaction with records."""
    lines = [
        DebugLine(NOW - timedelta(days=n), "info", "gateway", f"line {n}", "acme", "m1")
        for n in (0, 5, 13)
    ]
    await store.writer.write([Batch([report("m1")], lines)], NOW)
    rows = await store.superuser.fetch(BOUNDS.format(table="debug_log"))
    assert len(rows) == 3
    assert all(r["fits"] for r in rows)


async def test_nothing_of_a_batch_is_stored_when_a_part_fails(store, monkeypatch):
    """Records and debug lines of a group are one transaction: all of it, or nothing."""
    bad = DebugLine(NOW, "info", "gateway", "a NUL \0 in it")
    with pytest.raises(Exception, match="0x00"):
        await store.writer.write([Batch([report("m1")], [bad])], NOW)
    assert await store.traffic() == []
    assert await store.history() == []
    assert await store.write(report("m1")) == (1, 0, 0)


async def test_two_processes_make_one_partition_between_them(database):
    """Both see that it is missing; one makes it, and both store their record."""
    async with opened(database) as one, opened(database) as two:
        days = [NOW - timedelta(days=n) for n in range(20)]
        for day in days:
            outcomes = await asyncio.gather(
                one.write(report("a", created=day)), two.write(report("b", created=day))
            )
            assert outcomes == [(1, 0, 0), (1, 0, 0)]
        assert len(await one.traffic()) == len(await one.history()) == 40


@settings(max_examples=30)
@given(
    st.lists(
        st.timedeltas(min_value=timedelta(days=-59), max_value=timedelta(minutes=10)),
        min_size=1,
        max_size=20,
        unique=True,
    ),
    st.booleans(),
)
async def test_every_row_lies_within_the_bounds_of_its_partition(store, offsets, second_road):
    """Whenever a record was created, to the microsecond, its row is where it expires."""
    account = f"bounds{next(_accounts)}"
    reports = [
        report("m1", account=account, created=NOW + offset, updated=at(1) if second_road else None)
        for offset in offsets
    ]
    assert await store.write(*reports) == (len(reports), 0, 0)
    for table, days in (("traffic_record", 60), ("history_record", 90)):
        query = (
            BOUNDS.format(table=table) + f"WHERE account_key = {await store.account_key(account)}"
        )
        rows = await store.superuser.fetch(query)
        assert all(r["fits"] for r in rows)
        assert sorted(r["expires_at"] for r in rows) == sorted(
            NOW + offset + timedelta(days=days) for offset in offsets
        )
