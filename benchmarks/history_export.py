"""How fast a whole history goes out, in each format, against PostgreSQL's own COPY of the rows.

``COPY … TO STDOUT`` runs with the same query, in the role that serves customers and under
row-level security, over one connection, and what it gives is thrown away: as text, CSV and in
the binary form. The exports go over HTTP to a client that throws them away as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import asyncpg

from benchmarks.history_stock import START, Stock, make_stock
from trafficlog import postgres
from trafficlog.queries import queries
from trafficlog.store.accounts import load_account
from trafficlog.store.history_list import HistoryFilter, Position
from trafficlog.store.history_windows import windows

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.records import AccountKey

COPY_FORMATS: Final = ("text", "csv", "binary")
# Format and what the client takes.
EXPORTS: Final = (
    ("ndjson", "identity"),
    ("ndjson", "gzip"),
    ("csv", "identity"),
    ("csv", "gzip"),
    ("parquet", "identity"),
    ("archive", "identity"),
)
PIECE_BYTES: Final = 2**18
LISTEN: Final = "127.0.0.1:8471"


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one way out was: the best of its rounds."""

    name: str
    rows: int
    seconds: float
    bytes: int

    @property
    def rows_per_second(self) -> float:
        """Records a second."""
        return self.rows / self.seconds


async def measure(
    dsn: str,
    url: str,
    customer_key: str,
    account: str,
    account_key: AccountKey,
    now: datetime,
    rounds: int = 3,
) -> list[Rate]:
    """The rates of COPY and of each format for all of one account's history.

    Args:
        dsn: of the service's database, as a superuser.
        url: of a service that runs on it and whose clock stands at about ``now``.
        customer_key: an API key of the account.
        account: its id.
        account_key: its key in the database.
        now: what is visible at this time is copied.
        rounds: how often each is done, in turns; the best counts.
    """
    best: dict[str, Rate] = {}
    headers = {"Authorization": f"Bearer {customer_key}"}
    connection = await asyncpg.connect(
        dsn,
        server_settings={
            "role": "trafficlog_customer",
            "search_path": "trafficlog, pg_temp",
            "timezone": "UTC",
        },
    )
    try:
        rows = 0
        for _ in range(rounds):
            for name in COPY_FORMATS:
                rate = await _copied(connection, account_key, now, name)
                rows = rate.rows
                _note(best, rate)
            async with aiohttp.ClientSession(headers=headers, auto_decompress=False) as http:
                for name, encoding in EXPORTS:
                    address = f"{url}/v1/accounts/{account}/export?format={name}"
                    _note(best, await _exported(http, address, name, encoding, rows))
    finally:
        await connection.close()
    return list(best.values())


def table(rates: list[Rate]) -> list[tuple[str, float, float, float]]:
    """For each way out: its name, rows a second, bytes a row, and its share of COPY as text."""
    copy = next(rate for rate in rates if rate.name == "COPY text").rows_per_second
    return [
        (r.name, r.rows_per_second, r.bytes / max(1, r.rows), r.rows_per_second / copy)
        for r in rates
    ]


def _note(best: dict[str, Rate], rate: Rate) -> None:
    if rate.name not in best or rate.seconds < best[rate.name].seconds:
        best[rate.name] = rate


async def _copied(
    connection: asyncpg.Connection, account_key: AccountKey, now: datetime, name: str
) -> Rate:
    size = rows = 0

    async def take(part: bytes) -> None:
        nonlocal size
        size += len(part)

    began = time.perf_counter()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await queries.see_account(connection, account_key=str(account_key))
        account = await load_account(connection, account_key)
        # The rows in the order of an export, and the windows that bound the partitions.
        await queries.take_in_order(connection)
        for window in windows(account, HistoryFilter(), now, Position()):
            arguments = window | {"limit": 2**62}
            status = await connection.copy_from_query(
                queries.history_window.sql.rstrip().rstrip(";"),
                *(arguments[n] for n in queries.driver_adapter.var_sorted["history_window"]),
                output=take,
                format=name,
            )
            rows += int(status.split()[-1])
    return Rate(f"COPY {name}", rows, time.perf_counter() - began, size)


async def _exported(
    http: aiohttp.ClientSession, address: str, name: str, encoding: str, rows: int
) -> Rate:
    size = 0
    began = time.perf_counter()
    async with http.get(address, headers={"Accept-Encoding": encoding}) as answer:
        answer.raise_for_status()
        async for part in answer.content.iter_chunked(PIECE_BYTES):
            size += len(part)
    seconds = time.perf_counter() - began
    return Rate(name if encoding == "identity" else f"{name}, {encoding}", rows, seconds, size)


def demonstrate(rows: int) -> None:
    """Measures on an embedded server of its own, with the service in another process."""
    with tempfile.TemporaryDirectory(prefix="trafficlog-export-") as directory:
        data = Path(directory)
        with postgres.running(data) as server:
            stock = asyncio.run(_filled(server.dsn, rows))
            environment = {
                **os.environ,
                "TRAFFICLOG_DATABASE_URL": stock.dsn,
                "TRAFFICLOG_TIME_TRAVEL": "1",
                "TRAFFICLOG_NOW": START.isoformat(),
                "TRAFFICLOG_SIGNING_KEY_FILE": str(data / "signing.pem"),
            }
            command = [str(Path(sys.executable).with_name("trafficlog"))]
            create = [*command, "key", "create", "--scope", "customer", "--account", "a0", "--json"]
            made = subprocess.run(create, env=environment, check=True, capture_output=True)
            customer_key = json.loads(made.stdout)["key"]
            service = subprocess.Popen(
                [*command, "serve", "--listen", LISTEN],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                asyncio.run(_ready(f"http://{LISTEN}"))
                before = _megabytes(service.pid, "VmRSS")
                account_key, _ = stock.accounts[0]
                rates = asyncio.run(
                    measure(stock.dsn, f"http://{LISTEN}", customer_key, "a0", account_key, START)
                )
                for name, speed, width, share in table(rates):
                    print(f"{name:16} {speed:10,.0f} rows/s {width:6.0f} bytes/row {share:5.2f}")
                peak = _megabytes(service.pid, "VmHWM")
                print(f"memory of the service: {before:.0f} MB before, {peak:.0f} MB at most")
            finally:
                service.terminate()
                service.wait(30)


async def _filled(server_dsn: str, rows: int) -> Stock:
    stock = await make_stock(server_dsn, "export", rows, 1, 1, lambda: None)
    await stock.admin.close()
    return stock


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(600):
            try:
                async with http.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the service did not start")


def _megabytes(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


if __name__ == "__main__":
    demonstrate(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
