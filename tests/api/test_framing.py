"""A plain request is the same request to the framework, byte for byte."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiohttp import hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import istr

from trafficlog.api.framing import Head, Told, end_of, read_head

LINE = b"POST /v1/records HTTP/1.1\r\n"
BYTES_MAX = 4096
FIELDS_MAX = 20
MANY = b"".join(b"X%d: x\r\n" % number for number in range(FIELDS_MAX - 1))
# All that the framework has a name for, and what its parser or older clients know besides.
KNOWN_NAMES = (
    *sorted(each for each in vars(hdrs).values() if isinstance(each, istr)),
    *("Proxy-Connection", "HTTP2-Settings", "Trailers", "X-HTTP-Method-Override", "X-Other"),
)

names = st.sampled_from(
    [
        *(
            "Host",
            "Authorization",
            "Content-Type",
            "Content-Length",
            "CONTENT-LENGTH",
            "X-Request-Id",
        ),
        *(
            "Transfer-Encoding",
            "Content-Encoding",
            "Connection",
            "Expect",
            "Upgrade",
            "TE",
            "Trailer",
            "Proxy-Connection",
            "Sec-WebSocket-Key1",
        ),
        *("Host ", " Host", "X-Odd\t", "X:Y", "", "X\x00", "\u00e5"),
    ]
)
values = st.one_of(
    st.sampled_from(
        [
            "5",
            "0",
            "+5",
            "5, 5",
            "0x5",
            "\u0665",
            "chunked",
            "gzip",
            "keep-alive",
            "close",
            "",
            " a ",
        ]
    ),
    st.text(max_size=12),
)
ends = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\n ", "\r\n\r\n"])
heads = st.lists(st.tuples(names, values, ends), max_size=6)


def head_of(fields) -> bytes:
    """The bytes of a head with these fields, whatever they are."""
    text = "".join(f"{name}:{value}{end}" for name, value, end in fields)
    return LINE + text.encode("utf-8", "replace") + b"\r\n"


@given(
    host=st.sampled_from(["x", "x:80", "[::1]:80", "", " ", "a b", "x/y", "x,y", "@", "x\u0660"]),
    fields=heads,
    body=st.binary(max_size=12),
)
@settings(max_examples=1500)
def test_the_framework_sees_the_same_request(host, fields, body):
    """When a head passes as plain, the framework finds its fields, and its body just as long."""
    length = ("Content-Length", str(len(body)), "\r\n")
    if not body:
        # Without a length there is none.
        fields = [each for each in fields if each[0].lower() != "content-length"]
    lengths = [length] if body else []
    data = head_of([("Host", host, "\r\n"), *lengths, *fields]) + body
    asyncio.run(is_seen_alike(data))


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
async def test_no_header_means_more_to_the_framework(connection):
    """Each that it knows, with each value that means something anywhere: as above, or not plain."""
    values = [
        *("", "0", "1", "4", "x", "close", "Close", "keep-alive", "close, keep-alive", "upgrade"),
        *("keep-alive, Upgrade", "chunked", "identity", "gzip", "websocket", "h2c", "trailers"),
        "100-continue",
    ]
    plain = {
        name
        for name, value in itertools.product(KNOWN_NAMES, values)
        if await is_seen_alike(
            LINE
            + f"Host: x\r\nContent-Length: 4\r\n{connection}{name}: {value}\r\n\r\nbody".encode()
        )
    }
    assert {"Accept", "Authorization", "Content-Type", "Keep-Alive", "X-Other"} <= plain


async def is_seen_alike(data: bytes) -> bool:
    """Whether bytes begin with a plain request; then the framework has to see the same in them."""
    head = read_head(data, LINE, BYTES_MAX, FIELDS_MAX)
    if not isinstance(head, Head):
        return False
    # What may follow it is another request.
    following = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    (message, content), (second, _) = await parsed(data[: head.end] + following)
    assert (message.method, message.path, message.chunked) == ("POST", "/v1/records", False)
    assert not message.should_close
    assert message.compression is None
    assert not message.upgrade
    found = {name.lower(): value for name, value in message.raw_headers}
    assert found == head.fields
    assert content == data[head.body : head.end]
    assert (second.method, second.path) == ("GET", "/healthz")
    return True


async def parsed(data: bytes):
    """What the framework makes of bytes: its messages and their bodies."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    parser = HttpRequestParser(protocol, loop, 2**16, auto_decompress=False)
    try:
        messages, _, _ = parser.feed_data(data)
    except HttpProcessingError as error:
        pytest.fail(f"the framework refuses it: {error}")
    return [(message, await payload.read()) for message, payload in messages]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", Told.MORE_IS_TO_COME),
        (LINE[:7], Told.MORE_IS_TO_COME),
        (LINE + b"Host: x\r\n", Told.MORE_IS_TO_COME),
        (LINE + b"Host: x\r\nContent-Length: 1\r\n\r", Told.MORE_IS_TO_COME),
        (b"GET", Told.NOTHING),
        (LINE.replace(b"1.1", b"1.0"), Told.NOTHING),
        (LINE.replace(b"records", b"records?x=1"), Told.NOTHING),
        (LINE + b"X: " + b"x" * BYTES_MAX, Told.NOTHING),
        (LINE + b"\r\n", Told.NOTHING),
        (LINE + b"Content-Length: 1\r\n\r\nx", Told.NOTHING),
        (LINE + b"Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Told.NOTHING),
        (LINE + b"Host: x\r\nContent-Length: 1000000000\r\n\r\n", Told.NOTHING),
        (
            LINE + b"Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            Told.NOTHING,
        ),
        (LINE + b"Host: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", Told.NOTHING),
        (LINE + b"Host: x\r\nContent-Length: 1\r\nProxy-Connection: close\r\n\r\nx", Told.NOTHING),
        (LINE + MANY + b"Host: x\r\nContent-Length: 1\r\n\r\nx", Told.NOTHING),
    ],
)
def test_what_is_told_of_other_bytes(data, told):
    """That more may make a plain request of them, or that nothing can."""
    assert read_head(data, LINE, BYTES_MAX, FIELDS_MAX) is told


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"GET /v1/accounts/acme/history?limit=1 HTTP/1.1\r\nHost: x\r\n\r\nGET", -3),
        (b"PUT /v1/in-transit/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{", 1),
        (b"POST /v1/records HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", None),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", None),
        (b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", None),
        (b"garbage", None),
    ],
)
def test_where_any_plain_request_ends(data, end):
    """So that it is known where the next one begins: so many bytes behind those that came."""
    found = end_of(data, BYTES_MAX, FIELDS_MAX)
    assert found == (None if end is None else len(data) + end)


def test_where_a_plain_request_ends():
    """Behind the body that its length tells of, whether that has come or not."""
    head = LINE + b"Host: x\r\nContent-Length:  12 \r\nConnection: Keep-Alive\r\nX:\r\n\r\n"
    read = read_head(head + b"12", LINE, BYTES_MAX, FIELDS_MAX)
    assert isinstance(read, Head)
    assert (read.body, read.end) == (len(head), len(head) + 12)
    assert read.fields == {
        b"host": b"x",
        b"content-length": b"12",
        b"connection": b"Keep-Alive",
        b"x": b"",
    }
