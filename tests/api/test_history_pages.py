"""Pages that a filter leaves short, how many there are in all, settings that change meanwhile."""

import itertools
from datetime import timedelta

import pytest

from tests.api.helpers import history, ids, refused, send, superuser

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HISTORY = "/v1/accounts/acme/history"


@pytest.fixture
async def customer(service):
    """A customer's key; its account has sixty records over three days, of which three failed."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    records = [
        service.record(
            f"m{n:02}",
            created=(service.clock.now() - n * timedelta(hours=1)).isoformat(),
            status="failed" if n in (0, 30, 59) else "sent",
            from_="Acme" if n % 2 else "+46701234567",
        )
        for n in range(60)
    ]
    assert (await service.post(ingest, *records))[1]["accepted"] == 60
    return customer


@pytest.mark.service_config(history_scan_rows_max=10)
async def test_a_page_looks_at_so_many_records(service, customer):
    """A rare match takes several pages, short or empty ones before the last: none is lost."""
    pages, query = [], ""
    for _ in itertools.count():
        path = f"{HISTORY}?status=failed&limit=2{query}"
        status, page, headers = await send(service, "GET", path, customer)
        assert status == 200
        pages.append([r["id"] for r in page["data"]])
        assert ("Link" in headers) == (page["next"] is not None)
        if page["next"] is None:
            break
        query = f"&cursor={page['next']}"
    assert pages[:4] == [["m00"], [], [], ["m30"]]
    assert list(itertools.chain.from_iterable(pages)) == ["m00", "m30", "m59"]
    assert len(pages) <= 8
    # What no filter chooses from is not bounded by it.
    assert len(await history(service, customer, "limit=50")) == 60
    _, page = await service.call("GET", f"{HISTORY}?limit=50", customer)
    assert len(page["data"]) == 50


@pytest.mark.service_config(history_scan_rows_max=60)
async def test_a_total_is_exact_while_it_is_counted(service, customer):
    """So many records are counted one by one; the total is of the filter, not of the page."""
    for query, count in (
        ("", 60),
        ("status=failed&", 3),
        ("from=Acme&status=failed&", 1),
        ("after=2026-11-21T00:00:00Z&", 12),
        ("before=2020-01-01T00:00:00Z&", 0),
    ):
        _, page = await service.call("GET", f"{HISTORY}?{query}total=estimate&limit=1", customer)
        assert page["total"] == {"estimate": count, "exact": True}, query
    _, page = await service.call("GET", HISTORY, customer)
    assert "total" not in page
    problem = await refused(service, 400, "GET", f"{HISTORY}?total=exact", customer)
    assert (problem["field"], problem["reason"]) == ("total", "not_in_set")


@pytest.mark.service_config(history_scan_rows_max=200)
async def test_a_larger_total_is_of_the_right_order(service, customer):
    """Beyond what is counted it is the planner's estimate, scaled by the share that fits."""
    async with superuser(service) as connection:
        await connection.execute(
            "INSERT INTO history_record (account_key, created_at, expires_at, kind, direction,"
            " status, withheld, id) SELECT account_key, at, at + interval '90 days', 1, 2,"
            " CASE WHEN n % 4 = 0 THEN 6 ELSE 5 END, 0, 'x' || n FROM account,"
            " generate_series(1, 20000) n,"
            " LATERAL (SELECT '2026-11-21T11:00Z'::timestamptz - n * interval '9 s' AS at) t"
            " WHERE account_id = 'acme'"
        )
        await connection.execute("ANALYZE history_record")
    for query, count in (("", 20_000), ("status=failed&", 5_000), ("status=delivered&", 15_000)):
        _, page = await service.call("GET", f"{HISTORY}?{query}total=estimate&limit=1", customer)
        assert page["total"]["exact"] is False
        assert count / 2 < page["total"]["estimate"] < count * 2, query


async def test_a_changed_setting_holds_for_the_next_page(service, customer):
    """However the account was when the page before was read: nothing that is hidden is shown."""
    settings = "/v1/accounts/acme/settings"
    assert len(await ids(service, customer)) == 60
    for body, count in (
        ({"history": {"days": 1}}, 24),
        ({"history": {"enabled": False}}, 0),
        ({"history": {"days": 90}}, 0),
    ):
        assert (await service.call("PUT", settings, customer, json=body))[0] == 200
        assert len(await ids(service, customer)) == count, body
    await service.post(await service.key("ingest"), service.record("new"))
    assert await ids(service, customer) == []
    service.clock.advance(timedelta(seconds=1))
    await service.post(await service.key("ingest"), service.record("newer"))
    [record] = await history(service, customer)
    assert record["id"] == "newer"
    assert record["expires"] == "2027-02-19T12:00:01Z"
