"""Monthly reports over the API: listed, read in three forms, deleted, each account its own."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest

from tests.api.helpers import refused, send, until
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-10-31T12:00:00Z")
REPORTS = "/v1/accounts/acme/reports"
OCTOBER = REPORTS + "/2026-10"
ENDED = utc("2026-11-01T00:00:00Z")


@pytest.fixture
async def keys(service):
    """Keys of a gateway and of the account, whose October is over and reported."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(
        ingest,
        service.record("m1", status="sent", parts=2, cost=3500, message="secret"),
        service.record("c1", kind="call", direction="incoming", status="success", duration=61),
        service.record("m2"),
        service.record("x1", account="other", status="sent"),
    )
    service.clock.set(ENDED)
    await until(lambda: there(service, customer))
    return ingest, customer


async def there(service, key, path=OCTOBER):
    """Whether a report is there."""
    return (await service.call("GET", path, key))[0] == 200


async def test_a_report_says_what_was_used_and_what_it_covers(service, keys):
    """Sums by kind, direction and status and by day, and until when they can still change."""
    _, customer = keys
    status, found, headers = await send(service, "GET", OCTOBER, customer)
    assert status == 200
    assert (headers["Cache-Control"], headers["Vary"]) == ("no-store", "Accept")
    total = {"records": 3, "parts": 2, "seconds": 61, "cost": 3500}
    head = {
        "month": "2026-10",
        "made_at": "2026-11-01T00:00:00Z",
        "covers": "records stored until 2026-11-01T00:00:00Z",
        "final": False,
        "final_from": "2027-01-01T00:00:00Z",
        "currency": None,
        "total": total,
    }
    nothing = {"parts": 0, "seconds": 0, "cost": 0}
    sms = {"kind": "sms", "direction": "outgoing"}
    call = {"kind": "call", "direction": "incoming", "status": "success", "records": 1}
    assert found == head | {
        "account": "acme",
        "display_name": None,
        "lines": [
            sms | nothing | {"status": None, "records": 1},
            sms | nothing | {"status": "sent", "records": 1, "parts": 2, "cost": 3500},
            call | nothing | {"seconds": 61},
        ],
        "days": [{"day": "2026-10-31", **total}],
    }
    assert await service.call("GET", REPORTS, customer) == (200, {"data": [head]})
    assert await service.call("GET", OCTOBER, service.operator_key) == (200, found)


async def test_the_other_forms_say_what_the_json_says(service, keys):
    """CSV: a line for each of the report's. A page: one file that may use its own style alone."""
    _, customer = keys
    _, found = await service.call("GET", OCTOBER, customer)
    status, text, headers = await send(service, "GET", OCTOBER + "?format=csv", customer)
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert headers["Content-Disposition"] == 'attachment; filename="report-2026-10.csv"'
    figures = ("records", "parts", "seconds", "cost")
    read = [
        {n: v or None for n, v in line.items()} | {n: int(line[n]) for n in figures}
        for line in csv.DictReader(io.StringIO(text))
    ]
    same = {"currency": None, "made_at": found["made_at"], "final": "false", "month": "2026-10"}
    assert read == [line | same for line in found["lines"]]
    asked = await service.call("GET", OCTOBER, customer, headers={"Accept": "text/csv"})
    assert asked == (200, text)
    accept = {"Accept": "text/html"}
    _, page, headers = await send(service, "GET", OCTOBER, customer, headers=accept)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "Usage in October 2026" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "secret" not in page
    _, page = await service.call("GET", OCTOBER + "?format=html&lang=sv", customer)
    assert "Användning i oktober 2026" in page
    _, found = await service.call("GET", OCTOBER + "?format=json", customer, headers=accept)
    assert found["month"] == "2026-10"


async def test_a_deleted_report_is_gone_for_good(service, keys):
    """The receipt says what went and what stays; a late record goes into other reports only."""
    ingest, customer = keys
    status, receipt = await service.call("DELETE", OCTOBER, customer)
    assert status == 200
    assert (receipt["month"], receipt["erased"]) == (
        "2026-10",
        [{"data_class": "monthly_report", "rows": 1}],
    )
    assert [each["data_class"] for each in receipt["remains"]] == ["usage_statistic"]
    assert (await refused(service, 404, "DELETE", OCTOBER, customer))["code"] == "not_found"
    service.clock.advance(timedelta(days=9))
    late = {"created": "2026-10-02T00:00:00Z"}
    await service.post(
        ingest, service.record("late", **late), service.record("x2", account="other", **late)
    )
    other = await service.key("customer", "other")
    path = "/v1/accounts/other/reports/2026-10"

    async def counted():
        _, found = await service.call("GET", path, other)
        return found["total"]["records"] == 2

    # The other account's report is made anew in the same round.
    await until(counted)
    _, found = await service.call("GET", path, other)
    assert found["covers"] == "records stored until 2026-11-10T00:00:00Z"
    await refused(service, 404, "GET", OCTOBER, customer)
    assert await service.call("GET", REPORTS, customer) == (200, {"data": []})


async def test_a_key_reaches_its_own_reports_alone(service, keys):
    """Another account's are refused; staff do not delete; what is no month is told so."""
    ingest, customer = keys
    other = await service.key("customer", "other")
    for method, path in (("GET", REPORTS), ("GET", OCTOBER), ("DELETE", OCTOBER)):
        await refused(service, 403, method, path, other)
        await refused(service, 403, method, path, ingest)
        await refused(service, 401, method, path)
    await refused(service, 403, "DELETE", OCTOBER, service.operator_key)
    assert await there(service, customer)
    for month in ("2026", "2026-13", "2026-00", "0000-01", "2026-1", "2026-10-01", "october"):
        for method in ("GET", "DELETE"):
            problem = await refused(service, 400, method, f"{REPORTS}/{month}", customer)
            assert (problem["field"], problem["reason"]) == ("month", "bad_format")
    for month in ("2026-11", "2026-09", "9999-12", "0001-01"):
        problem = await refused(service, 404, "GET", f"{REPORTS}/{month}", customer)
        assert problem["code"] == "not_found"
    problem = await refused(service, 400, "GET", OCTOBER + "?format=pdf", customer)
    assert (problem["field"], problem["reason"]) == ("format", "not_in_set")
