"""The same ingest into a store that holds years of rows and into one that is empty, and its bytes.

Two databases of one server, each with a service of its own, measured in turns. The stocked one has
history in 400 daily partitions, evenly, of accounts that keep it for 400 days, and the legal
records that such traffic leaves in 60 days; its past days are sealed, as the service seals them.
The empty one is emptied before each measurement. Both take the same lifelike traffic, whose rows
go into partitions that hold rows already in the one and none in the other. Later reports come in
rounds after these: what they leave behind, which new records then fill, is not what a size costs.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from generator import Job
from history_stock import DAY, Stock
from ingest_bench import TRAFFICLOG, Stored, connected, make_accounts, running
from report import Ratio, Road

from trafficlog.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg
    import psutil
    from ingest_bench import Bench

STOCK_DAYS = 400
TRAFFIC_DAYS = 60
STOCK_ACCOUNTS = 1_000
# Filled in parts, two at a time.
PARTS = 20
FILLERS = 2
# $1 the first instant, $2 the pause between two records, $3 how many, $4 keys of the accounts.
LEGAL_RECORDS = """
    INSERT INTO traffic_record (created_at, expires_at, account_key, kind, direction, id,
                                sender, recipient, ip, user_agent)
    SELECT at, at + interval '1440 hours', k[1 + abs(hashint8(g)) % cardinality(k)], 1, 2,
           left(md5('legal' || g), 22), 'Acme', '+4670' || 1000000 + abs(hashint8(g)) % 9000000,
           '198.51.100.' || g % 250, 'acme-gateway/4.2 (linux; x86_64)'
    FROM (SELECT g, $1::timestamptz + g * $2::interval AS at, $4::bigint[] AS k
          FROM generate_series(1, $3::bigint) g OFFSET 0) s
"""
# The bytes of a table's partitions: their heaps, and their indexes.
SIZES = """
    SELECT sum(pg_table_size(inhrelid)) AS heap, sum(pg_indexes_size(inhrelid)) AS indexes
    FROM pg_inherits WHERE inhparent = $1::regclass
"""
LOOK_UPS = """
    SELECT sum(pg_relation_size(i.indexrelid))
    FROM pg_inherits JOIN pg_index i ON i.indrelid = inhrelid
    WHERE inhparent = 'traffic_record'::regclass AND NOT i.indisprimary
"""


@dataclass
class Disk:
    """Bytes of one record: as its line, and as its rows, each by what they are."""

    line: float = 0
    kept_in_history: float = 0
    parts: dict[str, float] = field(default_factory=dict)
    look_ups: float = 0


@dataclass
class AtSize:
    """What ingest does with rows present and without."""

    stock_rows: int
    legal_rows: int = 0
    partitions: int = 0
    stocked: Road = field(
        default_factory=lambda: Road(f"HTTP, into {STOCK_DAYS} filled partitions")
    )
    empty: Road = field(default_factory=lambda: Road("HTTP, into an empty store"))
    between: Road = field(default_factory=lambda: Road("HTTP, there, between updates"))
    updates: Road = field(
        default_factory=lambda: Road(f"updates, among {STOCK_DAYS} filled partitions")
    )
    disk: Disk = field(default_factory=Disk)
    faults: list[str] = field(default_factory=list)

    def ratios(self) -> list[Ratio]:
        """The stocked store beside the empty one, and later reports there beside first ones."""
        rows = self.stock_rows + self.legal_rows
        meaning = f"with {rows / 1e6:.1f} million rows ÷ empty"
        return [
            Ratio.of("R5", meaning, "≥ 0.9", self.stocked, self.empty),
            Ratio.of(
                "R4 there", "updates ÷ fresh, both there", "≥ 0.4", self.updates, self.between
            ),
        ]


async def measure_at_size(
    dsn: str,
    postmaster: psutil.Process,
    stock_rows: int,
    records: int,
    rounds: int,
    accounts: int,
    step: Callable[[str], None],
) -> AtSize:
    """Fills the one database, then measures both in turns; then what a record takes on disk."""
    found = AtSize(stock_rows)
    stocked_dsn = await _database(dsn, "trafficlog_bench_stocked", accounts)
    empty_dsn = await _database(dsn, "trafficlog_bench_empty", accounts)
    already = await _fill(stocked_dsn, found, step)
    step("sealing past days")
    await _seal(stocked_dsn)
    job, later = Job("http", records, 1_000, 8), Job("updates", records, 1_000, 8)
    async with (
        running(stocked_dsn, postmaster, accounts) as stocked,
        running(empty_dsn, postmaster, accounts) as empty,
    ):
        stocked.stored = already
        for number in range(rounds + 1):
            turns = [(stocked, found.stocked), (empty, found.empty)]
            for bench, road in reversed(turns) if number % 2 else turns:
                name = "stocked" if bench is stocked else "empty"
                step(f"round {number}: {name}" if number else f"warming up: {name}")
                if bench is empty:
                    await _empty(bench)
                done = await bench.do(job)
                if number:
                    road.rounds.append(done)
        for number in range(rounds + 1):
            for each, road in ((job, found.between), (later, found.updates)):
                step(f"round {number}: updates" if number else "warming up: updates")
                done = await stocked.do(each)
                if number:
                    road.rounds.append(done)
        step("counting rows")
        found.faults = [
            f"{name}: {fault}"
            for name, bench in (("stocked", stocked), ("empty", empty))
            for fault in await bench.check()
        ]
        await empty.settle()
        async with connected(empty_dsn) as connection:
            found.disk = await _disk(connection, empty)
        async with connected(stocked_dsn) as connection:
            found.disk.look_ups = float(await connection.fetchval(LOOK_UPS)) / found.legal_rows
            found.partitions = await connection.fetchval(
                "SELECT count(*) FROM partition_catalogue WHERE table_name = 'history_record'"
            )
    return found


def steps(rounds: int) -> int:
    """How often ``measure_at_size`` calls ``step``."""
    return 2 + PARTS + 4 * (rounds + 1)


async def _database(server_dsn: str, name: str, accounts: int) -> str:
    async with connected(server_dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    await migrate(dsn)
    await make_accounts(dsn, accounts)
    return dsn


async def _fill(dsn: str, found: AtSize, step: Callable[[str], None]) -> Stored:
    """Fills the database; what it holds then."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - (STOCK_DAYS - 1) * DAY
    found.legal_rows = found.stock_rows * TRAFFIC_DAYS // STOCK_DAYS
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "INSERT INTO account"
            " (account_id, created_at, history_days, history_days_min, history_days_max)"
            " SELECT 'stock-' || n, $2, $3, $3, $3 FROM generate_series(1, $1) n"
            " RETURNING account_key",
            STOCK_ACCOUNTS,
            first,
            STOCK_DAYS,
        )
        for table, days in (("history_record", STOCK_DAYS), ("traffic_record", TRAFFIC_DAYS)):
            for number in range(days + 1):
                lower = today + number * DAY
                await connection.execute(
                    "SELECT ensure_partition($1, $2, $3)", table, lower, lower + DAY
                )
    keys = [row["account_key"] for row in rows]
    width = (now - first) / PARTS
    parts = [(first + n * width, first + (n + 1) * width) for n in range(PARTS)]
    await asyncio.gather(*(_fill_parts(dsn, parts, keys, found, step) for _ in range(FILLERS)))
    async with connected(dsn) as connection:
        legal_first = today - (TRAFFIC_DAYS - 1) * DAY
        pause = (now - legal_first) // (found.legal_rows + 1)
        await connection.execute(LEGAL_RECORDS, legal_first, pause, found.legal_rows, keys)
        stored = Stored()
        count = "SELECT count(*), count(updated_at) FROM {}"
        stored.records, stored.updates = await connection.fetchrow(count.format("traffic_record"))
        stored.in_history, stored.updates_in_history = await connection.fetchrow(
            count.format("history_record")
        )
        return stored


async def _fill_parts(
    dsn: str,
    parts: list[tuple[datetime, datetime]],
    keys: list[int],
    found: AtSize,
    step: Callable[[str], None],
) -> None:
    """Takes parts of the time from the list and fills them until there are none."""
    async with connected(dsn) as connection:
        stock = Stock("", dsn, found.stock_rows, connection)
        accounts = [(key, STOCK_DAYS) for key in keys]
        while parts:
            span = parts.pop(0)
            step(f"filling {found.stock_rows:,} rows")
            salt = f"{span[0]:%y%m%d%H}/"
            count = found.stock_rows // PARTS
            await stock.add_records("history_record", accounts, count, span, salt)


async def _seal(dsn: str) -> None:
    """A retention run as the service makes them, but for as many days as there are."""
    command = await asyncio.create_subprocess_exec(
        *TRAFFICLOG,
        *("retention", "run", "--database-url", dsn, "--json"),
        stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"TRAFFICLOG_SEALS_IN_A_RUN_MAX": "10000"},
    )
    if await command.wait():
        raise RuntimeError("the retention run failed")
    async with connected(dsn) as connection:
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")


async def _empty(bench: Bench) -> None:
    async with connected(bench.dsn) as connection:
        await connection.execute("TRUNCATE traffic_record, history_record")
    bench.stored = Stored()


async def _disk(connection: asyncpg.Connection, bench: Bench) -> Disk:
    """What the records of the last round take, as their service wrote them."""
    records = bench.stored.records
    disk = Disk(bench.line_bytes, bench.stored.in_history / records)
    for table, words in (("traffic_record", "legal record"), ("history_record", "history")):
        row = await connection.fetchrow(SIZES, table)
        disk.parts[f"{words}, rows"] = float(row["heap"]) / records
        disk.parts[f"{words}, index"] = float(row["indexes"]) / records
    return disk
