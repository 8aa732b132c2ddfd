"""A record is never written under a setting whose change was acknowledged before."""

import asyncio
from datetime import timedelta

import pytest

from tests.jobs.stock import until
from tests.store.helpers import NOW, at, opened, report
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.store import history as history_module
from trafficlog.store import ingest
from trafficlog.store.few import FewRoad
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.later import LaterRoad
from trafficlog.store.retention import Retention
from trafficlog.store.roads import FirstRoad

ROADS = pytest.mark.parametrize("updated", [None, at(1)], ids=["first road", "second road"])


def change_between(monkeypatch, change, times=1):
    """Has ``change`` happen after a batch is encoded and before its transaction looks."""
    left = times

    def changed_before(whole):
        async def write(self, connection):
            nonlocal left
            if left:
                left -= 1
                await change()
            return await whole(self, connection)

        return write

    for road in (FewRoad, FirstRoad, LaterRoad):
        monkeypatch.setattr(road, "write", changed_before(road.write))


@pytest.fixture(params=["copied", "few"], autouse=True)
def new_ones(request, monkeypatch):
    """Which way new records go."""
    if request.param == "copied":
        monkeypatch.setattr(ingest, "FEW_MAX", 0)


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


@ROADS
async def test_what_the_account_omits_on_the_way_is_not_written(store, monkeypatch, updated):
    """A batch encoded before the change is encoded anew without the fields."""
    await store.write(report("m0"))
    change_between(monkeypatch, lambda: store.set_withheld(5))
    assert await store.write(report("m1", message="secret", updated=updated)) == (1, 0, 0)
    [row] = await store.history("id = 'm1'")
    assert (row["withheld"], row["message"], row["sender"], row["recipient"]) == (
        5,
        None,
        "Acme",
        None,
    )
    [legal] = await store.traffic("id = 'm1'")
    assert legal["recipient"] == "+46701234567"


async def test_a_later_state_takes_nothing_and_brings_nothing_that_is_omitted(store):
    """What was stored before the change stays; what comes after it is not added, and not later."""
    await store.write(report("had", message="old"), report("had-not"))
    await store.set_withheld(7)
    later = {"message": "new", "status": "delivered", "updated": at(1)}
    await store.write(report("had", **later), report("had-not", **later), report("m1", **later))
    rows = {r["id"]: (r["message"], r["sender"], r["withheld"]) for r in await store.history()}
    assert rows == {"had": ("old", "Acme", 0), "had-not": (None, "Acme", 0), "m1": (None, None, 7)}
    await store.set_withheld(0)
    await store.write(report("m1", message="newer", updated=at(2)), report("m2", message="newer"))
    rows = {r["id"]: (r["message"], r["sender"]) for r in await store.history()}
    assert (rows["m1"], rows["m2"]) == ((None, None), ("newer", "Acme"))


async def test_a_report_that_comes_again_is_no_change_though_the_account_omits(store):
    """The record is known as it is: nothing is updated, and it counts as a duplicate."""
    await store.write(report("m1", message="old"))
    await store.set_withheld(7)
    assert await store.write(report("m1", message="old")) == (0, 0, 1)
    assert [r["message"] for r in await store.history()] == ["old"]


async def test_accounts_in_one_batch_omit_each_their_own(store):
    """Beside an account that omits, another one's records, on both roads, are whole."""
    await store.write(report("m0"), report("x0", account="other"))
    await store.set_withheld(1)
    for n, updated in enumerate((None, at(1)), 1):
        await store.write(
            report(f"m{n}", message="secret", dontlog="to", updated=updated),
            report(f"x{n}", account="other", message="kept", updated=updated),
        )
    rows = await store.history("id NOT IN ('m0', 'x0')")
    assert sorted((r["id"][0], r["message"], r["withheld"]) for r in rows) == [
        ("m", None, 5),
        ("m", None, 5),
        ("x", "kept", 0),
        ("x", "kept", 0),
    ]


async def test_writing_while_the_account_begins_to_omit_leaves_no_field_afterwards(database):
    """Two processes write while the setting changes: whatever is stored afterwards is without."""
    async with opened(database, flush_attempts_max=100) as one, opened(database) as other:
        await one.write(report("m0"))
        stop = asyncio.Event()

        async def write(store, name):
            number = 0
            while not stop.is_set():
                number += 1
                reports = [report(f"{name}-{number}-{n}", message="hello") for n in range(5)]
                await store.write(*reports)

        writers = [asyncio.create_task(write(one, "a")), asyncio.create_task(write(other, "b"))]
        for bits in (1, 0, 3, 4, 0, 7):
            await other.set_withheld(bits)
            known = {r["id"] for r in await other.history()}
            later = []
            while not later:
                later = [r for r in await other.history() if r["id"] not in known]
            assert {r["withheld"] for r in later} == {bits}
            assert {r["message"] is None for r in later} == {bool(bits & 1)}
            assert {r["sender"] is None for r in later} == {bool(bits & 2)}
            assert {r["recipient"] is None for r in later} == {bool(bits & 4)}
        stop.set()
        await asyncio.gather(*writers)


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


READS = {
    "page": lambda history, key: history.page(key, HistoryFilter(kind="sms"), NOW, limit=10),
    "total": lambda history, key: history.total(key, HistoryFilter(), NOW, rows_max=10),
    "count": lambda history, key: history.count(key, NOW, created_up_to=NOW),
    "record": lambda history, key: history.by_id(key, "m1", NOW),
    "erasure": lambda history, key: history.erase(key, "m1", NOW),
}


@pytest.mark.parametrize("name", READS)
async def test_a_row_that_moves_while_it_is_looked_for_is_found(store, monkeypatch, name):
    """The setting is changed, and the row moved, after the account was read and before the row."""
    await store.write(report("m1"))
    key = await store.account_key()
    load = history_module.load_account
    changes = []

    async def lengthen():
        await store.set_history(365)
        async with Retention(store.dsn, store.database.config) as retention:
            moved = (await retention.move(NOW, guard_clock=False)).rows_moved
        assert moved == (name != "erasure")

    async def is_changed_or_waits():
        return changes[0].done() or await store.superuser.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'advisory'"
        )

    async def load_and_change(connection, wanted):
        account = await load(connection, wanted)
        if not changes:
            changes.append(asyncio.create_task(lengthen()))
            await until(is_changed_or_waits)
        return account

    monkeypatch.setattr(history_module, "load_account", load_and_change)
    found = await READS[name](History(store.database), key)
    await changes[0]
    match name:
        case "page":
            assert [r.id for r in found.records] == ["m1"]
        case "total":
            assert (found.estimate, found.exact) == (1, True)
        case "count":
            assert found == 1
        case "record":
            assert found.id == "m1"
        case _:
            assert (found.rows, await store.history()) == (1, [])
