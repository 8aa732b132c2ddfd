"""The poster against a server that fails in the ways a network and a service do."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.api.flaky import FAST, FlakyService, problem
from trafficlog.client import (
    AnswerUnreadableError,
    IngestAnswer,
    Poster,
    Rejection,
    RequestRefusedError,
    Retry,
    RetryPolicy,
    ServiceUnreachableError,
)
from trafficlog.errors import InvalidValueError, KeyMissingError, ScopeMissingError

if TYPE_CHECKING:
    from pathlib import Path


def client(service: FlakyService, **options) -> Poster:
    """A poster to ``service`` that does not wait long."""
    return Poster(service.url, "secret", **{"retry": FAST} | options)


def records(count: int) -> list[dict]:
    """So many records, each with its own id."""
    return [{"id": f"r{number}"} for number in range(count)]


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_records_are_posted_with_the_key_in_each_encoding(flaky, encoding):
    """NDJSON, the key as a bearer token, and the body as its header says."""
    async with client(flaky, encoding=encoding) as posting:
        answer = await posting.post_records(records(3))
    assert answer == IngestAnswer(accepted=3)
    (request,) = flaky.requests
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.headers.get("Content-Encoding", "identity") == encoding


async def test_no_records_are_no_request(flaky):
    """Nothing to post asks nothing of the service."""
    async with client(flaky) as posting:
        assert await posting.post_records([]) == IngestAnswer()
    assert flaky.requests == []


async def test_many_records_go_in_batches_and_indexes_are_those_of_the_caller(flaky):
    """An answer speaks of the whole list, whatever requests it took."""
    given = records(25)
    del given[13]["id"], given[24]["id"]
    async with client(flaky, batch_records_max=10) as posting:
        answer = await posting.post_records(given)
    assert len(flaky.requests) == 3
    assert answer.accepted == 23
    assert [each.index for each in answer.rejected] == [13, 24]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_status_that_may_pass_is_tried_again(flaky, status):
    """408, 429 and every 5xx leave the records unstored for now."""
    flaky.script = [problem(status, "later"), problem(status, "later")]
    seen: list[Retry] = []
    async with client(flaky, on_retry=seen.append) as posting:
        assert (await posting.post_records(records(2))).accepted == 2
        assert (posting.counters.requests, posting.counters.retries) == (1, 2)
    assert [each.attempt for each in seen] == [0, 1]
    assert seen[0].reason == f"{status} later"


@pytest.mark.parametrize("step", ["drop", "sleep"])
async def test_a_connection_that_fails_is_tried_again(flaky, step):
    """A dropped connection and an answer that does not come within the time are tries."""
    flaky.script = [step]
    async with client(flaky, request_seconds=0.3) as posting:
        answer = await posting.post_records(records(2))
    assert len(flaky.stored) == 2
    assert answer.accepted + answer.duplicates == 2


async def test_an_answer_that_was_lost_makes_duplicates_and_nothing_twice(flaky):
    """The service stored the records of the first try; the second one says so."""
    flaky.script = ["lose the answer"]
    async with client(flaky) as posting:
        answer = await posting.post_records(records(2))
    assert answer == IngestAnswer(duplicates=2)
    assert len(flaky.stored) == 2


async def test_a_service_that_comes_back_is_found():
    """Refused connections are tried again until something listens."""
    service = FlakyService()
    app = web.Application()
    app.router.add_post("/v1/records", service.handle)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    probe = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()

    async def start_later() -> None:
        await asyncio.sleep(0.3)
        await web.TCPSite(runner, "127.0.0.1", port).start()

    starting = asyncio.create_task(start_later())
    async with Poster(f"http://127.0.0.1:{port}", "k", retry=FAST) as posting:
        assert (await posting.post_records(records(2))).accepted == 2
        assert posting.counters.retries > 0
    await starting
    await runner.cleanup()


async def test_retry_after_is_honoured(flaky):
    """A pause is not shorter than what the service asks for, in seconds or as a date."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    for asked in ("1", soon):
        flaky.script = [problem(503, "later", **{"Retry-After": asked})]
        seen: list[Retry] = []
        async with client(flaky, on_retry=seen.append) as posting:
            loop = asyncio.get_running_loop()
            started = loop.time()
            await posting.post_records(records(1))
            assert loop.time() - started >= min(seen[0].pause_seconds, 0.9)
        if asked == "1":
            assert seen[0].pause_seconds >= 1.0


@pytest.mark.parametrize(
    "asked",
    ["", "soon", "-1", "1.5", "Thu, 99 Foo 2026", "Thu, 1 Jan 99999999999999 00:00:00 GMT"],
)
async def test_a_retry_after_that_means_nothing_is_passed_over(flaky, asked):
    """The back-off alone decides then."""
    flaky.script = [problem(503, "later", **{"Retry-After": asked})]
    async with client(flaky) as posting:
        assert (await posting.post_records(records(1))).accepted == 1


def test_pauses_grow_to_a_limit_and_are_spread():
    """Exponential back-off with full jitter; what the service asks for comes on top."""
    policy = RetryPolicy(first_seconds=1.0, pause_seconds_max=10.0, retry_after_seconds_max=60.0)
    for attempt, ceiling in ((0, 1.0), (1, 2.0), (3, 8.0), (4, 10.0), (10_000, 10.0)):
        pauses = [policy.pause_seconds(attempt, None) for _ in range(200)]
        assert all(0.0 <= pause <= ceiling for pause in pauses)
        assert max(pauses) - min(pauses) > ceiling / 2
    assert 30.0 <= policy.pause_seconds(0, 30.0) <= 31.0
    assert policy.pause_seconds(0, 1e9) <= 61.0


async def test_giving_up_is_bounded_in_time(flaky):
    """After ``give_up_after_seconds`` the error says what the last try said."""
    flaky.script = [problem(503, "the database is away") for _ in range(1000)]
    policy = RetryPolicy(first_seconds=0.01, pause_seconds_max=0.02, give_up_after_seconds=0.2)
    async with client(flaky, retry=policy) as posting:
        with pytest.raises(ServiceUnreachableError, match="the database is away"):
            await posting.post_records(records(1))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRefusedError),
        (401, KeyMissingError),
        (403, ScopeMissingError),
        (404, RequestRefusedError),
        (415, RequestRefusedError),
        (302, RequestRefusedError),
    ],
)
async def test_a_refusal_is_not_tried_again(flaky, status, error):
    """What the service would refuse again is an error at once, with the service's own words."""
    flaky.script = [problem(status, "because", Location="http://127.0.0.1:1/")]
    async with client(flaky) as posting:
        with pytest.raises(error, match="because"):
            await posting.post_records(records(1))
    assert len(flaky.requests) == 1


async def test_all_records_refused_is_an_answer(flaky):
    """422 tells of each record as 200 does."""
    async with client(flaky) as posting:
        answer = await posting.post_records([{}, {}])
    assert answer.rejected == tuple(
        Rejection(index=index, code="missing", field="id", detail="x") for index in (0, 1)
    )


async def test_a_batch_that_is_too_large_is_halved(flaky):
    """413 finds by itself what the service takes, and indexes stay right."""
    flaky.records_max = 3
    given = records(10)
    del given[7]["id"]
    async with client(flaky) as posting:
        answer = await posting.post_records(given)
    assert (answer.accepted, [each.index for each in answer.rejected]) == (9, [7])


async def test_a_record_that_is_too_large_is_rejected_and_the_others_stored(flaky):
    """One record cannot be halved: it alone is refused, with its reason."""
    flaky.record_bytes_max = 1000
    given = records(5)
    given[2]["message"] = "x" * 2000
    async with client(flaky) as posting:
        answer = await posting.post_records(given)
    assert answer.accepted == 4
    (rejection,) = answer.rejected
    assert (rejection.index, rejection.code) == (2, "body_too_large")


@pytest.mark.parametrize(
    "text",
    [
        "<html>welcome</html>",
        "{}",
        '{"accepted": 1}',
        '{"accepted": 3}',
        '{"accepted": 1, "rejected": [{"index": 2}]}',
    ],
)
async def test_another_server_at_the_url_is_told(flaky, text):
    """What does not say of each record what became of it is an error, not a success."""
    flaky.script = [web.Response(text=text)]
    async with client(flaky) as posting:
        with pytest.raises(AnswerUnreadableError, match="does not answer as trafficlog"):
            await posting.post_records(records(2))


async def test_a_body_that_cannot_be_read_is_halved_until_the_record_is_found(flaky):
    """When the service itself cannot read a body, only the record that spoils it is refused."""
    flaky.poison = "r3"
    async with client(flaky) as posting:
        answer = await posting.post_records(records(8))
    assert answer.accepted == 7
    (rejection,) = answer.rejected
    assert (rejection.index, rejection.code) == (3, "body_unreadable")


async def test_requests_are_bounded_in_bytes(flaky):
    """However many records a request may have; a record larger than that goes alone."""
    given = [{"id": f"r{number}", "message": "x" * 100 * (number % 3)} for number in range(30)]
    async with client(flaky, batch_bytes_max=160, encoding="identity") as posting:
        assert (await posting.post_records(given)).accepted == 30
    assert all(int(each.headers["Content-Length"]) <= 230 for each in flaky.requests)
    assert len(flaky.requests) == 20


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8080", "ftp://x", "http://", "http://[::1", "http://a..b"),
        "http://" + 64 * "a",
    ],
)
def test_a_url_that_is_none_is_refused_at_once(url):
    """A typing error is told before anything is read."""
    with pytest.raises(InvalidValueError, match="url"):
        Poster(url, "k")


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:1", "http://secret@127.0.0.1:1"])
def test_a_url_with_a_password_is_refused_and_not_shown(url):
    """It would stand in for the key, in logs too."""
    with pytest.raises(InvalidValueError, match="url: must hold no user") as caught:
        Poster(url, "k")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "ä"])
def test_a_key_that_is_none_is_refused_and_not_shown(key):
    """A key never becomes part of a message."""
    with pytest.raises(InvalidValueError, match="key") as caught:
        Poster("http://127.0.0.1", key)
    assert not key or key not in caught.value.detail.replace("an API key as", "")


async def test_a_record_that_is_no_json_is_named(flaky):
    """Halves of surrogate pairs have no JSON; the error says which record, and none is posted."""
    async with client(flaky, batch_records_max=1) as posting:
        with pytest.raises(InvalidValueError, match=r"records\[2\]"):
            await posting.post_records([{"id": "a"}, {"id": "b"}, {"id": "\ud800"}])
    assert flaky.requests == []


async def test_tls_that_fails_is_tried_again():
    """As of a proxy that has no certificate yet, which answers by an alert (RFC 8446, §6)."""
    greeted = 0

    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        await reader.read(1000)
        writer.write(bytes([21, 3, 3, 0, 2, 2, 80]))  # fatal: internal_error
        writer.close()

    server = await asyncio.start_server(alert, "127.0.0.1", 0)
    policy = RetryPolicy(first_seconds=0.01, pause_seconds_max=0.02, give_up_after_seconds=0.2)
    async with server, Poster(url_of(server, "https"), "secret", retry=policy) as posting:
        with pytest.raises(ServiceUnreachableError, match="internal error"):
            await posting.post_records(records(1))
    assert greeted > 1


async def test_a_certificate_that_is_not_trusted_is_not_tried_again(tmp_path):
    """No record goes to whoever it is, and the error says why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))

    def served(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    seen: list[Retry] = []
    async with server, Poster(url_of(server, "https"), "secret", on_retry=seen.append) as posting:
        with pytest.raises(RequestRefusedError, match="CERTIFICATE_VERIFY_FAILED"):
            await posting.post_records(records(1))
    assert seen == []


def url_of(server: asyncio.Server, scheme: str) -> str:
    """Where a server listens."""
    return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def self_signed(path: Path) -> Path:
    """A file with a key, and a certificate that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(Encoding.PEM)
    )
    return path
