"""What others do at night with the same rows: a bare drop, DELETE, pg_partman."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from history_stock import COLUMNS, DAY, HISTORY_DAYS, START

if TYPE_CHECKING:
    from datetime import datetime

    from history_stock import Stock

# The same time of day, $1 days before today.
CREATED_ANEW = "(now()::date - $1::integer) + created_at::time"


async def make_bare(stock: Stock, names: list[str]) -> None:
    """A table with as many partitions as history; the first hold the rows of ``names``."""
    await stock.admin.execute(
        "CREATE TABLE bare (LIKE history_record INCLUDING ALL) PARTITION BY RANGE (expires_at)"
    )
    for number in range(len(await stock.partitions("history_record"))):
        lower = START + number * DAY
        await stock.admin.execute(
            f"CREATE TABLE bare_{number} PARTITION OF bare"
            f" FOR VALUES FROM ('{lower}') TO ('{lower + DAY}')"
        )
    for number, name in enumerate(names):
        await stock.admin.execute(f"INSERT INTO bare_{number} SELECT * FROM {name}")
    await stock.settle("bare")


async def drop_bare(stock: Stock, number: int) -> float:
    """Seconds of the least that gets rid of a partition without blocking anybody."""
    began = time.perf_counter()
    await stock.admin.execute(f"ALTER TABLE bare DETACH PARTITION bare_{number} CONCURRENTLY")
    await stock.admin.execute(f"DROP TABLE bare_{number}")
    return time.perf_counter() - began


async def delete_expired(stock: Stock, at: datetime) -> tuple[float, int]:
    """Seconds of the DELETEs by account and age, and bytes given back."""
    accounts = [
        (row["account_key"], at - row["history_days"] * DAY)
        for row in await stock.admin.fetch("SELECT account_key, history_days FROM account")
    ]
    before = await stock.bytes_stored()
    began = time.perf_counter()
    statement = await stock.admin.prepare(
        "DELETE FROM by_creation WHERE account_key = $1 AND created_at < $2"
    )
    for first in range(0, len(accounts), 100):
        async with stock.admin.transaction():
            await statement.executemany(accounts[first : first + 100])
    seconds = time.perf_counter() - began
    return seconds, before - await stock.bytes_stored()


async def has_partman(stock: Stock) -> bool:
    """Whether pg_partman can be had on this server."""
    return await stock.admin.fetchval(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_partman')"
    )


async def make_partman(stock: Stock, names: list[str]) -> None:
    """A table that pg_partman keeps, by day of creation and with one period for all.

    It goes by the server's clock, so its days are the last ones by that clock. The oldest of
    them hold the rows of ``names``.
    """
    admin = stock.admin
    await admin.execute("CREATE SCHEMA IF NOT EXISTS partman")
    await admin.execute("CREATE EXTENSION pg_partman SCHEMA partman")
    await admin.execute(
        "CREATE TABLE one_period (LIKE history_record INCLUDING ALL)"
        " PARTITION BY RANGE (created_at)"
    )
    await admin.execute(
        "SELECT partman.create_parent('trafficlog.one_period', 'created_at', 'native', 'daily',"
        " p_premake => 7, p_start_partition => (now() - $1 * interval '1 day')::date::text,"
        " p_automatic_maintenance => 'off')",
        HISTORY_DAYS,
    )
    for number, name in enumerate(names):
        await admin.execute(
            f"INSERT INTO one_period ({COLUMNS})"
            f" SELECT {COLUMNS.replace('created_at', CREATED_ANEW)} FROM {name}",
            HISTORY_DAYS - number,
        )
    await stock.settle("one_period")


async def run_partman(stock: Stock, night: int) -> float:
    """Seconds of pg_partman's maintenance, which finds the oldest day due.

    A day cannot be waited for: a period that is one day shorter each night does the same.
    """
    await stock.admin.execute(
        "UPDATE partman.part_config SET retention = ($1::int - $2::int) || ' days',"
        " retention_keep_table = false WHERE parent_table = 'trafficlog.one_period'",
        HISTORY_DAYS,
        night,
    )
    before = len(await partman_days(stock))
    began = time.perf_counter()
    await stock.admin.execute("SELECT partman.run_maintenance('trafficlog.one_period')")
    seconds = time.perf_counter() - began
    if (after := len(await partman_days(stock))) != before - 1:
        raise RuntimeError(f"pg_partman left {after} partitions of {before}")
    return seconds


async def partman_days(stock: Stock) -> list[str]:
    """The partitions of pg_partman's table."""
    found = await stock.admin.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'trafficlog.one_period'::regclass"
    )
    return [row["name"] for row in found]
