"""One night's expiry: ours, a bare drop, DELETE by account and age, and pg_partman."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from history_stock import DAY, HELD_ACCOUNT, HISTORY_DAYS, START
from retention_peers import (
    delete_expired,
    drop_bare,
    has_partman,
    make_bare,
    make_partman,
    run_partman,
)
from retention_report import Night

from trafficlog.selector import Selector

if TYPE_CHECKING:
    from history_stock import Stock
    from retention_bench import Bench

SETTINGS = 100
HELD_ROWS = 1_000


async def measure_nights(bench: Bench) -> Stock:
    """The nights at three sizes; the largest stock is kept for what follows."""
    rows = bench.options.rows
    stock = None
    for number, size in enumerate((rows // 10, rows * 3 // 10, rows)):
        stock = await bench.stock(f"night{number}", size, SETTINGS, by_creation=True)
        bench.report.nights.append(await measure_night(bench, stock))
        if size != rows:
            await bench.drop_stock(stock)
    assert stock is not None
    return stock


async def measure_night(bench: Bench, stock: Stock) -> Night:
    """Ours, the bare drop and DELETE, on each of some nights in turns."""
    nights = bench.options.nights
    found = Night(stock.rows)
    title = f"nights of {stock.rows:,} rows"
    async with bench.leading(stock) as retention:
        with bench.step(title, nights * 4 + 1) as advance:
            key = await stock.admin.fetchval(
                "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
                " history_days_max) VALUES ($1, $2, 90, 90, 90) RETURNING account_key",
                HELD_ACCOUNT,
                START - HISTORY_DAYS * DAY,
            )
            # The held rows are spread over the days, as all others are.
            held_rows = [
                HELD_ROWS * (d + 1) // HISTORY_DAYS - HELD_ROWS * d // HISTORY_DAYS
                for d in range(HISTORY_DAYS)
            ]
            for day, count in enumerate(held_rows):
                created = START + (day - HISTORY_DAYS) * DAY
                span = (created, created + DAY)
                for table in ("history_record", "by_creation"):
                    await stock.add_records(table, [(key, 90)], count, span, f"held{day}/")
            await bench.hold(stock, Selector(account=HELD_ACCOUNT))
            await bench.settle(retention, START)
            names = (await stock.partitions("history_record"))[:nights]
            await make_bare(stock, names)
            with_partman = await has_partman(stock)
            if with_partman:
                await make_partman(stock, names)
            await stock.settle("history_record", "by_creation")
            advance()
            for night, name in enumerate(names, 1):
                rows = await stock.admin.fetchval(f"SELECT count(*) FROM {name}")
                found.rows_expired.append(rows)

                async def ours(night: int = night) -> None:
                    run, given_back = await bench.night(stock, retention, night)
                    found.ours.append(run.seconds)
                    found.dropping.append(run.dropping)
                    found.making.append(run.making)
                    found.ours_bytes.append(given_back)
                    found.idle.append(
                        (await bench.run_retention(retention, START + night * DAY)).seconds
                    )

                async def bare(night: int = night) -> None:
                    found.bare.append(await drop_bare(stock, night - 1))

                async def delete(night: int = night) -> None:
                    seconds, given_back = await delete_expired(stock, START + night * DAY)
                    found.delete.append(seconds)
                    found.delete_bytes.append(given_back)

                async def partman(night: int = night) -> None:
                    if with_partman:
                        found.partman.append(await run_partman(stock, night))

                in_turns = (ours, bare, delete, partman)
                for work in in_turns if night % 2 else reversed(in_turns):
                    await work()
                    advance()
            before = await stock.bytes_stored()
            began = time.perf_counter()
            await stock.admin.execute("VACUUM by_creation")
            found.vacuum = (time.perf_counter() - began) / nights
            found.vacuum_bytes = before - await stock.bytes_stored()
            held = await stock.admin.fetchval("SELECT count(*) FROM held_record")
            kept = await stock.admin.fetchval("SELECT count(*) FROM purge_ledger WHERE rows > 0")
            if (held, kept) != (sum(held_rows[:nights]), nights):
                raise RuntimeError(f"{held} rows held, {kept} partitions in the ledger")
    return found


async def measure_settings(bench: Bench) -> None:
    """A night with few and with many distinct settings."""
    rows = bench.options.rows // 10
    for settings in (1, SETTINGS, 365):
        stock = await bench.stock(f"settings{settings}", rows, settings)
        nights = bench.options.nights
        title = f"nights with settings: {settings}"
        async with bench.leading(stock) as retention:
            with bench.step(title, nights) as advance:
                await bench.settle(retention, START)
                await stock.settle("history_record")
                spans = []
                for night in range(1, nights + 1):
                    spans.append((await bench.night(stock, retention, night))[0].seconds)
                    advance()
            partitions = len(await stock.partitions("history_record"))
            expired = await stock.admin.fetchval("SELECT sum(rows) FROM purge_ledger")
        bench.report.settings.append((settings, partitions, int(expired) // nights, spans))
        await bench.drop_stock(stock)
