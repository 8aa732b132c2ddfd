"""Whatever is sent to the API, the answer is never a failure of the service."""

import gzip
import json
from urllib.parse import quote

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import send
from tests.records import GOOD
from trafficlog.api.history import PAGE_PARAMETERS
from trafficlog.api.operate import HOLD_FIELDS
from trafficlog.records import Report

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.service_config(body_decoded_bytes_max=2**20, refusal_chars_max=200),
]
FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Any text, half surrogates and NUL included, as JSON can say them.
TEXTS = st.text(st.characters(codec=None), max_size=80)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.sampled_from(
        [
            "sms",
            "call",
            "2026-11-21T12:00:00Z",
            "2026-11-21T12:00:00.123456789+23:59",
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00+14:00",
            "delivered",
            "ongoing",
            "fe80::1%\0",
            "00" + "1" * 62,
            "message",
        ]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from([*(f.encode_name for f in msgspec.structs.fields(Report)), "other"])
OBJECT_FIELDS = (*HOLD_FIELDS, "history", "monthly_reports", "enabled", "days")
# A good record with some fields as they should not be.
RECORDS = st.dictionaries(FIELDS, VALUES, max_size=4).map(lambda bad: GOOD | bad)


def dumped(value):
    """As JSON that may hold what JSON must not: half surrogates, NaN."""
    return json.dumps(value).encode()


LINES = RECORDS.map(dumped) | VALUES.map(dumped) | st.binary(max_size=200)
BODIES = st.one_of(
    st.lists(LINES, max_size=5).map(b"\n".join),
    st.lists(RECORDS, max_size=5).map(dumped),
    VALUES.map(dumped),
    st.binary(max_size=500),
)
HEADER_TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
)
TYPES = st.sampled_from(["application/json", "application/x-ndjson"]) | HEADER_TEXTS
ENCODINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
}


@settings(FUZZ, max_examples=800)
@given(
    BODIES,
    TYPES,
    st.sampled_from(list(ENCODINGS)) | HEADER_TEXTS,
    st.booleans(),
    st.sampled_from(["/v1/records", "/v1/records", "/v1/debug-logs"]),
)
async def test_no_body_or_header_makes_the_service_fail(service, body, kind, encoding, cut, path):
    """Bodies, types and encodings of all sorts, whole or cut: a 2xx or a 4xx."""
    key = await key_of(service, "ingest")
    content = ENCODINGS.get(encoding, bytes)(body)
    content = content[: len(content) // 2] if cut else content
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    status, answer, _ = await send(service, "POST", path, key, data=content, headers=headers)
    assert status < 500, (path, content, headers, answer)
    if status == 200:
        assert sum(answer.get(name, 0) for name in ("accepted", "updated", "duplicates")) >= 1
    elif status == 422:
        assert answer["rejected"]
    else:
        assert answer["code"]


@settings(FUZZ, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(PAGE_PARAMETERS),
        st.text(max_size=40)
        | st.sampled_from(["sms", "0001-01-01", "9999-12-31T23:59:59.999999Z"]),
        max_size=4,
    ),
    st.text(max_size=20),
)
async def test_no_query_makes_the_service_fail(service, query, record):
    """Parameters and ids of all sorts: a page, a record, or a 4xx."""
    key = await key_of(service, "customer", "acme")
    path = "/v1/accounts/acme/history"
    status, answer, _ = await send(service, "GET", path, key, params=query)
    assert status < 500, (query, answer)
    status, answer, _ = await send(service, "GET", f"{path}/{quote(record, safe='')}", key)
    assert status < 500, (record, answer)


@settings(FUZZ, max_examples=150)
@given(VALUES | st.dictionaries(st.sampled_from(OBJECT_FIELDS), VALUES, max_size=6))
async def test_no_object_makes_the_service_fail(service, value):
    """Settings and holds of all sorts: taken, or a 4xx."""
    customer = await key_of(service, "customer", "acme")
    for method, path, key in (
        ("PUT", "/v1/accounts/acme/settings", customer),
        ("POST", "/v1/holds", service.operator_key),
        ("PUT", "/v1/in-transit/x", await key_of(service, "ingest")),
    ):
        for body in (value, {"history": value}):
            status, answer, _ = await send(service, method, path, key, data=dumped(body))
            assert status < 500, (path, body, answer)


_keys = {}


async def key_of(service, scope, account=None):
    """One key of a scope for all examples of a test."""
    place = (service.url, service.dsn, scope)
    if place not in _keys:
        _keys[place] = await service.key(scope, account)
    return _keys[place]
