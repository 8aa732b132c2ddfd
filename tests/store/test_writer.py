"""What one batch, its repetition and a later report leave in both tables."""

import asyncio
from datetime import timedelta

import pytest

from tests.store.helpers import NOW, at, counted, opened, report
from trafficlog.store.ingest import Batch

FULL = {
    "kind": "call",
    "direction": "incoming",
    "from_": "+46 70-123 45 67",
    "to": "0046 31 12 34 56",
    "updated": at(1),
    "status": "success",
    "delivered": at(0.5),
    "duration": 61,
    "parts": 2,
    "cost": 3500,
    "ip": "2001:DB8::0:1",
    "user_agent": "sip/1.0",
    "message": "Grüße ☎ 😀",
    "owner": "sales",
    "tags": ["a", "b c"],
}


@pytest.mark.parametrize("updated", [None, at(1)], ids=["first road", "second road"])
async def test_every_field_is_stored_where_it_belongs(store, updated):
    """The legal row has who and when; history the rest, and neither what is the other's."""
    await store.write(report("m1", **FULL | {"updated": updated}))
    [traffic], [history] = await store.traffic(), await store.history()
    common = {
        "account_key": await store.account_key(),
        "created_at": NOW,
        "updated_at": updated,
        "duration": 61,
        "kind": 3,
        "direction": 1,
        "id": "m1",
        "sender": "+46701234567",
        "recipient": "+4631123456",
    }
    assert traffic == common | {
        "expires_at": NOW + timedelta(days=60),
        "ip": "2001:db8::1",
        "user_agent": "sip/1.0",
    }
    assert history == common | {
        "expires_at": NOW + timedelta(days=90),
        "delivered_at": at(0.5),
        "parts": 2,
        "cost": 3500,
        "status": 7,
        "withheld": 0,
        "owner": "sales",
        "tags": ["a", "b c"],
        "message": "Grüße ☎ 😀",
    }


@pytest.mark.parametrize("fields", [{}, {"dontlog": "message"}, {"dontlog": ["from", "to"]}])
async def test_the_same_record_in_one_batch_is_stored_once(store, fields):
    """Sent twice in one request it is one row, and the second is a duplicate."""
    same = [report("m1", message="hello", **fields) for _ in range(3)]
    assert await store.write(*same, report("m2")) == (2, 0, 2)
    assert [r["id"] for r in await store.traffic()] == ["m1", "m2"]
    assert [r["id"] for r in await store.history()] == ["m1", "m2"]


@pytest.mark.parametrize(
    "fields", [{}, {"updated": at(1), "status": "sent"}, {"dontlog": "message"}]
)
async def test_the_same_record_in_a_later_batch_is_stored_once(store, fields):
    """A retry of a whole batch changes nothing and says so, new records beside it are stored."""
    first = [report(f"m{n}", message="hello", **fields) for n in range(3)]
    assert await store.write(*first) == (3, 0, 0)
    before = await store.traffic(), await store.history()
    assert await store.write(*first) == (0, 0, 3)
    assert (await store.traffic(), await store.history()) == before
    assert await store.write(*first, report("new")) == (1, 0, 3)


async def test_two_batches_of_one_group_are_told_apart(store):
    """Each request is answered for its own records, though one transaction wrote them all."""
    later = report("m1", updated=at(1), status="delivered")
    outcomes = await store.writer.write(
        [Batch([report("m1"), report("m2")]), Batch([report("m1")]), Batch([later])], NOW
    )
    assert [counted(o) for o in outcomes] == [(2, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert [r["status"] for r in await store.history("id = 'm1'")] == [5]


async def test_two_writers_at_once_store_a_record_once(database):
    """Two processes that are sent the same batch at the same time store it once between them."""
    async with opened(database) as one, opened(database) as two:
        for turn in range(10):
            batch = [report(f"m{turn}-{n}") for n in range(50)]
            outcomes = await asyncio.gather(one.write(*batch), two.write(*reversed(batch)))
            assert [sum(o) for o in outcomes] == [50, 50]
            assert sum(o[0] for o in outcomes) == 50, outcomes
        assert len(await one.traffic()) == len(await one.history()) == 500


async def test_two_writers_merging_at_once_lose_no_report(database):
    """Later reports of one record from two writers end in the newest state."""
    async with opened(database) as one, opened(database) as two:
        await one.write(*[report(f"m{n}") for n in range(50)])
        sent = [report(f"m{n}", updated=at(1), status="sent", parts=2) for n in range(50)]
        done = [report(f"m{n}", updated=at(2), status="delivered") for n in reversed(range(50))]
        outcomes = await asyncio.gather(one.write(*sent), two.write(*done))
        assert [sum(o) for o in outcomes] == [50, 50]
        stored = {(r["status"], r["parts"], r["updated_at"]) for r in await one.history()}
    assert stored == {(5, 2, at(2))}


async def test_a_later_report_updates_both_rows(store):
    """What a later report tells replaces what was known; what it does not tell is kept."""
    await store.write(report("m1", kind="call", status="ongoing", cost=100, message="kept"))
    later = report("m1", kind="call", updated=at(2), status="success", duration=60, cost=200)
    assert await store.write(later) == (0, 1, 0)
    [traffic], [history] = await store.traffic(), await store.history()
    assert (traffic["updated_at"], traffic["duration"]) == (at(2), 60)
    shown = [history[n] for n in ("updated_at", "status", "duration", "cost", "message")]
    assert shown == [at(2), 7, 60, 200, "kept"]


async def test_the_newest_wins_over_one_that_arrives_later(store):
    """An older report that was held up does not take the record back."""
    await store.write(report("m1"))
    assert await store.write(report("m1", updated=at(2), status="delivered")) == (0, 1, 0)
    assert await store.write(report("m1", updated=at(1), status="sent")) == (0, 0, 1)
    [history] = await store.history()
    assert (history["updated_at"], history["status"]) == (at(2), 5)


async def test_of_two_for_one_instant_the_further_state_wins(store):
    """Clocks tick in seconds: sent and delivered of the same second end as delivered."""
    for record, order in (("a", ("sent", "delivered")), ("b", ("delivered", "sent"))):
        for status in order:
            await store.write(report(record, updated=at(1), status=status))
    assert [r["status"] for r in await store.history()] == [5, 5]


async def test_a_first_report_after_an_update_fills_what_is_missing(store):
    """A delivery report that came first leaves room for what only the first report knows."""
    assert await store.write(report("m1", updated=at(1), status="delivered")) == (1, 0, 0)
    first = report("m1", ip="192.0.2.1", user_agent="curl", message="hello", parts=1)
    assert await store.write(first) == (0, 1, 0)
    assert await store.write(first) == (0, 0, 1)
    [traffic], [history] = await store.traffic(), await store.history()
    assert (traffic["ip"], traffic["user_agent"], traffic["updated_at"]) == (
        "192.0.2.1",
        "curl",
        at(1),
    )
    assert (history["message"], history["parts"], history["status"]) == ("hello", 1, 5)


async def test_an_account_seen_first_gets_the_default(store):
    """An unknown account is made with the policy's period; another spelling is another account."""
    await store.write(report("m1", account="new"), report("m2", account="New"))
    accounts = await store.superuser.fetch(
        "SELECT account_id, history_days, history_days_min, history_days_max FROM account"
        " ORDER BY account_id"
    )
    assert [tuple(r) for r in accounts] == [("New", 90, 90, 90), ("new", 90, 90, 90)]


async def test_one_id_at_two_times_or_of_two_accounts_is_two_records(store):
    """A record's identity is account, creation and id together."""
    reports = [
        report("m1"),
        report("m1", created=NOW - timedelta(microseconds=1)),
        report("m1", account="other"),
        report("M1"),
    ]
    assert await store.write(*reports) == (4, 0, 0)
    assert len(await store.traffic()) == len(await store.history()) == 4


async def test_one_instant_in_two_zones_is_one_record(store):
    """The zone a gateway writes its times in does not make another record."""
    written = ["2026-11-21T12:00:00Z", "2026-11-21T13:00:00+01:00", "2026-11-21T12:00:00"]
    assert await store.write(*[report("m1", created=text) for text in written]) == (1, 0, 2)


async def test_a_large_batch_of_many_settings_is_written(store):
    """Hundreds of accounts with as many periods, on both roads, land under their own expiry."""
    accounts = [f"a{n}" for n in range(120)]
    await store.write(*[report("m0", account=a) for a in accounts])
    for days, account in enumerate(accounts[:40], start=1):
        await store.set_history(days, account=account)
    await store.write(*[report("m1", account=a, message=a) for a in accounts])
    await store.write(*[report("m2", account=a, updated=at(1), message=a) for a in accounts])
    for record in ("m1", "m2"):
        stored = await store.superuser.fetch(
            "SELECT account_id, message, expires_at - h.created_at AS kept FROM history_record h"
            " JOIN account USING (account_key) WHERE id = $1",
            record,
        )
        assert {(r["account_id"], r["message"], r["kept"].days) for r in stored} == {
            (a, a, n if n <= 40 else 90) for n, a in enumerate(accounts, start=1)
        }
