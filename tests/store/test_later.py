"""Later reports are stored or merged by one statement, whether they are one or many."""

import asyncio
import contextlib

import pytest

from tests.jobs.stock import until
from tests.store.helpers import NOW, at, opened, report
from tests.store.test_few import prepare, reports, usage
from trafficlog.errors import StaleSettingsError
from trafficlog.store.few import FewRoad
from trafficlog.store.later import LaterRoad


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


@pytest.mark.parametrize("count", [1, 31, 1000])
async def test_one_statement_is_all_that_later_reports_take(store, monkeypatch, count):
    """No transaction around it, and no temporary table, which each commit would have to empty."""
    # The second time, for at the first one the client asks how arrays look.
    await store.write(*(report(f"m{n}", updated=at(-1)) for n in range(count)))
    later = [report(f"m{n}", updated=at(1), status="sent") for n in range(count)]
    asked = []

    @contextlib.asynccontextmanager
    async def noted(ingest=store.database.ingest):
        async with ingest() as connection:
            with connection.query_logger(lambda record: asked.append(record.query)):
                yield connection

    monkeypatch.setattr(store.database, "ingest", noted)
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
