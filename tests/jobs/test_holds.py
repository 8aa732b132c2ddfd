"""A hold whose placement was acknowledged is never defeated by any destruction."""

from __future__ import annotations

import orjson
import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, START, TICK, TRAFFIC_GONE, config, report
from trafficlog.partitions import Bounds
from trafficlog.queries import queries
from trafficlog.records import RecordId
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.history import History
from trafficlog.store.retention import Retention
from trafficlog.store.transit import Transit

LATER = START + 3600 * TICK


async def stocked(stock) -> None:
    """Three records: two of acme, one of b; m2 is a little later."""
    await stock.write(
        report("m1", ip="192.0.2.1", sender="+46700000001"),
        report("m2", LATER, ip="2001:db8::1", recipient="+46700000002"),
        report("b1", account="b", sender="+46700000002"),
        now=LATER,
    )


SELECTORS = {
    "account": (Selector(account="acme"), {"m1", "m2"}, {"m1", "m2"}),
    "record": (Selector(account="acme", record="m2"), {"m2"}, {"m2"}),
    "number on either side": (
        Selector(number="0046 70-000 00 02"),
        {"m2", "b1"},
        {"m2", "b1"},
    ),
    "ip, known to the legal record alone": (Selector(ip="2001:DB8:0::1"), {"m2"}, set()),
    "window from": (Selector(account="acme", created_from=LATER), {"m2"}, {"m2"}),
    "window to": (Selector(account="acme", created_to=LATER), {"m1"}, {"m1"}),
}


@pytest.mark.parametrize("name", SELECTORS)
async def test_what_a_hold_covers_survives_the_drop(stock, name):
    """Copies of exactly the rows it selects, each with its class; the rest is gone."""
    selector, legal, history = SELECTORS[name]
    await stocked(stock)
    await stock.hold(selector)
    result = await stock.run(HISTORY_GONE)
    assert await stock.ids("traffic_record") == await stock.ids("history_record") == []
    assert await stock.held() == {("traffic_record", i) for i in legal} | {
        ("history_record", i) for i in history
    }
    assert sum(d.held for d in result.dropped) == len(legal) + len(history)
    content = await stock.admin.fetchval(
        "SELECT content FROM held_record WHERE data_class = 'traffic_record' LIMIT 1"
    )
    assert orjson.loads(content)["kind"] == 1


async def test_held_copies_are_whole_and_invisible_to_the_customer(stock):
    """The copy has what the row had; the customer sees nothing of it."""
    await stocked(stock)
    await stock.hold(Selector(account="acme"))
    await stock.run(HISTORY_GONE)
    assert await stock.visible(HISTORY_GONE) == []
    content = orjson.loads(
        await stock.admin.fetchval(
            "SELECT content FROM held_record WHERE data_class = 'history_record'"
            " AND record_id = 'm1'"
        )
    )
    assert (content["message"], content["sender"]) == ("text of m1", "+46700000001")


async def test_a_hold_survives_the_customers_erasure(stock):
    """The row is gone for the customer at once; the copy and the ledger say so."""
    await stocked(stock)
    await stock.hold(Selector(account="acme", record="m1"))
    history = History(stock.database)
    erased = await history.erase(await stock.account_key(), RecordId("m1"), LATER)
    assert erased.rows == 1
    assert await stock.visible(LATER) == ["m2"]
    assert await stock.held() == {("history_record", "m1")}
    assert [(e["rows"], e["held"]) for e in await stock.ledger("erased")] == [(1, 1)]
    await stock.run(LATER)
    assert await stock.held() == {("history_record", "m1")}


@pytest.mark.parametrize("change", ["shorter", "off", "close"])
async def test_a_hold_survives_a_change_of_setting(stock, change):
    """Rows that the setting destroys are copied first."""
    await stocked(stock)
    await stock.hold(Selector(account="acme", record="m1"))
    at = START + 5 * DAY
    if change == "close":
        await Accounts(stock.database).close(await stock.account_key(), at, "test")
    else:
        await stock.set_days(1 if change == "shorter" else None, at)
    assert await stock.visible(at) == []
    result = await stock.run(at)
    assert (result.rows_destroyed, result.failures) == (2, [])
    assert await stock.ids("history_record") == ["b1"]
    assert await stock.held() == {("history_record", "m1")}
    assert [(e["rows"], e["held"]) for e in await stock.ledger("setting")] == [(2, 1)]
    assert await stock.ids("traffic_record") == ["b1", "m1", "m2"]


async def test_debug_lines_and_what_is_in_transit_are_held_too(stock):
    """A hold of an account covers all classes; completion and expiry copy first."""
    await stock.write_line("a line", "acme")
    transit = Transit(stock.database, stock.writer)
    await transit.put("t1", b"callback", "acme", START)
    await transit.put("t2", b"callback", "acme", START)
    await stock.hold(Selector(account="acme"))
    await transit.complete("t1", START)
    await stock.run(START + 15 * DAY)
    held = await stock.held()
    assert {c for c, _ in held} == {"debug_log", "in_transit"}
    assert {i for c, i in held if c == "in_transit"} == {"t1", "t2"}


@pytest.mark.parametrize("step", ["begun", "detached"])
async def test_a_hold_placed_during_a_drop_is_honoured(stock, step):
    """Between the first copy and the last step a hold may come: it is looked at again."""
    await stocked(stock)
    name = await stock.partition("traffic_record", START, 60)
    at = TRAFFIC_GONE
    async with Retention(stock.dsn, config()) as retention:
        begun = await queries.begin_drop(
            retention.connection, table_name="traffic_record", name=name, at=at
        )
        if step == "begun":
            await stock.hold(Selector(account="b"), at)
        await retention.drops.detach("traffic_record", name, pending=False)
        if step == "detached":
            await stock.hold(Selector(account="b"), at)
        bounds = Bounds(begun["lower"], begun["upper"])
        dropped = await retention.drops.finish("traffic_record", name, bounds, at)
    assert (dropped.rows, dropped.held) == (3, 1)
    assert await stock.held() == {("traffic_record", "b1")}


async def test_a_hold_waits_for_the_last_step_and_is_then_in_force(stock):
    """Placement and the last step exclude each other: never an acknowledged hold too late."""
    await stocked(stock)
    async with stock.transaction("SELECT lock_holds()") as destroying:
        with pytest.raises(Exception, match="lock timeout"):
            await stock.admin.execute(
                "SET lock_timeout = '200ms'; SELECT place_hold('h', NULL, '1', NULL, NULL, NULL,"
                " NULL, 'r', 'c', 't', now(), now() + interval '1 day')"
            )
        await destroying.execute("SELECT 1")
    await stock.hold(Selector(account="b"))


async def test_after_its_release_the_next_run_destroys_and_says_so(stock):
    """Held copies past their own expiry go, with a ledger row for each class."""
    await stocked(stock)
    hold = await stock.hold(Selector(account="acme"))
    await stock.run(HISTORY_GONE)
    await stock.release(hold, HISTORY_GONE)
    result = await stock.run(HISTORY_GONE + TICK)
    assert (result.held_destroyed, await stock.held()) == (4, set())
    assert [(e["data_class"], e["rows"]) for e in await stock.ledger("hold-ended")] == [
        ("history_record", 2),
        ("traffic_record", 2),
    ]
    assert (await stock.verify(HISTORY_GONE + DAY)).is_right


async def test_a_hold_that_ends_protects_until_its_end_and_not_after(stock):
    """One microsecond before its end it holds; at the end the copies go."""
    await stocked(stock)
    hold = await stock.hold(Selector(account="b"), days=100)
    await stock.run(HISTORY_GONE)
    await stock.run(hold.ends_at - TICK)
    assert len(await stock.held()) == 2
    assert (await stock.run(hold.ends_at)).held_destroyed == 2


async def test_of_two_holds_one_is_enough(stock):
    """Released from one case, a row stays under the other."""
    await stocked(stock)
    first = await stock.hold(Selector(account="acme"))
    await stock.hold(Selector(number="+46700000001"))
    await stock.run(HISTORY_GONE)
    assert len(await stock.held()) == 4
    await stock.release(first, HISTORY_GONE)
    await stock.run(HISTORY_GONE + TICK)
    assert await stock.held() == {("traffic_record", "m1"), ("history_record", "m1")}


async def test_a_hold_keeps_nothing_that_was_destroyed_before_it(stock):
    """It protects what is there when it is placed, and prolongs nothing else."""
    await stocked(stock)
    await stock.run(TRAFFIC_GONE)
    await stock.hold(Selector(account="acme"), TRAFFIC_GONE)
    await stock.run(HISTORY_GONE)
    assert await stock.held() == {("history_record", "m1"), ("history_record", "m2")}


async def test_a_released_hold_leaves_rows_that_are_not_expired_alone(stock):
    """Release destroys copies, never the customer's own history."""
    await stocked(stock)
    hold = await stock.hold(Selector(account="acme"))
    await stock.run(TRAFFIC_GONE)
    await stock.release(hold, TRAFFIC_GONE)
    await stock.run(TRAFFIC_GONE + TICK)
    assert await stock.held() == set()
    assert await stock.visible(TRAFFIC_GONE + TICK) == ["m1", "m2"]
