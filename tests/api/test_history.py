"""Reading history: filters, pages, expiry, one record, and its erasure."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from tests.api.helpers import history, ids, refused, superuser, until
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HISTORY = "/v1/accounts/acme/history"
TICK = timedelta(microseconds=1)
# Query, the field that is refused, and why.
BAD_PARAMETERS = [
    ("kind=fax", "kind", "not_in_set"),
    ("kind=", "kind", "not_in_set"),
    ("direction=up", "direction", "not_in_set"),
    ("status=lost", "status", "not_in_set"),
    ("limit=0", "limit", "out_of_range"),
    ("limit=-1", "limit", "out_of_range"),
    ("limit=1001", "limit", "out_of_range"),
    ("limit=1.5", "limit", "wrong_type"),
    ("limit=1_0", "limit", "wrong_type"),
    ("limit=%D9%A3", "limit", "wrong_type"),
    ("limit=" + "9" * 5000, "limit", "wrong_type"),
    ("after=2026-02-30", "after", "bad_time"),
    ("before=tomorrow", "before", "bad_time"),
    ("before=0001-01-01T00:00:00%2B14:00", "before", "bad_time"),
    ("from=%00", "from", None),
    ("tag=a%00", "tag", None),
    ("cursor=", "cursor", "invalid"),
    ("cursor=%00", "cursor", None),
]


@pytest.fixture
async def keys(service):
    """The gateway's key and the customer's."""
    return await service.key("ingest"), await service.key("customer", "acme")


def ago(service, **period):
    """An instant before the present, as a record states it."""
    return (service.clock.now() - timedelta(**period)).isoformat()


async def test_filters_combine(service, keys):
    """Each filter restricts, and several restrict together; a number matches in any spelling."""
    ingest, customer = keys
    values = {
        "kind": ["sms", "mms"],
        "direction": ["incoming", "outgoing"],
        "status": ["sent", "failed"],
        "from": ["+46701234567", "Acme"],
        "to": ["+46709999999", "72456"],
        "tags": [["x", "y"], ["y"]],
    }
    records = [
        service.record(f"m{n}", created=ago(service, hours=n))
        | dict(zip(values, chosen, strict=True))
        for n, chosen in enumerate(itertools.product(*values.values()))
    ]
    assert (await service.post(ingest, *records))[0] == 200
    asked = {
        "kind=sms": lambda r: r["kind"] == "sms",
        "direction=incoming": lambda r: r["direction"] == "incoming",
        "status=failed": lambda r: r["status"] == "failed",
        "from=%2B46701234567": lambda r: r["from"].startswith("+"),
        "from=0046+70-123+45+67": lambda r: r["from"].startswith("+"),
        "from=+46701234567": lambda r: r["from"].startswith("+"),
        "to=724 56": lambda r: r["to"] == "72456",
        "tag=x": lambda r: "x" in r["tags"],
        "tag=y": lambda r: "y" in r["tags"],
        "after=2026-11-20T12:00:00Z": lambda r: utc(r["created"]) > utc("2026-11-20T12:00:00Z"),
        "before=2026-11-21T02:00:00+01:00": lambda r: utc(r["created"]) < utc("2026-11-21T01:00Z"),
    }
    for first, second in itertools.combinations(asked, 2):
        if first.split("=")[0] == second.split("=")[0]:
            continue
        wanted = [r["id"] for r in records if asked[first](r) and asked[second](r)]
        assert await ids(service, customer, f"{first}&{second}&limit=7") == wanted, (first, second)
    everything = "&".join(list(asked)[:4]) + "&to=72456&tag=x"
    assert len(await ids(service, customer, everything)) == 1
    assert await ids(service, customer, "from=Nobody") == []


async def test_a_bad_parameter_is_refused_by_its_name(service, keys):
    """The answer names the parameter and what would be right."""
    for query, field, reason in BAD_PARAMETERS:
        problem = await refused(service, 400, "GET", f"{HISTORY}?{query}", keys[1])
        assert problem["field"] == field, query
        assert reason in (None, problem["reason"]), query


async def test_the_calendars_ends_are_no_failure(service, keys):
    """The first and the last instant that can be written are answered like any other."""
    ingest, customer = keys
    await service.post(ingest, service.record())
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    assert await ids(service, customer, f"before={first}") == []
    assert await ids(service, customer, f"after={last}") == []
    assert await ids(service, customer, f"after={first}&before={last}") == ["m1"]


async def test_after_and_before_are_exclusive_to_the_microsecond(service, keys):
    """A record at the very instant is in neither half; one beside it is."""
    ingest, customer = keys
    at = service.clock.now() - timedelta(hours=1)
    await service.post(
        ingest,
        *[service.record(f"m{n}", created=(at + n * TICK).isoformat()) for n in (-1, 0, 1)],
    )
    text = at.isoformat().replace("+00:00", "Z")
    assert await ids(service, customer, f"after={text}") == ["m1"]
    assert await ids(service, customer, f"before={text}") == ["m-1"]


async def test_the_newest_come_first_and_ties_by_id(service, keys):
    """Order is (created, id), newest first, whatever the order of arrival and the page size."""
    ingest, customer = keys
    identities = [(ago(service, days=day), f"m{n}") for day in (0, 1, 2, 30, 59) for n in range(7)]
    for created, record in sorted(identities, key=lambda i: i[1]):
        await service.post(ingest, service.record(record, created=created))
    wanted = [i for _, i in sorted(identities, reverse=True)]
    for limit in (1, 2, 7, 8, 34, 35, 36, 1000):
        found = await history(service, customer, f"limit={limit}")
        assert [r["id"] for r in found] == wanted, limit
        assert len({(r["created"], r["id"]) for r in found}) == 35


async def test_paging_loses_and_repeats_nothing_while_the_list_changes(service, keys):
    """What was there all the time is seen exactly once, while others are written and erased."""
    ingest, customer = keys
    created = ago(service, hours=1)
    steady = [service.record(f"s{n:03}", created=created) for n in range(60)]
    going = [service.record(f"t{n:03}", created=created) for n in range(60)]
    await service.post(ingest, *steady, *going)
    seen = []
    cursor = ""
    for page_number in itertools.count():
        _, page = await service.call("GET", f"{HISTORY}?limit=7{cursor}", customer)
        seen += [r["id"] for r in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        await asyncio.gather(
            service.call("DELETE", f"{HISTORY}/t{page_number:03}", customer),
            # The last one shown goes: the place in the list is not lost with it.
            service.call("DELETE", f"{HISTORY}/{seen[-1]}", customer)
            if seen[-1].startswith("t")
            else asyncio.sleep(0),
            service.post(
                ingest,
                service.record(f"s{page_number:03}x", created=created),
                service.record(f"new{page_number}"),
                service.record(f"old{page_number}", created=ago(service, days=page_number + 1)),
            ),
        )
    assert len(seen) == len(set(seen))
    assert {r["id"] for r in steady} <= set(seen)


async def test_a_row_is_invisible_from_the_instant_it_expires(service, keys):
    """Visible one microsecond before expires_at, invisible at it: in pages, by id, to erasure."""
    ingest, customer = keys
    await service.post(ingest, service.record("m1"), service.record("m2"))
    expires = service.clock.now() + timedelta(days=90)
    one = f"{HISTORY}/m1"
    for at, visible in ((expires - TICK, True), (expires, False), (expires + TICK, False)):
        service.clock.set(at)
        assert bool(await ids(service, customer)) is visible
        assert (await service.call("GET", one, customer))[0] == (200 if visible else 404)
        counted = await service.call(
            "PUT",
            "/v1/accounts/acme/settings?dry_run=true",
            customer,
            json={"history": {"enabled": False}},
        )
        assert counted[1]["rows_hidden"] == (2 if visible else 0)
    assert (await service.call("DELETE", one, customer))[0] == 404


async def test_a_page_says_where_the_next_one_is(service, keys):
    """Besides the cursor a Link header leads on, with the filters as they were."""
    ingest, customer = keys
    await service.post(ingest, *[service.record(f"m{n}") for n in range(3)])
    async with service.http.get(
        f"{service.url}{HISTORY}?limit=2&kind=sms&from=Acme",
        headers={"Authorization": f"Bearer {customer}"},
    ) as response:
        link = str(response.links["next"]["url"])
    assert "kind=sms" in link
    status, page = await service.call("GET", link.removeprefix(service.url), customer)
    assert (status, [r["id"] for r in page["data"]], page["next"]) == (200, ["m0"], None)


async def test_an_id_used_again_shows_its_newest_record(service, keys):
    """A gateway may count from one again: the newest is shown, an erasure takes them all."""
    ingest, customer = keys
    for days in (3, 1, 2):
        await service.post(ingest, service.record(created=ago(service, days=days)))
    _, shown = await service.call("GET", f"{HISTORY}/m1", customer)
    assert utc(shown["created"]) == service.clock.now() - timedelta(days=1)
    _, receipt = await service.call("DELETE", f"{HISTORY}/m1", customer)
    assert receipt["erased"] == [{"data_class": "history_record", "rows": 3}]
    assert await ids(service, customer) == []


async def nothing_moves(connection):
    """Whether all changed settings are carried out."""
    return await connection.fetchval("SELECT count(*) FROM history_move") == 0


async def test_a_receipt_tells_of_the_trace_that_a_moved_row_left(service, keys):
    """A row that stood under a longer setting left its bytes in that partition."""
    ingest, customer = keys
    now = service.clock.now()
    await service.post(ingest, service.record())
    for days in (365, 20):
        await service.call(
            "PUT", "/v1/accounts/acme/settings", customer, json={"history": {"days": days}}
        )
        async with superuser(service) as connection:
            await until(lambda: nothing_moves(connection))
    _, receipt = await service.call("DELETE", f"{HISTORY}/m1", customer)
    assert utc(receipt["last_trace_gone_by"]) == now + timedelta(days=366, hours=1)


async def test_an_erasure_gives_a_receipt(service, keys):
    """What went, when its last trace goes, what the law keeps, until when and on what basis."""
    ingest, customer = keys
    await service.post(ingest, service.record(), service.record("m2"))
    now = service.clock.now()
    status, receipt = await service.call("DELETE", f"{HISTORY}/m1", customer)
    assert status == 200
    assert receipt["receipt"]
    assert utc(receipt["erased_at"]) == now
    assert receipt["erased"] == [{"data_class": "history_record", "rows": 1}]
    assert utc(receipt["last_trace_gone_by"]) == now + timedelta(days=91, hours=1)
    [law] = receipt["remains"]
    assert (law["data_class"], utc(law["until"])) == ("traffic_record", now + timedelta(days=60))
    assert law["legal_basis"]
    assert (await service.call("GET", f"{HISTORY}/m1", customer))[0] == 404
    assert (await service.call("DELETE", f"{HISTORY}/m1", customer))[0] == 404
    assert await ids(service, customer) == ["m2"]
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM traffic_record") == 2
        ledger = await connection.fetch("SELECT data_class, reason, rows, held FROM purge_ledger")
    assert [tuple(r) for r in ledger] == [("history_record", "erased", 1, 0)]


async def test_after_the_legal_period_nothing_remains(service, keys):
    """When the law's own time has passed the receipt says that nothing is left."""
    ingest, customer = keys
    await service.post(ingest, service.record())
    service.clock.advance(timedelta(days=60))
    _, receipt = await service.call("DELETE", f"{HISTORY}/m1", customer)
    assert receipt["remains"] == []


async def test_no_record_of_another_account_is_found(service, keys):
    """An id of another account is not found, and not erased."""
    ingest, customer = keys
    await service.post(ingest, service.record("m1", account="other"))
    for method in ("GET", "DELETE"):
        problem = await refused(service, 404, method, f"{HISTORY}/m1", customer)
        assert problem["code"] == "not_found"
    other = await service.key("customer", "other")
    assert await ids(service, other, account="other") == ["m1"]
