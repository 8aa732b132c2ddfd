"""Two services on one database: what one took or was told, the other goes by."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest_asyncio

from tests.api.helpers import history, until
from tests.serving import serving, utc
from trafficlog.store.keys import Keys

NOW = utc("2026-11-21T12:00:00Z")


@pytest_asyncio.fixture
async def both(database):
    """Two services that know nothing of each other but their database."""
    async with (
        serving(database, NOW, key_cache_seconds=1) as one,
        serving(database, NOW, key_cache_seconds=1) as other,
    ):
        assert other.operator_key == ""
        yield one, other


async def test_a_record_sent_to_both_is_stored_once(both):
    """At the same time or later, as it was or as a later report: one of them takes it."""
    ingest, customer = await both[0].key("ingest"), await both[0].key("customer", "acme")
    records = [both[0].record(f"m{n}") for n in range(200)]
    for service in both:
        # So that the account is known to each of them.
        await service.post(ingest, service.record("first"))
    answers = await asyncio.gather(*(s.post(ingest, *records) for s in both for _ in range(4)))
    assert {status for status, _ in answers} == {200}
    assert sum(told["accepted"] for _, told in answers) == 200
    assert sum(told["duplicates"] for _, told in answers) == 7 * 200
    later = [r | {"updated": NOW.isoformat(), "status": "delivered"} for r in records]
    answers = await asyncio.gather(*(s.post(ingest, *later) for s in both for _ in range(4)))
    assert {status for status, _ in answers} == {200}
    assert sum(told["updated"] for _, told in answers) == 200
    for service in both:
        found = await history(service, customer)
        assert len(found) == 201
        assert sum(r.get("status") == "delivered" for r in found) == 200


async def test_a_setting_changed_at_one_governs_the_next_record_of_the_other(both):
    """At once: history that was turned off at one is not written by the other any more."""
    one, other = both
    ingest, customer = await one.key("ingest"), await one.key("customer", "acme")
    for number, service in enumerate(both):
        await service.post(ingest, service.record(f"warm{number}"))
    path = "/v1/accounts/acme/settings"
    for round_ in range(3):
        status, _ = await one.call("PUT", path, customer, json={"history": {"enabled": False}})
        assert status == 200
        one.clock.advance(timedelta(seconds=1))
        assert (await other.post(ingest, other.record(f"off{round_}")))[0] == 200
        one.clock.advance(timedelta(seconds=1))
        status, _ = await one.call("PUT", path, customer, json={"history": {"days": 10 + round_}})
        assert status == 200
        one.clock.advance(timedelta(seconds=1))
        assert (await other.post(ingest, other.record(f"on{round_}")))[0] == 200
        found = {r["id"]: r["expires"] for r in await history(other, customer)}
        assert f"off{round_}" not in found
        expires = (one.clock.now() + timedelta(days=10 + round_)).isoformat().replace("+00:00", "Z")
        assert found[f"on{round_}"] == expires


async def test_a_key_revoked_stops_at_both_within_its_time(both):
    """Each remembers keys for TRAFFICLOG_KEY_CACHE_SECONDS at most; a new one opens at once."""
    one = both[0]
    keys = Keys(one.database)
    key = await keys.create("ingest", None, one.clock.now())
    for number, service in enumerate(both):
        assert (await service.post(key.secret, service.record(f"m{number}")))[0] == 200
    await keys.revoke(key.id, one.clock.now())
    began = asyncio.get_running_loop().time()
    for service in both:

        async def refused(service=service):
            return (await service.post(key.secret, service.record("x")))[0] == 401

        assert await until(refused)
    assert asyncio.get_running_loop().time() - began < 3


async def test_one_of_them_runs_the_jobs_at_a_time(both):
    """The lock has one holder; when that service is gone, the other's next round runs."""
    one, _ = both
    admin = await asyncpg.connect(one.dsn)
    try:
        holders = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = 7104 AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        seen = [await admin.fetchval(holders) for _ in range(200)]
        assert max(seen) <= 1
    finally:
        await admin.close()
