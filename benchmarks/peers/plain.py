"""What the plain services share: an aiohttp server, and records as rows.

They do what a service of a page of code does, and that well: uvloop, orjson, one pool of
connections, one transaction a request, an answer after its commit. They write into the same two
tables with the same keys as the service under measurement, each row with its own expiry by its
account's setting; but they read accounts and settings once, when they start, and leave the
partitions to somebody else. They ask for no key, check no more than the columns' types do, merge
no later reports and count no usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import uvloop
from aiohttp import web

from trafficlog.config import Config
from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.Response]]

CONNECTIONS = 8
TRAFFIC_PERIOD = timedelta(days=60)
TRAFFIC_COLUMNS = (
    *("created_at", "expires_at", "account_key", "kind", "direction", "id"),
    *("sender", "recipient", "ip", "user_agent"),
)
HISTORY_COLUMNS = (
    *("account_key", "created_at", "expires_at", "parts", "cost", "kind", "direction", "status"),
    *("withheld", "id", "sender", "recipient", "owner", "tags", "message"),
)

Row = tuple[Any, ...]
Accounts = dict[str, tuple[int, timedelta | None]]


class Store:
    """The pool, and the accounts as they were at the start."""

    def __init__(self, pool: asyncpg.Pool, accounts: Accounts) -> None:
        self.pool = pool
        self._accounts = accounts

    def rows(self, body: bytes) -> tuple[list[Row], list[Row]]:
        """The rows of both tables for the lines of a body."""
        traffic, history = [], []
        for line in body.split(b"\n"):
            record = orjson.loads(line)
            get = record.get
            created = datetime.fromisoformat(record["created"])
            account, period = self._accounts[record["account"]]
            kind, direction = KIND_CODES[record["kind"]], DIRECTION_CODES[record["direction"]]
            same = record["id"], record["from"], record["to"]
            traffic.append(
                (
                    *(created, created + TRAFFIC_PERIOD, account, kind, direction),
                    *(*same, get("ip"), get("user_agent")),
                )
            )
            if period is not None:
                status = STATUS_CODES.get(get("status"))
                hidden = "message" in get("dontlog", ())
                history.append(
                    (
                        *(account, created, created + period, get("parts"), get("cost")),
                        *(kind, direction, status, int(hidden), *same, get("owner"), get("tags")),
                        None if hidden else get("message"),
                    )
                )
        return traffic, history


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Store]:
    """The store at ``dsn``."""
    settings = {"search_path": "trafficlog", "timezone": "UTC", "synchronous_commit": "on"}
    async with asyncpg.create_pool(
        dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=settings
    ) as pool:
        found = await pool.fetch("SELECT account_id, account_key, history_days FROM account")
        accounts = {
            row["account_id"]: (
                row["account_key"],
                None if row["history_days"] is None else timedelta(days=row["history_days"]),
            )
            for row in found
        }
        yield Store(pool, accounts)


def accepted(count: int) -> web.Response:
    """The answer to a request whose records are stored."""
    return web.Response(body=b'{"accepted":%d}' % count, content_type="application/json")


async def serve(handler: Handler) -> None:
    """Answers ``POST /v1/records`` until SIGTERM; first prints where, as JSON.

    The server is set as that of the service under measurement is.
    """
    config = Config()
    app = web.Application(client_max_size=2**40)
    app.router.add_post("/v1/records", handler)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=config.idle_seconds_max,
        max_line_size=config.request_line_bytes_max,
        max_field_size=config.header_bytes_max,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=config.connections_waiting_max)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def run(make_handler: Callable[[Store], Handler]) -> None:
    """A service on the database named as the one argument."""

    async def main() -> None:
        async with opened(sys.argv[1]) as store:
            await serve(make_handler(store))

    run_until_done(main())


def run_until_done(work: Any) -> None:
    """Runs a coroutine on the event loop that the service under measurement uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
