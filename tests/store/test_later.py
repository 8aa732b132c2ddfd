"""Later reports are stored or merged by one statement, whether they are one or many."""

import asyncio
import contextlib

import pytest

from tests.jobs.stock import until
from tests.store.helpers import NOW, at, counted, opened, report
from tests.store.test_few import prepare, reports, usage
from trafficlog.errors import StaleSettingsError
from trafficlog.store.few import FewRoad
from trafficlog.store.ingest import Batch
from trafficlog.store.later import APART_MAX, LaterRoad


async def test_what_turns_out_to_be_new_is_stored_as_any_new_record(store):
    """Row by row and column by column as the first road has it, and counted alike."""
    await prepare(store)
    found = {}
    for prefix, road in (("few-", FewRoad), ("later-", LaterRoad)):
        batch = reports(prefix)
        await store.writer.settings.ensure_accounts({r.account for r in batch}, NOW)
        made = road.of(batch, store.writer.settings, NOW)
        for data_class, hours in made.partitions.items():
            await store.writer.ensure_partitions(data_class, hours)
        await store.superuser.execute("TRUNCATE usage_delta")
        async with store.database.ingest() as connection:
            told = await made.write(connection)
        where = f"id LIKE '{prefix}%'"
        found[prefix] = [
            {row["id"].removeprefix(prefix): row | {"id": ""} for row in rows}
            for rows in (await store.traffic(where), await store.history(where))
        ]
        found[prefix].append(sorted(map(repr, await usage(store))))
    assert (told.fresh, told.changed) == (set(range(len(batch))), set())
    assert found["few-"] == found["later-"]


def noting(store, monkeypatch):
    """The statements that the writer sends from now on."""
    asked = []

    @contextlib.asynccontextmanager
    async def noted(ingest=store.database.ingest):
        async with ingest() as connection:
            with connection.query_logger(lambda record: asked.append(record.query)):
                yield connection

    monkeypatch.setattr(store.database, "ingest", noted)
    return asked


@pytest.mark.parametrize("count", [1, 31, 1000])
async def test_one_statement_is_all_that_later_reports_take(store, monkeypatch, count):
    """No transaction around it, and no temporary table, which each commit would have to empty."""
    # The second time, for at the first one the client asks how arrays look.
    await store.write(*(report(f"m{n}", updated=at(-1)) for n in range(count)))
    later = [report(f"m{n}", updated=at(1), status="sent") for n in range(count)]
    asked = noting(store, monkeypatch)
    assert await store.write(*later) == (0, count, 0)
    assert len(asked) == 1
    # Beside a new record it is one of two in a transaction, which begins and ends.
    assert await store.write(*later, report("new")) == (1, 0, count)
    assert len(asked) == 1 + 4
    assert {row["status"] for row in await store.history("id <> 'new'")} == {3}
    temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'"
    assert await store.superuser.fetchval(temporary) == 0


async def test_a_changed_setting_stores_nothing_of_them(store):
    """What was encoded by settings that are no longer in force is neither stored nor merged."""
    await store.write(report("m1"))
    road = LaterRoad.of(
        [report("m1", updated=at(1), status="sent"), report("m2", updated=at(1))],
        store.writer.settings,
        NOW,
    )
    before = await store.traffic(), await store.history(), await usage(store)
    await store.set_history(None)
    async with store.database.ingest() as connection:
        with pytest.raises(StaleSettingsError):
            await road.write(connection)
    assert (await store.traffic(), await store.history(), await usage(store)) == before
    # The writer looks the settings up and does it again.
    assert await store.write(report("m2", updated=at(1))) == (1, 0, 0)
    assert [row["id"] for row in await store.history()] == ["m1"]


async def test_it_is_all_or_nothing(store):
    """A report that cannot be stored takes those beside it along, merged ones as well."""
    await store.write(report("m1"))
    later = [report("m1", updated=at(1), status="sent"), report("m2", created=at(-14400))]
    road = LaterRoad.of(later, store.writer.settings, NOW)
    before = await store.traffic(), await store.history(), await usage(store)
    async with store.database.ingest() as connection:
        with pytest.raises(Exception, match="no partition"):
            await road.write(connection)
    assert (await store.traffic(), await store.history(), await usage(store)) == before
    assert await store.write(*later) == (1, 1, 0)


async def test_a_report_that_waits_for_another_goes_by_what_that_one_left(database):
    """The row is looked at anew after the wait: what is later, and what is withheld by then."""
    async with opened(database) as store:
        await store.write(report("m1", message="hello", tags=["a"]))
        first = [report("m1", updated=at(2), status="failed", cost=7, dontlog="message")]
        second = [report("m1", updated=at(1), status="sent", cost=3, parts=2, message="again")]
        settings = store.writer.settings
        async with store.database.ingest() as one, store.database.ingest() as other:
            await one.execute("BEGIN")
            await LaterRoad.of(first, settings, NOW).write(one)
            waiting = asyncio.create_task(LaterRoad.of(second, settings, NOW).write(other))
            await until(
                lambda: store.superuser.fetchval("SELECT true FROM pg_locks WHERE NOT granted")
            )
            await one.execute("COMMIT")
            merged = await waiting
        assert merged.changed == {0}
        [row] = await store.history()
        assert (row["updated_at"], row["status"], row["cost"], row["parts"]) == (at(2), 6, 7, 2)
        assert (row["message"], row["withheld"], row["tags"]) == (None, 1, ["a"])
        assert [row["updated_at"] for row in await store.traffic()] == [at(2)]


async def test_a_report_of_another_kind_tells_nothing_of_its_record(store):
    """A status that no message can have is not put on one, beside it or in the same group."""
    await store.write(report("m1", kind="sms", status="sent"))
    call = report("m1", kind="call", status="success", duration=5, updated=at(1))
    assert await store.write(call) == (0, 0, 1)
    later = report("m1", kind="sms", status="delivered", updated=at(2))
    assert await store.write(call, later, call) == (0, 1, 2)
    # Of two that are new, the first to come says what it is.
    both = [
        report("m2", kind="sms", status="sent", updated=at(1)),
        report("m2", kind="call", status="success", duration=5, updated=at(2)),
        report("m2", kind="sms", status="delivered", updated=at(3)),
    ]
    assert await store.write(*both) == (1, 1, 1)
    rows = await store.history()
    assert [(r["kind"], r["status"], r["duration"]) for r in rows] == [(1, 5, None)] * 2
    assert [row["duration"] for row in await store.traffic()] == [None, None]
    assert sum(row[5] for row in await usage(store)) == 2


async def test_the_first_of_two_kinds_is_its_record_among_many_too(store):
    """The order in which rows are stored does not decide it, whichever way they are sorted."""
    sms = [report(f"m{n}", kind="sms", status="sent", updated=at(1)) for n in range(100)]
    calls = [report(r.id, kind="call", status="success", updated=at(2)) for r in sms]
    pairs = zip(sms, calls, strict=True)
    assert await store.write(*(each for pair in pairs for each in pair)) == (100, 0, 100)
    assert {row["kind"] for row in await store.history()} == {1}


async def test_an_empty_user_agent_stays_however_its_reports_come(store):
    """Together they are merged by the service, one by one by the database."""
    for name in ("together", "apart"):
        first = report(name, user_agent="", ip=None)
        later = report(name, user_agent="curl/8", ip="192.0.2.1", updated=at(1))
        for batch in ([first, later],) if name == "together" else ([first], [later]):
            await store.write(*batch)
    assert [(r["user_agent"], str(r["ip"])) for r in await store.traffic()] == [
        ("", "192.0.2.1")
    ] * 2


async def test_a_known_report_beside_one_that_tells_more_is_a_duplicate(store):
    """In one request, in two of one group, and whichever comes first."""

    def first():
        return report("m1", status="sent", updated=at(1))

    def later():
        return report("m1", status="delivered", updated=at(2))

    assert await store.write(first()) == (1, 0, 0)
    batches = [Batch([first(), later()]), Batch([first()]), Batch([later()])]
    assert [counted(o) for o in await store.writer.write(batches, NOW)] == [
        (0, 1, 1),
        (0, 0, 1),
        (0, 0, 1),
    ]
    [row] = await store.history()
    assert (row["status"], row["updated_at"]) == (5, at(2))


async def test_many_reports_of_one_record_are_told_apart_up_to_a_bound(store, monkeypatch):
    """A thousand states of one record in one request do not take a thousand merges."""
    await store.write(report("m1"))
    states = [report("m1", cost=n, updated=at(1 + n / 1000)) for n in range(1000)]
    again = report("m1", cost=0, updated=at(1))
    asked = noting(store, monkeypatch)
    assert await store.write(*states, again) == (0, 1000, 1)
    assert sum("store_later" in statement for statement in asked) == 1 + APART_MAX
    [row] = await store.history()
    assert row["cost"] == 999
