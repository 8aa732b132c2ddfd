"""Ingest over HTTP while partitions are dropped and made, and the service is killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.cli.process import TIME_TRAVEL, start_server, trafficlog
from tests.faults.load import START, Load, free_port
from tests.jobs.stock import DAY, config, open_stock, report, until
from trafficlog.retention import HistoryDays
from trafficlog.store.accounts import Accounts
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify

if TYPE_CHECKING:
    from tests.jobs.stock import Stock

KILLS = 3
# A store with this many days on end that are due, of so many rows each.
DAYS_DUE, ROWS_A_DAY = 20, 40
# History of each of the load's accounts is kept for so long.
PERIODS = {"a0": 2, "a1": 30, "a2": 90, "a3": 365}
# No record is so old that it would be refused when it is sent again some days later.
OLDEST_DAYS = 50
JOBS = {
    "TRAFFICLOG_RETENTION_INTERVAL_SECONDS": "1",
    "TRAFFICLOG_MOVE_INTERVAL_SECONDS": "1",
    # Most partitions are made by the records that need them.
    "TRAFFICLOG_HEADROOM_DAYS": "1",
    "TRAFFICLOG_HEADROOM_HOURS": "1",
}
UNDUE = """
SELECT NOT EXISTS (SELECT FROM trafficlog.partition_catalogue WHERE upper <= $1)
   AND NOT EXISTS (SELECT FROM trafficlog.partition_drop)
"""


class SpreadLoad(Load):
    """Records of many days, so that each batch goes into many partitions."""

    @staticmethod
    def created(number: int) -> datetime:
        """When a record was created."""
        return START - number % OLDEST_DAYS * DAY - number * timedelta(milliseconds=1)

    @classmethod
    def _record(cls, number: int, worker: int) -> dict[str, str]:
        return Load._record(number, worker) | {"created": cls.created(number).isoformat()}


async def prefill(stock: Stock) -> dict[str, int]:
    """Days that are due at the start; for each partition how many rows it holds."""
    accounts = Accounts(stock.database)
    for name, days in {**PERIODS, "old": 60}.items():
        await accounts.create(name, START - 200 * DAY, HistoryDays(days))
    for day in range(DAYS_DUE):
        at = START - (62 + day) * DAY
        await stock.write(*[report(f"old{day}-{n}", at, "old") for n in range(ROWS_A_DAY)], now=at)
    found = await stock.admin.fetch("SELECT name FROM partition_catalogue")
    assert len(found) == 2 * DAYS_DUE
    return {row["name"]: ROWS_A_DAY for row in found}


def at_start(days: int) -> dict[str, str]:
    """The environment of a service whose clock is so many days on."""
    now = datetime.fromisoformat(TIME_TRAVEL["TRAFFICLOG_NOW"]) + days * DAY
    return TIME_TRAVEL | JOBS | {"TRAFFICLOG_NOW": now.isoformat()}


async def test_ingest_goes_on_while_partitions_go_and_come_and_the_service_is_killed(database):
    """What was acknowledged is there once in both tables, nothing went early, each drop is told."""
    moments = random.Random(20261122)
    arguments = ("--database-url", database, "--listen", f"127.0.0.1:{free_port()}")
    made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=database)
    async with open_stock(database) as stock:
        due = await prefill(stock)
        service = await start_server(*arguments, env=at_start(0))
        try:
            async with SpreadLoad(service.url, made.json["key"], workers=4, batch=50) as load:
                for days in range(1, KILLS + 1):
                    await load.progress(moments.randrange(200, 1500))
                    await asyncio.sleep(moments.random() / 20)
                    assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
                    service = await start_server(*arguments, env=at_start(days))
                await load.progress(500)
            now = datetime.fromisoformat(at_start(KILLS)["TRAFFICLOG_NOW"])
            await until(lambda: stock.admin.fetchval(UNDUE, now))
            assert await service.stop() == 0
        finally:
            await service.stop(signal.SIGKILL)
        assert load.wrong == []
        await assert_right(stock, load, now)
        expired = {e["object"]: e["rows"] for e in await stock.ledger("expired") if e["rows"]}
        assert due.items() <= expired.items()
        assert len({e["object"] for e in await stock.ledger("expired")}) == len(
            await stock.ledger("expired")
        )
        # Some of the load's own history was dropped while it went on.
        assert expired.keys() - due.keys()
        async with Retention(database, config()) as retention:
            verified = await verify(retention.connection, now, config(), deep=True)
        assert verified.findings == []


async def assert_right(stock: Stock, load: Load, now: datetime) -> None:
    """Every acknowledged record is there once, and its history unless that is over."""
    stored = await stock.ids("traffic_record")
    assert len(stored) == len(set(stored)), "some are stored twice"
    assert load.acknowledged <= set(stored) <= load.sent
    rows = await stock.admin.fetch("SELECT id FROM history_record")
    history = [row["id"] for row in rows]
    assert len(history) == len(set(history)), "some are in history twice"
    # What is not over at the end was not when it was sent, whenever that was.
    legal = await stock.admin.fetch(
        "SELECT t.id, account_id, t.created_at"
        " FROM traffic_record t JOIN account USING (account_key)"
    )
    kept = {
        row["id"] for row in legal if row["created_at"] + PERIODS[row["account_id"]] * DAY > now
    }
    assert kept <= set(history) <= set(stored)
    assert len(kept) > len(stored) / 5


async def test_a_long_reader_delays_the_drop_and_no_request(database):
    """For as long as it reads, records are stored, partitions made; the drop comes afterwards."""
    arguments = ("--database-url", database, "--listen", "127.0.0.1:0")
    made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=database)
    async with open_stock(database) as stock:
        due = await prefill(stock)
        async with stock.transaction("SELECT count(*) FROM traffic_record") as reader:
            settings = at_start(0) | {
                "TRAFFICLOG_DETACH_SECONDS_MAX": "1",
                "TRAFFICLOG_DROP_ATTEMPTS_MAX": "2",
            }
            service = await start_server(*arguments, env=settings)
            try:
                async with SpreadLoad(service.url, made.json["key"], workers=2, batch=10) as load:
                    await until(stock.waiting_detach)
                    await load.progress(200)
                    # It gave up within its bound and tries again, run after run.
                    await until(lambda: pending(stock))
                    for _ in range(2):
                        await until(stock.waiting_detach)
                        await load.progress(100)
                    assert load.doubts == 0
                    assert await reader.fetchval("SELECT count(*) FROM traffic_record") >= sum(
                        rows for name, rows in due.items() if name.startswith("traffic")
                    )
                    assert not [
                        e for e in await stock.ledger() if e["data_class"] == "traffic_record"
                    ]
                    await reader.execute("COMMIT")
                    now = datetime.fromisoformat(settings["TRAFFICLOG_NOW"])
                    await until(lambda: stock.admin.fetchval(UNDUE, now))
                assert await service.stop() == 0
            finally:
                await service.stop(signal.SIGKILL)
        assert (load.wrong, load.doubts) == ([], 0)
        await assert_right(stock, load, now)
        expired = {e["object"]: e["rows"] for e in await stock.ledger("expired") if e["rows"]}
        assert due.items() <= expired.items()


async def pending(stock: Stock) -> bool:
    """Whether a detach was given up and is to be finalised."""
    return (
        await stock.admin.fetchval(
            "SELECT bool_or(detach_pending) FROM partition_catalogue"
            " WHERE table_name = 'traffic_record'"
        )
        and not await stock.waiting_detach()
    )
