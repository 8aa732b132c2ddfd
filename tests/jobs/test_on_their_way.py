"""Reports that are being written while something is destroyed: real sessions, held by locks.

Who waits for what is read from the server; nothing here depends on how long anything takes.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.jobs.stock import DAY, HOUR, START, TICK, config, report, until
from tests.waiting import waiting_sessions
from trafficlog.queries import queries
from trafficlog.retention import AHEAD_MAX, HistoryDays
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.debug_log import DebugLine
from trafficlog.store.erasures import Erasures, Wanted
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.ingest import Batch
from trafficlog.store.retention import Retention
from trafficlog.store.transit import Transit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trafficlog.records import Report

NOW = START + DAY
MINUTE = HOUR / 60
PATIENT = config(lock_timeout_ms=20_000)
EVERYTHING = Wanted(None)


@asynccontextmanager
async def being_written(
    stock, *reports: Report, now=NOW
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Reports whose transaction has written them and not committed; gives what lets it commit.

    It waits for the debug log, which it writes to last.
    """
    # Its partition is there, so that nothing but the line itself waits.
    await stock.write_line("before", "acme", now)
    async with stock.transaction("LOCK TABLE debug_log IN EXCLUSIVE MODE") as locker:
        line = DebugLine(now, "info", "test", "with them", "acme")
        writing = asyncio.create_task(stock.writer.write([Batch(list(reports), [line])], now))
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_ingest"))

        async def commit() -> None:
            await locker.execute("COMMIT")
            await writing

        yield commit


def delivered(record_id: str, created=START, at=NOW, **fields) -> Report:
    """A later report of a message: it has arrived."""
    later = report(record_id, created, status="delivered", delivered=at, **fields)
    later.updated = at
    return later


async def held(stock, record_id: str) -> tuple[str, str]:
    """The text and the state in the one held copy of a record."""
    [row] = await stock.admin.fetch(
        "SELECT content ->> 'message', content ->> 'status' FROM held_record WHERE record_id = $1",
        record_id,
    )
    return tuple(row)


@pytest.mark.parametrize("days", [1, None], ids=["shorter", "off"])
async def test_a_report_merged_while_a_move_takes_its_record_is_in_the_held_copy(stock, days):
    """The move waits for the report, which is acknowledged, and copies what it left."""
    now = START + 2 * DAY
    await stock.write(report("m1", status="sent", message=None), report("m2", now), now=now)
    await stock.hold(Selector(account="acme"))
    await stock.set_days(days, now)
    late = delivered("m1", at=now, message="came late")
    async with Retention(stock.dsn, PATIENT) as retention:
        await until(retention.lead)
        async with being_written(stock, late, now=now) as commit:
            moving = asyncio.create_task(retention.move(now, guard_clock=False))
            await until(lambda: waiting_sessions(stock.admin, "trafficlog_retention"))
            await commit()
        assert (await moving).failures == []
    assert "m1" not in await stock.ids("history_record")
    assert await held(stock, "m1") == ("came late", "5")


async def test_a_report_merged_while_a_setting_takes_its_record_is_in_the_held_copy(stock):
    """History on again takes what was created ahead of the clock, after what is being written."""
    ahead = START + 5 * MINUTE
    await stock.write(report("m1", ahead, status="sent"))
    await stock.hold(Selector(account="acme"))
    await stock.set_days(None, START)
    key = await stock.account_key()
    async with being_written(stock, delivered("m1", ahead, ahead), now=START) as commit:
        changing = asyncio.create_task(
            Accounts(stock.database).change(key, HistoryDays(90), now=START, by="test")
        )
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_operator"))
        await commit()
        await changing
    assert await stock.ids("history_record") == []
    assert await held(stock, "m1") == ("text of m1", "5")


@pytest.mark.parametrize("before", ["acme", "b"])
async def test_what_is_replaced_while_it_is_completed_is_in_the_held_copy(stock, before):
    """The hold's account may even be the one that only the replacement names."""
    transit = Transit(stock.database, stock.writer)
    await transit.put("callback", b"first", before, START)
    await transit.put("other", b"first", "acme", START)
    await stock.hold(Selector(account="acme"))
    key = await stock.account_key()
    async with stock.transaction() as putting:
        await queries.lock_in_transit(putting, id="callback")
        await queries.put_in_transit(
            putting, id="callback", content=b"second", account_key=key, now=START
        )
        completing = asyncio.create_task(transit.complete("callback", START))
        await until(lambda: waiting_sessions(stock.admin, "trafficlog_ingest"))
        await putting.execute("COMMIT")
        await completing
    held = await stock.admin.fetch("SELECT record_id, content ->> 'content' AS c FROM held_record")
    assert [tuple(each) for each in held] == [("callback", "\\x" + b"second".hex())]
    assert await stock.ids("in_transit") == ["other"]


async def start(stock, wanted: Wanted, now=NOW):
    """An erasure that was accepted."""
    erasures = Erasures(stock.database, b"secret" * 6)
    return await erasures.start(await stock.account_key(), wanted, now)


async def get(stock, erasure):
    """How an erasure stands."""
    erasures = Erasures(stock.database, b"secret" * 6)
    return await erasures.get(await stock.account_key(), erasure.id)


async def step(retention: Retention, erasure):
    """One step of an erasure, over all of its scope."""
    return await queries.erase_step(
        retention.connection, erasure_id=erasure.id, at=NOW, rows_max=100, width=100 * DAY
    )


async def waits_for_writers(stock) -> bool:
    """Whether an erasure waits for what is being written."""
    return await stock.admin.fetchval("SELECT count(waits_for) > 0 FROM erasure")


@pytest.mark.parametrize(
    "wanted", [EVERYTHING, Wanted(HistoryFilter(kind="sms"))], ids=["everything", "filter"]
)
@pytest.mark.parametrize("updated", [None, NOW], ids=["first road", "second road"])
async def test_what_is_being_written_when_an_erasure_ends_goes_with_it(stock, wanted, updated):
    """Not acknowledged yet and seen by nobody: it is waited for, and looked for once more."""
    await stock.write(report("m1"))
    erasure = await start(stock, wanted)
    late = report("late", START + TICK)
    late.updated = updated
    async with Retention(stock.dsn, PATIENT) as retention:
        await until(retention.lead)
        async with being_written(stock, late) as commit:
            erasing = asyncio.create_task(retention.erase(NOW, guard_clock=False))

            async def is_done_or_waits() -> bool:
                return erasing.done() or await waits_for_writers(stock)

            await until(is_done_or_waits)
            assert not (await get(stock, erasure)).is_finished
            await commit()
            result = await erasing
    assert (result.rows_erased, result.finished, result.failures) == (2, 1, [])
    assert await stock.ids("history_record") == []
    done = await get(stock, erasure)
    assert (done.state, done.found, done.erased) == ("done", 1, 2)


async def test_an_erasure_waits_for_nothing_that_began_to_be_written_later(stock):
    """However many write at any time, it comes to its end; it knows for whom it waits."""
    await stock.write(report("m1"))
    erasure = await start(stock, EVERYTHING)
    async with Retention(stock.dsn, PATIENT) as retention:
        await until(retention.lead)
        async with stock.transaction("SELECT settings_in_force()") as first:
            states = [(await step(retention, erasure))["state"] for _ in range(3)]
            assert states == ["running", "waiting", "waiting"]
            async with stock.transaction("SELECT settings_in_force()"):
                erasing = asyncio.create_task(retention.erase(NOW, guard_clock=False))
                await first.execute("COMMIT")
                assert (await erasing).finished == 1
    assert (await get(stock, erasure)).state == "done"


async def test_an_erasure_that_waits_can_be_cancelled(stock):
    """It has no lock meanwhile that the cancellation would wait for."""
    await stock.write(report("m1"))
    erasure = await start(stock, EVERYTHING)
    key = await stock.account_key()
    async with Retention(stock.dsn, PATIENT) as retention:
        await until(retention.lead)
        async with stock.transaction("SELECT settings_in_force()"):
            erasing = asyncio.create_task(retention.erase(NOW, guard_clock=False))
            await until(lambda: waits_for_writers(stock))
            cancelled = await Erasures(stock.database, b"secret" * 6).cancel(key, erasure.id, NOW)
            assert (cancelled.state, cancelled.erased) == ("cancelled", 1)
            await erasing
    assert (await get(stock, erasure)).state == "cancelled"


async def test_everything_is_also_what_a_clock_that_is_ahead_has_dated_later(stock):
    """What is stored at the acceptance goes; what comes in afterwards is new, whatever its date."""
    ahead = [report(f"a{n}", NOW + each) for n, each in enumerate((TICK, TICK, MINUTE, AHEAD_MAX))]
    await stock.write(report("m1", NOW), *ahead, report("b1", NOW + TICK, "b"), now=NOW)
    erasures = Erasures(stock.database, b"secret" * 6)
    preview = await erasures.preview(await stock.account_key(), EVERYTHING, NOW)
    assert (preview.records, preview.newest) == (5, NOW + AHEAD_MAX)
    erasure = await start(stock, EVERYTHING)
    await stock.write(report("new", NOW + TICK), report("newer", NOW + MINUTE), now=NOW + TICK)
    async with Retention(stock.dsn, config(erasure_rows_max=2)) as retention:
        await until(retention.lead)
        await retention.erase(NOW + 2 * MINUTE, guard_clock=False)
    assert await stock.ids("history_record") == ["b1", "new", "newer"]
    done = await get(stock, erasure)
    assert (done.state, done.found, done.erased, dict(done.kinds)) == ("done", 5, 5, {"sms": 5})
    assert sum(entry["rows"] for entry in await stock.ledger("erased")) == 5


async def test_what_was_dated_later_is_found_where_a_new_setting_moved_it(stock):
    """Held it is copied, moved to another partition it goes all the same."""
    await stock.write(report("m1", NOW), report("a1", NOW + MINUTE), now=NOW)
    await stock.hold(Selector(account="acme", record="a1"), NOW)
    await start(stock, EVERYTHING)
    await stock.set_days(365, NOW)
    async with Retention(stock.dsn, config()) as retention:
        await until(retention.lead)
        assert (await retention.move(NOW, guard_clock=False)).rows_moved == 2
        await retention.erase(NOW, guard_clock=False)
    assert await stock.ids("history_record") == []
    assert await stock.held() == {("history_record", "a1")}


async def test_without_history_nothing_is_meant_whatever_its_date(stock):
    """Off shows nothing, so the preview counts nothing, and the erasure leaves all to the move."""
    await stock.write(report("m1", NOW), report("a1", NOW + MINUTE), now=NOW)
    await stock.set_days(None, NOW)
    assert (await start(stock, EVERYTHING)).found == 0
    async with Retention(stock.dsn, config()) as retention:
        await until(retention.lead)
        assert (await retention.erase(NOW, guard_clock=False)).rows_erased == 0
    assert await stock.ids("history_record") == ["a1", "m1"]
