"""A partition that gets no more records is frozen once."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from trafficlog.store.retention import Retention

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

pytestmark = pytest.mark.service_now("2026-11-22T12:00:00Z")


async def run(service, at):
    """One retention run at a time."""
    async with Retention(service.dsn, service.config) as retention:
        await retention.wait_for_lead()
        result = await retention.run(at, guard_clock=False)
        assert result.failures == []
        return result


async def unfrozen(service, name):
    """How many pages of a partition are not marked all-frozen."""
    connection = await asyncpg.connect(service.dsn)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_visibility")
        return await connection.fetchval(
            "SELECT count(*) FILTER (WHERE NOT all_frozen)"
            f" FROM pg_visibility_map('trafficlog.{name}')"
        )
    finally:
        await connection.close()


async def test_a_day_is_sealed_once_when_its_records_are_all_in(service):
    """Not while records may still come, and not a second time."""
    status, _ = await service.post(await service.key("ingest"), service.record())
    assert status == 200
    # What was created on the 22nd expires within these; the 22nd ends at midnight, and
    # records are up to 48 hours late.
    traffic, history = "traffic_record_20270121", "history_record_20270220"
    quiet = datetime(2026, 11, 25, tzinfo=UTC)
    early = await run(service, quiet - timedelta(microseconds=1))
    assert not {traffic, history} & set(early.sealed)
    assert await unfrozen(service, traffic) == 1
    assert {traffic, history} <= set((await run(service, quiet)).sealed)
    assert await unfrozen(service, traffic) == 0
    assert await unfrozen(service, history) == 0
    again = await run(service, quiet + timedelta(hours=1))
    assert not {traffic, history} & set(again.sealed)


@pytest.mark.service_config(seals_in_a_run_max=1)
async def test_one_run_seals_so_many_and_the_next_goes_on(service):
    """A store that starts to seal does not freeze two months at once."""
    at = NOW + timedelta(days=5)
    first, second = await run(service, at), await run(service, at)
    assert len(first.sealed) == len(second.sealed) == 1
    assert first.sealed != second.sealed


async def test_an_account_with_a_short_period_keeps_later_days_open(service):
    """What expires in a week may still be written by an account that keeps a day."""
    status, _ = await service.post(await service.key("ingest"), service.record())
    assert status == 200
    connection = await asyncpg.connect(service.dsn)
    await connection.execute("UPDATE trafficlog.account SET history_days = 1")
    await connection.close()
    result = await run(service, NOW + timedelta(days=20))
    assert not [name for name in result.sealed if name.startswith("history_record")]
    assert [name for name in result.sealed if name.startswith("traffic_record")]
