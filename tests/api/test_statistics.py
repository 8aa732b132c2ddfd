"""GET /statistics: what an account used, for that account and for operators."""

from datetime import timedelta

import pytest

from tests.api.helpers import refused, send

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
STATISTICS = "/v1/accounts/acme/statistics"
# Query, the parameter that is refused, and why.
BAD_QUERIES = [
    ("by=week", "by", "not_in_set"),
    ("first=yesterday", "first", "bad_format"),
    ("last=2026-02-30", "last", "bad_format"),
    ("first=2026-11-22&last=2026-11-21", "first", "out_of_range"),
    ("first=2026-11-11&last=2026-11-21", "first", "out_of_range"),
    ("from=2026-11-01", "from", "unknown"),
]


@pytest.fixture
async def keys(service):
    """Keys of a gateway and of the account, which has used something."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    day_before = (service.clock.now() - timedelta(days=1)).isoformat()
    await service.post(
        ingest,
        service.record("m1", status="sent", parts=2, cost=3500),
        service.record("m2", status="sent", created=day_before),
        service.record("m3", account="other"),
    )
    return ingest, customer


def row(first_day, records, parts, cost):
    """What is answered of sent messages."""
    return {
        "first_day": first_day,
        "kind": "sms",
        "direction": "outgoing",
        "status": "sent",
        "records": records,
        "parts": parts,
        "seconds": 0,
        "cost": cost,
    }


async def test_days_and_months_of_ones_own_account(service, keys):
    """By default the last 30 days, each by itself; by month they are taken together."""
    _, customer = keys
    status, body, _ = await send(service, "GET", STATISTICS, customer)
    assert (status, body["by"], body["first"], body["last"]) == (
        *(200, "day"),
        *("2026-10-23", "2026-11-21"),
    )
    assert body["data"] == [row("2026-11-20", 1, 0, 0), row("2026-11-21", 1, 2, 3500)]
    _, body, _ = await send(service, "GET", STATISTICS + "?by=month", customer)
    assert body["data"] == [row("2026-11-01", 2, 2, 3500)]
    _, body, _ = await send(
        service, "GET", STATISTICS + "?first=2026-11-20&last=2026-11-20", customer
    )
    assert body["data"] == [row("2026-11-20", 1, 0, 0)]


async def test_who_may_read_them(service, keys):
    """Operators may, of any account; another account's key and a gateway's may not."""
    ingest, _ = keys
    status, body, _ = await send(service, "GET", STATISTICS, service.operator_key)
    assert (status, len(body["data"])) == (200, 2)
    for key in (ingest, await service.key("customer", "other"), await service.key("metrics")):
        await refused(service, 403, "GET", STATISTICS, key)
    await refused(service, 401, "GET", STATISTICS)


@pytest.mark.service_config(statistics_days_max=10)
@pytest.mark.parametrize(("query", "field", "reason"), BAD_QUERIES)
async def test_a_query_that_is_not_acceptable_is_named(service, keys, query, field, reason):
    """The parameter, its value and the reason; ten days are the bound here."""
    _, customer = keys
    problem = await refused(service, 400, "GET", f"{STATISTICS}?{query}", customer)
    assert (problem["field"], problem["reason"]) == (field, reason)
    status, _, _ = await send(
        service, "GET", STATISTICS + "?first=2026-11-12&last=2026-11-21", customer
    )
    assert status == 200
