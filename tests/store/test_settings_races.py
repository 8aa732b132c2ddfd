"""A record is never written under a setting whose change was acknowledged before."""

import asyncio
from datetime import timedelta

import pytest

from tests.store.helpers import NOW, at, opened, report
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.store.ingest import RecordWriter

ROADS = pytest.mark.parametrize("updated", [None, at(1)], ids=["first road", "second road"])


def change_between(monkeypatch, change, times=1):
    """Has ``change`` happen after a batch is encoded and before its transaction looks."""
    whole = RecordWriter._take_part
    left = times

    async def check(self, connection, epoch, usage):
        nonlocal left
        if left:
            left -= 1
            await change()
        await whole(self, connection, epoch, usage)

    monkeypatch.setattr(RecordWriter, "_take_part", check)


@ROADS
@pytest.mark.parametrize("days", [1, 7, 1095])
async def test_a_change_on_the_way_governs_what_is_written(store, monkeypatch, updated, days):
    """A batch encoded under the old setting is encoded anew and stands under the new one."""
    await store.write(report("m0"))
    change_between(monkeypatch, lambda: store.set_history(days))
    assert await store.write(report("m1", updated=updated)) == (1, 0, 0)
    [history] = await store.history("id = 'm1'")
    assert history["expires_at"] - history["created_at"] == timedelta(days=days)
    assert len(await store.traffic("id = 'm1'")) == 1


@ROADS
async def test_off_on_the_way_means_never_written(store, monkeypatch, updated):
    """History turned off while a batch is on its way: the legal row is written alone."""
    await store.write(report("m0"))
    change_between(monkeypatch, lambda: store.set_history(None))
    assert await store.write(report("m1", updated=updated), report("m2")) == (2, 0, 0)
    assert await store.history("id <> 'm0'") == []
    assert len(await store.traffic()) == 3


async def test_settings_that_never_rest_end_in_an_error(store, monkeypatch):
    """After the tries that the configuration allows nothing is written and 503 is the answer."""
    await store.write(report("m0"))
    days = iter(range(1, 100))
    change_between(monkeypatch, lambda: store.set_history(next(days)), times=100)
    with pytest.raises(DatabaseUnavailableError):
        await store.write(report("m1"))
    assert await store.traffic("id = 'm1'") == []
    assert next(days) == store.writer._config.flush_attempts_max + 1


async def test_a_change_waits_for_the_batch_that_is_being_written(store):
    """A batch whose transaction has looked at the settings commits before the change is made."""
    await store.write(report("m0"))
    async with store.database.ingest() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetchval("SELECT settings_in_force()")
        change = asyncio.create_task(store.set_history(7))
        done, _ = await asyncio.wait({change}, timeout=0.2)
        assert not done
        await transaction.commit()
    await change


async def test_writing_and_changing_at_once_leaves_no_row_under_an_old_setting(database):
    """Two processes write while the setting changes: each row fits the setting it saw or a move."""
    async with opened(database, flush_attempts_max=100) as one, opened(database) as other:
        await one.write(report("m0"))
        key = await one.account_key()
        stop = asyncio.Event()

        async def write(store, name):
            number = 0
            while not stop.is_set():
                number += 1
                await store.write(*[report(f"{name}-{number}-{n}") for n in range(5)])

        writers = [asyncio.create_task(write(one, "a")), asyncio.create_task(write(one, "b"))]
        for days in (10, 20, None, 30, 5):
            await other.set_history(days)
            acknowledged = await other.history("id <> 'm0'")
            await one.superuser.execute("DELETE FROM history_move")
            known = {(r["id"], r["created_at"]) for r in acknowledged}
            await asyncio.sleep(0.05)
            later = [r for r in await other.history() if (r["id"], r["created_at"]) not in known]
            kept = {r["expires_at"] - r["created_at"] for r in later if r["id"] != "m0"}
            assert kept <= ({timedelta(days=days)} if days else set())
        stop.set()
        await asyncio.gather(*writers)
        assert key == await one.account_key()


async def test_off_writes_nothing_on_either_road(store):
    """Off means never written: no row, and none by a later report either."""
    await store.write(report("m0"))
    await store.set_history(None)
    assert await store.write(report("m1", message="secret")) == (1, 0, 0)
    assert await store.write(report("m1", updated=at(1), status="sent")) == (0, 1, 0)
    assert await store.write(report("m2", updated=at(1), status="sent")) == (1, 0, 0)
    assert [r["id"] for r in await store.history()] == ["m0"]
    assert [r["id"] for r in await store.traffic()] == ["m0", "m1", "m2"]


async def test_what_was_sent_while_off_does_not_come_with_a_retry(store):
    """On again, neither a retry nor a delivery report of the off time writes history."""
    await store.write(report("m0"))
    await store.set_history(None)
    created = NOW + timedelta(minutes=1)
    known = report("m1", created=created)
    await store.write(known, now=created)
    await store.set_history(90, now=NOW + timedelta(minutes=2))
    assert await store.write(known) == (0, 0, 1)
    assert await store.write(report("m1", created=created, updated=at(3))) == (0, 1, 0)
    # Of the off time, and seen for the first time only now.
    assert await store.write(report("late", created=created)) == (1, 0, 0)
    assert await store.write(report("now", created=NOW + timedelta(minutes=4))) == (1, 0, 0)
    assert [r["id"] for r in await store.history("id <> 'm0'")] == ["now"]


@pytest.mark.parametrize("updated", [None, at(1)], ids=["a retry", "a delivery report"])
async def test_what_was_erased_does_not_come_back(store, updated):
    """An erased record stays erased, whoever sends it again; its legal row is kept up to date."""
    await store.write(report("m1", message="secret"))
    await store.erase("m1")
    again = report("m1", message="secret", updated=updated, duration=5 if updated else None)
    assert await store.write(again) == ((0, 1, 0) if updated else (0, 0, 1))
    assert await store.history() == []
    [traffic] = await store.traffic()
    assert traffic["updated_at"] == updated


async def test_what_was_shortened_away_does_not_come_back(store):
    """A longer setting after a shorter one brings no old record back, not even by a retry."""
    old = report("old", created=NOW - timedelta(days=20))
    await store.write(old, report("new"))
    await store.set_history(7)
    await store.superuser.fetch("SELECT move_history_step(1, $1, 1000)", NOW)
    await store.set_history(90)
    assert await store.write(old) == (0, 0, 1)
    assert await store.write(report("other", created=NOW - timedelta(days=8))) == (1, 0, 0)
    assert [r["id"] for r in await store.history()] == ["new"]


async def test_a_report_finds_a_row_that_was_moved(store):
    """A later report updates the row of its record under whatever expiry it stands by now."""
    await store.write(report("m1"), report("m2"))
    for days in (1095, 30):
        await store.set_history(days)
        await store.superuser.fetch("SELECT move_history_step(1, $1, 1)", NOW)
    # One row stands under 30 days, the other still under an older setting.
    reports = [report(m, updated=at(1), status="delivered") for m in ("m1", "m2")]
    assert await store.write(*reports) == (0, 2, 0)
    rows = await store.history()
    assert [r["status"] for r in rows] == [5, 5]
    assert len({r["expires_at"] for r in rows}) == 2


async def test_a_writer_learns_of_changes_in_another_process(database):
    """What one process changed, another goes by at its next batch, for accounts it knew."""
    async with opened(database) as one, opened(database) as other:
        await one.write(report("m1"), report("m2", account="second"))
        await other.write(report("m3"))
        await other.set_history(7)
        await other.set_history(None, account="second")
        await one.write(report("m4"), report("m5", account="second"))
        rows = {r["id"]: r["expires_at"] - r["created_at"] for r in await one.history()}
    assert rows["m4"] == timedelta(days=7)
    assert "m5" not in rows


async def test_tasks_of_one_process_share_the_cache(store):
    """Many batches of new accounts at once make each account once and lose no record."""
    batches = [[report(f"m{n}-{a}", account=f"a{a}") for a in range(n, n + 10)] for n in range(20)]
    outcomes = await asyncio.gather(*(store.write(*batch) for batch in batches))
    assert outcomes == [(10, 0, 0)] * 20
    assert await store.superuser.fetchval("SELECT count(*) FROM account") == 29
    assert len(await store.history()) == 200
