"""Limits that no other test is about: each setting does what its description says."""

import asyncio
from datetime import timedelta

import pytest

from tests.api.helpers import ids, refused, send, superuser, until
from tests.waiting import waiting_sessions
from trafficlog.store.keys import Keys

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HISTORY = "/v1/accounts/acme/history"
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'trafficlog_{}'"
)


@pytest.mark.service_config(message_chars_max=10)
async def test_a_message_has_so_many_characters(service):
    """Characters count, not bytes: ten are taken, eleven are not."""
    ingest = await service.key("ingest")
    _, answer = await service.post(
        ingest,
        service.record("a", message="😀" * 10),
        service.record("b", message="😀" * 11),
    )
    assert (answer["accepted"], [r["code"] for r in answer["rejected"]]) == (1, ["too_long"])


@pytest.mark.service_config(page_records=2, page_records_max=3)
async def test_a_page_has_so_many_records(service):
    """So many when none are asked for, and not more than the largest page when they are."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(ingest, *[service.record(f"m{n}") for n in range(5)])
    for query, count in (("", 2), ("?limit=1", 1), ("?limit=3", 3)):
        _, page = await service.call("GET", HISTORY + query, customer)
        assert len(page["data"]) == count
    problem = await refused(service, 400, "GET", HISTORY + "?limit=4", customer)
    assert problem["reason"] == "out_of_range"
    assert "1 to 3" in problem["detail"]


@pytest.mark.service_config(key_cache_seconds=3600)
async def test_a_revoked_key_is_remembered_no_longer_than_it_may_be(service):
    """A key that was used goes on being accepted for the cache's time; an unused one does not."""
    keys = Keys(service.database)
    used, unused = [await keys.create("ingest", None, service.clock.now()) for _ in range(2)]
    assert (await service.post(used.secret, service.record()))[0] == 200
    for key in (used, unused):
        await keys.revoke(key.id, service.clock.now())
    assert (await service.post(used.secret, service.record()))[0] == 200
    assert (await service.post(unused.secret, service.record()))[0] == 401


@pytest.mark.service_config(key_cache_seconds=0)
async def test_without_a_cache_a_revoked_key_is_refused_at_once(service):
    """At zero seconds revocation holds from the next request on."""
    keys = Keys(service.database)
    key = await keys.create("ingest", None, service.clock.now())
    assert (await service.post(key.secret, service.record()))[0] == 200
    await keys.revoke(key.id, service.clock.now())
    assert (await service.post(key.secret, service.record()))[0] == 401


@pytest.mark.service_config(flush_records_max=10, ingest_connections=1)
async def test_a_transaction_has_so_many_records(service):
    """Waiting requests are written in groups of no more than that; a larger one goes alone."""
    ingest = await service.key("ingest")
    await service.post(ingest, service.record("first"))
    async with superuser(service) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE traffic_record IN ACCESS EXCLUSIVE MODE")
            requests = [
                asyncio.create_task(
                    service.post(ingest, *[service.record(f"{n}-{m}") for m in range(size)])
                )
                for n, size in enumerate((4, 4, 4, 25, 4))
            ]

            async def all_wait():
                _, text = await service.call("GET", "/metrics", service.operator_key)
                return "trafficlog_ingest_waiting_records 41.0" in text

            await until(all_wait)
            # Another writer, if there was one, would wait as well by then.
            await until(lambda: waiting_sessions(connection, "trafficlog_ingest"))
            assert await all_wait()
            assert await waiting_sessions(connection, "trafficlog_ingest") == 1
        assert [status for status, _ in await asyncio.gather(*requests)] == [200] * 5
        groups = await connection.fetch(
            "SELECT count(*) AS size FROM traffic_record GROUP BY xmin::text ORDER BY size"
        )
    sizes = [r["size"] for r in groups]
    assert sum(sizes) == 42
    assert max(sizes) == 25
    assert all(size <= 10 for size in sizes[:-1])


@pytest.mark.service_config(read_connections=1, ingest_connections=1)
async def test_few_connections_serve_many_clients(service):
    """With one connection for each role everybody is served, one after the other."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(ingest, service.record("first"))
    answers = await asyncio.gather(
        *(service.post(ingest, service.record(f"m{n}")) for n in range(20)),
        *(service.call("GET", HISTORY, customer) for _ in range(20)),
        *(service.call("GET", "/readyz") for _ in range(20)),
    )
    assert {status for status, _ in answers} == {200}
    assert len(await ids(service, customer)) == 21
    async with superuser(service) as connection:
        # The service has one, and the test another.
        assert await connection.fetchval(SESSIONS.format("customer")) == 2


@pytest.mark.service_config(hold_days_max=1)
async def test_a_hold_has_so_many_days(service):
    """To the microsecond, and the answer says how many they are."""
    hold = {"ip": "192.0.2.1", "reason": "r", "case_ref": "c"}
    day = service.clock.now() + timedelta(days=1)
    problem = await refused(
        service,
        400,
        "POST",
        "/v1/holds",
        service.operator_key,
        json=hold | {"until": (day + timedelta(microseconds=1)).isoformat()},
    )
    assert (problem["field"], problem["reason"]) == ("until", "out_of_range")
    assert "1 days" in problem["detail"]
    status, _, headers = await send(
        service, "POST", "/v1/holds", service.operator_key, json=hold | {"until": day.isoformat()}
    )
    assert status == 201
    assert headers["Location"].startswith("/v1/holds/")


@pytest.mark.service_config(answer_seconds_max=1)
async def test_an_answer_takes_so_many_seconds_at_the_most(service):
    """Of records that are not on disk by then the gateway is told to send them again."""
    ingest = await service.key("ingest")
    assert (await service.post(ingest, service.record("m0")))[0] == 200
    async with superuser(service) as connection, connection.transaction():
        await connection.execute("LOCK TABLE traffic_record IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(3):
            problem = await refused(
                service, 503, "POST", "/v1/records", ingest, json=[service.record("m1")]
            )
    assert problem["code"] == "database_unavailable"
    assert "in 1 seconds" in problem["detail"]
