"""Bodies: their types, encodings, bounds of size, ratio, number and time."""

import asyncio
import gzip
import io
import re
import struct
import time
import tracemalloc

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import INSIDES, JSON, NDJSON, raw, refused, send, superuser, until
from trafficlog.api.body import GROWN_NEAR_BYTES
from trafficlog.api.splitting import (
    JSON_TYPE,
    NDJSON_TYPES,
    PARSE_STEP_BYTES,
    PARSE_STEP_RECORDS,
    in_steps,
    split,
)
from trafficlog.errors import BatchTooLargeError, BodyUnreadableError

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
]
MEGABYTE = 2**20


def encoded(name):
    """The headers of an NDJSON body in an encoding."""
    return NDJSON | {"Content-Encoding": name}


def zstd_of_unknown_size(content):
    """A frame that does not say how long it is, so that only reading it tells."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(content) + compressor.flush()


async def test_an_unknown_type_or_encoding_is_refused(service):
    """Only what is read here is taken; the answer says what that is."""
    ingest = await service.key("ingest")
    body = orjson.dumps([service.record()])
    types = ["text/plain", "application/xml", "application/x-www-form-urlencoded", "nonsense", ""]
    for headers in [{"Content-Type": t} for t in types] + [
        JSON | {"Content-Encoding": e} for e in ("br", "deflate", "gzip, gzip", "x", "")
    ]:
        problem = await refused(
            service, 415, "POST", "/v1/records", ingest, data=body, headers=headers
        )
        assert problem["code"] == "media_type_unsupported"


@pytest.mark.service_config(body_any_ratio_bytes_max=2 * GROWN_NEAR_BYTES)
async def test_a_small_body_may_grow_large(service):
    """It is read whole, though where it is decompressed depends on how large it becomes."""
    ingest = await service.key("ingest")
    for number, size in enumerate((1, GROWN_NEAR_BYTES - 10_000, GROWN_NEAR_BYTES + 10_000)):
        content = b"[" + b" " * size + orjson.dumps(service.record(f"m{number}")) + b"]"
        for encoding, body in (
            ("gzip", gzip.compress(content)),
            ("zstd", zstandard.compress(content)),
        ):
            status, answer, _ = await send(
                service,
                "POST",
                "/v1/records",
                ingest,
                data=body,
                headers=JSON | {"Content-Encoding": encoding},
            )
            assert (status, answer["accepted"] + answer["duplicates"]) == (200, 1)


async def test_a_body_that_is_not_what_it_says_is_refused(service):
    """Damaged, cut short, or followed by something: nothing of it is taken."""
    ingest = await service.key("ingest")
    line = orjson.dumps(service.record())
    for name, compress in (("gzip", gzip.compress), ("zstd", zstd_of_unknown_size)):
        whole = compress(line * 1000)
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 0xFF
        for body in (b"", line, whole[:-1], whole[:5], whole + b"x", whole + whole, bytes(damaged)):
            problem = await refused(
                service, 400, "POST", "/v1/records", ingest, data=body, headers=encoded(name)
            )
            assert problem["code"] == "body_unreadable", (name, body[:20])
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM traffic_record") == 0


@pytest.mark.service_config(body_decoded_bytes_max=MEGABYTE)
async def test_a_bomb_is_refused_before_it_grows(service):
    """A small body that would become gigabytes is stopped at the limit, soon."""
    ingest = await service.key("ingest")
    zeros = b"\0" * (64 * MEGABYTE)
    bombs = {
        "gzip": gzip.compress(zeros, 1),
        "zstd": zstd_of_unknown_size(zeros * 16),
    }
    for name, bomb in bombs.items():
        assert len(bomb) < MEGABYTE
        began = time.monotonic()
        problem = await refused(
            service, 413, "POST", "/v1/records", ingest, data=bomb, headers=encoded(name)
        )
        assert problem["code"] == "body_too_large"
        assert time.monotonic() - began < 5
    assert (await service.call("GET", "/healthz"))[0] == 200


async def test_a_zstd_frame_that_wants_gigabytes_of_memory_is_refused(service):
    """The window a frame asks for is bounded too: 4 GB are not allocated on a word."""
    ingest = await service.key("ingest")
    window = (32 - 10) << 3
    frame = struct.pack("<IBB", 0xFD2FB528, 0, window) + b"\x01\x00\x00"
    await refused(service, 400, "POST", "/v1/records", ingest, data=frame, headers=encoded("zstd"))


@pytest.mark.service_config(body_bytes_max=2048, body_decoded_bytes_max=4096)
async def test_a_body_over_the_limit_is_refused(service):
    """At the limit a body is taken, one byte more is not; announced or not makes no difference."""
    ingest = await service.key("ingest")
    line = orjson.dumps(service.record())

    async def announced_not(content):
        yield content

    for size, status in ((2048, 200), (2049, 413)):
        body = line + b" " * (size - len(line))
        for data in (body, announced_not(body)):
            answered, answer, _ = await send(
                service, "POST", "/v1/records", ingest, data=data, headers=NDJSON
            )
            assert answered == status, answer
    for size, status in ((4096, 200), (4097, 413)):
        body = line + b" " * (size - len(line))
        for name, compress in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
            answered, answer, _ = await send(
                service, "POST", "/v1/records", ingest, data=compress(body), headers=encoded(name)
            )
            assert answered == status, answer


@pytest.mark.service_config(batch_records_max=10)
async def test_a_batch_over_the_limit_is_refused_whole(service):
    """Ten records are taken where ten are allowed; eleven are refused and none is stored."""
    ingest = await service.key("ingest")
    records = [service.record(f"m{n}") for n in range(11)]
    assert (await service.post(ingest, *records[:10]))[0] == 200
    for headers, body in (
        (JSON, orjson.dumps(records)),
        (NDJSON, b"\n".join(map(orjson.dumps, records))),
    ):
        problem = await refused(
            service, 413, "POST", "/v1/records", ingest, data=body, headers=headers
        )
        assert problem["code"] == "batch_too_large"
        assert "more than 10 records" in problem["detail"]
    async with superuser(service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM traffic_record") == 10


@given(st.lists(st.integers(1, 2 * PARSE_STEP_BYTES) | st.integers(1, 10), min_size=1, max_size=20))
@settings(max_examples=30)
def test_an_array_is_read_in_steps_of_so_many_and_so_much(sizes):
    """No step is larger than is bearable for those who wait, but for one element that is."""
    elements = [b'"%s"' % (b"x" * size) for size in (*sizes, *([1] * 1200))]
    steps = in_steps(JSON_TYPE, b"[" + b",".join(elements) + b"]", len(elements))
    parts = [[bytes(each) for each in part] for part in steps.parts]
    assert [each for part in parts for each in part] == elements
    for part in parts:
        assert 0 < len(part) <= PARSE_STEP_RECORDS
        assert sum(map(len, part[:-1])) < PARSE_STEP_BYTES


async def test_the_limit_of_a_batch_by_default_is_fifty_thousand(service):
    """As many bad lines are refused at once without a word for each of them."""
    ingest = await service.key("ingest")
    problem = await refused(
        service,
        413,
        "POST",
        "/v1/records",
        ingest,
        data=io.BytesIO(b"x\n" * 50_001),
        headers=NDJSON,
    )
    assert problem["code"] == "batch_too_large"


@pytest.mark.parametrize(
    ("media_type", "body"),
    [(JSON_TYPE, b"[" + b"1," * MEGABYTE + b"1]"), (NDJSON_TYPES[0], b"1\n" * MEGABYTE)],
)
def test_nothing_is_made_of_more_elements_than_are_taken(media_type, body):
    """A body of two bytes for each cannot fill the memory, however many there are."""
    tracemalloc.start()
    try:
        with pytest.raises(BatchTooLargeError, match="more than 1000 records"):
            split(media_type, body, 1000)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTE
    finally:
        tracemalloc.stop()


JSON_VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.text(alphabet=',[]{}":\\a \n', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(st.lists(JSON_VALUES, min_size=1, max_size=6), st.integers(1, 6), st.sampled_from("\n "))
def test_an_array_is_taken_up_to_the_limit_whatever_is_in_it(values, limit, space):
    """Each of its elements is one, whatever stands in it; one more than the limit is too many."""
    body = (space + orjson.dumps(values).decode() + space).encode()
    if len(values) > limit:
        with pytest.raises(BatchTooLargeError):
            split(JSON_TYPE, body, limit)
    else:
        items = [bytes(item) for item in split(JSON_TYPE, body, limit)]
        assert items == [orjson.dumps(value) for value in values]


@given(st.binary(max_size=12).map(lambda end: b"[1,2,3" + end), st.integers(1, 4))
def test_what_is_no_array_is_never_taken_for_one(body, limit):
    """Only what is an array, whole and with nothing behind it, is split."""
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        values = None
    try:
        assert len(split(JSON_TYPE, body, limit)) == len(values) <= limit
    except BodyUnreadableError:
        assert values is None
    except BatchTooLargeError:
        assert values is None or len(values) > limit


@given(
    st.lists(st.text(alphabet="a \t\r\x0b\n,", max_size=5), max_size=9).map("\n".join),
    st.integers(1, 9),
)
def test_lines_are_taken_up_to_the_limit(text, limit):
    """Each line with text in it is one; the others count for nothing."""
    lines = [line.lstrip() for line in text.encode().split(b"\n") if line.strip()]
    if len(lines) > limit:
        with pytest.raises(BatchTooLargeError):
            split(NDJSON_TYPES[0], text.encode(), limit)
    elif lines:
        assert split(NDJSON_TYPES[0], text.encode(), limit) == lines
    else:
        with pytest.raises(BodyUnreadableError):
            split(NDJSON_TYPES[0], text.encode(), limit)


def slow_request(service, key, length=100):
    """The head of a request whose body never comes whole."""
    return (
        f"POST /v1/records HTTP/1.1\r\nHost: {service.url[7:]}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n["
    ).encode()


@pytest.mark.service_config(read_seconds_max=1)
async def test_a_sender_that_dawdles_is_sent_away(service):
    """A body that does not come within its time is answered with 408, and the line is closed."""
    ingest = await service.key("ingest")
    head, body = await raw(service, slow_request(service, ingest))
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head.lower()
    assert orjson.loads(body)["code"] == "too_slow"
    assert not INSIDES.search(body.decode())


@pytest.mark.service_config(waiting_records_max=1)
async def test_too_many_waiting_are_turned_away(service):
    """While the database stands still the buffer fills, and who comes next is told to wait."""
    ingest = await service.key("ingest")
    assert (await service.post(ingest, service.record("m0")))[0] == 200
    async with superuser(service) as connection, connection.transaction():
        await connection.execute("LOCK TABLE traffic_record IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(service.post(ingest, service.record("m1")))

        async def turned_away():
            status, _, headers = await send(
                service, "POST", "/v1/records", ingest, json=[service.record("m2")]
            )
            return status == 429 and headers

        # Until the first has reached the buffer, the second may be the one that waits there.
        await asyncio.sleep(0.2)
        headers = await until(turned_away)
        assert int(headers["Retry-After"]) >= 1
        assert not waiting.done()
        # What is turned away is not read first: that it cannot be taken is not even seen.
        for path in ("/v1/records", "/v1/debug-logs"):
            problem = await refused(service, 429, "POST", path, ingest, json=["nonsense"])
            assert problem["code"] == "buffer_full"
    assert (await waiting)[0] == 200
    assert (await service.post(ingest, service.record("m3")))[0] == 200


@pytest.mark.service_config(waiting_bytes_max=5000)
async def test_too_many_bytes_in_work_are_turned_away(service):
    """Bodies on their way count together: slow ones leave room for no more than the limit."""
    ingest = await service.key("ingest")
    host, port = service.url[7:].split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    # So large that it is not waited for, but counted at once.
    writer.write(slow_request(service, ingest, 100_000) + b" " * 4000)
    await writer.drain()
    body = orjson.dumps([service.record()]) + b" " * 1500

    async def turned_away():
        status, answer, headers = await send(
            service, "POST", "/v1/records", ingest, data=body, headers=JSON
        )
        return status == 429 and answer["code"] == "buffer_full" and headers["Retry-After"]

    assert await until(turned_away)
    writer.close()

    async def taken():
        answer = await send(service, "POST", "/v1/records", ingest, data=body, headers=JSON)
        return answer[0] == 200

    assert await until(taken)


async def test_a_client_that_hangs_up_leaves_nothing_behind(service):
    """Half a body and a closed line store nothing, and the next request is served."""
    ingest = await service.key("ingest")
    host, port = service.url[7:].split(":")
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(slow_request(service, ingest))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await service.post(ingest, service.record()))[0] == 200
    _, text = await service.call("GET", "/metrics", service.operator_key)
    assert 'status="500"' not in text


async def test_bytes_that_are_no_http_are_answered_and_leave_nothing(service):
    """Nonsense on the socket gets a 400 without the inside of the service."""
    for content in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ):
        head, body = await raw(service, content)
        assert head.split(b" ", 2)[1] == b"400", head
        assert not re.search(rb"Traceback|site-packages|File \"", body), body
    assert (await service.call("GET", "/healthz"))[0] == 200
