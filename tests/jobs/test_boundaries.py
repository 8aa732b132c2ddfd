"""At an instant, a microsecond before it and one after: on odd days, and wherever clocks stand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.jobs.stock import DAY, START, TICK, TRAFFIC_GONE, config, report
from trafficlog.queries import queries
from trafficlog.retention import HistoryDays
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.ingest import RecordWriter
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify_ledger

# Nights with 23 and 25 hours, the year's end and the leap day, to the microsecond.
NIGHTS = {
    "Europe/Stockholm": (
        "2026-12-31T23:59:59.999999+01:00",
        "2027-03-28T01:59:59.999999+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-10-31T02:30:00+02:00",
        "2027-10-31T02:30:00+01:00",
    ),
    "America/New_York": (
        "2027-03-14T01:59:59.999999-05:00",
        "2027-11-07T01:30:00-04:00",
        "2027-11-07T01:30:00-05:00",
        "2028-02-28T19:00:00-05:00",
        "2028-02-29T18:59:59.999999-05:00",
    ),
}


@pytest.fixture(params=NIGHTS)
async def zone(request, stock, monkeypatch):
    """The zone in which the database, its sessions by default, and this process are."""
    name = await stock.admin.fetchval("SELECT current_database()")
    await stock.admin.execute(f"ALTER DATABASE {name} SET timezone = '{request.param}'")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def end_of_day(instant: datetime) -> datetime:
    """The next midnight in UTC."""
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + DAY


async def test_a_row_is_hidden_and_goes_at_its_instant_in_every_zone(stock, zone):
    """24 hours a day on every night: shown until then, stored until the UTC day is over."""
    await Accounts(stock.database).create("acme", START, HistoryDays(1))
    async with Database(stock.dsn, config()) as pools:
        writer = RecordWriter(pools, config())
        await writer.start()
        stock.writer, stock.database = writer, pools
        for text in NIGHTS[zone]:
            # As a client in that zone says it, not as UTC.
            created = datetime.fromisoformat(text).astimezone(ZoneInfo(zone))
            instant = created.astimezone(UTC)
            await stock.write(report(text, created), now=instant)
            assert await stock.visible(instant + DAY - TICK) == [text]
            assert await stock.visible(instant + DAY) == []
            assert await stock.visible(instant + DAY + TICK) == []
            for table, days in (("history_record", 1), ("traffic_record", 60)):
                upper = end_of_day(instant + days * DAY)
                expires_at = await stock.admin.fetchval(f"SELECT expires_at FROM {table}")
                assert expires_at == instant + days * DAY
                result = await stock.run(upper - TICK)
                assert (result.failures, await stock.ids(table)) == ([], [text])
                result = await stock.run(upper)
                assert (result.failures, await stock.ids(table)) == ([], [])
                (gone,) = [d for d in result.dropped if d.rows]
                assert (gone.lower, gone.upper) == (upper - DAY, upper)
            # That the next night is before what was dropped for this one is noticed.
            findings = (await stock.verify(upper)).findings
            assert [f for f in findings if not f.startswith("early")] == []


@pytest.mark.parametrize("session", ["America/New_York", "Europe/Stockholm", "Asia/Kathmandu"])
async def test_a_drop_means_the_same_in_a_session_of_any_zone(stock, session):
    """Bounds, copies and the ledger's hashes are of instants: no session's zone shows in them."""
    late = report("m1", updated=START + TICK, status="sent")
    await stock.write(report("m1"))
    await stock.write(late)
    await stock.hold(Selector(account="acme"))
    name = await stock.partition("traffic_record", START, 60)
    upper = (START + 61 * DAY).replace(hour=0)
    connection = await asyncpg.connect(
        stock.dsn, server_settings={"search_path": "trafficlog", "timezone": session}
    )
    begin = {"table_name": "traffic_record", "name": name}
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="not expired"):
        await queries.begin_drop(connection, at=upper - TICK, **begin)
    begun = await queries.begin_drop(connection, at=upper, **begin)
    assert (begun["lower"], begun["upper"]) == (upper - DAY, upper)
    await connection.execute(f"ALTER TABLE traffic_record DETACH PARTITION {name}")
    await queries.settle_drop(connection, name=name, at=upper)
    assert await queries.finish_drop(connection, name=name, at=upper, rows=1) == 1
    told = "SELECT (content ->> 'updated_at')::timestamptz FROM held_record"
    assert await stock.admin.fetchval(told) == START + TICK
    # A partition of a UTC day, whatever the session's midnight.
    day = upper + 400 * DAY
    assert await queries.ensure_partition(
        connection, table_name="traffic_record", lower=day, upper=day + DAY
    )
    assert (await verify_ledger(connection)).faults == ()
    await connection.close()
    async with Retention(stock.dsn, config()) as retention:
        assert (await verify_ledger(retention.connection)).faults == ()
    assert (await stock.verify(upper)).findings == []


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        ("created_from", {"at", "after"}),
        ("created_to", {"before"}),
    ],
)
async def test_a_holds_window_begins_at_its_start_and_is_over_at_its_end(stock, bound, kept):
    """The start belongs to it, the end does not, to the microsecond."""
    await stock.write(
        report("before", START - TICK),
        report("at", START),
        report("after", START + TICK),
        now=START + TICK,
    )
    await stock.hold(Selector(account="acme", **{bound: START}), START + TICK)
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    assert await stock.held() == {("traffic_record", each) for each in kept}


@pytest.mark.parametrize(
    ("ticks", "is_kept"), [(-1, False), (0, False), (1, True)], ids=["before", "at", "after"]
)
async def test_a_hold_protects_from_a_drop_before_its_end(stock, ticks, is_kept):
    """One that ends with the partition's bound or earlier keeps nothing of it."""
    await stock.write(report("m1"))
    upper = (START + 61 * DAY).replace(hour=0)
    end = upper + ticks * TICK
    await stock.hold(Selector(account="acme"), days=(end - START) / DAY)
    found = await stock.admin.fetchval("SELECT ends_at FROM abuse_hold")
    assert found == end
    assert (await stock.run(upper)).failures == []
    assert await stock.held() == ({("traffic_record", "m1")} if is_kept else set())


@pytest.mark.parametrize(
    ("ticks", "is_early"), [(-1, True), (0, False), (1, False)], ids=["before", "at", "after"]
)
async def test_a_drop_in_the_ledger_is_early_before_its_bound(stock, ticks, is_early):
    """At the bound it is in time."""
    at = START + DAY + ticks * TICK
    await stock.admin.execute(
        f"SELECT ledger_append('{at}', 'traffic_record', 'traffic_record_x', 'expired',"
        f" '{START}', '{START + DAY}', 1, 0)"
    )
    findings = (await stock.verify(START + 2 * DAY)).findings
    assert [f.startswith("early") for f in findings] == [True] * is_early
