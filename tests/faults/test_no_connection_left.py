"""Connections that are all taken: retention has its own, ingest says 503, and both come back."""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.api.helpers import send
from tests.jobs.stock import DAY, until
from tests.serving import Service, serving, utc
from trafficlog import migrate, postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = "2026-11-22T12:00:00Z"
TRAFFIC_GONE = utc(NOW) + 61 * DAY
QUICK = {
    "retention_interval_seconds": 1,
    "headroom_days": 1,
    "headroom_hours": 1,
    "statement_seconds_max": 1,
    "connect_seconds_max": 1,
    # A key is known already when the database is away.
    "key_cache_seconds": 300,
}


async def posted(service: Service, key: str, record_id: str) -> tuple[int, str | None]:
    """Status and Retry-After of a post."""
    status, _, headers = await send(
        service, "POST", "/v1/records", key, json=[service.record(record_id)]
    )
    return status, headers.get("Retry-After")


async def failures(service: Service, key: str) -> float:
    """How often retention failed, as the metrics say."""
    status, text = await service.call("GET", "/metrics", key)
    assert status == 200
    found = re.search(r'trafficlog_job_failures_total\{job="retention"\} (\S+)', text)
    return float(found[1]) if found else 0


async def expired_rows(admin: asyncpg.Connection) -> int:
    """How many rows of the legal record the ledger says were dropped."""
    return await admin.fetchval(
        "SELECT coalesce(sum(rows), 0)::int FROM trafficlog.purge_ledger"
        " WHERE reason = 'expired' AND data_class = 'traffic_record'"
    )


@pytest.mark.service_now(NOW)
@pytest.mark.service_config(**QUICK, ingest_connections=1)
async def test_retention_goes_on_while_ingest_holds_every_connection_of_its_own(service):
    """Each connection of ingest waits for a lock: records get 503, the drop comes all the same."""
    key = await service.key("ingest")
    assert await posted(service, key, "m1") == (200, None)
    admin = await asyncpg.connect(service.dsn)
    try:
        # What every batch takes part in, and no drop.
        await admin.execute("SELECT pg_advisory_lock(7100, 1)")
        service.clock.set(TRAFFIC_GONE)
        waiting = [asyncio.create_task(posted(service, key, f"n{n}")) for n in range(12)]
        await until(lambda: expired_rows(admin))
        assert set(await asyncio.gather(*waiting)) == {(503, "1")}
        await admin.execute("SELECT pg_advisory_unlock(7100, 1)")

        async def is_back() -> bool:
            return await posted(service, key, "m2") == (200, None)

        await until(is_back)
        assert await admin.fetchval("SELECT count(*) FROM trafficlog.traffic_record") == 1
    finally:
        await admin.close()


@asynccontextmanager
async def all_taken(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Every connection that the server gives is somebody else's, also those of the service."""
    hoard = [await asyncpg.connect(dsn)]

    async def fill() -> bool:
        """Whether nothing is left, also not of what the service had."""
        cut = await hoard[0].fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'trafficlog%'"
        )
        # At once and again, because the service wants the place as well.
        wanted = len(hoard) + cut
        for _ in range(100):
            try:
                hoard.append(await asyncpg.connect(dsn))
            except asyncpg.TooManyConnectionsError:
                if len(hoard) >= wanted:
                    break
        return not cut

    try:
        await until(fill)
        yield hoard[0]
    finally:
        await asyncio.gather(*(connection.close() for connection in hoard))


async def test_a_server_without_a_connection_left_is_waited_for():
    """Ingest answers 503, retention fails with a metric; both go on when there is one again."""
    few = {"max_connections": "24", "fsync": "off", "shared_buffers": "16MB"}
    with (
        tempfile.TemporaryDirectory(prefix="trafficlog-full-") as directory,
        postgres.running(Path(directory), settings=few) as server,
    ):
        await migrate.migrate(server.dsn)
        async with serving(server.dsn, utc(NOW), **QUICK) as service:
            key, metrics = await service.key("ingest"), await service.key("metrics")
            assert await posted(service, key, "m1") == (200, None)
            before = await failures(service, metrics)
            async with all_taken(server.dsn) as admin:
                service.clock.set(TRAFFIC_GONE)
                assert await posted(service, key, "m2") == (503, "1")

                async def has_failed() -> bool:
                    return await failures(service, metrics) > before

                await until(has_failed)
                assert await expired_rows(admin) == 0

            async def is_back() -> bool:
                return await posted(service, key, "m2") == (200, None)

            await until(is_back)
            admin = await asyncpg.connect(server.dsn)
            await until(lambda: expired_rows(admin))
            counted = await failures(service, metrics)
            assert await admin.fetchval("SELECT count(*) FROM trafficlog.traffic_record") == 1
            assert await failures(service, metrics) == counted
            await admin.close()
