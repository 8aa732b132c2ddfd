"""What a communication needs until it is delivered: 72 hours at most."""

from datetime import timedelta

import orjson
import pytest

from tests.api.helpers import refused, send, superuser
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-11-21T12:34:56Z")
PATH = "/v1/in-transit/callback-1"
CONTENT = b'{"url": "https://example.com/\xc3\xa5", "tries": 3,  "n": 1.50}'


@pytest.fixture
async def ingest(service):
    """The gateway's key."""
    return await service.key("ingest")


async def test_what_is_put_is_got_byte_for_byte(service, ingest):
    """Any JSON value, unchanged, with the times it was stored and ends."""
    status, answer, _ = await send(service, "PUT", PATH, ingest, data=CONTENT)
    assert status == 201
    assert answer["id"] == "callback-1"
    assert utc(answer["expires"]) == service.clock.now() + timedelta(hours=72)
    async with service.http.get(
        service.url + PATH, headers={"Authorization": f"Bearer {ingest}"}
    ) as response:
        assert response.status == 200
        assert await response.read() == CONTENT
        assert response.headers["Expires"] == "Tue, 24 Nov 2026 12:34:56 GMT"
        assert response.headers["Last-Modified"] == "Sat, 21 Nov 2026 12:34:56 GMT"
        assert response.headers["Cache-Control"] == "no-store"
    for n, value in enumerate((None, 5, "text", [], {"a": [1, {"b": None}]})):
        path, body = f"/v1/in-transit/v{n}", orjson.dumps(value)
        assert (await send(service, "PUT", path + "?account=acme", ingest, data=body))[0] == 201
        assert (await send(service, "GET", path, ingest))[1] == value


async def test_replacing_does_not_prolong(service, ingest):
    """The time counts from the first storing, however often the content is replaced."""
    _, first, _ = await send(service, "PUT", PATH, ingest, json={"try": 1})
    service.clock.advance(timedelta(hours=71, minutes=59))
    status, second, _ = await send(service, "PUT", PATH, ingest, json={"try": 2})
    assert (status, second["expires"]) == (200, first["expires"])
    assert (await send(service, "GET", PATH, ingest))[1] == {"try": 2}
    service.clock.advance(timedelta(minutes=1))
    await refused(service, 404, "GET", PATH, ingest)


async def test_it_is_gone_at_72_hours(service, ingest):
    """Readable one microsecond before, not found at the instant; the id is then free again."""
    _, answer, _ = await send(service, "PUT", PATH, ingest, json=1)
    expires = utc(answer["expires"])
    service.clock.set(expires - timedelta(microseconds=1))
    assert (await send(service, "GET", PATH, ingest))[0] == 200
    service.clock.set(expires)
    await refused(service, 404, "GET", PATH, ingest)
    await refused(service, 404, "DELETE", PATH, ingest)
    status, answer, _ = await send(service, "PUT", PATH, ingest, json=2)
    assert (status, utc(answer["expires"])) == (201, expires + timedelta(hours=72))


async def test_completion_removes_it_and_says_so_in_the_ledger(service, ingest):
    """Gone when the answer is there; a second completion finds nothing."""
    await send(service, "PUT", PATH, ingest, json=1)
    assert (await send(service, "DELETE", PATH, ingest))[0] == 204
    await refused(service, 404, "GET", PATH, ingest)
    await refused(service, 404, "DELETE", PATH, ingest)
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM in_transit") == 0
        ledger = await connection.fetch("SELECT data_class, reason, rows FROM purge_ledger")
    assert [tuple(r) for r in ledger] == [("in_transit", "completed", 1)]


async def test_it_lies_in_the_partition_of_its_hour(service, ingest):
    """Hour partitions: the one that holds it is dropped within the hour after its end."""
    await send(service, "PUT", PATH, ingest, json=1)
    async with superuser(service) as connection:
        name = await connection.fetchval("SELECT tableoid::regclass::text FROM in_transit")
    assert name == "in_transit_2026112412"


@pytest.mark.service_config(in_transit_bytes_max=100)
async def test_bad_content_and_bad_ids_are_refused(service, ingest):
    """No JSON, too much of it, or an id of another form: a clear error, and nothing stored."""
    for body in (b"", b"{", b"text", b"\xff", b'"\\ud800"', b"[" * 99, b"NaN"):
        problem = await refused(service, 400, "PUT", PATH, ingest, data=body)
        assert problem["code"] == "body_unreadable", body
    largest = orjson.dumps("a" * 98)
    assert (await send(service, "PUT", PATH, ingest, data=largest))[0] == 201
    problem = await refused(service, 413, "PUT", PATH, ingest, data=largest + b" ")
    assert problem["code"] == "body_too_large"
    for name in ("a" * 65, "a%20b", "%C3%A5", "a%00", "a%0A"):
        for method in ("PUT", "GET", "DELETE"):
            problem = await refused(
                service, 400, method, f"/v1/in-transit/{name}", ingest, data=b"1"
            )
            assert problem["field"] == "id"
    problem = await refused(service, 400, "PUT", PATH + "?account=a%20b", ingest, data=b"1")
    assert problem["field"] == "account"
    problem = await refused(service, 400, "PUT", PATH + "?acount=acme", ingest, data=b"1")
    assert problem["reason"] == "unknown"
