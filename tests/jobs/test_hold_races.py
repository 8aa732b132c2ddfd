"""Holds that come, go and are prolonged while a partition is dropped: real sessions, held by locks.

Who waits for what is read from the server; nothing here depends on how long anything takes.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.jobs.stock import (
    DAY,
    HISTORY_GONE,
    START,
    TICK,
    TRAFFIC_GONE,
    config,
    report,
    until,
)
from tests.waiting import waiting_sessions
from trafficlog.errors import NotFoundError
from trafficlog.partitions import Bounds
from trafficlog.queries import queries
from trafficlog.selector import Selector
from trafficlog.store.holds import Holds
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRAFFIC = "traffic_record"
PATIENT = config(lock_timeout_ms=20_000, drop_attempts_max=1)


class Drop:
    """The drop of a partition with three rows: m1 and m2 of acme, b1 of b."""

    def __init__(self, stock, retention: Retention, name: str, bounds: Bounds) -> None:
        self.stock, self.retention, self.name, self.bounds = stock, retention, name, bounds

    def settle(self) -> asyncio.Task[int]:
        """The middle step."""
        return asyncio.create_task(
            queries.settle_drop(self.retention.connection, name=self.name, at=TRAFFIC_GONE)
        )

    def finish(self) -> asyncio.Task[int]:
        """The last step alone."""
        return asyncio.create_task(
            queries.finish_drop(self.retention.connection, name=self.name, at=TRAFFIC_GONE, rows=3)
        )

    async def waits(self) -> None:
        """Returns when the drop's session waits for a lock."""
        await until(lambda: waiting_sessions(self.stock.admin, "trafficlog_retention"))

    async def assert_kept(self, *ids: str) -> None:
        """The table is gone; exactly these rows of it are copied, and the ledger says how many."""
        assert await self.stock.admin.fetchval("SELECT to_regclass($1)", self.name) is None
        assert await self.stock.held() == {(TRAFFIC, each) for each in ids}
        (entry,) = [e for e in await self.stock.ledger("expired") if e["object"] == self.name]
        assert (entry["rows"], entry["held"]) == (3, len(ids))


async def two_wait(stock) -> bool:
    """Whether two placements wait for a lock."""
    return await waiting_sessions(stock.admin, "trafficlog_operator") >= 2


@asynccontextmanager
async def detached(stock, settings=PATIENT, *holds: Selector) -> AsyncIterator[Drop]:
    """A drop that has come as far as its detach."""
    await stock.write(report("m1", ip="192.0.2.1"), report("m2"), report("b1", account="b"))
    for selector in holds:
        await stock.hold(selector)
    name = await stock.partition(TRAFFIC, START, 60)
    async with Retention(stock.dsn, settings) as retention:
        begun = await queries.begin_drop(
            retention.connection, table_name=TRAFFIC, name=name, at=TRAFFIC_GONE
        )
        await retention.drops.detach(TRAFFIC, name, pending=False)
        yield Drop(stock, retention, name, Bounds(begun["lower"], begun["upper"]))


def placing(stock, selector: Selector) -> asyncio.Task:
    """A hold being placed."""
    return asyncio.create_task(stock.hold(selector, TRAFFIC_GONE))


async def test_a_hold_placed_while_the_middle_step_copies_is_looked_at_by_the_last(stock):
    """Placing does not wait for the copy, and the copy may miss it: the last step does not."""
    async with detached(stock) as drop:
        async with stock.transaction(f"LOCK TABLE {drop.name}") as locker:
            settling = drop.settle()
            await drop.waits()
            async with asyncio.timeout(5):
                await stock.hold(Selector(account="b"), TRAFFIC_GONE)
            await locker.execute("COMMIT")
        assert await settling == 3
        assert await drop.finish() == 1
        await drop.assert_kept("b1")


async def test_a_hold_that_waits_for_a_drop_which_gives_up_protects_its_rows(stock):
    """The last step waits for a reader of the table and gives up; the hold goes first then."""
    settings = config(lock_timeout_ms=300, drop_attempts_max=8)
    async with detached(stock, settings) as drop:
        async with stock.transaction(f"SELECT count(*) FROM {drop.name}") as reader:
            finishing = asyncio.create_task(
                drop.retention.drops.finish(TRAFFIC, drop.name, drop.bounds, TRAFFIC_GONE)
            )
            await drop.waits()
            # It is acknowledged while the drop is still to be tried again.
            async with asyncio.timeout(5):
                await stock.hold(Selector(account="b"), TRAFFIC_GONE)
            assert not finishing.done()
            await reader.execute("COMMIT")
        assert (await finishing).held == 1
        await drop.assert_kept("b1")


@pytest.mark.parametrize("end", ["committed", "killed"])
async def test_a_hold_placed_during_the_last_transaction_is_acknowledged_after_it(stock, end):
    """Committed: what went was not promised, all else is. Broken off: everything is kept."""
    async with detached(stock) as drop:
        await drop.settle()
        last = drop.retention.connection.transaction()
        await last.start()
        assert await drop.finish() == 0
        place = placing(stock, Selector(account="b"))
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_operator"))
        assert not place.done()
        if end == "committed":
            await last.commit()
        else:
            drop.retention.connection.terminate()
        await place
    if end == "committed":
        await drop.assert_kept()
    else:
        assert (await stock.run(TRAFFIC_GONE)).failures == []
        await drop.assert_kept("b1")
    # What was there when it was acknowledged stays, whatever falls due.
    assert (await stock.run(HISTORY_GONE)).failures == []
    assert ("history_record", "b1") in await stock.held()
    assert await stock.ids("history_record") == []


async def test_a_drop_waits_for_a_hold_that_is_being_placed(stock):
    """Placed first and not yet committed: the last step comes after it and copies."""
    async with detached(stock) as drop:
        await drop.settle()
        key = await stock.account_key("b")
        async with stock.transaction() as operator:
            await operator.execute(
                "SELECT place_hold('h1', $1, NULL, NULL, NULL, NULL, NULL, 'r', 'c', 't', $2, $3)",
                key,
                TRAFFIC_GONE,
                TRAFFIC_GONE + DAY,
            )
            finishing = drop.finish()
            await drop.waits()
            await operator.execute("COMMIT")
        assert await finishing == 1
        await drop.assert_kept("b1")


async def test_two_holds_placed_at_once_are_both_in_force_for_the_drop(stock):
    """Each waits for the last step that is broken off; the next one honours both."""
    async with detached(stock) as drop:
        await drop.settle()
        last = drop.retention.connection.transaction()
        await last.start()
        await drop.finish()
        both = [
            placing(stock, Selector(account="b")),
            placing(stock, Selector(ip="192.0.2.1")),
        ]
        await until(lambda: two_wait(stock))
        await last.rollback()
        await asyncio.gather(*both)
        assert await drop.finish() == 2
        await drop.assert_kept("m1", "b1")


@pytest.mark.parametrize("moment", ["before the middle step", "between", "during the last"])
async def test_a_hold_released_during_a_drop_leaves_nothing_behind(stock, moment):
    """Its copies go in the same run or the next, with their line in the ledger."""
    async with detached(stock, PATIENT, Selector(account="b")) as drop:
        (hold,) = await Holds(stock.database).all()
        copied = moment != "before the middle step"
        if not copied:
            await stock.release(hold, TRAFFIC_GONE)
        await drop.settle()
        if moment == "between":
            await stock.release(hold, TRAFFIC_GONE)
        last = drop.retention.connection.transaction()
        await last.start()
        assert await drop.finish() == copied
        if moment == "during the last":
            # A release destroys nothing, so it need not wait.
            async with asyncio.timeout(5):
                await stock.release(hold, TRAFFIC_GONE)
        await last.commit()
        await drop.assert_kept(*(["b1"] if copied else []))
    result = await stock.run(TRAFFIC_GONE + TICK)
    assert (result.failures, result.held_destroyed) == ([], int(copied))
    assert await stock.held() == set()
    assert [e["rows"] for e in await stock.ledger("hold-ended")] == ([1] if copied else [])
    assert (await stock.verify(TRAFFIC_GONE + DAY)).findings == []


async def test_of_two_holds_one_released_during_the_drop_the_other_keeps_its_rows(stock):
    """The copy is the one of both; the count is that of the holds in force at the copy."""
    selectors = Selector(account="b"), Selector(number="+46701234567")
    async with detached(stock, PATIENT, *selectors) as drop:
        await drop.settle()
        by_number = next(h for h in await Holds(stock.database).all() if h.selector.number)
        await stock.release(by_number, TRAFFIC_GONE)
        assert await drop.finish() == 3
    assert (await stock.run(TRAFFIC_GONE + TICK)).held_destroyed == 2
    assert await stock.held() == {(TRAFFIC, "b1")}


async def test_what_a_late_report_said_is_in_the_copy(stock):
    """A report that came in after the drop began and before the detach is kept as it was last."""
    await stock.write(report("b1", account="b"))
    await stock.hold(Selector(account="b"))
    name = await stock.partition(TRAFFIC, START, 60)
    async with Retention(stock.dsn, PATIENT) as retention:
        begun = await queries.begin_drop(
            retention.connection, table_name=TRAFFIC, name=name, at=TRAFFIC_GONE
        )
        late = report("b1", account="b", duration=17, ip="192.0.2.9", updated=START + DAY)
        # By a clock that is behind the job's, as another instance's may be.
        await stock.write(late, now=START + 59 * DAY)
        await retention.drops.detach(TRAFFIC, name, pending=False)
        bounds = Bounds(begun["lower"], begun["upper"])
        await retention.drops.finish(TRAFFIC, name, bounds, TRAFFIC_GONE)
    content = await stock.admin.fetchval("SELECT content ->> 'ip' FROM held_record")
    assert content == "192.0.2.9"


async def test_a_hold_is_not_prolonged_while_what_it_kept_is_being_destroyed(stock):
    """Whoever is told that a hold goes on still has what it kept."""
    await stock.write(report("b1", account="b"))
    hold = await stock.hold(Selector(account="b"), days=100)
    await stock.run(HISTORY_GONE)
    assert len(await stock.held()) == 2
    async with stock.transaction() as destroying:
        await destroying.fetchval("SELECT destroy_released($1, 10)", hold.ends_at)
        extending = asyncio.create_task(
            Holds(stock.database).extend(
                hold.id, hold.ends_at + DAY, by="test", now=hold.ends_at - TICK
            )
        )
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_operator"))
        assert not extending.done()
        await destroying.execute("COMMIT")
    with pytest.raises(NotFoundError):
        await extending


async def test_a_hold_prolonged_just_before_its_end_keeps_what_it_kept(stock):
    """Whatever destroys waits until the extension is committed, and sees it."""
    await stock.write(report("b1", account="b"))
    hold = await stock.hold(Selector(account="b"), days=100)
    await stock.run(HISTORY_GONE)
    async with Retention(stock.dsn, PATIENT) as retention, stock.transaction() as operator:
        await queries.lock_holds_alone(operator)
        await operator.execute("UPDATE abuse_hold SET ends_at = ends_at + interval '1 day'")
        destroying = asyncio.create_task(
            queries.destroy_released(retention.connection, at=hold.ends_at, rows_max=10)
        )
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_retention"))
        await operator.execute("COMMIT")
        assert await destroying == 0
    assert len(await stock.held()) == 2


async def test_copies_are_destroyed_although_a_run_by_an_earlier_clock_came_between(stock):
    """A clock that was ahead and was put right leaves no copy that nobody looks at any more."""
    await stock.write(report("b1", account="b"))
    hold = await stock.hold(Selector(account="b"))
    await stock.run(TRAFFIC_GONE)
    await stock.release(hold, START)
    for hours in (1, 2, 3):
        assert (await stock.run(START + hours * DAY / 24)).held_destroyed == 0
    assert (await stock.run(TRAFFIC_GONE)).held_destroyed == 1
    assert await stock.held() == set()
