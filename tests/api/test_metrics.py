"""/metrics, /healthz and /readyz: what operations staff and machines see, and nothing personal."""

import re
import shutil
import subprocess
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.helpers import NDJSON, raw, send, until

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")

# DESIGN §11, with the labels each has.
NAMES = {
    "trafficlog_records_total": {"outcome"},
    "trafficlog_ingest_request_seconds": set(),
    "trafficlog_ingest_flush_seconds": set(),
    "trafficlog_ingest_waiting_records": set(),
    "trafficlog_partitions_dropped_total": {"table"},
    "trafficlog_partition_overdue_seconds": {"table"},
    "trafficlog_partition_headroom_seconds": {"table"},
    "trafficlog_rows_erased_total": {"reason"},
    "trafficlog_job_last_success_timestamp_seconds": {"job"},
    "trafficlog_job_failures_total": {"job"},
    "trafficlog_exports_total": {"outcome"},
    "trafficlog_exports_running": set(),
    "trafficlog_exported_rows_total": {"format"},
    "trafficlog_erasure_oldest_seconds": set(),
    "trafficlog_holds_active": set(),
    "trafficlog_connections": set(),
    "trafficlog_connections_refused_total": {"reason"},
    "trafficlog_database_durable": {"setting"},
    "trafficlog_postgres_restarts_total": set(),
    "trafficlog_worker_exits_total": set(),
    "trafficlog_http_requests_total": {"route", "status"},
    "trafficlog_http_request_seconds": {"route"},
}
TABLES = {"traffic_record", "history_record", "debug_log", "in_transit", "access_log"}
PERSONAL = ("secretive", "46701234567", "192.0.2.77", "Call-77", "case-77", "hold-number")


async def read(service):
    """The metrics as text, once the first round of the jobs has set its gauges."""

    async def complete():
        _, text = await service.call("GET", "/metrics", service.operator_key)
        return text if "trafficlog_partition_headroom_seconds{" in text else None

    return await until(complete)


def samples(text):
    """Every sample as name, labels and value."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def value(text, name, **labels):
    """The value of one sample."""
    [found] = [v for n, given, v in samples(text) if n == name and given == labels]
    return found


async def traffic(service):
    """Some of all that a service is asked for, with names, numbers and addresses in it."""
    ingest = await service.key("ingest")
    customer = await service.key("customer", "secretive")
    record = service.record("Call-77", account="secretive", ip="192.0.2.77", user_agent="Call-77")
    await service.post(ingest, record, record | {"kind": "fax"})
    await service.post(ingest, record)
    for path in (
        "/history?from=%2B46701234567",
        "/history/Call-77",
        "/settings",
        "/nothing/Call-77",
    ):
        await service.call("GET", "/v1/accounts/secretive" + path, customer)
    await service.call("GET", "/v1/accounts/secretive/history/192.0.2.77", customer)
    await service.call("DELETE", "/v1/accounts/secretive/history/Call-77", customer)
    await service.call("PUT", "/v1/in-transit/Call-77", ingest, data=b"1")
    await service.call("GET", "/46701234567?from=secretive", customer)
    await service.call("PATCH", "/v1/accounts/secretive/settings", customer)
    await send(service, "POST", "/v1/debug-logs", ingest, data=b'{"line":"x"}', headers=NDJSON)
    hold = {"number": "+46701234567", "reason": "secretive", "case_ref": "case-77"}
    until_then = (service.clock.now() + timedelta(days=1)).isoformat()
    await service.call("POST", "/v1/holds", service.operator_key, json=hold | {"until": until_then})
    await raw(service, b"GET /46701234567 HTTP/1.1\r\nHost: secretive\r\n\r\n")


async def test_promtool_finds_nothing_to_complain_of(service):
    """The exposition is what Prometheus reads, and its names follow the conventions."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    await traffic(service)
    text = await read(service)
    done = subprocess.run(  # noqa: ASYNC221 - a moment, in a test
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_every_metric_is_there_with_its_labels(service):
    """Each name that an alert can rest on is shown from the start, with the labels it has."""
    await traffic(service)
    text = await read(service)
    shown = {}
    for name, labels, _ in samples(text):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        shown.setdefault(family, set()).update(labels.keys() - {"le"})
    ours = {n: labels for n, labels in shown.items() if not n.endswith("_created")}
    assert ours.keys() <= NAMES.keys() | {"trafficlog_partitions_dropped"}, (
        ours.keys() - NAMES.keys()
    )
    types = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    assert {n.removesuffix("_total") for n in NAMES} <= {t.removesuffix("_total") for t in types}
    for name, labels in ours.items():
        assert labels == NAMES[name], name
    for name in ("trafficlog_partition_overdue_seconds", "trafficlog_partition_headroom_seconds"):
        assert {labels["table"] for n, labels, _ in samples(text) if n == name} == TABLES


async def test_what_is_counted_is_right(service):
    """Records by outcome, rows erased, holds in force, requests by route and status."""
    await traffic(service)
    text = await read(service)
    counted = {
        outcome: value(text, "trafficlog_records_total", outcome=outcome)
        for outcome in ("accepted", "updated", "duplicate", "rejected")
    }
    assert counted == {"accepted": 1, "updated": 0, "duplicate": 1, "rejected": 1}
    assert value(text, "trafficlog_rows_erased_total", reason="erased") == 1
    assert value(text, "trafficlog_ingest_request_seconds_count") == 2
    assert value(text, "trafficlog_ingest_flush_seconds_count") >= 3
    assert value(text, "trafficlog_ingest_waiting_records") == 0
    requests = "trafficlog_http_requests_total"
    assert value(text, requests, route="/v1/records", status="200") == 2
    assert value(text, requests, route="unknown", status="404") == 3
    path = "/v1/accounts/{account}/history/{id}"
    assert value(text, requests, route=path, status="404") == 1
    headroom = "trafficlog_partition_headroom_seconds"
    assert value(text, headroom, table="traffic_record") >= timedelta(days=7).total_seconds()
    assert value(text, "trafficlog_partition_overdue_seconds", table="traffic_record") == 0

    async def held():
        return value(await read(service), "trafficlog_holds_active") == 1

    await until(held)


async def test_no_label_tells_of_anybody(service):
    """No account, number, address, id or case stands in the metrics after traffic of all kinds."""
    await traffic(service)
    text = await read(service)
    assert [word for word in PERSONAL if word in text] == []
    routes = {labels["route"] for _, labels, _ in samples(text) if "route" in labels}
    assert all("{" in r or not re.search(r"[0-9]{3}|secretive", r) for r in routes)


async def test_health_and_readiness_answer_without_a_key(service):
    """The process answers; the database answers and has our schema."""
    assert await service.call("GET", "/healthz") == (200, {"status": "ok"})
    status, answer = await service.call("GET", "/readyz")
    assert (status, answer["status"]) == (200, "ready")
    assert answer["schema_version"] >= 4
