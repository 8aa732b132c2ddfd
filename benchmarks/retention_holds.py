"""How long placing a hold takes, and what holds cost a drop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from history_stock import DAY, START
from retention_bench import place

from trafficlog.selector import Selector
from trafficlog.store.database import Database

if TYPE_CHECKING:
    from history_stock import Stock
    from retention_bench import Bench

MANY_HOLDS = 200


async def measure_holds(bench: Bench, stock: Stock) -> None:
    """Placing holds, and what they cost a drop."""
    rounds = bench.options.rounds
    for row in await stock.admin.fetch("SELECT hold_id FROM abuse_hold WHERE released_at IS NULL"):
        await bench.release(stock, row["hold_id"])
    lowers = [START - n * DAY for n in range(600, 600 + 4 * rounds)]
    with bench.step("holds", 2 * len(lowers)) as advance:
        for lower in lowers:
            await stock.add_expired(lower, bench.options.partition_rows)
            advance()
        await stock.settle()
        selectors = {
            "no hold in force": [],
            "one hold, by account": [Selector(account="a5")],
            "one hold, by number": [Selector(number="+46701000001")],
            f"{MANY_HOLDS} holds, by number": [
                Selector(number=f"+4670{1000000 + n}") for n in range(MANY_HOLDS)
            ],
        }
        for _ in range(rounds):
            for title, chosen in selectors.items():
                holds = await bench.hold(stock, *chosen)
                lower = lowers.pop()
                name = await stock.partition_at(lower)
                seconds = await bench.drop(stock, lower, name)
                bench.report.hold_drops.setdefault(title, []).append(seconds)
                await bench.release(stock, *holds)
                advance()
        async with Database(stock.dsn, bench.config) as database:
            bench.report.placings_ms = [await time_placing(database) for _ in range(50)]
            # Once more with a hold by number in force, which has the drop look at every row.
            lower = START - 700 * DAY
            name = await stock.add_expired(lower, bench.options.partition_rows)
            drop = asyncio.create_task(bench.drop(stock, lower, name))
            while not drop.done():
                bench.report.placings_in_drop_ms.append(await time_placing(database))
            await drop


async def time_placing(database: Database) -> float:
    """Milliseconds of placing a hold by number."""
    began = time.perf_counter()
    await place(database, Selector(number="+46701000001"))
    return (time.perf_counter() - began) * 1000
