"""Usage statistics: each record counts once, under its present state, whatever becomes of it."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

from tests.store.helpers import NOW, at, opened, report
from trafficlog.store.ingest import Batch
from trafficlog.store.retention import Retention
from trafficlog.store.usage import Statistics, Unit

TODAY = NOW.date()


async def used(store, unit=Unit.DAY, first=TODAY, last=TODAY, account="acme"):
    """(first day, kind, direction, status, records, parts, seconds, cost) of an account."""
    key = await store.account_key(account)
    usage = await Statistics(store.database).usage(key, unit, first, last)
    return [
        (u.first_day, u.kind, u.direction, u.status, u.records, u.parts, u.seconds, u.cost)
        for u in usage
    ]


async def roll_up(store):
    """Sums up, as the job does; how many rows were taken."""
    async with Retention(store.dsn, store.database.config) as retention:
        return await retention.roll_up_usage()


async def test_new_records_are_counted_by_kind_direction_and_status(store):
    """Counts, parts, seconds and cost of a day; what a report does not say counts as nothing."""
    await store.write(
        report("m1", status="sent", parts=2, cost=3500),
        report("m2", status="sent", parts=1, cost=1750),
        report("m3"),
        report("c1", kind="call", direction="incoming", status="success", duration=61),
    )
    expected = [
        (TODAY, "sms", "outgoing", None, 1, 0, 0, 0),
        (TODAY, "sms", "outgoing", "sent", 2, 3, 0, 5250),
        (TODAY, "call", "incoming", "success", 1, 0, 61, 0),
    ]
    assert await used(store) == expected
    assert await roll_up(store) > 0
    assert await used(store) == expected


async def test_a_later_state_replaces_the_earlier_one(store):
    """A delivered message is no longer one that was sent, in this batch or a later one."""
    await store.write(report("m1", status="sent", parts=1), report("m2", status="sent"))
    await roll_up(store)
    await store.write(report("m1", status="delivered", updated=at(1), cost=3500))
    await store.write(
        report("m3", status="sent"), report("m3", status="failed", updated=at(1), parts=3)
    )
    expected = [
        (TODAY, "sms", "outgoing", "sent", 1, 0, 0, 0),
        (TODAY, "sms", "outgoing", "delivered", 1, 1, 0, 3500),
        (TODAY, "sms", "outgoing", "failed", 1, 3, 0, 0),
    ]
    assert await used(store) == expected
    await roll_up(store)
    assert await used(store) == expected


async def test_a_record_that_comes_again_is_not_counted_again(store):
    """Neither within a batch, nor in another one, nor beside new ones."""
    await store.write(report("m1", status="sent"), report("m1", status="sent"))
    await store.write(report("m1", status="sent"), report("m2", status="sent"))
    assert await used(store) == [(TODAY, "sms", "outgoing", "sent", 2, 0, 0, 0)]


async def test_statistics_survive_erasure_and_a_setting(store):
    """What the customer gives up of its history has been used all the same."""
    await store.write(report("m1", status="sent"), report("m2", status="sent"))
    await store.erase("m1")
    await store.set_history(None)
    async with Retention(store.dsn, store.database.config) as retention:
        await retention.move(NOW + timedelta(seconds=1), guard_clock=False)
    assert await store.history() == []
    assert await used(store) == [(TODAY, "sms", "outgoing", "sent", 2, 0, 0, 0)]


async def test_a_move_to_another_period_counts_nothing(store):
    """The record is the same one; only its expiry is another."""
    await store.write(report("m1", status="sent", parts=1))
    await store.set_history(30)
    async with Retention(store.dsn, store.database.config) as retention:
        assert (await retention.move(NOW, guard_clock=False)).rows_moved == 1
    assert await used(store) == [(TODAY, "sms", "outgoing", "sent", 1, 1, 0, 0)]
    assert await roll_up(store) == 1


async def test_an_account_without_history_is_counted_by_its_first_reports(store):
    """Its later states have nothing to be compared with: the legal record is not read for it."""
    await store.write(report("m0"))
    await store.set_history(None)
    await store.write(report("m1", status="sent", parts=2, created=at(1)), now=at(1))
    await store.write(report("m1", status="delivered", updated=at(2), created=at(1)), now=at(2))
    assert (TODAY, "sms", "outgoing", "sent", 1, 2, 0, 0) in await used(store)
    assert len(await used(store)) == 2


async def test_days_are_those_of_creation_in_utc_and_months_hold_them(store):
    """A record counts on the day it was created, however late it comes."""
    midnight = NOW.replace(hour=0)
    await store.write(
        report("m1", created=midnight - timedelta(microseconds=1)),
        report("m2", created=midnight),
        report("m3", created=midnight - timedelta(days=21)),
    )
    assert [
        (day, count) for day, *_, count, _, _, _ in await used(store, first=date(2026, 10, 1))
    ] == [
        (date(2026, 10, 31), 1),
        (date(2026, 11, 20), 1),
        (date(2026, 11, 21), 1),
    ]
    months = await used(store, Unit.MONTH, date(2026, 10, 1), date(2026, 11, 30))
    assert [(day, count) for day, *_, count, _, _, _ in months] == [
        (date(2026, 10, 1), 1),
        (date(2026, 11, 1), 2),
    ]


async def test_nobody_sees_what_another_account_used(store):
    """The database shows an account its own counts, summed up or not."""
    await store.write(report("m1"), report("m2", account="other"))
    assert [row[4] for row in await used(store, account="other")] == [1]
    await roll_up(store)
    assert [row[4] for row in await used(store, account="other")] == [1]
    async with store.database.as_account(await store.account_key()) as connection:
        other = await store.account_key("other")
        query = "SELECT count(*) FROM usage_statistic WHERE account_key = $1"
        assert await connection.fetchval(query, other) == 0


async def test_two_reports_of_one_record_at_once_leave_one_state(database):
    """Two writers bring the record on at the same time: it counts once, under what is stored."""
    async with opened(database, ingest_connections=4) as store:
        await store.write(*(report(f"m{n}", status="created") for n in range(20)))
        await asyncio.gather(
            *(
                store.writer.write(
                    [
                        Batch(
                            [report(f"m{n}", status=status, updated=at(minutes)) for n in range(20)]
                        )
                    ],
                    NOW,
                )
                for status, minutes in (("sent", 1), ("delivered", 2), ("failed", 2))
            ),
            roll_up(store),
        )
        await roll_up(store)
        assert await used(store) == [(TODAY, "sms", "outgoing", "failed", 20, 0, 0, 0)]


async def test_a_batch_that_is_not_stored_is_not_counted(store):
    """The counts are part of the transaction: a conflict on the way does not count twice."""
    await store.write(report("m1", status="sent"))
    await store.write(*(report(f"m{n}", status="sent") for n in range(5)))
    assert await used(store) == [(TODAY, "sms", "outgoing", "sent", 5, 0, 0, 0)]
