"""Disclosures over the API: for officers, with reason, case and window, and never in silence."""

from datetime import timedelta

import pytest
import structlog.testing

from tests.api.helpers import refused, superuser
from tests.serving import utc
from trafficlog.store.keys import SCOPES

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
DISCLOSURES, LOG, HOLDS = "/v1/disclosures", "/v1/access-log", "/v1/holds"
WINDOW = {"created_from": "2026-11-20T00:00:00Z", "created_to": "2026-11-22T00:00:00Z"}
ORDER = WINDOW | {"reason": "order of the court", "case_ref": "PO-17"}


@pytest.fixture
async def officer(service):
    """The officer's key; acme and other have records."""
    ingest = await service.key("ingest")
    await service.key("customer", "acme")
    await service.post(
        ingest,
        service.record("m1", ip="203.0.113.7", user_agent="crm"),
        service.record("m2", to="+46709999999"),
        service.record("m1", account="other", duration=3, kind="call"),
    )
    return await service.key("officer")


async def disclose(service, key, **fields):
    """One page."""
    status, answer = await service.call("POST", DISCLOSURES, key, json=ORDER | fields)
    assert status == 200, answer
    return answer


async def accesses(service, action="disclosure"):
    """What the access log has, oldest first."""
    async with superuser(service) as connection:
        return await connection.fetch(
            "SELECT * FROM access_log WHERE action = $1 ORDER BY at, access_id", action
        )


async def test_an_officer_is_given_the_legal_record_and_nothing_of_history(service, officer):
    """All that the law keeps of a record, in the API's names; what is not known is absent."""
    answer = await disclose(service, officer, ip="203.0.113.7")
    assert answer == {
        "data": [
            {
                "account": "acme",
                "id": "m1",
                "created": "2026-11-21T12:00:00Z",
                "kind": "sms",
                "direction": "outgoing",
                "from": "Acme",
                "to": "+46701234567",
                "ip": "203.0.113.7",
                "user_agent": "crm",
                "expires": "2027-01-20T12:00:00Z",
            }
        ],
        "next": None,
    }
    [entry] = await accesses(service)
    assert entry["actor"].startswith("key:")
    assert (entry["reason"], entry["case_ref"], entry["rows"]) == ("order of the court", "PO-17", 1)


async def test_pages_go_on_from_the_cursor_of_the_same_request(service, officer):
    """To the end without loss; for another selector or window the cursor is refused."""
    found, cursor = [], None
    for _ in range(4):
        answer = await disclose(
            service, officer, number="0046 70-123 45 67", limit=1, cursor=cursor
        )
        found += [(r["account"], r["id"]) for r in answer["data"]]
        cursor = answer["next"]
        if cursor is None:
            break
        taken = cursor
    assert found == [("acme", "m1"), ("other", "m1")]
    assert sorted(e["rows"] for e in await accesses(service)) == [0, 1, 1]
    for change in (
        {"number": "+46709999999"},
        {"account": "acme"},
        {"number": "+46701234567", "created_from": "2026-11-19"},
        {"number": "+46701234567", "created_to": "2026-11-23"},
    ):
        body = ORDER | {"cursor": taken} | change
        problem = await refused(service, 400, "POST", DISCLOSURES, officer, json=body)
        assert problem["field"] == "cursor", change


async def test_no_other_key_discloses_or_reads_the_access_log(service, officer):
    """Not even an operator's; and nothing is noted, since nothing was read."""
    for scope in set(SCOPES) - {"officer"}:
        key = await service.key(scope, "acme" if scope == "customer" else None)
        body = ORDER | {"account": "acme"}
        await refused(service, 403, "POST", DISCLOSURES, key, json=body)
        await refused(service, 403, "GET", LOG, key)
    assert await accesses(service) == []


async def test_finding_nothing_is_noted_and_an_unknown_account_is_told(service, officer):
    """An empty answer is an answer; a misspelt account must not pass for one."""
    assert await disclose(service, officer, ip="10.0.0.1") == {"data": [], "next": None}
    assert await disclose(service, officer, record="acme/m9") == {"data": [], "next": None}
    body = ORDER | {"account": "Acme"}
    problem = await refused(service, 404, "POST", DISCLOSURES, officer, json=body)
    assert problem["code"] == "not_found"
    assert [e["rows"] for e in await accesses(service)] == [0, 0, 0]


async def test_what_is_expired_is_not_disclosed(service, officer):
    """From its instant on, whether its partition has gone or not."""
    window = {"created_from": "2026-11-21", "created_to": "2026-11-22"}
    for left, count in ((timedelta(microseconds=1), 2), (timedelta(0), 0)):
        service.clock.set(utc("2027-01-20T12:00:00Z") - left)
        answer = await disclose(service, officer, account="acme", **window)
        assert len(answer["data"]) == count


BAD = [
    ({}, "selector"),
    ({"account": "acme", "ip": "10.0.0.1"}, "selector"),
    ({"account": "acme", "reason": None}, "reason"),
    ({"account": "acme", "reason": " "}, "reason"),
    ({"account": "acme", "reason": "a" * 501}, "reason"),
    ({"account": "acme", "case_ref": None}, "case_ref"),
    ({"account": "acme", "case_ref": ""}, "case_ref"),
    ({"account": "acme", "created_from": None}, "created_from"),
    ({"account": "acme", "created_to": None}, "created_to"),
    ({"account": "acme", "created_to": "2026-11-20"}, "created_to"),
    ({"account": "acme", "created_to": "2026-12-21T00:00:00.000001Z"}, "created_to"),
    ({"account": "acme", "created_to": "soon"}, "created_to"),
    ({"record": "m1"}, "record"),
    ({"ip": "999.1.1.1"}, "ip"),
    ({"number": ""}, "number"),
    ({"number": 46}, "number"),
    ({"account": "a\0"}, "account"),
    ({"account": "acme", "limit": 0}, "limit"),
    ({"account": "acme", "limit": 1001}, "limit"),
    ({"account": "acme", "limit": "5"}, "limit"),
    ({"account": "acme", "limit": True}, "limit"),
    ({"account": "acme", "limit": 1.5}, "limit"),
    ({"account": "acme", "cursor": "AAAA"}, "cursor"),
    ({"account": "acme", "cursor": 5}, "cursor"),
    ({"account": "acme", "dry_run": True}, "dry_run"),
]


async def test_a_bad_request_is_refused_by_its_field(service, officer):
    """And reads nothing."""
    for fields, name in BAD:
        problem = await refused(service, 400, "POST", DISCLOSURES, officer, json=ORDER | fields)
        assert problem["field"] == name, fields
    assert await accesses(service) == []


async def test_an_officer_reads_the_legal_copies_of_a_hold_for_a_reason(service, officer):
    """These alone, and operators all others; each reading is noted with reason and case."""
    operator = service.operator_key
    body = {"reason": "fraud", "case_ref": "A-1", "until": "2027-10-01T00:00:00Z"}
    _, hold = await service.call("POST", HOLDS, operator, json=body | {"account": "acme"})
    async with superuser(service) as connection:
        for table in ("traffic_record", "history_record"):
            await connection.execute(
                "SELECT copy_held($1, $2, $3, $3)", table, table, service.clock.now()
            )
    path = f"{HOLDS}/{hold['id']}"
    for key in (officer, operator):
        assert (await service.call("GET", HOLDS, key))[1]["data"][0]["account"] == "acme"
        shown = (await service.call("GET", path, key))[1]
        assert shown["held"] == {"traffic_record": 2, "history_record": 2}
    problem = await refused(service, 400, "GET", f"{path}/records", officer)
    assert (problem["field"], problem["reason"]) == ("reason", "missing")
    await refused(service, 400, "GET", f"{path}/records?reason=%20", officer)
    for action in ("release", "extend"):
        await refused(service, 403, "POST", f"{path}/{action}", officer, json={})
    await refused(service, 404, "GET", f"{HOLDS}/none/records?reason=x", officer)
    for key, query, expected in (
        (officer, "?reason=police+inquiry", {"traffic_record"}),
        (operator, "?reason=police+inquiry", {"history_record"}),
        (operator, "", {"history_record"}),
    ):
        _, answer = await service.call("GET", f"{path}/records{query}", key)
        assert {c["data_class"] for c in answer["data"]} == expected
        assert [c["record"] for c in answer["data"]] == ["m1", "m2"]
        assert ("ip" in answer["data"][0]["content"]) is (key is officer)
    noted = await accesses(service, "held.read")
    assert {(e["subject"], e["case_ref"], e["rows"]) for e in noted} == {
        (f"hold {hold['id']}", "A-1", 2)
    }
    assert sorted(e["reason"] for e in noted) == ["fraud", "police inquiry", "police inquiry"]


async def test_a_copy_whose_hold_has_ended_is_shown_until_its_own_expiry(service, officer):
    """From then on nobody sees it, though the next run has yet to destroy it."""
    operator, ends = service.operator_key, utc("2027-02-01T00:00:00Z")
    body = {"reason": "fraud", "case_ref": "A-1", "until": ends.isoformat()}
    _, hold = await service.call("POST", HOLDS, operator, json=body | {"account": "acme"})
    async with superuser(service) as connection:
        await connection.execute(
            "SELECT copy_held('traffic_record', 'traffic_record', $1, 'infinity')",
            service.clock.now(),
        )
    path = f"{HOLDS}/{hold['id']}/records?reason=x"
    for at, count in ((ends - timedelta(microseconds=1), 2), (ends, 0)):
        service.clock.set(at)
        assert len((await service.call("GET", path, officer))[1]["data"]) == count
    service.clock.set(utc("2027-01-20T12:00:00Z") - timedelta(microseconds=1))
    await service.call("POST", f"{HOLDS}/{hold['id']}/release", operator)
    for left, count in ((timedelta(0), 2), (timedelta(microseconds=1), 0)):
        service.clock.set(utc("2027-01-20T12:00:00Z") - timedelta(microseconds=1) + left)
        assert len((await service.call("GET", path, officer))[1]["data"]) == count


async def test_the_access_log_is_paged_and_bounded(service, officer):
    """Newest first, by cursor and by times; a wrong cursor, time or limit is refused."""
    for number in range(3):
        await disclose(service, officer, record=f"acme/m{number}")
        service.clock.advance(timedelta(minutes=1))
    found, query = [], "limit=1&before=2026-11-21T12:02:30Z"
    cursor = ""
    while cursor is not None:
        _, page = await service.call("GET", f"{LOG}?{query}{cursor}", officer)
        found += [e["subject"].split(",")[0] for e in page["data"]]
        cursor = None if page["next"] is None else f"&cursor={page['next']}"
    assert found == ["record acme/m2", "record acme/m1", "record acme/m0"]
    _, page = await service.call("GET", f"{LOG}?after=2026-11-21T12:00:00Z", officer)
    assert [e["action"] for e in page["data"]][-2:] == ["disclosure"] * 2
    assert set(page["data"][-1]) == {
        *("at", "actor", "action", "subject", "reason", "case_ref", "rows")
    }
    for query, name in (("cursor=x", "cursor"), ("after=x", "after"), ("limit=0", "limit")):
        problem = await refused(service, 400, "GET", f"{LOG}?{query}", officer)
        assert problem["field"] == name


async def test_who_was_asked_about_is_in_the_access_log_and_nowhere_else(service, officer):
    """Not in the service's log, its metrics, or the ledger."""
    with structlog.testing.capture_logs() as logs:
        await disclose(service, officer, number="+46701234567")
        body = ORDER | {"account": "nobody"}
        await refused(service, 404, "POST", DISCLOSURES, officer, json=body)
    _, metrics = await service.call("GET", "/metrics", service.operator_key)
    async with superuser(service) as connection:
        ledger = str(await connection.fetch("SELECT * FROM purge_ledger"))
    for secret in ("46701234567", "PO-17", "order of the court", "nobody"):
        assert secret not in str(logs) + metrics + ledger
    assert 'route="/v1/disclosures"' in metrics
