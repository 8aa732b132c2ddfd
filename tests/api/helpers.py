"""Requests and answers, for tests of the API over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import orjson

from tests.documented import check_documented

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.serving import Service

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
# What must never be in an answer: the inside of the service or of the database.
INSIDES = re.compile(
    r'Traceback|File "|line \d+, in |\.py\b|asyncpg|msgspec|aiohttp|SELECT |INSERT |site-packages'
)


async def send(
    service: Service,
    method: str,
    path: str,
    key: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> tuple[int, Any, dict[str, str]]:
    """Status, body (decoded) and headers of one request."""
    given = ({} if key is None else {"Authorization": f"Bearer {key}"}) | (headers or {})
    async with service.http.request(
        method, service.url + path, headers=given, **options
    ) as response:
        body = await response.read()
        is_json = response.content_type in ("application/json", "application/problem+json")
        decoded = orjson.loads(body) if is_json else body.decode()
        check_documented(
            method,
            response.url,
            response.status,
            response.content_type if body else "",
            decoded,
            response.headers,
        )
        return response.status, decoded, dict(response.headers)


async def refused(
    service: Service, status: int, method: str, path: str, key: str | None = None, **options: Any
) -> dict[str, Any]:
    """The problem that a request is answered with: of this status, and nothing of the inside."""
    answered, body, headers = await send(service, method, path, key, **options)
    assert answered == status, body
    assert headers["Content-Type"].startswith("application/problem+json")
    assert body["status"] == status
    assert body["code"]
    assert body["title"]
    assert body["detail"]
    assert not INSIDES.search(orjson.dumps(body).decode()), body
    return body


async def post_lines(
    service: Service, key: str, *lines: object, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Posts NDJSON: each line as it is when it is text or bytes, else encoded."""
    body = b"\n".join(
        line
        if isinstance(line, bytes)
        else line.encode()
        if isinstance(line, str)
        else orjson.dumps(line)
        for line in lines
    )
    status, answer, _ = await send(
        service, "POST", "/v1/records", key, data=body, headers=NDJSON | (headers or {})
    )
    return status, answer


async def history(service: Service, key: str, query: str = "", account: str = "acme") -> list[Any]:
    """All pages of a history, in order."""
    found: list[Any] = []
    cursor = ""
    while True:
        joined = "&".join(part for part in (query, cursor) if part)
        status, page = await service.call("GET", f"/v1/accounts/{account}/history?{joined}", key)
        assert status == 200, page
        found += page["data"]
        if page["next"] is None:
            return found
        cursor = f"cursor={page['next']}"


async def ids(service: Service, key: str, query: str = "", account: str = "acme") -> list[str]:
    """The ids of a history, newest first."""
    return [record["id"] for record in await history(service, key, query, account)]


@contextlib.asynccontextmanager
async def superuser(service: Service) -> AsyncIterator[asyncpg.Connection]:
    """The superuser's connection to the service's database."""
    connection = await asyncpg.connect(service.dsn, server_settings={"search_path": "trafficlog"})
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Waits for a condition (a coroutine function) to hold, and gives what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)
    return found


async def raw(service: Service, content: bytes) -> tuple[bytes, bytes]:
    """Head and body of what a service answers to bytes sent on a socket of their own."""
    where = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(content)
        await writer.drain()
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            return head, await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
