"""Policies that change: for records created from a date on, and for no other."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from trafficlog.errors import InvalidValueError
from trafficlog.records import Limits, parse_report
from trafficlog.retention import AHEAD_MAX, DataClass, RetentionPolicy
from trafficlog.store.accounts import Accounts
from trafficlog.store.ingest import Batch, RecordWriter

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = NOW + timedelta(days=2)
TICK = timedelta(microseconds=1)


def report(record_id, created):
    """A report of account a, created at a time."""
    text = (
        f'{{"id":"{record_id}","account":"a","kind":"call","direction":"incoming","from":"1",'
        f'"to":"2","created":"{created.isoformat()}"}}'
    )
    return parse_report(text.encode(), Limits(created, created - timedelta(days=1)))


async def stored(service, statement):
    """What is stored, as the superuser sees it."""
    connection = await asyncpg.connect(service.dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def traffic(days, start=START, basis="a new statute"):
    """A policy of traffic data."""
    return RetentionPolicy(DataClass.TRAFFIC, start, timedelta(days=days), basis)


async def test_a_policy_governs_what_is_created_from_its_date_on(service):
    """One microsecond before the date the old period holds, at the date the new one."""
    writer = RecordWriter(service.database, service.config)
    await writer.start()
    await Accounts(service.database).set_policy(traffic(30), NOW, "test")
    batch = Batch([report("before", START - TICK), report("at", START)])
    await writer.write([batch], START)
    rows = await stored(
        service,
        "SELECT id, expires_at - created_at AS kept FROM trafficlog.traffic_record ORDER BY id",
    )
    assert [(r["id"], r["kept"].days) for r in rows] == [("at", 30), ("before", 60)]


async def test_a_writer_that_runs_learns_of_a_policy(service):
    """A batch is never written under a policy whose change was acknowledged before."""
    writer = RecordWriter(service.database, service.config)
    await writer.start()
    await writer.write([Batch([report("early", NOW)])], NOW)
    await Accounts(service.database).set_policy(traffic(10), NOW, "test")
    await writer.write([Batch([report("late", START)])], START)
    rows = await stored(
        service,
        "SELECT expires_at - created_at AS kept FROM trafficlog.traffic_record WHERE id = 'late'",
    )
    assert [r["kept"].days for r in rows] == [10]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (traffic(30, start=NOW + AHEAD_MAX), "--from"),
        (traffic(30, start=NOW - timedelta(days=1)), "--from"),
        (traffic(0), "period"),
        (traffic(5000), "period"),
        (RetentionPolicy(DataClass.DEBUG, START, timedelta(minutes=90), "x"), "period"),
        (RetentionPolicy(DataClass.HISTORY, START, timedelta(hours=36), "x"), "period"),
        (RetentionPolicy(DataClass.HISTORY, START, timedelta(days=1096), "x"), "period"),
        (traffic(30, basis="  "), "--legal-basis"),
    ],
)
async def test_a_policy_that_may_not_be_set_is_refused_by_its_field(service, policy, field):
    """The past is not changed, a period can be held by the partitions, a basis is stated."""
    with pytest.raises(InvalidValueError) as refusal:
        await Accounts(service.database).set_policy(policy, NOW, "test")
    assert refusal.value.field == field


@pytest.mark.service_now("2026-11-22T12:00:00Z")
@pytest.mark.service_config(settings_refresh_seconds=0)
async def test_what_is_over_under_its_own_policy_is_refused(service):
    """After a period was shortened, an older record may still be kept while a newer is over."""
    await Accounts(service.database).set_policy(traffic(3), NOW, "test")
    ingest = await service.key("ingest")
    later = START + timedelta(days=20)
    service.clock.set(later)
    status, answer = await service.post(
        ingest,
        service.record("old-but-kept", created=(START - timedelta(hours=1)).isoformat()),
        service.record("newer-and-over", created=(START + timedelta(hours=1)).isoformat()),
    )
    assert (status, answer["accepted"]) == (200, 1)
    assert [(r["id"], r["field"], r["code"]) for r in answer["rejected"]] == [
        ("newer-and-over", "created", "too_early")
    ]
