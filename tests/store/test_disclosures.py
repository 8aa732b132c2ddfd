"""Disclosures: rows of the legal record under retention, each reading in the access log."""

from datetime import timedelta

import asyncpg
import orjson
import pytest
from msgspec.structs import replace

from tests.serving import utc
from tests.sql.roles import as_role
from tests.store.helpers import NOW, report
from trafficlog.config import Config
from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.selector import Selector
from trafficlog.store.access_log import AccessLog
from trafficlog.store.database import Database
from trafficlog.store.disclosures import DisclosureRequest, Disclosures, LegalPosition
from trafficlog.store.retention import Retention

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
WEEK = {"created_from": NOW - 7 * DAY, "created_to": NOW + DAY}


def asked(reason="order of the court", case_ref="PO-17", **selector):
    """A request, for the last week where nothing else is said."""
    return DisclosureRequest(Selector(**(WEEK | selector)), reason, case_ref)


async def page(store, request, now=NOW, limit=1000, start=None):
    """One page."""
    return await Disclosures(store.database).page(
        request, by="key:officer", now=now, limit=limit, start=start
    )


async def ids(store, request, now=NOW, limit=1000):
    """The ids of all pages, in order."""
    found, start = [], None
    while True:
        got = await page(store, request, now, limit, start)
        found += [record.id for record in got.records]
        if got.next is None:
            return found
        start = got.next


async def noted(store):
    """Every line of the access log, oldest first."""
    return [
        dict(row) for row in await store.superuser.fetch("SELECT * FROM access_log ORDER BY at")
    ]


async def test_each_selector_finds_its_rows_and_all_that_is_kept_of_them(store):
    """Account, record, number on either side, IP; numbers and IPs in the form of ingest."""
    await store.write(
        report("m1", from_="0046 70-111 11 11", ip="2001:DB8:0::1", user_agent="ua", duration=5),
        report("m2", from_="Acme", to="+46701111111"),
        report("m1", account="other", to="+4670222", kind="call"),
    )
    for selector, expected in (
        ({"account": "acme"}, ["m1", "m2"]),
        ({"account": "other"}, ["m1"]),
        ({"account": "acme", "record": "m1"}, ["m1"]),
        ({"number": "0046 (70) 111-11-11"}, ["m1", "m2"]),
        ({"number": "acme"}, []),
        ({"ip": "2001:db8::1"}, ["m1"]),
        ({"ip": "2001:0DB8::0001"}, ["m1"]),
        ({"ip": "10.0.0.1"}, []),
    ):
        assert await ids(store, asked(**selector)) == expected, selector
    [record] = (await page(store, asked(ip="2001:db8::1"))).records
    assert (record.account, record.kind, record.direction) == ("acme", "sms", "outgoing")
    assert (record.sender, record.recipient) == ("+46701111111", "+46701234567")
    assert (record.user_agent, record.duration) == ("ua", 5)
    assert (record.created, record.expires) == (NOW, NOW + 60 * DAY)


async def test_a_window_has_its_start_and_not_its_end(store):
    """At both bounds, a microsecond before and after."""
    for number, created in enumerate((-TICK, 0 * TICK, TICK)):
        await store.write(report(f"m{number}", created=NOW - DAY + created))
    for start, end, expected in (
        (NOW - DAY, NOW, ["m1", "m2"]),
        (NOW - DAY - TICK, NOW - DAY, ["m0"]),
        (NOW - DAY + TICK, NOW, ["m2"]),
        (NOW - 2 * DAY, NOW - DAY + TICK, ["m0", "m1"]),
    ):
        assert (
            await ids(store, asked(account="acme", created_from=start, created_to=end)) == expected
        )


async def test_what_is_expired_is_not_disclosed_though_it_is_still_there(store):
    """From the instant of expiry on, before the partition has gone."""
    await store.write(report("m1"))
    for now, expected in ((60 * DAY - TICK, ["m1"]), (60 * DAY, []), (60 * DAY + TICK, [])):
        assert await ids(store, asked(account="acme"), NOW + now) == expected
    assert len(await store.traffic()) == 1


async def test_a_changed_period_does_not_hide_what_was_stored_under_another(store):
    """The rows of each policy are found by their own expiry, longer or shorter than today's."""
    await store.write(report("m1"))
    await store.superuser.executemany(
        "SELECT set_policy('traffic_record', $1, $2, 'statute', 'test', $3, $3)",
        [(NOW + DAY, 24, NOW), (NOW + 2 * DAY, 200 * 24, NOW)],
    )
    await store.writer.start()
    for number in (1, 2):
        created = NOW + number * DAY
        await store.write(replace(report(f"n{number}"), created=created), now=created)
    window = {"created_from": NOW, "created_to": NOW + 3 * DAY}
    everything = asked(account="acme", **window)
    assert await ids(store, everything, NOW + 2 * DAY - TICK) == ["m1", "n1", "n2"]
    assert await ids(store, everything, NOW + 2 * DAY) == ["m1", "n2"]
    assert await ids(store, everything, NOW + 201 * DAY) == ["n2"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 1000])
async def test_pages_lose_and_repeat_nothing_where_times_are_equal(store, limit):
    """The order is by creation, account and id, and the pages together are the whole."""
    same = NOW - 3 * DAY
    for account in ("acme", "other"):
        await store.write(*[report(f"m{n}", account=account, created=same) for n in range(3)])
    await store.write(report("a", created=same - TICK), report("z", created=NOW))
    expected = ["a", "m0", "m1", "m2", "m0", "m1", "m2", "z"]
    assert await ids(store, asked(number="+46701234567"), limit=limit) == expected


async def test_what_comes_or_goes_between_pages_moves_no_other_row(store):
    """The place of a page is that of a row, not a count."""
    await store.write(*[report(f"m{n}", created=NOW + timedelta(minutes=n)) for n in range(4)])
    request = asked(account="acme")
    first = await page(store, request, limit=2)
    assert [r.id for r in first.records] == ["m0", "m1"]
    assert first.next == LegalPosition(NOW + timedelta(minutes=1), 1, "m1")
    await store.write(report("before"), report("after", created=NOW + timedelta(seconds=90)))
    await store.superuser.execute("DELETE FROM traffic_record WHERE id IN ('m1', 'm2')")
    second = await page(store, request, limit=2, start=first.next)
    assert [r.id for r in second.records] == ["after", "m3"]


async def test_each_reading_is_in_the_access_log_with_or_without_rows(store):
    """Who, when, what, why, in which case and how many; kept a year, as its policy says."""
    await store.write(*[report(f"m{n}") for n in range(3)])
    assert await ids(store, asked(account="acme", record="m0")) == ["m0"]
    assert await ids(store, asked(number="0046 700", reason="r", case_ref="c")) == []
    assert len(await ids(store, asked(ip=None, account="acme"), limit=2)) == 3
    with pytest.raises(NotFoundError):
        await ids(store, asked(account="nobody"))
    entries = await noted(store)
    window = "created 2026-11-14 12:00:00+00 to 2026-11-22 12:00:00+00"
    assert {(e["subject"], e["rows"]) for e in entries} == {
        (f"record acme/m0, {window}", 1),
        (f"number +46700, {window}", 0),
        (f"account acme, {window}", 2),
        (f"account acme, {window}, continued", 1),
        (f"account nobody, {window}", 0),
    }
    assert {(e["at"], e["actor"], e["action"]) for e in entries} == {
        (NOW, "key:officer", "disclosure")
    }
    assert {(e["reason"], e["case_ref"]) for e in entries} == {
        ("order of the court", "PO-17"),
        ("r", "c"),
    }
    assert {e["expires_at"] for e in entries} == {NOW + 365 * DAY}


BAD = [
    ({"reason": " "}, "reason"),
    ({"case_ref": ""}, "case_ref"),
    ({"created_from": None}, "created_from"),
    ({"created_to": None}, "created_to"),
    ({"created_from": NOW - 30 * DAY - TICK}, "created_to"),
    ({"number": "1", "account": None, "ip": "x"}, "selector"),
]


@pytest.mark.parametrize(("change", "field"), BAD, ids=lambda value: str(value)[:40])
async def test_a_request_that_is_not_acceptable_reads_nothing(store, change, field):
    """A window that is too long, or no reason: refused by the field, and nothing to note."""
    await store.write(report("m1"))
    with pytest.raises(InvalidValueError) as caught:
        await page(store, asked(**({"account": "acme"} | change)))
    assert caught.value.field == field
    assert await noted(store) == []


async def test_a_window_may_be_as_long_as_the_setting_says(store):
    """31 days by default, to the microsecond."""
    start = NOW - 30 * DAY
    request = asked(account="acme", created_from=start, created_to=start + 31 * DAY)
    await store.write(report("m1"))
    assert await ids(store, request) == ["m1"]
    async with Database(store.dsn, Config(disclosure_days_max=2)) as database:
        given = {"by": "key:officer", "now": NOW, "limit": 1}
        window = {"account": "acme", "created_to": start + 2 * DAY}
        await Disclosures(database).page(asked(created_from=start, **window), **given)
        with pytest.raises(InvalidValueError, match="at most 2 days"):
            await Disclosures(database).page(asked(created_from=start - TICK, **window), **given)


DISCLOSE = (
    "SELECT * FROM disclose($1, NULL, $2, NULL, '2026-11-01Z', '2026-11-30Z', NULL, NULL, NULL, 10,"
    " '2026-11-22Z', $3, $4, $5)"
)


async def test_the_database_refuses_a_disclosure_without_selector_reason_or_case(store):
    """Whoever calls the function, by whatever road."""
    async with as_role(store.dsn, "trafficlog_officer") as officer:
        for values in (
            (None, None, "me", "r", "c"),
            ("acme", "+467", "me", "r", "c"),
            ("acme", None, None, "r", "c"),
            ("acme", None, "me", " ", "c"),
            ("acme", None, "me", None, "c"),
            ("acme", None, "me", "r", ""),
        ):
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await officer.fetch(DISCLOSE, *values)
        assert await officer.fetch(DISCLOSE, "acme", None, "me", "r", "c") == []
    assert [e["actor"] for e in await noted(store)] == ["me"]


async def test_a_sealed_day_is_read_by_its_look_ups_and_an_open_one_by_its_key(store):
    """Each selector has an index on a sealed partition, and nothing outside the window is read."""
    await store.write(report("m1"), report("x", account="a2"))
    await store.superuser.execute(
        "INSERT INTO account (account_id, created_at, history_days_min, history_days_max)"
        " SELECT 'b' || n, now(), 90, 90 FROM generate_series(1, 60) n"
    )
    # An open day, a sealed one, and one that is sealed and lies outside of the window.
    open_day = NOW + 3 * DAY
    await store.superuser.executemany(
        "SELECT ensure_partition('traffic_record', $1::timestamptz, $2)",
        [(utc(f"2027-01-{d}T00:00"), utc(f"2027-01-{d + 1}T00:00")) for d in (19, 20, 23)],
    )
    for day in (NOW, open_day, NOW - DAY):
        await store.superuser.execute(
            "INSERT INTO traffic_record (account_key, created_at, expires_at, kind, direction, id,"
            " sender, recipient, ip) SELECT 1 + n % 60, c, c + interval '60 days', 1, 2, 'i' || n,"
            " '+461' || n % 900, '+462' || n % 900, '10.0.0.' || n % 200 FROM (SELECT n,"
            " $1::timestamptz + n * interval '1 second' AS c FROM generate_series(1, 3000) n) s",
            day,
        )
    async with Retention(store.dsn, store.database.config) as retention:
        await retention.wait_for_lead()
        assert (await retention.run(NOW + 3 * DAY, guard_clock=False)).failures == []
    await store.superuser.execute("ANALYZE traffic_record")
    window = ("2026-11-21T12:00:00Z", "2026-11-25T00:00:00Z")
    sealed, opened = "traffic_record_20270120", "traffic_record_20270123"
    for selector, suffixes in (
        (("b7", "i8", None, None), {"by_id"}),
        (("b7", None, None, None), {"by_account"}),
        ((None, None, "+46177", None), {"by_sender", "by_recipient"}),
        ((None, None, None, "10.0.0.7"), {"by_ip"}),
    ):
        names = await plans_of(store.superuser, selector, window)
        touched = {name[: len(sealed)] for name in names if name.startswith("traffic_record")}
        assert touched <= {sealed, "traffic_record_20270121", "traffic_record_20270122", opened}
        assert {n for n in names if n.startswith(sealed)} == {f"{sealed}_{s}" for s in suffixes}
        assert {n for n in names if n.startswith(opened)} <= {f"{opened}_pkey", opened}


async def plans_of(superuser, selector, window):
    """Every index that the statements of one disclosure use, and the tables read without one."""
    plans = []

    def listen(_, message):
        plans.append(message.message)

    await superuser.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
        " SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = json;"
        " SET auto_explain.log_level = notice"
    )
    superuser.add_log_listener(listen)
    found = await superuser.fetch(
        "SELECT * FROM disclose($1, $2, $3, $4, $5, $6, NULL, NULL, NULL, 1000, $7,"
        " 'me', 'r', 'c')",
        *selector,
        *map(utc, window),
        NOW + 3 * DAY,
    )
    superuser.remove_log_listener(listen)
    await superuser.execute("SET auto_explain.log_min_duration = -1")
    assert found
    return set().union(*(used(orjson.loads(text[text.index("{") :])["Plan"]) for text in plans))


def used(node):
    """The names of the indexes in a plan, and of the tables that are read without one."""
    names = {node["Index Name"]} if "Index Name" in node else set()
    if node["Node Type"] == "Seq Scan":
        names.add(node["Relation Name"])
    return names.union(*(used(child) for child in node.get("Plans", [])))


async def entries(store, now=NOW, limit=1000, **window):
    """The subjects of all pages of the access log, in order."""
    found, start = [], None
    while True:
        got = await AccessLog(store.database).page(
            by="key:o", now=now, limit=limit, start=start, **window
        )
        found += got.entries
        if got.next is None:
            return found
        start = got.next


@pytest.mark.parametrize("limit", [1, 2, 1000])
async def test_the_access_log_is_read_newest_first(store, limit):
    """In pages that lose and repeat nothing where times are equal; within its bounds alone."""
    await store.write(report("m1"))
    times = [NOW, NOW + TICK, NOW + TICK, NOW + TICK, NOW + 2 * TICK]
    for number, at in enumerate(times):
        await ids(store, asked(account="acme", record=f"r{number}"), at)
    later = NOW + DAY
    got = [e for e in await entries(store, later, limit) if e.action == "disclosure"]
    assert [e.at for e in got] == times[::-1]
    assert len({e.subject for e in got}) == 5
    assert (got[0].actor, got[0].reason, got[0].case_ref) == (
        "key:officer",
        "order of the court",
        "PO-17",
    )
    for bounds, expected in (
        ({"after": NOW}, 4),
        ({"after": NOW + TICK}, 1),
        ({"before": NOW + 2 * TICK}, 4),
        ({"after": NOW, "before": NOW + TICK}, 0),
    ):
        got = await entries(store, later, limit, **bounds)
        assert sum(e.action == "disclosure" for e in got) == expected
    expired = NOW + 365 * DAY + TICK
    got = [e for e in await entries(store, expired, limit) if e.action == "disclosure"]
    assert [e.at for e in got] == times[:3:-1]


async def test_reading_the_access_log_is_in_it(store):
    """It names people, too: who looked at which part of it is noted like any other reading."""
    await entries(store)
    await entries(store, NOW + TICK, after=NOW - DAY)
    got = await entries(store, NOW + 2 * TICK)
    assert [(e.action, e.subject, e.rows) for e in got] == [
        ("access-log.read", f"access log from {NOW - DAY} to its end", 1),
        ("access-log.read", "access log from its start to its end", 0),
    ]
