"""Holds over the API: placed, listed, extended, released; always ending, always with a reason."""

from datetime import timedelta

import pytest

from tests.api.helpers import refused, superuser
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HOLDS = "/v1/holds"
PURPOSE = {"reason": "fraud report", "case_ref": "A-17", "until": "2026-12-21T00:00:00Z"}


@pytest.fixture
async def operator(service):
    """The operator's key; there is an account acme with a record."""
    ingest = await service.key("ingest")
    await service.key("customer", "acme")
    await service.post(ingest, service.record("m1"), service.record("m2"))
    return service.operator_key


async def place(service, key, **fields):
    """Places a hold and gives it."""
    status, hold = await service.call("POST", HOLDS, key, json=PURPOSE | fields)
    assert status == 201, hold
    return hold


async def test_each_selector_is_placed_and_shown_as_it_was(service, operator):
    """Account, one record, number, IP, with or without a window; numbers and IPs in normal form."""
    window = {"created_from": "2026-11-01T00:00:00Z", "created_to": "2026-11-30T00:00:00Z"}
    selectors = [
        ({"account": "acme"}, {"account": "acme"}),
        ({"record": "acme/m1"}, {"record": "acme/m1"}),
        ({"number": "0046 70-123 45 67"}, {"number": "+46701234567"}),
        ({"ip": "2001:DB8:0::1"}, {"ip": "2001:db8::1"}),
        ({"account": "acme"} | window, {"account": "acme"} | window),
    ]
    placed = []
    for given, shown in selectors:
        hold = await place(service, operator, **given)
        placed.append(hold["id"])
        told = {
            n: v for n, v in hold.items() if n in ("account", "record", "number", "ip", *window)
        }
        assert told == shown
        assert {n: hold[n] for n in PURPOSE} == PURPOSE
        assert hold["active"] is True
        assert hold["placed_by"].startswith("key:")
        status, again = await service.call("GET", f"{HOLDS}/{hold['id']}", operator)
        assert (status, again) == (200, hold | {"held": {}})
    _, listed = await service.call("GET", HOLDS, operator)
    assert {h["id"] for h in listed["data"]} == set(placed)


BAD = [
    ({}, "selector"),
    ({"account": "acme", "number": "+46701234567"}, "selector"),
    ({"account": "acme", "until": None}, "until"),
    ({"account": "acme", "until": "forever"}, "until"),
    ({"account": "acme", "until": 5}, "until"),
    ({"account": "acme", "until": "2026-11-21T12:00:00Z"}, "until"),
    ({"account": "acme", "until": "2020-01-01"}, "until"),
    ({"account": "acme", "until": "9999-12-31"}, "until"),
    ({"account": "acme", "reason": ""}, "reason"),
    ({"account": "acme", "reason": " "}, "reason"),
    ({"account": "acme", "reason": None}, "reason"),
    ({"account": "acme", "reason": "a" * 501}, "reason"),
    ({"account": "acme", "reason": "a\0"}, "reason"),
    ({"account": "acme", "case_ref": ""}, "case_ref"),
    ({"account": "acme", "case_ref": 5}, "case_ref"),
    ({"account": ["acme"]}, "account"),
    ({"account": "a\0"}, "account"),
    ({"record": "m1"}, "record"),
    ({"record": "acme/"}, "record"),
    ({"record": "acme/m1", "account": "other"}, "record"),
    ({"ip": "999.1.1.1"}, "ip"),
    ({"ip": "fe80::1%\0"}, "ip"),
    ({"number": 46701234567}, "number"),
    ({"number": ""}, "number"),
    ({"number": "+1" * 200}, "number"),
    ({"account": "acme", "created_from": "x"}, "created_from"),
    ({"account": "acme", "created_from": "2026-12-01", "created_to": "2026-11-01"}, "created_to"),
    ({"account": "acme", "created_from": "2026-12-01", "created_to": "2026-12-01"}, "created_to"),
    ({"account": "acme", "unknown": 1}, "unknown"),
]


async def test_a_bad_hold_is_refused_by_its_field(service, operator):
    """Without an end, a reason or a case there is no hold, and a wrong one names its field."""
    for fields, name in BAD:
        problem = await refused(service, 400, "POST", HOLDS, operator, json=PURPOSE | fields)
        assert problem["field"] == name, fields
    for name in PURPOSE:
        body = {"account": "acme"} | {n: v for n, v in PURPOSE.items() if n != name}
        problem = await refused(service, 400, "POST", HOLDS, operator, json=body)
        assert (problem["field"], problem["reason"]) == (name, "missing")
    for body in (b"", b"[]", b"{"):
        await refused(service, 400, "POST", HOLDS, operator, data=body)
    problem = await refused(
        service, 404, "POST", HOLDS, operator, json=PURPOSE | {"account": "nobody"}
    )
    assert problem["code"] == "not_found"
    assert (await service.call("GET", HOLDS, operator))[1] == {"data": []}


async def test_a_hold_may_be_placed_for_so_long_and_extended_before_its_end(service, operator):
    """366 days ahead at the most, counted from now; a longer need is an extension later."""
    now = service.clock.now()
    longest = (now + timedelta(days=366)).isoformat()
    too_long = (now + timedelta(days=366, microseconds=1)).isoformat()
    await refused(
        service, 400, "POST", HOLDS, operator, json=PURPOSE | {"account": "acme", "until": too_long}
    )
    hold = await place(service, operator, account="acme", until=longest)
    path = f"{HOLDS}/{hold['id']}/extend"
    await refused(service, 400, "POST", path, operator, json={"until": too_long})
    service.clock.advance(timedelta(days=365))
    longer = (service.clock.now() + timedelta(days=30)).isoformat()
    status, extended = await service.call("POST", path, operator, json={"until": longer})
    assert (status, utc(extended["until"])) == (200, utc(longer))
    service.clock.set(utc(longer))
    assert (await service.call("GET", f"{HOLDS}/{hold['id']}", operator))[1]["active"] is False
    await refused(
        service,
        404,
        "POST",
        path,
        operator,
        json={"until": (service.clock.now() + timedelta(days=1)).isoformat()},
    )
    for body in ({}, {"until": None}, {"until": "x"}, {"days": 5}):
        await refused(service, 400, "POST", path, operator, json=body)


async def test_a_hold_is_released_once(service, operator):
    """Who released it and when stands in it; a second release finds none in force."""
    hold = await place(service, operator, account="acme")
    path = f"{HOLDS}/{hold['id']}/release"
    status, released = await service.call("POST", path, operator)
    assert (status, released["active"]) == (200, False)
    assert utc(released["released_at"]) == service.clock.now()
    assert released["released_by"].startswith("key:")
    await refused(service, 404, "POST", path, operator)
    later = {"until": "2026-12-31"}
    await refused(service, 404, "POST", f"{HOLDS}/{hold['id']}/extend", operator, json=later)
    for path in ("nothing", "nothing/records"):
        await refused(service, 404, "GET", f"{HOLDS}/{path}", operator)


async def test_what_a_hold_keeps_of_an_erasure_can_be_read(service, operator):
    """The erased row is kept for the operator, in pages, and each reading is in the access log."""
    await place(service, operator, number="+46 31 000 000")
    hold = await place(service, operator, number="0046701234567")
    customer = await service.key("customer", "acme")
    for record in ("m1", "m2"):
        status, _ = await service.call("DELETE", f"/v1/accounts/acme/history/{record}", customer)
        assert status == 200
    path = f"{HOLDS}/{hold['id']}/records"
    _, first = await service.call("GET", f"{path}?limit=1", operator)
    [copy] = first["data"]
    assert (copy["data_class"], copy["record"]) == ("history_record", "m1")
    assert copy["content"]["message"] == "hello"
    _, second = await service.call("GET", f"{path}?limit=1&after={first['next']}", operator)
    assert [c["record"] for c in second["data"]] == ["m2"]
    _, shown = await service.call("GET", f"{HOLDS}/{hold['id']}", operator)
    assert shown["held"] == {"history_record": 2}
    async with superuser(service) as connection:
        noted = await connection.fetch(
            "SELECT action, rows, reason FROM access_log WHERE action = 'held.read'"
        )
        ledger = await connection.fetch("SELECT reason, rows, held FROM purge_ledger")
    assert [tuple(r) for r in noted] == [("held.read", 1, "fraud report")] * 2
    assert [tuple(r) for r in ledger] == [("erased", 1, 1)] * 2


async def test_placing_and_ending_are_in_the_access_log(service, operator):
    """Staff's doings leave who, what and why, and no number or account."""
    hold = await place(service, operator, number="+46701234567")
    later = {"until": "2027-01-01T00:00:00Z"}
    await service.call("POST", f"{HOLDS}/{hold['id']}/extend", operator, json=later)
    await service.call("POST", f"{HOLDS}/{hold['id']}/release", operator)
    async with superuser(service) as connection:
        rows = await connection.fetch("SELECT * FROM access_log ORDER BY action")
    assert [r["action"] for r in rows] == ["hold.extend", "hold.place", "hold.release"]
    assert {(r["subject"], r["reason"]) for r in rows} == {(f"hold {hold['id']}", "fraud report")}
    assert {r["expires_at"] for r in rows} == {service.clock.now() + timedelta(days=365)}
    assert "46701234567" not in str(rows)
