"""Monthly reports: what the statistics say of a month, late records included until it is final."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import msgspec
import pytest

from tests.store.helpers import opened, report
from trafficlog.errors import ClockJumpError, NotFoundError
from trafficlog.reports import Totals
from trafficlog.store.accounts import Accounts
from trafficlog.store.reports import Reports
from trafficlog.store.retention import Retention
from trafficlog.store.usage import Statistics, Unit

OCTOBER = date(2026, 10, 1)
# Records of October are taken up to 60 days after its end.
ENDED = datetime(2026, 11, 1, tzinfo=UTC)
GONE = ENDED + timedelta(days=60)
FINAL = GONE + timedelta(days=1)
MINUTE = timedelta(minutes=1)


def october(record_id, day=20, **fields):
    """A report of a record created in October, or at another time that is given."""
    created = fields.pop("created", datetime(2026, 10, day, 12, tzinfo=UTC))
    made = report(record_id, **{"status": "sent"} | fields)
    return msgspec.structs.replace(made, created=created)


async def run(store, now, *, roll_up=True, **settings):
    """The job's round; of how many accounts' months it saw to."""
    async with Retention(store.dsn, store.database.config) as retention:
        if roll_up:
            await retention.roll_up_usage()
        return await retention.make_reports(now, guard_clock=False)


async def read(store, month=OCTOBER, account="acme"):
    """The report of a month; None when there is none."""
    try:
        return await Reports(store.database).read(await store.account_key(account), month)
    except NotFoundError:
        return None


async def listed(store, account="acme"):
    """The months that an account has reports of."""
    found = await Reports(store.database).list(await store.account_key(account))
    return [each.month for each in found]


def lines(found):
    """(kind, direction, status, records, parts, seconds, cost) of a report."""
    return [
        (x.kind, x.direction, x.status, x.used.records, x.used.parts, x.used.seconds, x.used.cost)
        for x in found.lines
    ]


async def used(store, account="acme"):
    """What the statistics say of October, in the same form."""
    key = await store.account_key(account)
    last = date(2026, 10, 31)
    usage = await Statistics(store.database).usage(key, Unit.MONTH, OCTOBER, last)
    return [(u.kind, u.direction, u.status, u.records, u.parts, u.seconds, u.cost) for u in usage]


async def test_a_report_is_the_sum_of_what_was_posted(store):
    """By kind, direction and status, by day, and in all; of the month's days in UTC alone."""
    edge = timedelta(microseconds=1)
    await store.write(
        october("m1", day=1, parts=2, cost=3500),
        october("m2", parts=1, cost=1750),
        october("c1", kind="call", direction="incoming", status="success", duration=61),
        october("first", created=datetime(2026, 10, 1, tzinfo=UTC), status="delivered"),
        october("last", created=ENDED - edge, status="delivered", parts=3),
        october("before", created=datetime(2026, 10, 1, tzinfo=UTC) - edge),
        october("after", created=ENDED),
    )
    assert await run(store, ENDED - edge) == 1
    assert await listed(store) == [date(2026, 9, 1)]
    assert await run(store, ENDED) == 1
    found = await read(store)
    assert lines(found) == [
        ("sms", "outgoing", "sent", 2, 3, 0, 5250),
        ("sms", "outgoing", "delivered", 2, 3, 0, 0),
        ("call", "incoming", "success", 1, 0, 61, 0),
    ]
    assert lines(found) == await used(store)
    assert found.total == Totals(5, 6, 61, 5250)
    assert [(d.day.day, d.used) for d in found.days] == [
        (1, Totals(2, 2, 0, 3500)),
        (20, Totals(2, 1, 61, 1750)),
        (31, Totals(1, 3, 0, 0)),
    ]
    assert (found.made_at, found.final, found.final_from) == (ENDED, False, FINAL)
    assert await listed(store) == [OCTOBER, date(2026, 9, 1)]


async def test_late_records_and_later_states_are_counted_until_the_report_is_final(store):
    """Whatever of the month is stored at all is in its report, which says when it was made."""
    await store.write(october("m1", day=31))
    await run(store, ENDED)
    assert await run(store, ENDED + MINUTE) == 0
    late = ENDED + timedelta(days=50)
    await store.write(october("m2", day=31, parts=1, cost=100), now=late)
    state = october("m1", day=31, status="delivered", cost=3500)
    await store.write(msgspec.structs.replace(state, updated=late), now=late)
    assert await run(store, late) == 1
    found = await read(store)
    assert (
        lines(found)
        == await used(store)
        == [
            ("sms", "outgoing", "sent", 1, 1, 0, 100),
            ("sms", "outgoing", "delivered", 1, 0, 0, 3500),
        ]
    )
    assert (found.made_at, found.final) == (late, False)
    assert await run(store, FINAL - MINUTE) == 0
    assert not (await read(store)).final
    assert await run(store, FINAL) == 1
    assert (await read(store)).final
    assert await run(store, FINAL + MINUTE) == 0
    assert lines(await read(store)) == lines(found)


async def test_what_is_not_summed_up_yet_counts_once(store):
    """A report covers all that was acknowledged before it; summing up later adds nothing."""
    await store.write(october("m1"))
    await run(store, ENDED)
    await store.write(october("m2"))
    # Some other change has the report made anew before the new record is summed up.
    await store.superuser.execute("INSERT INTO usage_changed VALUES ($1, 1)", OCTOBER)
    await run(store, ENDED + MINUTE, roll_up=False)
    assert (await read(store)).total.records == 2
    await run(store, ENDED + 2 * MINUTE)
    found = await read(store)
    assert (found.total.records, found.made_at) == (2, ENDED + MINUTE)


async def test_a_deleted_report_does_not_come_back(store):
    """Not by the next round, late records or its becoming final; nothing of it stays."""
    await store.write(october("m1", cost=100))
    await run(store, ENDED)
    reports, key = Reports(store.database), await store.account_key()
    await reports.delete(key, OCTOBER, ENDED + MINUTE)
    row = await store.superuser.fetchrow("SELECT * FROM monthly_report")
    assert (row["content"], row["currency"], row["deleted_at"]) == (None, None, ENDED + MINUTE)
    assert await listed(store) == []
    with pytest.raises(NotFoundError):
        await reports.delete(key, OCTOBER, ENDED + 2 * MINUTE)
    await store.write(october("m2"))
    for now in (ENDED + 3 * MINUTE, FINAL, FINAL + MINUTE):
        await run(store, now)
        assert await read(store) is None
    assert await used(store) != []
    [entry] = [e for e in await ledger(store) if e["data_class"] == "monthly_report"]
    assert (entry["object"], entry["reason"], entry["rows"], entry["held"]) == (
        "report",
        "erased",
        1,
        0,
    )


async def ledger(store):
    """All that was destroyed."""
    return await store.superuser.fetch("SELECT * FROM purge_ledger ORDER BY seq")


async def test_off_means_no_new_report_and_the_old_ones_stay_right(store):
    """What is there stays and still counts late records; the month that ends while off has none."""
    accounts = Accounts(store.database)
    await store.write(october("m1"))
    await run(store, ENDED)
    key = await store.account_key()
    in_november = ENDED + timedelta(days=9)
    await accounts.change(key, monthly_reports=False, now=in_november, by="test")
    await store.write(october("n1", created=in_november), october("m2"), now=in_november)
    in_december = datetime(2026, 12, 3, tzinfo=UTC)
    await run(store, in_december)
    assert await listed(store) == [OCTOBER]
    assert (await read(store)).total.records == 2
    # On again: months from now on, not the one that ended meanwhile, late records or not.
    await accounts.change(key, monthly_reports=True, now=in_december, by="test")
    await store.write(
        october("n2", created=in_november), october("d1", created=in_december), now=in_december
    )
    await run(store, datetime(2027, 1, 1, tzinfo=UTC))
    assert await listed(store) == [date(2026, 12, 1), OCTOBER]


async def test_months_missed_are_made_when_the_service_is_back(store):
    """A service that was down over two ends of months makes both reports at its next round."""
    await store.write(
        october("m1", created=datetime(2026, 10, 31, tzinfo=UTC)),
        october("n1", created=datetime(2026, 11, 21, tzinfo=UTC)),
    )
    back = datetime(2027, 3, 5, tzinfo=UTC)
    await run(store, back)
    assert await listed(store) == [date(2026, 11, 1), OCTOBER]
    assert (await read(store)).final
    # Its last records have expired, so nothing can come any more: 30 November, 60 days and one.
    assert (await read(store, date(2026, 11, 1))).final


async def test_reports_survive_what_becomes_of_the_records(store):
    """An erasure, history turned off and a closed account leave reports as they are."""
    await store.write(october("m1"), october("m2"))
    await run(store, ENDED)
    before = await read(store)
    await store.erase("m1", now=ENDED)
    key = await store.account_key()
    await store.set_history(None, now=ENDED)
    async with Retention(store.dsn, store.database.config) as retention:
        await retention.move(ENDED + MINUTE, guard_clock=False)
    await Accounts(store.database).close(key, ENDED + MINUTE, "test")
    await run(store, ENDED + MINUTE)
    assert await store.history() == []
    assert await read(store) == before


async def test_a_month_without_usage_has_no_report(store):
    """Nor has an account that was made and never used."""
    await store.write(report("m1"))
    await Accounts(store.database).create("idle", ENDED, None)
    await run(store, ENDED)
    assert await listed(store) == []
    assert await listed(store, "idle") == []


async def test_accounts_are_taken_in_steps_and_kept_apart(database):
    """More accounts than one transaction takes: each gets its own report and sees no other."""
    async with opened(database, report_accounts_max=2) as store:
        await store.write(*(october(f"m{n}", account=f"a{n}", parts=n) for n in range(5)))
        assert await run(store, ENDED) == 5
        transactions = "SELECT count(DISTINCT xmin::text) FROM monthly_report"
        assert await store.superuser.fetchval(transactions) == 3
        for n in range(5):
            found = await read(store, account=f"a{n}")
            assert (found.account, found.total.parts) == (f"a{n}", n)
        assert await run(store, FINAL) == 5
        assert (await read(store, account="a4")).final


async def test_the_database_itself_keeps_reports_apart(store):
    """Without any condition in the query a customer's connection sees its own reports alone."""
    await store.write(october("m1"), october("x1", account="other"))
    await run(store, ENDED)
    mine = await store.account_key()
    async with store.database.as_account(mine) as connection:
        found = await connection.fetch("SELECT account_key FROM trafficlog.monthly_report")
        assert [row["account_key"] for row in found] == [mine]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM trafficlog.monthly_report")


async def test_a_round_that_is_cut_off_is_made_up_for(store):
    """A kill in the middle leaves no report and no gap: the next round makes it whole."""
    await store.write(october("m1"))
    async with Retention(store.dsn, store.database.config) as retention:
        await retention.roll_up_usage()
        transaction = retention.connection.transaction()
        await transaction.start()
        assert await retention.make_reports(ENDED, guard_clock=False) == 1
        await transaction.rollback()
    assert await read(store) is None
    assert await run(store, ENDED) == 1
    assert (await read(store)).total.records == 1


async def test_two_instances_at_once_make_each_report_once(store):
    """Whoever comes second waits for the first and finds nothing left to do."""
    await store.write(*(october(f"m{n}", account=f"a{n}") for n in range(20)))
    await run(store, ENDED - MINUTE)
    made = await asyncio.gather(
        *(run(store, ENDED, roll_up=False) for _ in range(4)), return_exceptions=True
    )
    counts = [each for each in made if isinstance(each, int)]
    assert sum(counts) == 20
    assert await store.superuser.fetchval("SELECT count(*) FROM monthly_report") == 20


async def test_a_clock_that_jumped_makes_no_report(store):
    """A clock that is months ahead would end a month before its time."""
    await store.write(october("m1"))
    async with Retention(store.dsn, store.database.config) as retention:
        await retention.run(ENDED - timedelta(days=5), guard_clock=True)
        await retention.roll_up_usage()
        with pytest.raises(ClockJumpError):
            await retention.make_reports(ENDED, guard_clock=True)
        assert await read(store) is None
        assert await retention.make_reports(ENDED, guard_clock=False) == 1


async def test_a_report_has_no_personal_data(store):
    """No number, address, text, tag or id of any record is in what is kept of a month."""
    secrets = {
        "from_": "+46700000001",
        "to": "+46700000002",
        "message": "meet-me-there",
        "ip": "203.0.113.77",
        "user_agent": "agent-007",
        "owner": "owner-x",
        "tags": ["tag-x"],
    }
    fields = {name.replace("from_", "from"): value for name, value in secrets.items()}
    await store.write(october("secret-id", **fields))
    await run(store, ENDED)
    kept = await store.superuser.fetchval("SELECT r::text FROM monthly_report r")
    for value in ("secret-id", *secrets.values()):
        assert str(value).strip("[]'") not in kept


async def test_a_report_names_the_currency_it_was_made_in(store):
    """A change of the currency later on does not turn one money into another."""
    accounts = Accounts(store.database)
    await store.write(october("m1", cost=100), october("n1", cost=100, account="other"))
    key = await store.account_key()
    await accounts.describe(key, name="Ö & Co", currency="SEK", now=ENDED, by="test")
    await run(store, FINAL)
    await accounts.describe(key, name=None, currency="EUR", now=FINAL, by="test")
    found = await read(store)
    assert (found.currency, found.display_name) == ("SEK", "Ö & Co")
    # Where none was known it is the account's, once that is known.
    assert (await read(store, account="other")).currency is None
    other = await store.account_key("other")
    await accounts.describe(other, name=None, currency="EUR", now=FINAL, by="test")
    assert (await read(store, account="other")).currency == "EUR"
