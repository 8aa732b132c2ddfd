import asyncio
import dataclasses
import itertools
import json
from datetime import timedelta

import pytest

from tests.api.helpers import ids, refused, send, superuser, until
from tests.serving import utc
from trafficlog.store.erasures import FIELDS
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify_ledger

# The jobs rest after their first round, which has nothing to do: ``finished`` does their work.
pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.service_config(move_interval_seconds=3600),
]
ERASURES = "/v1/accounts/acme/erasures"
SECRETS = ("+46709998877", "Sekretariat", "kund-4711")


@pytest.fixture
async def keys(service):
    """An ingest key, and a customer's key for acme; the jobs have had their first round."""
    async with superuser(service) as connection:

        async def at_rest():
            return await connection.fetchval("SELECT count(*) FROM trafficlog.job_run")

        await until(at_rest)
    return await service.key("ingest"), await service.key("customer", "acme")


def ago(service, **period):
    """An instant before the present, as a record states it."""
    return (service.clock.now() - timedelta(**period)).isoformat()


async def start(service, customer, body, status=202, **headers):
    """An erasure that was asked for."""
    answered, erasure = await service.call("POST", ERASURES, customer, json=body, headers=headers)
    assert answered == status, erasure
    return erasure


async def finished(service, customer, erasure):
    """The erasure when a round of the jobs has finished it."""
    async with Retention(service.dsn, service.config) as retention:
        await until(retention.lead)
        await retention.erase(service.clock.now(), guard_clock=False)
    _, shown = await service.call("GET", f"{ERASURES}/{erasure['id']}", customer)
    assert shown["finished_at"]
    return shown


async def fill(service, ingest, *accounts):
    """Records that differ in all that a filter asks for; gives those of the first account."""
    values = {
        "kind": ["sms", "mms"],
        "direction": ["incoming", "outgoing"],
        "status": ["sent", "failed"],
        "from": ["+46701234567", "Acme"],
        "to": ["+46709999999", "72456"],
        "tags": [["x", "y"], ["y"]],
    }
    records = [
        service.record(f"m{n}", created=ago(service, hours=n), account=account)
        | dict(zip(values, chosen, strict=True))
        for account in accounts
        for n, chosen in enumerate(itertools.product(*values.values()))
    ]
    assert (await service.post(ingest, *records))[0] == 200
    return records[:64]


FILTERS = [
    {"kind": "sms", "tag": "x"},
    {"direction": "incoming", "status": "failed"},
    {"from": "0046 70-123 45 67", "to": "724 56"},
    {"after": "2026-11-20T12:00:00Z", "kind": "mms"},
    {"before": "2026-11-21T02:00:00+01:00", "from": "Acme", "tag": "y"},
    {"kind": "sms", "direction": "outgoing", "status": "sent", "from": "Acme", "tag": "x"},
    {"to": "Nobody"},
    {"after": "2026-11-19T00:00:00Z", "before": "2026-11-21T00:00:00Z"},
]


async def test_the_preview_is_what_is_erased_and_what_the_history_lists(service, keys):
    """For all kinds of filters: counted, listed and erased are the same records, and no other."""
    ingest, customer = keys
    await fill(service, ingest, "acme", "other")
    other = await service.key("customer", "other")
    for chosen in FILTERS:
        before = await ids(service, customer)
        query = "&".join(f"{k}={v.replace('+', '%2B')}" for k, v in chosen.items())
        meant = await ids(service, customer, query)
        preview = await start(service, customer, {"filter": chosen, "dry_run": True}, 200)
        assert preview["records"] == len(meant), chosen
        assert await ids(service, customer) == before
        erasure = await start(service, customer, {"filter": chosen})
        assert (erasure["state"], erasure["found"]) == ("queued", len(meant))
        done = await finished(service, customer, erasure)
        assert (done["state"], done["erased"], done["remaining"]) == ("done", len(meant), 0)
        assert await ids(service, customer) == [i for i in before if i not in meant], chosen
    everything = await start(service, customer, {"everything": True})
    assert (await finished(service, customer, everything))["erased"] == everything["found"] > 0
    assert await ids(service, customer) == []
    assert len(await ids(service, other, account="other")) == 64
    async with service.database.operator() as operator:
        assert (await verify_ledger(operator)).faults == ()
    usage = await service.call("GET", "/v1/accounts/acme/statistics", customer)
    assert sum(each["records"] for each in usage[1]["data"]) == 64


async def test_a_filter_has_all_fields_of_the_history_and_no_other():
    """A field that the history learns must not pass for none here: more would be erased."""
    assert FIELDS.keys() == {each.name for each in dataclasses.fields(HistoryFilter)}


BAD = [
    ({}, "filter", "missing"),
    ({"filter": {}}, "filter", "ambiguous"),
    ({"filter": None}, "filter", "missing"),
    ({"filter": []}, "filter", "wrong_type"),
    ({"filter": "kind=sms"}, "filter", "wrong_type"),
    ({"filter": {"kind": "fax"}}, "kind", "not_in_set"),
    ({"filter": {"kind": None}}, "kind", "missing"),
    ({"filter": {"tag": ""}}, "tag", "missing"),
    ({"filter": {"kind": ["sms"]}}, "kind", "wrong_type"),
    ({"filter": {"before": "yesterday"}}, "before", "bad_time"),
    ({"filter": {"to": "a\0b"}}, "to", "wrong_type"),
    ({"filter": {"peer": "+46"}}, "peer", "unknown"),
    ({"filter": {"kind": "sms"}, "everything": True}, "filter", "not_together"),
    ({"filter": {"kind": "sms"}, "reports": True}, "reports", "not_together"),
    ({"everything": False}, "filter", "missing"),
    ({"everything": "yes"}, "everything", "wrong_type"),
    ({"everything": 1}, "everything", "wrong_type"),
    ({"everything": True, "dry_run": "true"}, "dry_run", "wrong_type"),
    ({"everything": True, "dryrun": True}, "dryrun", "unknown"),
]


async def test_what_is_not_clear_is_refused_and_nothing_is_erased(service, keys):
    """The answer names the field and the reason; a filter without fields is never everything."""
    ingest, customer = keys
    await service.post(ingest, service.record())
    for body, field, reason in BAD:
        problem = await refused(service, 400, "POST", ERASURES, customer, json=body)
        assert (problem["field"], problem["reason"]) == (field, reason), body
    body = {"everything": True}
    for text in ("", "x" * 256, "a b", "å"):
        problem = await refused(
            service,
            400,
            "POST",
            ERASURES,
            customer,
            json=body,
            headers={"Idempotency-Key": text},
        )
        assert problem["field"] == "Idempotency-Key"
    await refused(service, 400, "POST", ERASURES + "?dry_run=true", customer, json=body)
    await refused(service, 413, "POST", ERASURES, customer, data=b" " * 70_000)
    assert (await service.call("GET", ERASURES, customer))[1] == {"data": [], "next": None}
    assert await ids(service, customer) == ["m1"]


async def test_a_repeated_request_gives_the_same_erasure(service, keys):
    """Also when both come at once, and when it is done; for something else the key is refused."""
    ingest, customer = keys
    await fill(service, ingest, "acme")
    body = {"filter": {"to": "+46709999999"}}
    key = {"Idempotency-Key": "0d3ff6a8-2f1e-4c70-8f5a-6a2f3f0d9c1b"}
    several = await asyncio.gather(*(start(service, customer, body, **key) for _ in range(5)))
    assert len({erasure["id"] for erasure in several}) == 1
    await finished(service, customer, several[0])
    again = await start(service, customer, {"filter": {"to": "0046 70 999 99 99"}}, **key)
    assert (again["id"], again["state"], again["erased"]) == (several[0]["id"], "done", 32)
    for other in ({"everything": True}, {"filter": {"to": "72456"}}):
        problem = await refused(service, 409, "POST", ERASURES, customer, json=other, headers=key)
        assert problem["code"] == "idempotency_key_reused"
    assert len(await ids(service, customer)) == 32
    # Another account's key is its own.
    stranger = await service.key("customer", "other")
    path = ERASURES.replace("acme", "other")
    status, job = await service.call("POST", path, stranger, json={"everything": True}, headers=key)
    assert (status, job["found"]) == (202, 0)


@pytest.mark.service_config(move_interval_seconds=1)
async def test_the_jobs_of_the_service_do_the_work_and_count_it(service, keys):
    """Nothing but the request is needed; metrics tell what went and whether anything failed."""
    ingest, customer = keys
    await service.post(ingest, service.record())
    erasure = await start(service, customer, {"everything": True})

    async def is_done():
        _, shown = await service.call("GET", f"{ERASURES}/{erasure['id']}", customer)
        return shown["state"] == "done"

    await until(is_done)
    assert await ids(service, customer) == []

    async def counted():
        _, metrics = await service.call("GET", "/metrics", service.operator_key)
        return metrics if 'trafficlog_rows_erased_total{reason="erased"} 1.0' in metrics else ""

    metrics = await until(counted)
    assert 'trafficlog_job_failures_total{job="erasures"} 0.0' in metrics
    assert "trafficlog_erasure_oldest_seconds" in metrics


async def test_an_erasure_is_cancelled(service, keys):
    """Before its work begins, nothing goes; twice is as once; a done one cannot be cancelled."""
    ingest, customer = keys
    await service.post(ingest, service.record())
    erasure = await start(service, customer, {"everything": True})
    path = f"{ERASURES}/{erasure['id']}"
    problem = await refused(service, 409, "GET", path + "/receipt", customer)
    assert problem["code"] == "conflict"
    for _ in range(2):
        status, shown = await service.call("POST", path + "/cancel", customer)
        assert (status, shown["state"], shown["erased"]) == (200, "cancelled", 0)
    _, receipt = await service.call("GET", path + "/receipt", customer)
    assert (receipt["state"], receipt["remaining"], receipt["last_trace_gone_by"]) == (
        "cancelled",
        1,
        None,
    )
    assert "cancelled" in receipt["statements"][0]
    assert await ids(service, customer) == ["m1"]


@pytest.mark.service_config(move_interval_seconds=3600, erasures_open_max=2)
async def test_an_account_has_so_many_erasures_under_way_and_a_list_of_them(service, keys):
    """One more is refused until one is finished; the list is paged, newest first."""
    _, customer = keys
    made = []
    for n in range(5):
        service.clock.advance(timedelta(seconds=n % 2))
        erasure = await start(service, customer, {"filter": {"tag": f"t{n}"}})
        assert erasure["filter"] == {"tag": f"t{n}"}
        made.append((erasure["accepted_at"], erasure["id"]))
        if n:
            await refused(service, 409, "POST", ERASURES, customer, json={"everything": True})
            await service.call("POST", f"{ERASURES}/{erasure['id']}/cancel", customer)
    wanted = [i for _, i in sorted(made, reverse=True)]
    for limit in (1, 2, 4, 5, 6):
        found, cursor = [], ""
        while cursor is not None:
            _, page = await service.call("GET", f"{ERASURES}?limit={limit}{cursor}", customer)
            assert len(page["data"]) <= limit
            found += [e["id"] for e in page["data"]]
            cursor = page["next"] and f"&cursor={page['next']}"
        assert found == wanted, limit
    for query in ("limit=0", "limit=1001", "cursor=x", "state=done"):
        await refused(service, 400, "GET", f"{ERASURES}?{query}", customer)


async def test_a_receipt_says_all_and_names_nobody(service, keys):
    """What went, what the law keeps and until when, the last trace; no value of any record."""
    ingest, customer = keys
    number, name, tag = SECRETS
    for days in (0, 3, 40):
        await service.post(
            ingest,
            service.record(
                f"hemlig{days}",
                created=ago(service, days=days),
                to=number,
                from_=name,
                tags=[tag],
                message="hemligt",
            ),
        )
    body = {"filter": {"to": number, "from": name, "tag": tag, "after": "2026-01-01T00:00:00Z"}}
    status, erasure, headers = await send(service, "POST", ERASURES, customer, json=body)
    assert status == 202
    assert headers["Location"] == f"{ERASURES}/{erasure['id']}"
    done = await finished(service, customer, erasure)
    assert done["filter"] is None
    _, receipt = await service.call("GET", f"{ERASURES}/{erasure['id']}/receipt", customer)
    assert receipt["erased"] == [
        {
            "data_class": "history_record",
            "rows": 3,
            "kinds": {"sms": 3},
            "oldest_day": "2026-10-12",
            "newest_day": "2026-11-21",
        }
    ]
    assert receipt["fields"] == ["from", "to", "tag", "after"]
    # 90 days after the newest, to the end of that day's partition, and one run later.
    assert utc(receipt["last_trace_gone_by"]) == utc("2027-02-20T01:00:00Z")
    assert utc(receipt["backups_gone_by"]) == utc("2027-03-22T01:00:00Z")
    kept = {each["data_class"]: each for each in receipt["remains"]}
    assert utc(kept["traffic_record"]["until"]) == utc("2027-01-21T00:00:00Z")
    assert kept["traffic_record"]["period_hours"] == 60 * 24
    assert kept.keys() == {"traffic_record", "debug_log", "in_transit"}
    assert all(each["legal_basis"] for each in receipt["remains"])
    async with superuser(service) as connection:
        rows = await connection.fetch("SELECT * FROM erasure")
        ledger = await connection.fetch("SELECT * FROM purge_ledger")
    for text in (json.dumps(receipt), *(str(dict(row)) for row in (*rows, *ledger))):
        for secret in (*SECRETS, "hemlig", "acme"):
            assert secret not in text
    # A record's time to the microsecond would tell which one it was.
    assert "T12:00:00" not in json.dumps(receipt["erased"] + [kept["traffic_record"]])


async def test_a_receipt_counts_each_policy_that_records_were_created_under(service, keys):
    """The law's period may have changed between the oldest and the newest record."""
    ingest, customer = keys
    await service.post(ingest, service.record("m1"))
    async with superuser(service) as connection:
        await connection.execute(
            "INSERT INTO retention_policy VALUES ('traffic_record', '2026-11-23Z', 240, 'new law',"
            " now(), 'test')"
        )
    service.clock.advance(timedelta(days=3))
    await service.post(ingest, service.record("m2"))
    erasure = await start(service, customer, {"everything": True})
    await finished(service, customer, erasure)
    _, receipt = await service.call("GET", f"{ERASURES}/{erasure['id']}/receipt", customer)
    kept = [
        (each["until"], each["legal_basis"])
        for each in receipt["remains"]
        if each["data_class"] == "traffic_record"
    ]
    assert kept[0][0] == "2027-01-22T00:00:00Z"
    assert kept[1] == ("2026-12-05T00:00:00Z", "new law")


async def test_no_erasure_of_another_account_is_seen_or_cancelled(service, keys):
    """Neither by path nor by id nor by cursor; a gateway's and an operator's key open nothing."""
    ingest, customer = keys
    await fill(service, ingest, "acme")
    erasure = await start(service, customer, {"filter": {"kind": "sms"}})
    await start(service, customer, {"filter": {"kind": "sms"}})
    await finished(service, customer, erasure)
    stranger = await service.key("customer", "other")
    theirs = ERASURES.replace("acme", "other")
    for method, tail in (("GET", ""), ("POST", "/cancel"), ("GET", "/receipt")):
        path = f"/{erasure['id']}{tail}"
        await refused(service, 404, method, theirs + path, stranger)
        await refused(service, 403, method, ERASURES + path, stranger)
        await refused(service, 403, method, ERASURES + path, ingest)
        await refused(service, 403, method, ERASURES + path, service.operator_key)
    assert (await service.call("GET", theirs, stranger))[1]["data"] == []
    _, page = await service.call("GET", ERASURES + "?limit=1", customer)
    await refused(service, 400, "GET", f"{theirs}?cursor={page['next']}", stranger)
    await refused(service, 403, "POST", ERASURES, stranger, json={"everything": True})
