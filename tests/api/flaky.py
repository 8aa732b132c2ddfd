"""A server that fails in the ways a network and a service do.

It is aiohttp's own on the loopback interface. It stands for the service's contract only
where the service itself cannot be made to fail on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from typing import TYPE_CHECKING

import orjson
import zstandard
from aiohttp import web

from trafficlog.client import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# How a client tries again that is not to keep a test waiting.
FAST = RetryPolicy(first_seconds=0.01, pause_seconds_max=0.05, give_up_after_seconds=5.0)


class FlakyService:
    """Answers each request by the next step of ``script``, and as the service when it is over.

    While ``away`` is set it answers 503 to everything.
    """

    def __init__(self) -> None:
        self.script: list = []
        self.requests: list[web.Request] = []
        self.stored: dict[str, dict] = {}
        self.records_max = 10_000
        self.record_bytes_max = 100_000
        self.poison = ""
        self.away = False
        self.away_headers: dict[str, str] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        body = await request.read()
        self.requests.append(request)
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        elif request.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
        if self.away:
            return problem(503, "the database is away", **self.away_headers)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, web.Response):
            return step
        if step == "drop":
            request.transport.abort()
            return web.Response()
        if step == "sleep":
            await asyncio.sleep(1.0)
        lines = body.splitlines()
        if len(lines) > self.records_max or max(map(len, lines)) > self.record_bytes_max:
            return problem(413, "too much at once")
        if self.poison and f'"{self.poison}"'.encode() in body:
            return problem(400, "the body is not what it should be", "body_unreadable")
        answer = self.answer([orjson.loads(line) for line in lines])
        if step == "lose the answer":
            request.transport.abort()
        return answer

    def answer(self, records: list[dict]) -> web.Response:
        """Stores records by their id; refuses those without."""
        counts = {"accepted": 0, "duplicates": 0}
        rejected = []
        for index, record in enumerate(records):
            if "id" not in record:
                rejected.append({"index": index, "field": "id", "code": "missing", "detail": "x"})
            elif record["id"] in self.stored:
                counts["duplicates"] += 1
            else:
                counts["accepted"] += 1
                self.stored[record["id"]] = record
        status = 422 if len(rejected) == len(records) else 200
        return web.json_response({**counts, "updated": 0, "rejected": rejected}, status=status)


def problem(status: int, detail: str, code: str = "x", **headers: str) -> web.Response:
    """A problem document, as the service answers errors."""
    body = {"type": "about:blank", "title": "x", "status": status, "code": code, "detail": detail}
    return web.json_response(
        body, status=status, headers=headers, content_type="application/problem+json"
    )


@contextlib.asynccontextmanager
async def flaky_service(port: int = 0) -> AsyncIterator[FlakyService]:
    """A server which fails as it is told to, on a port of its own unless one is given."""
    service = FlakyService()
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/records", service.handle)
    # The bodies are looked at as they came.
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
