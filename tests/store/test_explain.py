"""Why a record is still here, or why it is gone."""

from datetime import UTC, datetime, timedelta

import pytest

from trafficlog.retention import HistoryDays, HistoryOff
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.explain import explain
from trafficlog.store.holds import Holds
from trafficlog.store.retention import Retention

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

pytestmark = pytest.mark.service_now("2026-11-22T12:00:00Z")


@pytest.fixture
async def stored(service):
    """The service, with the record m1 of acme in it."""
    status, _ = await service.post(await service.key("ingest"), service.record("m1"))
    assert status == 200
    return service


async def sentences(service, record="m1", account="acme", created=None, now=NOW):
    """What is said of a record."""
    key = await Accounts(service.database).key_of(account)
    async with Retention(service.dsn, service.config) as retention:
        found = await explain(retention.connection, record, key, created, now)
    return "\n".join(sentence for each in found for sentence in each.sentences)


async def run(service, at):
    """One retention run."""
    async with Retention(service.dsn, service.config) as retention:
        await retention.wait_for_lead()
        assert (await retention.run(at, guard_clock=False)).failures == []


async def test_what_is_stored_is_told_with_its_expiry(stored):
    """Each class has its own."""
    text = await sentences(stored)
    assert "traffic_record: created 2026-11-22 12:00:00Z" in text
    assert "expires 2027-01-21 12:00:00Z" in text
    assert "expires 2027-02-20 12:00:00Z" in text


async def test_what_is_gone_is_told_with_its_ledger_entry(stored):
    """The time of creation leads to the partition, and that to the ledger."""
    await run(stored, NOW + timedelta(days=100))
    text = await sentences(stored, created=NOW, now=NOW + timedelta(days=100))
    assert "its partition traffic_record_20270121 was destroyed" in text
    assert "its partition history_record_20270220 was destroyed" in text


async def test_a_hold_is_named_and_so_is_the_copy_it_keeps(stored):
    """The answer to 'why is it still here' after everything else of that day has gone."""
    hold = await Holds(stored.database).place(
        Selector(number="+46701234567"),
        reason="spam",
        case_ref="A-1",
        ends_at=NOW + timedelta(days=200),
        by="test",
        now=NOW,
    )
    assert f"Hold {hold.id} (A-1) keeps it" in await sentences(stored)
    await run(stored, NOW + timedelta(days=100))
    text = await sentences(stored, now=NOW + timedelta(days=100))
    assert "held traffic_record" in text
    assert f"Hold {hold.id} (A-1) keeps it" in text


async def test_history_that_the_setting_gave_up_is_told_with_the_change(stored):
    """Off and on again: what was before stays away, and the changes are listed."""
    accounts = Accounts(stored.database)
    key = await accounts.key_of("acme")
    for number, setting in enumerate((HistoryOff(), HistoryDays(30)), 1):
        await accounts.change(
            key,
            setting,
            monthly_reports=True,
            now=NOW + timedelta(minutes=number),
            by="test",
        )
    await run(stored, NOW + timedelta(hours=1))
    text = await sentences(stored, now=NOW + timedelta(hours=1))
    assert "was 90 days until 2026-11-22 12:01:00Z, then off (test)" in text
    assert "gave up all created up to" in text


async def test_erased_history_is_told_as_such(stored):
    """The legal record stays, and says when it was created."""
    customer = await stored.key("customer", "acme")
    status, _ = await stored.call("DELETE", "/v1/accounts/acme/history/m1", customer)
    assert status == 200
    assert "its customer erased it" in await sentences(stored)


async def test_an_id_that_is_nowhere_is_said_to_be(stored):
    """Without a time of creation nothing can be asked of the ledger."""
    assert "Nothing is stored under this id" in await sentences(stored, record="m2")
    text = await sentences(stored, record="m2", created=NOW)
    assert "it never came in" in text
