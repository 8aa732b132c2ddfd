"""The store under measurement, and what ``history.py`` measures of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from history_report import Report, Series
from history_stock import COLUMNS, DAY, HISTORY_DAYS, START, Stock, make_stock
from retention_ingest import load_running
from steady_load import Load

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.history_export import measure as export_rates
from benchmarks.history_export import table as export_table
from trafficlog.config import Config
from trafficlog.records import AccountKey, RecordId
from trafficlog.store.database import Database
from trafficlog.store.erasures import Erasures, Wanted
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter, Position
from trafficlog.store.keys import Keys
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from rich.progress import Progress

ACCOUNTS = 2_000
# The one that has many pages is the first that the load writes for as well.
BIG = "a0"
# At least as much of all records as it has, and at least as many as page 1,000 needs.
BIG_SHARE = 0.2
PAGE = 100
DEEP_PAGE = 1_000
WARM_UP = 20
NEWEST = (
    "SELECT created_at, updated_at, delivered_at, expires_at, duration, parts, cost, kind,"
    " direction, status, id, sender, recipient, owner, tags, message FROM ideal"
    " WHERE account_key = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
)


@dataclass
class Options:
    """How large the run is."""

    rows: int
    times: int

    @property
    def erased_rows(self) -> int:
        """Records of each account whose history is erased."""
        return min(100_000, self.rows // 10)


@dataclass
class Bench:
    """The server under measurement and what was found so far."""

    dsn: str
    options: Options
    progress: Progress
    report: Report
    config: Config = field(default_factory=Config)

    @contextlib.contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A line of progress; gives what advances it."""
        task = self.progress.add_task(title, total=total)
        yield lambda: self.progress.advance(task)
        self.progress.update(task, completed=total)


@dataclass
class Filled:
    """The store, filled: accounts of few records, the large one, and those to be erased."""

    stock: Stock
    small: list[int]
    big: int
    erased: list[int]
    # Of the large account: where page 1,000 begins, and some of its ids.
    deep: Position
    ids: list[str]
    numbers: list[str]


async def fill(bench: Bench) -> Filled:
    """Makes the store: 90 days of records, as many each day, by two connections at a time."""
    rows = bench.options.rows
    stock = await make_stock(bench.dsn, "trafficlog_bench_history", 0, 1, ACCOUNTS, lambda: None)
    keys = [key for key, _ in stock.accounts]
    erased = [
        await stock.admin.fetchval(
            "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
            " history_days_max) VALUES ($1, $2, 90, 90, 90) RETURNING account_key",
            f"erased{n}",
            START - HISTORY_DAYS * DAY,
        )
        for n in range(2)
    ]
    share = max(BIG_SHARE, 1.03 * DEEP_PAGE * PAGE / rows)
    weights = [(keys[0], HISTORY_DAYS)] * round(share / (1 - share) * ACCOUNTS)
    present = weights + [(key, HISTORY_DAYS) for key in keys[1:]]
    days = list(range(HISTORY_DAYS))
    # In 90 days it would be done with each day before its sealing, which waits for it.
    await autovacuum(stock, "off")
    with bench.step(f"{rows:,} records", HISTORY_DAYS) as advance:

        async def add() -> None:
            connection = await asyncpg.connect(
                stock.dsn, server_settings={"search_path": "trafficlog, public", "timezone": "UTC"}
            )
            beside = replace(stock, admin=connection)
            while days:
                number = days.pop()
                created = START - (HISTORY_DAYS - number) * DAY
                span = (created, created + DAY)
                each = rows // HISTORY_DAYS
                await beside.add_records("history_record", present, each, span, f"{number}/")
                for key in erased:
                    count = bench.options.erased_rows // HISTORY_DAYS
                    salt = f"{key}/{number}/"
                    await beside.add_records("history_record", [(key, 90)], count, span, salt)
                advance()
            await connection.close()

        await asyncio.gather(add(), add())
    await seal(bench, stock)
    await make_ideal(stock, keys, rows)
    await autovacuum(stock, "on")
    big = keys[0]
    deep = await stock.admin.fetchrow(
        "SELECT created_at, id FROM history_record WHERE account_key = $1"
        " ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT 1",
        big,
        (DEEP_PAGE - 1) * PAGE - 1,
    )
    some = await stock.admin.fetch(
        "SELECT id, recipient FROM history_record WHERE account_key = $1"
        " AND hashtext(id) % $2 = 0 LIMIT 500",
        big,
        max(1, round(rows * share) // 1_000),
    )
    return Filled(
        stock,
        keys[1:],
        big,
        erased,
        Position(deep["created_at"], deep["id"]),
        [row["id"] for row in some],
        [row["recipient"] for row in some],
    )


async def autovacuum(stock: Stock, state: str) -> None:
    """Switches it for the whole server."""
    await stock.admin.execute(f"ALTER SYSTEM SET autovacuum = {state}")
    await stock.admin.execute("SELECT pg_reload_conf()")


async def seal(bench: Bench, stock: Stock) -> None:
    """What retention runs have done while the records came in: whole days frozen and indexed."""
    with bench.step(
        "sealing of whole days", HISTORY_DAYS // bench.config.seals_in_a_run_max + 1
    ) as (advance):
        async with Retention(stock.dsn, bench.config) as retention:
            assert await retention.lead()
            while (await retention.run(START, guard_clock=False)).sealed:
                advance()
    await stock.settle("history_record")


async def make_ideal(stock: Stock, keys: list[int], rows: int) -> None:
    """One table with the newest records of all accounts, enough for each one's first page."""
    daily = rows * (1 - BIG_SHARE) / len(keys) / HISTORY_DAYS
    days = min(HISTORY_DAYS, 1 + 2 * PAGE / daily)
    await stock.admin.execute("CREATE TABLE ideal (LIKE history_record INCLUDING ALL)")
    await stock.admin.execute(
        f"INSERT INTO ideal ({COLUMNS}) SELECT {COLUMNS} FROM history_record WHERE created_at > $1",
        START - timedelta(days=days),
    )
    await stock.settle("ideal")


async def measure(bench: Bench, filled: Filled) -> None:
    """Every reading, in turns, without and with ingest; then what writes."""
    for ingest in (False, True):
        load = Load([], [])
        running = load_running(filled.stock, START, load) if ingest else contextlib.nullcontext()
        async with served(bench, filled.stock) as (url, key), running:
            await measure_readings(bench, filled, url, key, ingest=ingest)
            await measure_export(bench, filled, url, key, ingest=ingest)
            await measure_erasure(bench, filled, ingest=ingest)


async def measure_readings(
    bench: Bench, filled: Filled, url: str, key: str, *, ingest: bool
) -> None:
    """The readings, one of each in turn, so that what disturbs one disturbs all."""
    chosen = random.Random(1)
    stock = filled.stock
    ideal = await asyncpg.connect(stock.dsn, server_settings={"search_path": "trafficlog"})
    async with (
        Database(stock.dsn, bench.config) as database,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http,
    ):
        history = History(database)

        async def page(account: int, **wanted: str) -> int:
            found = await history.page(
                AccountKey(account),
                HistoryFilter(**wanted),
                START,
                limit=PAGE,
                rows_max=bench.config.history_scan_rows_max,
            )
            return len(found.records)

        async def deep() -> int:
            found = await history.page(
                AccountKey(filled.big), HistoryFilter(), START, limit=PAGE, start=filled.deep
            )
            return len(found.records)

        async def by_id() -> int:
            await history.by_id(AccountKey(filled.big), RecordId(chosen.choice(filled.ids)), START)
            return 1

        async def by_http(path: str) -> int:
            async with http.get(f"{url}/v1/accounts/{BIG}/history{path}") as response:
                body = await response.json()
                assert response.status == 200, body
            return len(body.get("data", [body]))

        small = lambda: chosen.choice(filled.small)  # noqa: E731
        number = lambda: chosen.choice(filled.numbers)  # noqa: E731
        readings: dict[str, Callable[[], Awaitable[int]]] = {
            "ideal": lambda: fetched(ideal, small()),
            "ideal of the large account": lambda: fetched(ideal, filled.big),
            "first page": lambda: page(small()),
            "first page of the large account": lambda: page(filled.big),
            "page 1,000": deep,
            "one record by id": by_id,
            "by peer number": lambda: page(small(), recipient=number()),
            "first page over HTTP": lambda: by_http(f"?limit={PAGE}"),
            "one record over HTTP": lambda: by_http("/" + chosen.choice(filled.ids)),
        }
        rare = {
            "by peer number in the large account": lambda: page(filled.big, recipient=number()),
        }
        times = bench.options.times
        title = "readings, with ingest" if ingest else "readings"
        with bench.step(title, times) as advance:
            for turn in range(-WARM_UP, times):
                due = readings if turn % 20 else readings | rare
                for name, read in due.items():
                    began = time.perf_counter()
                    count = await read()
                    spent = (time.perf_counter() - began) * 1000
                    if turn >= 0:
                        bench.report.series.setdefault((name, ingest), Series()).add(spent, count)
                if turn >= 0:
                    advance()
    await ideal.close()


async def fetched(connection: asyncpg.Connection, account: int) -> int:
    """One page by the bare scan of one index, on a connection of its own."""
    return len(await connection.fetch(NEWEST, account, PAGE + 1))


@contextlib.asynccontextmanager
async def served(bench: Bench, stock: Stock) -> AsyncIterator[tuple[str, str]]:
    """The whole service in a process of its own; its URL and a key of the large account."""
    async with Database(stock.dsn, bench.config) as database:
        key = (await Keys(database).create("customer", BIG, START)).secret
    environment = os.environ | {
        "TRAFFICLOG_DATABASE_URL": stock.dsn,
        "TRAFFICLOG_TIME_TRAVEL": "1",
        "TRAFFICLOG_NOW": START.isoformat(),
        "TRAFFICLOG_REQUESTS_PER_SECOND": "0",
        # Its jobs are not what is measured.
        "TRAFFICLOG_RETENTION_INTERVAL_SECONDS": "86400",
    }
    port = 20_000 + os.getpid() % 20_000
    url = f"http://127.0.0.1:{port}"
    trafficlog = Path(sys.executable).with_name("trafficlog")
    process = await asyncio.create_subprocess_exec(
        str(trafficlog),
        "serve",
        "--listen",
        f"127.0.0.1:{port}",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(600):
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with http.get(f"{url}/readyz") as response:
                        if response.status == 200:
                            break
                await asyncio.sleep(0.1)
            else:
                raise RuntimeError("the service did not start")
        yield url, key
    finally:
        process.terminate()
        await process.wait()


async def measure_export(bench: Bench, filled: Filled, url: str, key: str, *, ingest: bool) -> None:
    """The export of the large account in each format, beside COPY of the same rows."""
    with bench.step("export, with ingest" if ingest else "export", 1):
        big = AccountKey(filled.big)
        rates = await export_rates(filled.stock.dsn, url, key, BIG, big, START, rounds=1)
    bench.report.exports[ingest] = export_table(rates)


async def measure_erasure(bench: Bench, filled: Filled, *, ingest: bool) -> None:
    """One account's records, erased by a filter that chooses all of them."""
    account = AccountKey(filled.erased[ingest])
    stock = filled.stock
    with bench.step(f"erasure of {bench.options.erased_rows:,} records", 1):
        async with (
            Database(stock.dsn, bench.config) as database,
            Retention(stock.dsn, bench.config) as retention,
        ):
            assert await retention.lead()
            began = time.perf_counter()
            erasures = Erasures(database, b"bench")
            wanted = Wanted(chosen=HistoryFilter(kind="sms"))
            erasure = await erasures.start(account, wanted, START)
            asked = time.perf_counter()
            while (await erasures.get(account, erasure.id)).finished_at is None:
                await retention.erase(START, guard_clock=False)
            seconds = time.perf_counter() - asked
            left = await stock.admin.fetchval(
                "SELECT count(*) FROM history_record WHERE account_key = $1", account
            )
    assert left == 0
    rows = bench.options.erased_rows // HISTORY_DAYS * HISTORY_DAYS
    bench.report.erasures[ingest] = (rows, asked - began, seconds)
