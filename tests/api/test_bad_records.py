"""Every bad record is refused by its field, and the good ones beside it are stored."""

import io
import itertools

import orjson
import pytest

from tests.api.helpers import INSIDES, ids, post_lines, refused, send, superuser

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")

LONG = "a" * 65
# Field, value, the code it is refused with.
CASES = [
    ("id", ..., "missing"),
    ("id", None, "wrong_type"),
    ("id", 5, "wrong_type"),
    ("id", "", "bad_format"),
    ("id", LONG, "bad_format"),
    ("id", "a b", "bad_format"),
    ("id", "a\n", "bad_format"),
    ("id", "é", "bad_format"),
    ("account", ..., "missing"),
    ("account", "a/b", "bad_format"),
    ("account", LONG, "bad_format"),
    ("account", ["acme"], "wrong_type"),
    ("kind", ..., "missing"),
    ("kind", "fax", "not_in_set"),
    ("kind", "SMS", "not_in_set"),
    ("kind", 1, "wrong_type"),
    ("direction", ..., "missing"),
    ("direction", "sideways", "not_in_set"),
    ("from", ..., "missing"),
    ("from", None, "wrong_type"),
    ("from", "", "bad_length"),
    ("from", LONG, "bad_length"),
    ("from", "é" * 65, "bad_length"),
    ("from", "Ac\nme", "unprintable"),
    ("from", "Ac\0me", "unprintable"),
    ("from", "Ac\x1bme", "unprintable"),
    ("from", "Ac\u2028me", "unprintable"),
    ("to", "+4670123\r4567", "unprintable"),
    ("to", "0046" + "1" * 61, "bad_length"),
    ("to", 46701234567, "wrong_type"),
    ("to", ["+46701234567"], "wrong_type"),
    ("created", ..., "missing"),
    ("created", None, "wrong_type"),
    ("created", "2097-01-01T00:00:00Z", "too_late"),
    ("created", "1970-01-01T00:00:00Z", "too_early"),
    ("created", "0001-01-01T00:00:00+14:00", "out_of_range"),
    ("created", "9999-12-31T23:59:59-14:00", "out_of_range"),
    ("created", "2026-02-30T00:00:00Z", "bad_time"),
    ("created", "2026-11-21T25:00:00Z", "bad_time"),
    ("created", "2026-11-21", "bad_time"),
    ("created", "yesterday", "bad_time"),
    ("created", 1795262400, "wrong_type"),
    ("updated", "2026-11-21T13:00:00Z", "too_late"),
    ("updated", "soon", "bad_time"),
    ("delivered", "2097-01-01T00:00:00Z", "too_late"),
    ("delivered", 5, "wrong_type"),
    ("status", "ongoing", "not_in_set"),
    ("status", "lost", "not_in_set"),
    ("status", 3, "wrong_type"),
    ("duration", -1, "out_of_range"),
    ("duration", 1.5, "wrong_type"),
    ("duration", "60", "wrong_type"),
    ("duration", True, "wrong_type"),
    ("parts", 2**31, "out_of_range"),
    ("cost", -5, "out_of_range"),
    ("cost", 10**30, None),
    ("ip", "999.0.0.1", "bad_format"),
    ("ip", "", "bad_length"),
    ("ip", "fe80::1%\0", "unprintable"),
    ("ip", "fe80::1%" + LONG, "bad_length"),
    ("ip", 3221225985, "wrong_type"),
    ("user_agent", "a\nb", "unprintable"),
    ("user_agent", "a" * 1025, "bad_length"),
    ("message", "a\0b", "nul"),
    ("message", "a" * 65_537, "too_long"),
    ("message", {"text": "a"}, "wrong_type"),
    ("dontlog", "everything", "not_in_set"),
    ("dontlog", 5, "wrong_type"),
    ("dontlog", {"message": True}, "wrong_type"),
    ("dontlog", ["message", "kind"], "not_in_set"),
    ("dontlog", [None], "wrong_type"),
    ("owner", "", "bad_length"),
    ("owner", LONG, "bad_length"),
    ("tags", "a", "wrong_type"),
    ("tags", [""], "bad_length"),
    ("tags", ["a" * 65], "bad_length"),
    ("tags", ["a\0"], "unprintable"),
    ("tags", ["a"] * 21, "bad_length"),
    ("tags", [5], "wrong_type"),
]
SURROGATE = "\\ud800"


async def test_each_bad_value_is_refused_by_its_field(service):
    """Each answer names the field and a stable code; the good record in the same request is in."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    numbers = itertools.count()
    wrong, stored = [], []
    for name, value, code in CASES:
        good = service.record(f"good{next(numbers)}")
        stored.append(good["id"])
        status, answer = await service.post(
            ingest,
            service.record("bad") | {name: value} if value is not ... else without(service, name),
            good,
        )
        told = [(r["index"], r["field"], r["code"]) for r in answer.get("rejected", [])]
        fits = len(told) == 1 and told[0][:2] == (0, name) and code in (None, told[0][2])
        if (status, answer.get("accepted")) != (200, 1) or not fits:
            wrong.append((name, value if value is ... else repr(value)[:40], code, status, told))
        if INSIDES.search(orjson.dumps(answer).decode()):
            wrong.append((name, answer))
    assert wrong == []
    assert sorted(await ids(service, customer)) == sorted(stored)


def without(service, name):
    """A record without one field."""
    return {n: v for n, v in service.record("bad").items() if n != name}


async def test_half_a_surrogate_pair_is_refused_by_its_field(service):
    """A lone surrogate is no character: the record is refused, whatever field it stands in."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    lines = [service.record("good")]
    fields = ["id", "account", "from", "to", "message", "owner", "user_agent", "status", "ip"]
    for name in fields:
        line = orjson.dumps(service.record("bad") | {name: "MARK"}).decode()
        lines.append(line.replace("MARK", SURROGATE))
    lines += [
        orjson.dumps(service.record("bad", tags=["MARK"])).decode().replace("MARK", SURROGATE),
        orjson.dumps(service.record("bad", other="MARK")).decode().replace("MARK", SURROGATE),
        orjson.dumps(service.record("bad") | {"MARK": 1}).decode().replace("MARK", SURROGATE),
    ]
    status, answer = await post_lines(service, ingest, *lines)
    assert status == 200
    assert answer["accepted"] == 1
    told = [r["field"] for r in answer["rejected"]]
    assert told == [*fields, "tags", "record", "record"]
    assert await ids(service, customer) == ["good"]


async def test_texts_that_are_no_json_object_are_refused_one_by_one(service):
    """Whatever a line holds, it is refused alone."""
    ingest = await service.key("ingest")
    bad = [
        b"{",
        b"}",
        b"nul",
        b'"text"',
        b"5",
        b"[]",
        b"null",
        b"NaN",
        b'{"id": NaN}',
        b'{"id": "m1",}',
        b"{'id': 'm1'}",
        b'{"id": "m1"} {"id": "m2"}',
        b'{"id": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
        b'{"id":' * 5000,
        b'{"id":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"cost":' + b"1" * 5000 + b"}",
        b'{"cost": 1e999}',
        b'{"created":"' + b"9" * 5000 + b'"}',
        b"\x00",
    ]
    status, answer = await post_lines(service, ingest, *bad, service.record("good"))
    assert (status, answer["accepted"]) == (200, 1), answer
    assert [r["index"] for r in answer["rejected"]] == list(range(len(bad)))
    assert not INSIDES.search(orjson.dumps(answer).decode())
    assert len(orjson.dumps(answer)) < 500 * len(bad)


async def test_malformed_json_in_an_array_refuses_the_whole(service):
    """An array that is not JSON has no elements to tell apart: nothing of it is stored."""
    ingest = await service.key("ingest")
    good = orjson.dumps(service.record("good"))
    headers = {"Content-Type": "application/json"}
    for body in (
        b"[" + good + b", {oops}]",
        b"[" + good,
        b"[" + good + b"] trailing",
        good,
        b'"text"',
        b"null",
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
    ):
        problem = await refused(
            service, 400, "POST", "/v1/records", ingest, data=body, headers=headers
        )
        assert problem["code"] == "body_unreadable"
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM traffic_record") == 0


async def test_a_time_without_a_zone_is_utc(service):
    """Naive times are UTC by the contract, not by the zone of some machine."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(ingest, service.record(created="2026-11-21T11:59:00"))
    _, shown = await service.call("GET", "/v1/accounts/acme/history/m1", customer)
    assert shown["created"] == "2026-11-21T11:59:00Z"


async def test_a_ten_megabyte_message_is_refused_and_kept_out(service):
    """A message over the limit is refused with its length; the one beside it is stored."""
    ingest = await service.key("ingest")
    records = [service.record("huge", message="a" * 10_000_000), service.record("good")]
    status, answer, _ = await send(
        service,
        "POST",
        "/v1/records",
        ingest,
        data=io.BytesIO(orjson.dumps(records)),
        headers={"Content-Type": "application/json"},
    )
    assert (status, answer["accepted"]) == (200, 1)
    [refusal] = answer["rejected"]
    assert (refusal["field"], refusal["code"]) == ("message", "too_long")
    assert "10000000 characters" in refusal["detail"]
    assert len(refusal["detail"]) < 300


async def test_what_a_network_really_sends_is_taken_as_it_is(service):
    """Sender names, short codes, SIP addresses and odd numbers: the legal record loses nothing."""
    ingest = await service.key("ingest")
    addresses = {
        "Åsas Café": "Åsas Café",
        "72 456": "72456",
        "anonymous": "anonymous",
        "sip:a@b.example;user=phone": "sip:a@b.example;user=phone",
        "*31#": "*31#",
        "(070) 123-45": "07012345",
        "0046701234567": "+46701234567",
        "00": "00",
        "+46\u00a070\u00a0123": "+4670123",
        "12": "12",
        "a" * 64: "a" * 64,
    }
    records = [service.record(f"m{n}", from_=text) for n, text in enumerate(addresses)]
    status, answer = await service.post(ingest, *[r | {"from": r["from"]} for r in records])
    assert (status, answer["rejected"]) == (200, [])
    async with superuser(service) as connection:
        rows = await connection.fetch("SELECT sender FROM traffic_record ORDER BY length(id), id")
    assert [r["sender"] for r in rows] == list(addresses.values())
