"""Whatever is sent to the API, the answer is never a failure, and what is stored is in order.

``TRAFFICLOG_FUZZ_TIMES`` has each test try so many times as much: 30 take ten minutes or so.
"""

import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import sys
import time
from collections import Counter
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import pytest
import pytest_asyncio
import zstandard
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.api.helpers import send, superuser
from tests.cli.process import server, trafficlog
from tests.records import GOOD
from trafficlog.api.app import ROUTES
from trafficlog.api.history import PAGE_PARAMETERS
from trafficlog.api.operate import HOLD_FIELDS
from trafficlog.records import Report

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    # The client warns of bodies as large as a bomb.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
    pytest.mark.service_config(body_decoded_bytes_max=2**20, refusal_chars_max=200),
]
TIMES = int(os.environ.get("TRAFFICLOG_FUZZ_TIMES", "1"))
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
    "identity": bytes,
    "gzip": lambda body: gzip.compress(body, 1),
    "zstd": zstandard.compress,
}
# More than the service takes, and next to nothing when it is compressed.
BOMB = b" " * 2**21


def sent_as(body, encoding, damage, noise):
    """A body as it goes over the line, whole or damaged on the way."""
    encode = ENCODINGS.get(encoding, bytes)
    if damage == "bomb":
        return encode(body + BOMB)
    content = encode(body)
    middle = len(content) // 2
    return {
        "none": content,
        "cut": content[:middle],
        "noise": content[:middle] + noise + content[middle + len(noise) :],
        "more": content + noise,
        "not encoded": body,
    }[damage]


CONTENTS = st.tuples(
    BODIES,
    st.sampled_from(list(ENCODINGS)) | HEADER_TEXTS,
    st.sampled_from([*(("none",) * 8), "cut", "cut", "noise", "more", "not encoded", "bomb"]),
    st.binary(max_size=30),
).map(lambda drawn: (sent_as(*drawn), drawn[1]))
POSTED_TO = st.sampled_from(["/v1/records", "/v1/records", "/v1/debug-logs"])


@settings(max_examples=800 * TIMES)
@given(CONTENTS, TYPES, POSTED_TO)
async def test_no_body_or_header_makes_the_service_fail(inspected, contents, kind, path):
    """Bodies, types and encodings of all sorts, whole, damaged or bombs: a 2xx or a 4xx."""
    key = await key_of(inspected, "ingest")
    content, encoding = contents
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    status, answer, _ = await send(inspected, "POST", path, key, data=content, headers=headers)
    assert status < 500, (path, content, headers, answer)
    if status == 200:
        assert sum(answer.get(name, 0) for name in ("accepted", "updated", "duplicates")) >= 1
    elif status == 422:
        assert answer["rejected"]
    else:
        assert answer["code"]


@pytest.mark.parametrize("parameters", [";D*", ";charset*", ";a*0*", ";", '; b="'])
async def test_odd_parameters_of_a_media_type_do_not_matter(service, parameters):
    """What stands behind the type is not looked at, neither where it is known nor elsewhere."""
    key, body = await key_of(service, "ingest"), dumped([GOOD])
    for kind, expected in (("application/json", 200), ("text/plain", 415)):
        headers = {"Content-Type": kind + parameters}
        status, answer, _ = await send(
            service, "POST", "/v1/records", key, data=body, headers=headers
        )
        assert status == expected, answer


@settings(max_examples=200 * TIMES)
@given(
    st.dictionaries(
        st.sampled_from([each.name for each in PAGE_PARAMETERS]),
        st.text(max_size=40)
        | st.sampled_from(["sms", "0001-01-01", "9999-12-31T23:59:59.999999Z"]),
        max_size=4,
    ),
    st.text(max_size=20),
)
async def test_no_query_makes_the_service_fail(inspected, query, record):
    """Parameters and ids of all sorts: a page, a record, or a 4xx."""
    key = await key_of(inspected, "customer", "acme")
    path = "/v1/accounts/acme/history"
    status, answer, _ = await send(inspected, "GET", path, key, params=query)
    assert status < 500, (query, answer)
    status, answer, _ = await send(inspected, "GET", f"{path}/{quote(record, safe='')}", key)
    assert status < 500, (record, answer)


@settings(max_examples=200 * TIMES)
@given(VALUES | st.dictionaries(st.sampled_from(OBJECT_FIELDS), VALUES, max_size=6))
async def test_no_object_makes_the_service_fail(inspected, value):
    """Settings and holds of all sorts: taken, or a 4xx."""
    customer = await key_of(inspected, "customer", "acme")
    for method, path, key in (
        ("PUT", "/v1/accounts/acme/settings", customer),
        ("POST", "/v1/holds", inspected.operator_key),
        ("PUT", "/v1/in-transit/x", await key_of(inspected, "ingest")),
    ):
        for body in (value, {"history": value}):
            status, answer, _ = await send(inspected, method, path, key, data=dumped(body))
            assert status < 500, (path, body, answer)


METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
SCOPES = st.sampled_from(["ingest", "customer", "operator", "officer", "metrics"])


@settings(max_examples=200 * TIMES)
@given(
    st.sampled_from(ROUTES),
    METHODS | st.none(),
    SCOPES,
    st.lists(st.text(max_size=20) | st.sampled_from(["acme", "2026-11", "m1"]), min_size=4),
    st.dictionaries(st.text(max_size=10), st.text(max_size=30), max_size=2),
    VALUES | st.dictionaries(st.sampled_from(OBJECT_FIELDS), VALUES, max_size=4),
)
async def test_no_path_makes_the_service_fail(inspected, route, method, scope, parts, query, value):
    """Each route with any method, key, name in its path, parameters and body."""
    key = await key_of(inspected, scope, "acme" if scope == "customer" else None)
    left = iter(parts)
    path = re.sub(r"\{\w+\}", lambda _: quote(next(left), safe="") or "x", route.path)
    known = {name: "1" for name in route.names if len(name) % 2}
    async with inspected.http.request(
        method or route.method,
        inspected.url + path,
        params=known | query,
        data=dumped(value),
        headers={"Authorization": f"Bearer {key}"},
    ) as answer:
        assert answer.status < 500, (route.path, path, await answer.text())


HEAD_LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"Host: x",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Expect: 100-continue",
            b"Upgrade: websocket",
            b"Connection: upgrade",
            b"Content-Type: application/json; charset=\xff",
            b"Content-Encoding: gzip, gzip",
            b"Authorization: Bearer \x80",
            b"Cookie: a=b; =; \xff",
            b" folded",
            b"",
        ]
    ),
)
REQUEST_LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"POST /v1/records HTTP/1.1",
            b"POST /v1/records HTTP/1.0",
            b"GET /v1/accounts/%ff%00/history HTTP/1.1",
            b"GET //[ HTTP/1.1",
            b"GET http://[::1/healthz HTTP/1.1",
            b"CONNECT x:1 HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"GET /healthz HTTP/9.9",
            b"PRI * HTTP/2.0",
        ]
    ),
)
REQUESTS = st.tuples(REQUEST_LINES, st.lists(HEAD_LINES, max_size=6), st.binary(max_size=60)).map(
    lambda drawn: b"\r\n".join([drawn[0], *drawn[1], b"", drawn[2]])
)
# What comes last has the line closed behind it.
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@settings(max_examples=200 * TIMES)
@given(st.lists(REQUESTS, min_size=1, max_size=3), st.booleans())
async def test_no_bytes_make_the_service_fail(inspected, requests, cut):
    """Bytes that are hardly HTTP, one request behind the other, or cut: 4xx, or no answer."""
    where = urlsplit(inspected.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(b"".join(requests)[: -2 if cut else None] + (b"" if cut else LAST))
    writer.write_eof()
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(1):
            answer = await reader.read()
    writer.transport.abort()
    assert re.match(rb"HTTP/1\.[01] |\Z", answer), (requests, answer)
    assert not re.search(rb"^HTTP/1\.[01] 5", answer, re.MULTILINE), (requests, answer)


_keys = {}


async def key_of(service, scope, account=None):
    """One key of a scope for all examples of a test."""
    place = (service.url, service.dsn, scope)
    if place not in _keys:
        _keys[place] = await service.key(scope, account)
    return _keys[place]


@pytest_asyncio.fixture
async def inspected(service):
    """The service; afterwards it has failed at nothing, and every row it stored is in order."""
    yield service
    _, text = await service.call("GET", "/metrics", service.operator_key)
    assert not re.search(r'trafficlog_http_requests_total\{.*status="5', text)
    async with superuser(service) as connection:
        legal = await connection.fetch(
            "SELECT r.*, a.account_id FROM traffic_record r JOIN account a USING (account_key)"
            " JOIN kind k ON k.code = r.kind JOIN direction d ON d.code = r.direction"
        )
        history = await connection.fetch(
            "SELECT r.*, a.account_id, k.name AS kind_name, s.name AS status_name"
            " FROM history_record r JOIN account a USING (account_key)"
            " JOIN kind k ON k.code = r.kind JOIN direction d ON d.code = r.direction"
            " LEFT JOIN status s ON s.code = r.status"
        )
        lines = await connection.fetch("SELECT * FROM debug_log")
        counted = await connection.fetchval(
            "SELECT coalesce(sum(records), 0)::int"
            " FROM (TABLE usage_statistic UNION ALL TABLE usage_delta) u"
        )
    for row in legal:
        check_legal(row, service.clock.now())
    for row in history:
        check_history(row, service.clock.now())
    for row in lines:
        # A line has its own bound; a refusal quotes its value beside it.
        assert len(row["line"]) <= 2_000, row
        assert 1 <= len(row["source"]) <= 64, row
        assert row["level"] in {10, 20, 30, 40}, row
    known = {(row["account_key"], row["created_at"], row["id"]) for row in legal}
    assert len(known) == len(legal) == counted
    assert {(row["account_key"], row["created_at"], row["id"]) for row in history} <= known


# The field table of the interface, once more and in other words than the service's.
NAME = re.compile(r"[A-Za-z0-9._:@+~=-]{1,64}")
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*")
STATUSES = {
    "sms": {None, "created", "sent", "delivered", "failed", "received"},
    "mms": {None, "created", "sent", "delivered", "failed", "received"},
    "call": {None, "ongoing", "success", "failed", "busy", "no-answer"},
}


def is_text(value, low, high):
    """Printable, and of so many characters."""
    return low <= len(value) <= high and PRINTABLE.fullmatch(value) is not None


def check_both(row, now):
    """What both tables have in common."""
    assert NAME.fullmatch(row["id"]), row
    assert NAME.fullmatch(row["account_id"]), row
    assert now - timedelta(days=60) < row["created_at"] <= now + timedelta(minutes=10), row
    assert row["updated_at"] is None or row["updated_at"] <= now + timedelta(minutes=10), row
    assert row["duration"] is None or row["duration"] >= 0, row


def check_legal(row, now):
    """A row of the legal record."""
    check_both(row, now)
    assert is_text(row["sender"], 1, 64), row
    assert is_text(row["recipient"], 1, 64), row
    assert row["expires_at"] == row["created_at"] + timedelta(days=60), row
    assert row["ip"] is None or ip_address(row["ip"]), row
    assert row["user_agent"] is None or is_text(row["user_agent"], 0, 1024), row


def check_history(row, now):
    """A row of the customer's history."""
    check_both(row, now)
    assert row["status_name"] in STATUSES[row["kind_name"]], row
    withheld = row["withheld"]
    assert 0 <= withheld < 8, row
    for bit, name in ((2, "sender"), (4, "recipient")):
        assert (row[name] is None) == bool(withheld & bit), row
        assert row[name] is None or is_text(row[name], 1, 64), row
    assert row["message"] is None or not withheld & 1, row
    assert len(row["message"] or "") <= 65_536, row
    assert row["owner"] is None or is_text(row["owner"], 1, 64), row
    assert len(row["tags"] or []) <= 20, row
    assert all(is_text(tag, 1, 64) for tag in row["tags"] or []), row
    assert min(row["parts"] or 0, row["cost"] or 0) >= 0, row
    assert row["delivered_at"] is None or row["delivered_at"] <= now + timedelta(minutes=10), row
    assert timedelta(days=1) <= row["expires_at"] - row["created_at"] <= timedelta(days=1095), row


SENDING_SECONDS = 3
GROWTH_MIB_MAX = 24


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
async def test_nothing_that_is_sent_stays_in_memory(database):
    """The same sorts of bodies for a while, a byte of each changed: the process does not grow."""
    # A bomb may not be among those that are drawn.
    bomb = (gzip.compress(BOMB, 1), "application/json", "gzip", "/v1/records")
    requests = [*drawn_requests(300), *[bomb] * 10]
    where = ("--database-url", database, "--listen", "127.0.0.1:0")
    async with server(*where, env={"TRAFFICLOG_BODY_DECODED_BYTES_MAX": str(2**20)}) as running:
        made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=database)
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {made.json['key']}"}
        ) as http:
            statuses = Counter()

            async def post_for(seconds, draw):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    content, kind, encoding, path = draw.choice(requests)
                    if content and draw.random() < 0.5:
                        place = draw.randrange(len(content))
                        changed = bytes([draw.randrange(256)])
                        content = content[:place] + changed + content[place + 1 :]
                    headers = {"Content-Type": kind, "Content-Encoding": encoding}
                    with contextlib.suppress(aiohttp.ClientError, ValueError):
                        async with http.post(
                            running.url + path, data=content, headers=headers
                        ) as told:
                            statuses[told.status] += 1

            draws = [random.Random(n) for n in range(4)]
            sizes = []
            # The first third fills what is filled once.
            for share in (1, 2):
                seconds = share * SENDING_SECONDS * TIMES / 3
                await asyncio.gather(*(post_for(seconds, draw) for draw in draws))
                sizes.append(resident_mib(running.process.pid))
    # Seen with -s, or when it fails.
    sys.stdout.write(f"{dict(statuses)}, resident {sizes[0]:.0f}, then {sizes[1]:.0f} MiB\n")
    assert min(statuses[200], statuses[400], statuses[413], statuses[422]) > 0
    assert max(statuses) < 500, statuses
    assert sizes[1] - sizes[0] < GROWTH_MIB_MAX


def drawn_requests(count):
    """So many bodies, each with its type, its encoding and where it goes."""
    found = []

    @settings(max_examples=count * min(TIMES, 10), database=None, phases=[Phase.generate])
    @given(CONTENTS, TYPES, POSTED_TO)
    def draw(contents, kind, path):
        content, encoding = contents
        found.append((content, kind, encoding, path))

    draw()
    return found


def resident_mib(pid):
    """What a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) / 1024
