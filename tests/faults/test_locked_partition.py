"""Somebody locks one day of a table: its records wait, and not for ever; the others are stored."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.api.helpers import history, send
from tests.jobs.stock import until
from tests.waiting import waiting_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.service_config(answer_seconds_max=2, statement_seconds_max=3),
]
DAY = timedelta(days=1)


@asynccontextmanager
async def locked(dsn: str, day: str) -> AsyncIterator[asyncpg.Connection]:
    """ACCESS EXCLUSIVE on the partition of legal records that expire on a day."""
    admin = await asyncpg.connect(
        dsn, server_settings={"search_path": "trafficlog", "timezone": "UTC"}
    )
    try:
        name = await admin.fetchval(
            "SELECT name FROM partition_catalogue"
            " WHERE table_name = 'traffic_record' AND lower = $1::text::timestamptz",
            day,
        )
        async with admin.transaction():
            await admin.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
            yield admin
    finally:
        await admin.close()


async def test_records_of_a_locked_day_wait_a_bounded_time_and_others_are_stored(service):
    """503 for the day that is locked, 200 for another, pages as ever; then all by itself."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    yesterday = (service.clock.now() - DAY).isoformat()

    async def post(record_id, **fields):
        began = time.monotonic()
        status, body, headers = await send(
            service, "POST", "/v1/records", ingest, json=[service.record(record_id, **fields)]
        )
        return status, headers.get("Retry-After"), body.get("code"), time.monotonic() - began

    assert (await post("m0"))[0] == 200
    assert (await post("y0", created=yesterday))[0] == 200
    # Sixty days and the rest of the day after the record.
    async with locked(service.dsn, "2027-01-20") as admin:
        waiting = asyncio.create_task(post("m1"))
        await until(lambda: waiting_sessions(admin, "trafficlog_ingest"))
        # A writer waits with the locked day's record, and another writes meanwhile.
        for number in range(1, 4):
            status, *_, seconds = await post(f"y{number}", created=yesterday)
            assert (status, seconds < 1.5) == (200, True), number
        assert len(await history(service, customer)) == 5
        assert (await waiting)[:3] == (503, "1", "database_unavailable")
        # Both writers wait: whoever comes then is told in time, whatever the day.
        together = await asyncio.gather(
            *(post(f"n{n}") for n in range(5)),
            *(post(f"z{n}", created=yesterday) for n in range(5)),
        )
        assert {answer[:3] for answer in together} <= {
            (503, "1", "database_unavailable"),
            (200, None, None),
        }
        assert max(seconds for *_, seconds in together) < 4
    for number in range(5):
        assert (await post(f"n{number}"))[0] == 200
        assert (await post(f"z{number}", created=yesterday))[0] == 200
    assert (await post("m1"))[0] == 200
    found = [record["id"] for record in await history(service, customer)]
    expected = [
        "m0",
        "m1",
        *(f"{a}{n}" for a in "nz" for n in range(5)),
        *(f"y{n}" for n in range(4)),
    ]
    assert sorted(found) == sorted(expected)
