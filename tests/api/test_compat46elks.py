"""History under ``/a1/``, as clients of 46elks read and delete it."""

import asyncio
import itertools
import json
import os
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import send, superuser
from tests.serving import utc
from trafficlog.compat46elks.pages import Reading
from trafficlog.compat46elks.times import parse_place, place, timestamp
from trafficlog.store.accounts import Accounts
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter, Position

NOW = "2026-11-21T12:00:00Z"
pytestmark = pytest.mark.service_now(NOW)
TICK = timedelta(microseconds=1)
STAMP = "%Y-%m-%dT%H:%M:%S.%f"
IDS = st.text("ABYZabyz0189._:@+~=-", min_size=1, max_size=64)


class Client:
    """A customer's client: Basic authentication, and every answer with its type."""

    def __init__(self, service, key, account="acme"):
        self.service = service
        self.headers = {"Authorization": aiohttp.encode_basic_auth(account, key)}

    async def ask(self, path, method="GET", **params):
        """Status and body of a request, which is JSON when it went well and text otherwise."""
        status, body, headers = await send(
            self.service, method, path, headers=self.headers, params=params
        )
        expected = "application/json" if status == 200 else "text/plain"
        assert headers["Content-Type"].startswith(expected), (path, status, body)
        return status, body

    async def pages(self, path="/a1/sms", as_it_is=lambda text: text, **params):
        """Every page of a list, by ``next`` as this client hands it back."""
        pages = []
        while True:
            status, answer = await self.ask(path, **params)
            assert status == 200, answer
            pages.append([row["id"] for row in answer["data"]])
            assert len(pages) < 500
            if "next" not in answer:
                return pages
            # Many clients take an empty page for the last.
            assert answer["data"]
            params["start"] = as_it_is(answer["next"])


def joined(pages):
    """All of several pages."""
    return list(itertools.chain.from_iterable(pages))


def by_datetime(text):
    """``next`` as a client hands it back that reads it as a time of microseconds."""
    return datetime.fromisoformat(text).strftime(STAMP)


@pytest.fixture
async def client(service):
    """A client of the account acme."""
    return Client(service, await service.key("customer", "acme"))


async def store(service, *records):
    """The service has these records."""
    status, answer = await service.post(await service.key("ingest"), *records)
    assert (status, answer["rejected"]) == (200, [])


def ago(service, **period):
    """A time before the clock's, as a record states it."""
    return (service.clock.now() - timedelta(**period)).isoformat()


async def test_an_sms_has_the_fields_that_46elks_gives_it(client, service):
    """Naive UTC times with six digits, costs as whole numbers; what is not known is absent."""
    await store(
        service,
        service.record(
            "out",
            created="2026-11-21T12:00:00.302+01:00",
            status="delivered",
            delivered="2026-11-21T11:00:04.5Z",
            parts=2,
            cost=7000,
            owner="sub1",
            tags=["flashsms", "login"],
        ),
        service.record(
            "in", created=ago(service, hours=2), direction="incoming", status="received"
        ),
        service.record("bare", created=ago(service, hours=3), dontlog=["message", "to"]),
    )
    _, answer = await client.ask("/a1/sms")
    assert answer == {
        "data": [
            {
                "id": "out",
                "created": "2026-11-21T11:00:00.302000",
                "direction": "outgoing",
                "from": "Acme",
                "to": "+46701234567",
                "message": "hello",
                "status": "delivered",
                "delivered": "2026-11-21T11:00:04.500000",
                "cost": 7000,
                "parts": 2,
                "flashsms": "yes",
            },
            {
                "id": "in",
                "created": "2026-11-21T10:00:00.000000",
                "direction": "incoming",
                "from": "Acme",
                "to": "+46701234567",
                "message": "hello",
                "parts": 1,
            },
            {
                "id": "bare",
                "created": "2026-11-21T09:00:00.000000",
                "direction": "outgoing",
                "from": "Acme",
                "parts": 1,
            },
        ]
    }
    assert await client.ask("/a1/sms/out") == (200, answer["data"][0])


async def test_a_call_and_an_mms_have_the_fields_that_46elks_gives_them(client, service):
    """Four states; a call that was not picked up has no start, no duration and no cost.

    An MMS has no images, which are not kept; each belongs to the sub-account that it names.
    """
    call = {"kind": "call", "message": ..., "cost": 3300, "duration": 12}
    states = {
        "success": "success",
        "failed": "failed",
        "busy": "busy",
        "no-answer": "failed",
        "ongoing": "ongoing",
    }
    for hours, status in enumerate(states):
        await store(
            service,
            service.record(
                status,
                created=ago(service, hours=hours),
                status=status,
                delivered=ago(service, minutes=1),
                **call,
            ),
        )
    _, answer = await client.ask("/a1/calls")
    assert {row["id"]: row["state"] for row in answer["data"]} == states
    assert answer["data"][0] == {
        "id": "success",
        "created": "2026-11-21T12:00:00.000000",
        "direction": "outgoing",
        "from": "Acme",
        "to": "+46701234567",
        "owner": "acme",
        "start": "2026-11-21T11:59:00.000000",
        "state": "success",
        "cost": 3300,
        "duration": 12,
        "actions": [],
        "legs": [],
    }
    for row in answer["data"]:
        if row["state"] in ("failed", "busy"):
            assert not {"start", "duration", "cost"} & row.keys()
    await store(service, service.record("m", kind="mms", cost=9000, owner="sub7", parts=3))
    assert await client.ask("/a1/mms/m") == (
        200,
        {
            "id": "m",
            "created": "2026-11-21T12:00:00.000000",
            "direction": "outgoing",
            "from": "Acme",
            "to": "+46701234567",
            "message": "hello",
            "images": [],
            "cost": 9000,
            "owner": "sub7",
        },
    )


async def test_a_path_may_be_written_in_any_case(client, service):
    """Clients write /SMS, /sms and /Me; ids are what they are.

    What is not there, under another kind or path, is not found; and nothing can be sent.
    """
    await store(service, service.record("MixedCase"))
    for path in ("/a1/sms", "/a1/SMS", "/A1/Sms", "/a1/MMS", "/a1/Calls", "/a1/Me", "/A1/ME"):
        assert (await client.ask(path))[0] == 200, path
    assert (await client.ask("/a1/SMS/MixedCase"))[0] == 200
    assert (await client.ask("/a1/SMS/mixedcase")) == (404, "Not found")
    for path in (
        *("/a1", "/a1/", "/a1/sms/", "/a1/sms/nothing", "/a1/numbers", "/a1/sms/MixedCase/media"),
        *("/a1/calls/MixedCase", "/a1/mms/MixedCase", "/a1/sms/%00", "/a1/sms/" + "a" * 3000),
        "/a1/<script>",
    ):
        assert await client.ask(path) == (404, "Not found"), path
    for method, path, allowed in (
        ("POST", "/a1/sms", "GET"),
        ("PUT", "/a1/SMS", "GET"),
        ("POST", "/a1/calls/c1", "DELETE, GET"),
        ("DELETE", "/a1/me", "GET"),
    ):
        status, body, headers = await send(service, method, path, headers=client.headers)
        assert (status, headers["Allow"]) == (405, allowed)
        assert body.startswith("This store keeps the history")


async def test_an_account_and_its_own_key_open_a1_and_nothing_else_does(client, service):
    """401 with the realm of 46elks for wrong pairs; 403 for keys that are not a customer's."""
    key = await service.key("customer", "acme")
    other = await service.key("customer", "other")
    encode = aiohttp.encode_basic_auth
    for authorization in (
        *(None, "", "Basic", "Basic ???", "Basic " + "A" * 5000, f"Bearer {key}", encode(key, "")),
        *(encode("acme", ""), encode("acme", "tl_wrong"), encode("acme", other)),
        *(encode("other", key), encode("ACME", key), encode("", key), encode("acme", key + "x")),
        encode("acme", "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")),
    ):
        headers = {} if authorization is None else {"Authorization": authorization}
        for path in ("/a1/sms", "/a1/Me", "/a1/whatever"):
            status, body, got = await send(service, "GET", path, headers=headers)
            assert status == 401, authorization
            assert got["WWW-Authenticate"] == 'Basic realm="46elks API"'
            assert got["Content-Type"].startswith("text/plain")
            assert "tl_" not in body
    for scope in ("ingest", "operator", "officer", "metrics"):
        status, _ = await Client(service, await service.key(scope)).ask("/a1/sms")
        assert status == 403, scope
    assert (await Client(service, key).ask("/a1/sms"))[0] == 200


async def test_two_accounts_see_their_own_rows_alone(client, service):
    """Each list, row and deletion is of the account whose key is shown."""
    other = Client(service, await service.key("customer", "other"), "other")
    await store(service, service.record("mine"), service.record("theirs", account="other"))
    assert await client.pages() == [["mine"]]
    assert await other.pages() == [["theirs"]]
    assert await other.ask("/a1/sms/mine", "DELETE") == (404, "Not found")
    assert await client.pages() == [["mine"]]


async def test_start_and_end_are_exclusive_to_the_microsecond(client, service):
    """Before ``start``, after ``end``; with 0 to 6 digits, with Z, with an offset, or a date."""
    at = service.clock.now() - timedelta(hours=1)
    await store(
        service,
        *(
            service.record(f"m{tick}", created=(at + tick * TICK).isoformat())
            for tick in range(-2, 3)
        ),
    )
    middle = timestamp(at)
    assert await client.pages(start=middle) == [["m-1", "m-2"]]
    assert await client.pages(end=middle) == [["m2", "m1"]]
    around = {"start": timestamp(at + 2 * TICK), "end": timestamp(at - 2 * TICK)}
    assert await client.pages(**around) == [["m1", "m0", "m-1"]]
    for start in (
        *("2026-11-21T11:00:00", "2026-11-21T11:00:00Z", "2026-11-21T11:00:00.0"),
        *("2026-11-21T11:00:00.00Z", "2026-11-21T11:00:00.000000Z", "2026-11-21 11:00:00"),
        *("2026-11-21T12:00:00+01:00", " 2026-11-21T11:00:00 "),
    ):
        assert await client.pages(start=start) == [["m-1", "m-2"]], start
    assert await client.pages(end="2026-11-21", start="") == [["m2", "m1", "m0", "m-1", "m-2"]]
    for start, end in (
        ("2026-11-21", ""),
        ("", "2026-11-22"),
        (middle, middle),
        ("0001-01-01", ""),
    ):
        assert await client.pages(start=start, end=end) == [[]]
    assert await client.pages(start="9999-12-31T23:59:59.999999", end="0001-01-01") != [[]]


async def test_lists_are_filtered_by_recipient_and_other_parameters_are_ignored(client, service):
    """``to`` in any spelling of a number; whatever else a client sends does not matter."""
    await store(
        service, service.record("a"), service.record("b", to="+46700000001", status="failed")
    )
    for to in ("+46700000001", "0046 70-000 00 01", " 46700000001"):
        assert await client.pages(to=to) == [["b"]]
    everything = await client.pages(status="failed", format="json", page="3", kind="call")
    assert everything == [["b", "a"]]


async def test_a_value_that_means_nothing_is_named(client):
    """400 as plain text, with the parameter and what would be right."""
    for params in (
        *({"limit": text} for text in ("0", "-1", "many", "1e3", "٣")),
        *({"start": text} for text in ("yesterday", "2026-13-01", "x" * 500, "a\0b")),
        *({"end": text} for text in ("now", "2026-11-21T25:00:00")),
        {"to": "a\0b"},
    ):
        [name] = params
        status, text = await client.ask("/a1/sms", **params)
        assert status == 400, params
        assert text.startswith(name)


async def test_a_page_has_a_hundred_at_most_however_many_are_asked_for(client, service):
    """``limit`` can make a page smaller, not larger; the last has no ``next``."""
    await store(
        service, *(service.record(f"m{n}", created=ago(service, seconds=n)) for n in range(205))
    )
    assert [len(page) for page in await client.pages()] == [100, 100, 5]
    assert [len(page) for page in await client.pages(limit="1000")] == [100, 100, 5]
    assert [len(page) for page in await client.pages(limit="41")] == [41] * 5


async def test_pages_lose_and_repeat_nothing_however_many_share_a_microsecond(service):
    """Whole groups of the same creation time are on one page, for every kind of client.

    So it makes no difference whether ``next`` is handed back as it is or was made a time of
    microseconds; and no page is longer than was asked for unless such a group is.
    """
    for seed in range(4):
        chance = random.Random(seed)
        account = f"acme{seed}"
        client = Client(service, await service.key("customer", account), account)
        groups = {}
        at = service.clock.now()
        for _ in range(chance.randint(4, 12)):
            at -= chance.choice((TICK, 2 * TICK, timedelta(hours=chance.randint(1, 40))))
            groups[at] = {
                f"r{chance.getrandbits(64):x}" for _ in range(chance.choice((1, 1, 2, 5, 9)))
            }
        await store(
            service,
            *(
                service.record(name, account=account, created=created.isoformat())
                for created, names in groups.items()
                for name in names
            ),
        )
        expected = [sorted(names, reverse=True) for names in groups.values()]
        for limit in (1, 2, 3, 4, 7, 100):
            for as_it_is in (str, by_datetime):
                pages = await client.pages(limit=str(limit), as_it_is=as_it_is)
                assert joined(pages) == joined(expected)
                assert all(len(page) <= limit or page in expected for page in pages)


async def test_more_of_one_microsecond_than_a_page_holds_come_together(client, service):
    """A hundred and fifty of one instant are one page: a time is all that ``next`` can tell."""
    whole_second = ago(service, hours=1)
    await store(
        service,
        *(service.record(f"n{n:03}", created=ago(service, minutes=n)) for n in range(3)),
        *(service.record(f"t{n:03}", created=whole_second) for n in range(150)),
        service.record("last", created=ago(service, hours=2)),
    )
    for as_it_is in (str, by_datetime):
        pages = await client.pages(as_it_is=as_it_is)
        assert [len(page) for page in pages] == [3, 150, 1]
        assert len(set(joined(pages))) == 154
    await client.ask("/a1/sms/last", "DELETE")
    assert [len(page) for page in await client.pages()] == [3, 150]


@pytest.mark.service_config(page_records_max=20)
async def test_beyond_the_longest_page_next_tells_the_place_by_more_digits(client, service):
    """A client that hands ``next`` back as it is sees each record once, in bounded pages.

    Also when some of them are deleted and others arrive meanwhile.
    """
    at = ago(service, hours=1)
    names = [f"t{n:03}" for n in range(50)]
    await store(service, *(service.record(name, created=at) for name in names))
    pages = await client.pages(limit="5")
    assert [len(page) for page in pages] == [20, 20, 10]
    assert joined(pages) == names[::-1]
    _, first = await client.ask("/a1/sms", limit="5")
    assert first["next"].startswith("2026-11-21T11:00:00.000000")
    for name in ("t030", "t029", "t010"):
        assert (await client.ask(f"/a1/sms/{name}", "DELETE"))[0] == 200
    await store(service, service.record("t045x", created=at), service.record("t005x", created=at))
    rest = await client.pages(limit="5", start=first["next"])
    seen = joined(rest)
    assert seen == sorted({*names[:29], "t005x"} - {"t010"}, reverse=True)


@pytest.mark.service_config(history_scan_rows_max=7)
async def test_a_list_with_few_records_among_many_others_is_read_to_its_end(client, service):
    """However many records of other kinds are looked at, no page that has a next is empty."""
    at = service.clock.now()
    calls = {0: 1, 31: 3, 32: 1, 70: 9, 71: 2}
    await store(
        service,
        *(
            service.record(f"s{n:03}-{m}", created=(at - n * TICK).isoformat())
            for n in range(90)
            for m in range(3)
        ),
        *(
            service.record(
                f"c{n:03}-{m}", kind="call", message=..., created=(at - n * TICK).isoformat()
            )
            for n, count in calls.items()
            for m in range(count)
        ),
    )
    expected = [f"c{n:03}-{m}" for n, count in calls.items() for m in reversed(range(count))]
    for limit in ("1", "2", "100"):
        for as_it_is in (str, by_datetime):
            pages = await client.pages("/a1/calls", limit=limit, as_it_is=as_it_is)
            assert joined(pages) == expected
    assert await client.pages("/a1/mms") == [[]]
    assert joined(await client.pages(limit="10")) == sorted(
        (f"s{n:03}-{m}" for n in range(90) for m in range(3)),
        key=lambda name: (name[:4], -int(name[-1])),
    )


@pytest.mark.parametrize("as_it_is", [str, by_datetime])
async def test_a_search_that_takes_too_long_tells_where_to_go_on(client, service, as_it_is):
    """Its page is empty then; who goes on sees each record once, those of one microsecond too."""
    at = service.clock.now()
    calls = {3: "c3", 9: "c9", 30: "c30"}
    await store(
        service,
        *(
            service.record(f"s{n:02}-{m}", created=(at - n * TICK).isoformat())
            for n in range(31)
            for m in range(3)
        ),
        *(
            service.record(name, kind="call", message=..., created=(at - n * TICK).isoformat())
            for n, name in calls.items()
        ),
    )
    key = await Accounts(service.database).key_of("acme")
    reading = Reading(
        History(service.database),
        key,
        HistoryFilter(kind="call"),
        at,
        tied_max=20,
        rows_max=5,
        seconds_max=0,
    )
    pages, start = [], None
    while True:
        page = await reading.page(start, 10)
        pages.append([record.id for record in page.records])
        assert len(pages) < 100
        if page.next is None:
            break
        start = parse_place(as_it_is(place(page.next)), "start")
    assert joined(pages) == list(calls.values())
    assert [] in pages[1:-1]
    # With time enough none is empty.
    patient = replace(reading, seconds_max=30)
    assert [record.id for record in (await patient.page(None, 10)).records] == ["c3"]


@given(IDS, IDS, st.integers(0, 10**12))
@settings(max_examples=200)
def test_a_place_is_read_back_and_sorts_as_it_should(one, other, ticks):
    """What ``next`` tells is the place that it was made of, and text order is the list's order."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + ticks * TICK
    assert parse_place(place(Position(at, one)), "start") == Position(at, one)
    assert parse_place(place(Position(at, "")), "start") == Position(at, "")
    assert (place(Position(at, one)) < place(Position(at, other))) == (one < other)
    assert datetime.fromisoformat(place(Position(at, one))) == at.replace(tzinfo=None)


async def test_deleting_is_the_erasure_of_the_stores_own_api(client, service):
    """It answers id and time, leaves a ledger entry, and what a hold protects stays."""
    await store(service, service.record("m1"), service.record("held", to="+46700000001"))
    until = {"reason": "spam", "case_ref": "A-1", "until": "2027-01-01"}
    status, hold = await service.call(
        "POST", "/v1/holds", service.operator_key, json={"number": "+46700000001", **until}
    )
    assert status == 201
    for name in ("m1", "held"):
        assert await client.ask(f"/a1/SMS/{name}", "DELETE") == (
            200,
            {"id": name, "deleted": "2026-11-21T12:00:00.000000"},
        )
        assert await client.ask(f"/a1/sms/{name}") == (404, "Not found")
        assert await client.ask(f"/a1/sms/{name}", "DELETE") == (404, "Not found")
    async with superuser(service) as connection:
        entries = await connection.fetch("SELECT reason, rows, held FROM purge_ledger ORDER BY seq")
    assert [(e["reason"], e["rows"]) for e in entries] == [("erased", 1), ("erased", 1)]
    _, held = await service.call("GET", f"/v1/holds/{hold['id']}", service.operator_key)
    assert held["held"] == {"history_record": 1}


async def test_an_ongoing_call_and_what_is_of_another_kind_are_not_deleted(client, service):
    """Whoever deletes such a call means to hang up; the answer says that this would not do it."""
    call = {"kind": "call", "message": ..., "created": ago(service, minutes=1)}
    await store(service, service.record("c1", status="ongoing", **call))
    status, text = await client.ask("/a1/calls/c1", "DELETE")
    assert status == 409
    assert "ongoing" in text
    assert (await client.ask("/a1/calls/c1"))[1]["state"] == "ongoing"
    later = {"status": "success", "updated": service.clock.now().isoformat()}
    await store(service, service.record("c1", **call | later))
    assert (await client.ask("/a1/calls/c1", "DELETE"))[0] == 200
    # An SMS does not go with a call of the same id, nor the call with it.
    await store(
        service,
        service.record("x"),
        service.record("x", kind="call", message=..., created=ago(service, hours=1)),
    )
    assert (await client.ask("/a1/sms/x", "DELETE"))[0] == 200
    assert await client.pages("/a1/sms") == [[]]
    assert await client.pages("/a1/calls") == [["x"]]


async def test_me_tells_what_is_known(client, service):
    """The account's id, and its name and currency once they are set; no balance is kept."""
    assert await client.ask("/a1/Me") == (200, {"id": "acme"})
    async with superuser(service) as connection:
        await connection.execute("UPDATE account SET display_name = 'Acme AB', currency = 'SEK'")
    assert await client.ask("/a1/me") == (
        200,
        {"id": "acme", "displayname": "Acme AB", "currency": "SEK"},
    )


async def test_what_has_expired_or_is_off_is_not_there(client, service):
    """The account's setting governs, to the microsecond."""
    await store(service, service.record("m1"))
    service.clock.set(utc(NOW) + timedelta(days=90) - TICK)
    assert await client.pages() == [["m1"]]
    service.clock.set(utc(NOW) + timedelta(days=90))
    assert await client.pages() == [[]]
    assert await client.ask("/a1/sms/m1") == (404, "Not found")


@pytest.mark.service_config(requests_per_second=1, burst_requests=2, wrong_keys_per_minute_max=2)
async def test_its_requests_count_against_the_same_limits(client, service):
    """A key that asks too often waits here as elsewhere, and wrong keys are counted too."""
    key = await service.key("customer", "acme")
    client = Client(service, key)
    assert (await client.ask("/a1/sms"))[0] == 200
    assert (await service.call("GET", "/v1/accounts/acme/history", key))[0] == 200
    status, _, headers = await send(service, "GET", "/a1/sms", headers=client.headers)
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert headers["Content-Type"].startswith("text/plain")
    wrong = [(await Client(service, "tl_wrong").ask("/a1/sms"))[0] for _ in range(3)]
    assert wrong == [401, 401, 429]


async def test_no_account_or_id_is_in_the_metrics(client, service):
    """A path is counted by its form; and answers are marked as all others are."""
    await store(service, service.record("secret-id"))
    _, _, headers = await send(service, "GET", "/a1/SMS/secret-id", headers=client.headers)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Request-ID"]
    await client.ask("/a1/acme")
    _, text = await service.call("GET", "/metrics", service.operator_key)
    assert 'route="/{a1}/{sms}/{id}"' in text
    assert "secret-id" not in text
    assert "acme" not in text


async def elkme(*arguments, code=None):
    """What a program with the package elkme prints: its own command, or ``code``."""
    start = ["-m", "elkme.main"] if code is None else ["-c", code]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *start, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return output.decode()


async def test_the_client_of_46elks_lists_unchanged(service, tmp_path):
    """The class Elks of the package elkme reads the lists, and a wrong key is what it expects.

    Its command, which only sends, finds the service by its configuration file and shows why not.
    """
    pytest.importorskip("elkme")
    key = await service.key("customer", "acme")
    await store(
        service, *(service.record(f"m{n}", created=ago(service, hours=n)) for n in range(12))
    )
    code = """
import json, sys
from elkme.elks import Elks
from requests.exceptions import HTTPError
url, key = sys.argv[1:]
elks = Elks(auth=("acme", key), api_url=url)
found = {path: json.loads(elks.query_api(endpoint=path)) for path in ("sms?limit=10", "Me")}
found["default"] = json.loads(elks.query_api())
start = found["sms?limit=10"]["next"]
found["rest"] = json.loads(elks.query_api(endpoint="SMS?limit=10&start=" + start))
try:
    Elks(auth=("acme", "tl_wrong"), api_url=url).query_api()
except HTTPError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""
    found = json.loads(await elkme(service.url + "/a1", key, code=code))
    names = [f"m{n}" for n in range(12)]
    assert [row["id"] for row in found["sms?limit=10"]["data"]] == names[:10]
    assert [row["id"] for row in found["rest"]["data"]] == names[10:]
    assert [row["id"] for row in found["default"]["data"]] == names
    assert found["Me"]["id"] == "acme"
    assert found["error"].startswith("HTTP 401")
    conf = tmp_path / "elkme.conf"
    conf.write_text(
        f"[46elks]\nusername = acme\npassword = {key}\napi_url = {service.url}/a1\n"
        "to = +46700000001\n"
    )
    output = await elkme("-c", str(conf), "hello")
    assert output.startswith("HTTP 405\nThis store keeps the history")
