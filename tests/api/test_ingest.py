"""POST /v1/records: what is taken in, in which forms, and what is answered."""

import asyncio
import gzip
from datetime import timedelta

import orjson
import pytest
import zstandard

from tests.api.helpers import JSON, NDJSON, history, ids, post_lines, send, superuser
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")

CALL = {
    "id": "Call-ID.1~a+b=c@host:5060_x",
    "account": "acme",
    "kind": "call",
    "direction": "outgoing-reply",
    "from": "0046 70-123 (45) 67",
    "to": "anonymous",
    "created": "2026-11-21T13:00:00.123456+02:00",
    "updated": "2026-11-21T11:30:00.5Z",
    "status": "success",
    "delivered": "2026-11-21T11:00:01",
    "duration": 61,
    "parts": 3,
    "cost": 3500,
    "ip": "::FFFF:192.0.2.1",
    "user_agent": "sip/1.0",
    "message": "Grüße ☎ 😀 \u2028 line\nbreaks\tare kept",
    "owner": "sales",
    "tags": ["a", "ö ö"],
}
SHOWN = {
    "id": "Call-ID.1~a+b=c@host:5060_x",
    "kind": "call",
    "direction": "outgoing-reply",
    "from": "+46701234567",
    "to": "anonymous",
    "created": "2026-11-21T11:00:00.123456Z",
    "updated": "2026-11-21T11:30:00.500000Z",
    "status": "success",
    "delivered": "2026-11-21T11:00:01Z",
    "duration": 61,
    "parts": 3,
    "cost": 3500,
    "message": "Grüße ☎ 😀 \u2028 line\nbreaks\tare kept",
    "owner": "sales",
    "tags": ["a", "ö ö"],
    "expires": "2027-02-19T11:00:00.123456Z",
}


async def test_every_field_comes_back_as_it_was_sent(service):
    """What the gateway reports the customer reads; who initiated it is for the law alone."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    status, answer = await service.post(ingest, CALL | {"unknown": "not stored"})
    assert (status, answer) == (
        200,
        {"accepted": 1, "updated": 0, "duplicates": 0, "rejected": []},
    )
    assert await history(service, customer) == [SHOWN]
    path = "/v1/accounts/acme/history/" + CALL["id"]
    assert await service.call("GET", path, customer) == (200, SHOWN)
    async with superuser(service) as connection:
        legal = await connection.fetchrow("SELECT * FROM traffic_record")
    assert (legal["ip"], legal["user_agent"]) == ("192.0.2.1", "sip/1.0")
    assert legal["expires_at"] == utc(CALL["created"]) + timedelta(days=60)


BODIES = {
    "array": lambda records: (JSON, orjson.dumps(records)),
    "ndjson": lambda records: (NDJSON, b"\n".join(orjson.dumps(r) for r in records)),
    "ndjson with empty lines and carriage returns": lambda records: (
        NDJSON,
        b"\r\n\r\n" + b"\r\n\r\n".join(orjson.dumps(r) for r in records) + b"\r\n \r\n",
    ),
    "json lines": lambda records: (
        {"Content-Type": "application/jsonl; charset=utf-8"},
        b"\n".join(orjson.dumps(r) for r in records),
    ),
}
ENCODINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    # Streamed: the frame does not say how long it is.
    "zstd streamed": lambda body: (
        (c := zstandard.ZstdCompressor().compressobj()).compress(body) + c.flush()
    ),
}


async def test_each_form_and_encoding_is_read(service):
    """NDJSON and arrays, plain and compressed, say the same."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    sent = []
    for form, encode in BODIES.items():
        for encoding, compress in ENCODINGS.items():
            records = [service.record(f"{len(sent)}-{n}", message=form) for n in range(3)]
            sent += [r["id"] for r in records]
            headers, body = encode(records)
            if encoding != "identity":
                headers = headers | {"Content-Encoding": encoding.split()[0]}
            status, answer, _ = await send(
                service, "POST", "/v1/records", ingest, data=compress(body), headers=headers
            )
            assert (status, answer["accepted"]) == (200, 3), (form, encoding, answer)
    assert sorted(await ids(service, customer)) == sorted(sent)


async def test_the_good_records_beside_a_bad_one_are_stored(service):
    """Each refusal names its place in the request, its id, its field and a stable code."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    status, answer = await post_lines(
        service,
        ingest,
        service.record("good1"),
        service.record("bad1", kind="fax"),
        b"{not json",
        service.record("bad2", to=...),
        service.record("good2"),
        [1, 2],
        service.record("bad3", created="2097-01-01T00:00:00Z"),
    )
    assert status == 200
    assert {n: answer[n] for n in ("accepted", "updated", "duplicates")} == {
        "accepted": 2,
        "updated": 0,
        "duplicates": 0,
    }
    refusals = [(r["index"], r["id"], r["field"], r["code"]) for r in answer["rejected"]]
    assert refusals == [
        (1, "bad1", "kind", "not_in_set"),
        (2, None, "record", "malformed_json"),
        (3, "bad2", "to", "missing"),
        (5, None, "record", "wrong_type"),
        (6, "bad3", "created", "too_late"),
    ]
    assert all(r["detail"].startswith(r["field"]) for r in answer["rejected"])
    assert sorted(await ids(service, customer)) == ["good1", "good2"]


async def test_a_request_of_bad_records_alone_is_a_problem(service):
    """When nothing could be stored the status says so, and the body why."""
    ingest = await service.key("ingest")
    status, answer = await service.post(ingest, service.record(kind="fax"), {})
    assert (status, answer["code"], answer["accepted"]) == (422, "all_refused", 0)
    assert [r["index"] for r in answer["rejected"]] == [0, 1]


async def test_a_record_that_is_known_makes_a_request_good(service):
    """A retry whose records are all stored already is answered with 200."""
    ingest = await service.key("ingest")
    assert (await service.post(ingest, service.record()))[0] == 200
    status, answer = await service.post(ingest, service.record(), service.record("x", kind="fax"))
    assert (status, answer["duplicates"], len(answer["rejected"])) == (200, 1, 1)


async def test_answered_means_committed(service):
    """When the answer is there, another connection sees the rows."""
    ingest = await service.key("ingest")
    async with superuser(service) as connection:
        for n in range(20):
            await service.post(ingest, service.record(f"m{n}"))
            count = "SELECT count(*) FROM traffic_record JOIN history_record USING (id)"
            assert await connection.fetchval(count) == n + 1


async def test_many_clients_at_once_are_each_answered_for_their_own(service):
    """Requests that are written in one transaction get each their own counts."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")

    async def client(number):
        records = [service.record(f"{number}-{n}") for n in range(number)]
        status, answer = await service.post(ingest, *records, records[0])
        return status, answer["accepted"], answer["duplicates"]

    answers = await asyncio.gather(*(client(n) for n in range(1, 30)))
    assert answers == [(200, n, 1) for n in range(1, 30)]
    assert len(await ids(service, customer)) == sum(range(1, 30))


async def test_a_later_report_is_told_from_a_new_record(service):
    """Accepted, updated and duplicates are counted by what became of each report."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(ingest, service.record("a", status="created"))
    later = {"updated": "2026-11-21T12:00:01Z", "status": "delivered"}
    status, answer = await service.post(
        ingest, service.record("a", **later), service.record("b"), service.record("b")
    )
    assert status == 200
    assert [answer[n] for n in ("accepted", "updated", "duplicates")] == [1, 1, 1]
    shown = {r["id"]: r.get("status") for r in await history(service, customer)}
    assert shown == {"a": "delivered", "b": None}


async def test_a_withheld_field_is_not_shown(service):
    """History keeps the row and not the field; the legal record has the parties."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(
        ingest,
        service.record("one", dontlog="message"),
        service.record("all", dontlog=["message", "from", "to"]),
    )
    shown = {
        r["id"]: r.keys() & {"message", "from", "to"} for r in await history(service, customer)
    }
    assert shown == {"one": {"from", "to"}, "all": set()}
    async with superuser(service) as connection:
        legal = await connection.fetch("SELECT DISTINCT sender, recipient FROM traffic_record")
    assert [tuple(r) for r in legal] == [("Acme", "+46701234567")]


async def test_with_history_off_only_the_law_has_its_record(service):
    """Off means never written, and the gateway is answered as ever."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    off = {"history": {"enabled": False}}
    assert (await service.call("PUT", "/v1/accounts/acme/settings", customer, json=off))[0] == 200
    status, answer = await service.post(ingest, service.record())
    assert (status, answer["accepted"]) == (200, 1)
    assert await ids(service, customer) == []
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM history_record") == 0
        assert await connection.fetchval("SELECT count(*) FROM traffic_record") == 1


async def test_the_edges_of_creation_time(service):
    """Ten minutes ahead is taken and a microsecond more is not; so with the legal period behind."""
    ingest = await service.key("ingest")
    ahead = utc("2026-11-21T12:10:00Z")
    behind = utc("2026-11-21T12:00:00Z") - timedelta(days=60)
    tick = timedelta(microseconds=1)
    times = [ahead, ahead + tick, behind, behind + tick]
    _, answer = await service.post(
        ingest,
        *[service.record(f"m{n}", created=time.isoformat()) for n, time in enumerate(times)],
    )
    assert [(r["index"], r["field"], r["code"]) for r in answer["rejected"]] == [
        (1, "created", "too_late"),
        (2, "created", "too_early"),
    ]
    assert answer["accepted"] == 2
