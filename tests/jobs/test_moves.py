"""History that is moved because its account's setting changed."""

from __future__ import annotations

import asyncio

import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, HOUR, START, TICK, config, report
from trafficlog.store.retention import Retention


async def expiries(stock, account: str = "acme") -> dict[str, float]:
    """For each row how many days after its creation it expires."""
    found = await stock.admin.fetch(
        "SELECT id, expires_at - created_at AS kept FROM history_record WHERE account_key = $1",
        await stock.account_key(account),
    )
    return {row["id"]: row["kept"] / DAY for row in found}


async def assert_at_rest(stock, days: int) -> None:
    """No move is under way, and the account's bounds are those of its setting."""
    assert await stock.admin.fetchval("SELECT count(*) FROM history_move") == 0
    row = await stock.admin.fetchrow("SELECT * FROM account WHERE account_id = 'acme'")
    assert (row["history_days_min"], row["history_days_max"]) == (days, days)


async def fill(stock, days: int = 10) -> None:
    """A record of each of some days of two accounts."""
    for day in range(days):
        at = START + day * DAY
        await stock.write(report(f"m{day}", at), report(f"b{day}", at, "b"), now=at)


async def test_a_shorter_setting_hides_at_once_and_destroys_in_the_next_run(stock):
    """The older rows go with a ledger row, the younger get their new expiry; others stay."""
    await fill(stock)
    now = START + 10 * DAY
    await stock.set_days(4, now)
    assert await stock.visible(now) == ["m7", "m8", "m9"]
    assert len(await stock.ids("history_record")) == 20
    result = await stock.run(now, move_rows_max=3)
    assert (result.rows_destroyed, result.rows_moved, result.failures) == (7, 3, [])
    assert await expiries(stock) == {"m7": 4, "m8": 4, "m9": 4}
    assert set((await expiries(stock, "b")).values()) == {90}
    # A transaction has no more rows than the setting says.
    assert sorted(e["rows"] for e in await stock.ledger("setting")) == [1, 3, 3]
    await assert_at_rest(stock, 4)
    assert (await stock.verify(now)).is_right


async def test_a_longer_setting_moves_rows_before_their_old_partition_goes(stock):
    """Also when the first run after the change comes after the old expiry."""
    await fill(stock, 3)
    await stock.set_days(365, START + 80 * DAY)
    result = await stock.run(HISTORY_GONE + 5 * DAY)
    assert (result.rows_moved, result.failures) == (3, [])
    assert await expiries(stock) == {"m0": 365, "m1": 365, "m2": 365}
    assert await stock.visible(HISTORY_GONE + 5 * DAY) == ["m0", "m1", "m2"]
    assert await stock.visible(HISTORY_GONE + 5 * DAY, "b") == []
    await assert_at_rest(stock, 365)


async def test_what_has_expired_does_not_come_back_with_a_longer_setting(stock):
    """A row that was hidden when the setting grew stays hidden and is destroyed."""
    await fill(stock, 3)
    now = START + 91 * DAY - HOUR
    await stock.set_days(365, now)
    assert await stock.visible(now) == ["m1", "m2"]
    result = await stock.run(now)
    assert (result.rows_moved, result.rows_destroyed) == (2, 1)


async def test_history_turned_off_is_gone_and_stays_gone_when_turned_on(stock):
    """Nothing is written while it is off; what was before does not come back."""
    await fill(stock, 2)
    off, on = START + 2 * DAY, START + 3 * DAY
    await stock.set_days(None, off)
    assert await stock.visible(off) == []
    await stock.write(report("while-off", off), now=off)
    await stock.set_days(30, on)
    await stock.write(report("after", on + HOUR), now=on + HOUR)
    assert await stock.visible(on + HOUR) == ["after"]
    await stock.run(on + HOUR)
    assert await expiries(stock) == {"after": 30}
    assert "while-off" in await stock.ids("traffic_record")


async def test_a_change_back_before_the_move_ended_gives_up_what_was_hidden(stock):
    """Shorter and at once longer: what the shorter one hid stays gone, the rest is kept."""
    await fill(stock)
    now = START + 10 * DAY
    await stock.set_days(4, now)
    async with Retention(stock.dsn, config(move_rows_max=2)) as retention:
        await retention.connection.fetchrow(
            "SELECT * FROM move_history_step($1, $2, 2)", await stock.account_key(), now
        )
    await stock.set_days(90, now + TICK)
    assert await stock.visible(now + TICK) == ["m7", "m8", "m9"]
    await stock.run(now + TICK, move_rows_max=3)
    assert await expiries(stock) == {"m7": 90, "m8": 90, "m9": 90}
    await assert_at_rest(stock, 90)


@pytest.mark.parametrize("steps", [1, 2, 5])
async def test_a_move_killed_between_steps_is_resumed(stock, steps):
    """Every row is moved or destroyed exactly once."""
    await fill(stock)
    now = START + 10 * DAY
    await stock.set_days(4, now)
    async with Retention(stock.dsn, config()) as retention:
        for _ in range(steps):
            await retention.connection.fetchrow(
                "SELECT * FROM move_history_step($1, $2, 2)", await stock.account_key(), now
            )
        transaction = retention.connection.transaction()
        await transaction.start()
        await retention.connection.fetchrow(
            "SELECT * FROM move_history_step($1, $2, 2)", await stock.account_key(), now
        )
        retention.connection.terminate()
    assert await stock.visible(now) == ["m7", "m8", "m9"]
    await stock.run(now, move_rows_max=2)
    assert await expiries(stock) == {"m7": 4, "m8": 4, "m9": 4}
    assert sum(e["rows"] for e in await stock.ledger("setting")) == 7
    await assert_at_rest(stock, 4)


async def test_a_move_during_ingest_loses_nothing_and_leaves_nothing_behind(stock):
    """Records that come while a setting changes and rows move all end under the new setting."""
    await fill(stock, 3)
    now = START + 3 * DAY
    stop = asyncio.Event()
    written: list[str] = []

    async def ingest(worker: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"w{worker}-{number}"
            created = now + number * TICK
            late = report(f"m{number % 3}", START + (number % 3) * DAY, status="delivered")
            late.updated = created
            await stock.write(report(name, created), late, now=now)
            written.append(name)
            number += 1

    workers = [asyncio.create_task(ingest(n)) for n in range(2)]
    for days in (30, 7, 200, 14):
        await stock.set_days(days, now)
        result = await stock.run(now, move_rows_max=5)
        assert result.failures == []
    stop.set()
    await asyncio.gather(*workers)
    await stock.run(now)
    found = await expiries(stock)
    assert set(found.values()) == {14}
    assert sorted(found) == sorted([*written, "m0", "m1", "m2"])
    assert sorted(await stock.visible(now)) == sorted(found) or len(found) > 1000
    await assert_at_rest(stock, 14)


async def test_a_partition_with_rows_still_to_be_moved_is_not_dropped(stock):
    """When the move fails, its rows wait for the next run; nothing else does."""
    await fill(stock, 2)
    await stock.set_days(365, START + 80 * DAY)
    await stock.admin.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON history_move EXECUTE FUNCTION refuse()"
    )
    result = await stock.run(HISTORY_GONE)
    assert any(f.startswith("move") for f in result.failures)
    assert any("still to be moved" in f for f in result.failures)
    assert {d.table for d in result.dropped if d.rows} == {"traffic_record"}
    assert sorted(await stock.visible(HISTORY_GONE)) == ["m0", "m1"]
    await stock.admin.execute("DROP TRIGGER refuse ON history_move")
    assert (await stock.run(HISTORY_GONE)).failures == []
    assert sorted(await expiries(stock)) == ["m0", "m1"]
