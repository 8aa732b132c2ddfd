"""What the tests of the jobs do with a store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from trafficlog.config import Config
from trafficlog.records import Report
from trafficlog.retention import HistoryDays, HistoryOff
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.debug_log import DebugLine
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.holds import Holds
from trafficlog.store.ingest import Batch, Outcome, RecordWriter
from trafficlog.store.retention import Retention, RunResult
from trafficlog.store.verify import Verification, verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trafficlog.holds import AbuseHold
    from trafficlog.selector import Selector

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
# A partition's last row expires at noon of its day; the day after at this time it is due.
TRAFFIC_GONE = START + 61 * DAY
HISTORY_GONE = START + 91 * DAY


def config(**changes: int) -> Config:
    """Settings under which a run makes few partitions and gives up soon."""
    quick = Config(
        headroom_days=1,
        headroom_hours=1,
        lock_timeout_ms=100,
        drop_attempts_max=2,
        detach_seconds_max=10,
    )
    return replace(quick, **changes)


def report(record_id: str, created: datetime = START, account: str = "acme", **fields) -> Report:
    """A report of a sent message."""
    given: dict[str, Any] = {
        "kind": "sms",
        "direction": "outgoing",
        "sender": "Acme",
        "recipient": "+46701234567",
        "message": f"text of {record_id}",
        **fields,
    }
    return Report(id=record_id, account=account, created=created, **given)


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Waits until ``condition`` gives something true, and gives it."""
    async with asyncio.timeout(seconds):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_stock(dsn: str) -> AsyncIterator[Stock]:
    """The store on a database, with a writer of its own."""
    admin = await asyncpg.connect(
        dsn, server_settings={"search_path": "trafficlog", "timezone": "UTC"}
    )
    try:
        async with Database(dsn, config()) as pools:
            writer = RecordWriter(pools, config())
            await writer.start()
            yield Stock(dsn, pools, writer, admin)
    finally:
        await admin.close()


@dataclass
class Stock:
    """A store with its writer, and a superuser's connection beside."""

    dsn: str
    database: Database
    writer: RecordWriter
    admin: asyncpg.Connection

    async def write(self, *reports: Report, now: datetime = START) -> Outcome:
        """Stores reports as one batch."""
        return (await self.writer.write([Batch(list(reports))], now))[0]

    async def write_line(self, line: str, account: str, now: datetime = START) -> None:
        """Stores a debug line."""
        entry = DebugLine(now, "info", "test", line, account, "m1")
        await self.writer.write([Batch([], [entry])], now)

    async def run(self, at: datetime, **changes: int) -> RunResult:
        """A retention run at a time, as the leader."""
        async with Retention(self.dsn, config(**changes)) as retention:
            assert await retention.lead()
            return await retention.run(at, guard_clock=False)

    async def verify(self, at: datetime) -> Verification:
        """What verification finds at a time."""
        async with Retention(self.dsn, config()) as retention:
            return await verify(retention.connection, at, config())

    async def ids(self, table: str) -> list[str]:
        """The ids of a table's rows."""
        found = await self.admin.fetch(f"SELECT id FROM {table} ORDER BY id")
        return [row["id"] for row in found]

    async def held(self) -> set[tuple[str, str]]:
        """Class and id of every held copy."""
        found = await self.admin.fetch("SELECT data_class, record_id FROM held_record")
        return {(row["data_class"], row["record_id"]) for row in found}

    async def ledger(self, reason: str | None = None) -> list[asyncpg.Record]:
        """The ledger's entries, of one reason or all."""
        return await self.admin.fetch(
            "SELECT * FROM purge_ledger WHERE $1::text IS NULL OR reason = $1 ORDER BY seq", reason
        )

    async def partition(self, table: str, created: datetime, days: int) -> str:
        """The name of the partition that a row of this period is in."""
        name = await self.admin.fetchval(
            "SELECT name FROM partition_catalogue WHERE table_name = $1 AND lower <= $2"
            " AND upper > $2",
            table,
            created + days * DAY,
        )
        assert name is not None
        return name

    async def account_key(self, account: str = "acme") -> int:
        """An account's key."""
        return await self.admin.fetchval(
            "SELECT account_key FROM account WHERE account_id = $1", account
        )

    async def visible(self, now: datetime, account: str = "acme") -> list[str]:
        """The ids that the customer sees."""
        key = await self.account_key(account)
        page = await History(self.database).page(key, HistoryFilter(), now, limit=1000)
        return sorted(record.id for record in page.records)

    async def set_days(self, days: int | None, now: datetime, account: str = "acme") -> None:
        """Changes an account's history setting; None turns it off."""
        await Accounts(self.database).change(
            await self.account_key(account),
            HistoryOff() if days is None else HistoryDays(days),
            monthly_reports=True,
            now=now,
            by="test",
        )

    async def hold(self, selector: Selector, now: datetime = START, days: float = 200) -> AbuseHold:
        """Places a hold."""
        return await Holds(self.database).place(
            selector,
            reason="fraud",
            case_ref="case 1",
            ends_at=now + days * DAY,
            by="test",
            now=now,
        )

    async def release(self, hold: AbuseHold, now: datetime) -> None:
        """Releases a hold."""
        await Holds(self.database).release(hold.id, by="test", now=now)

    @asynccontextmanager
    async def transaction(self, *statements: str) -> AsyncIterator[asyncpg.Connection]:
        """Another session that has run statements and keeps its transaction open."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": "trafficlog"})
        try:
            transaction = connection.transaction()
            await transaction.start()
            for statement in statements:
                await connection.execute(statement)
            yield connection
            if not connection.is_closed() and connection.is_in_transaction():
                await transaction.rollback()
        finally:
            await connection.close()

    async def waiting_detach(self) -> int | None:
        """The process of a detach that waits for older transactions."""
        return await self.waiting("DETACH PARTITION")

    async def waiting(self, words: str) -> int | None:
        """The process of a statement with these words that waits for a lock, or transactions.

        By the locks that it lacks: its wait event is gone for a moment whenever something
        wakes it, as a database does that another test drops.
        """
        return await self.admin.fetchval(
            "SELECT pid FROM pg_stat_activity a WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND strpos(query, $1) > 0"
            " AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted)",
            words,
        )
