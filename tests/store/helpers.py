"""Reports, batches and what is stored of them, for tests of the writer without HTTP."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from tests.records import GOOD
from tests.serving import utc
from trafficlog.config import Config
from trafficlog.records import Limits, Report, parse_report
from trafficlog.retention import HistoryDays, HistoryOff
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.history import History
from trafficlog.store.ingest import Batch, Outcome, RecordWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

NOW = utc("2026-11-21T12:00:00Z")


def report(record_id: str = "m1", **fields: Any) -> Report:
    """A report as it comes out of parsing; ``from_`` and ``to`` are the parties."""
    value = GOOD | {"id": record_id, "created": NOW}
    value |= {name.rstrip("_"): content for name, content in fields.items()}
    limits = Limits(NOW, NOW - timedelta(days=60))
    return parse_report(msgspec.json.encode(value), limits)


def at(minutes: float) -> datetime:
    """An instant some minutes after the present one, for ``updated``."""
    return NOW + timedelta(minutes=minutes)


@dataclass
class Store:
    """A writer on a fresh database, and what tests ask of it."""

    dsn: str
    database: Database
    writer: RecordWriter
    superuser: asyncpg.Connection

    async def write(self, *reports: Report, now: datetime = NOW) -> tuple[int, int, int]:
        """Accepted, updated and duplicates of one batch."""
        [outcome] = await self.writer.write([Batch(list(reports))], now)
        return counted(outcome)

    async def traffic(self, where: str = "true") -> list[dict[str, Any]]:
        """What the legal table holds."""
        query = f"SELECT * FROM traffic_record WHERE {where} ORDER BY account_key, created_at, id"
        return [dict(row) for row in await self.superuser.fetch(query)]

    async def history(self, where: str = "true") -> list[dict[str, Any]]:
        """What the history table holds."""
        query = f"SELECT * FROM history_record WHERE {where} ORDER BY account_key, created_at, id"
        return [dict(row) for row in await self.superuser.fetch(query)]

    async def account_key(self, account: str = "acme") -> int:
        """The key of an account that exists."""
        return await Accounts(self.database).key_of(account)

    async def set_history(self, days: int | None, now: datetime = NOW, account: str = "acme"):
        """Changes an account's setting; None turns history off."""
        await Accounts(self.database).change(
            await self.account_key(account),
            HistoryOff() if days is None else HistoryDays(days),
            monthly_reports=True,
            now=now,
            by="test",
        )

    async def set_withheld(self, bits: int, account: str = "acme"):
        """Changes what an account's history omits of every new record."""
        await Accounts(self.database).change(
            await self.account_key(account), withheld=bits, now=NOW, by="test"
        )

    async def erase(self, record_id: str, now: datetime = NOW) -> None:
        """Erases a record of the history."""
        await History(self.database).erase(await self.account_key(), record_id, now)


def counted(outcome: Outcome) -> tuple[int, int, int]:
    """Accepted, updated, duplicates."""
    return outcome.accepted, outcome.updated, outcome.duplicates


@contextlib.asynccontextmanager
async def opened(dsn: str, **settings: int) -> AsyncIterator[Store]:
    """A writer on ``dsn``."""
    config = Config(**settings)
    superuser = await asyncpg.connect(dsn, server_settings={"search_path": "trafficlog"})
    try:
        async with Database(dsn, config) as database:
            writer = RecordWriter(database, config)
            await writer.start()
            yield Store(dsn, database, writer, superuser)
    finally:
        await superuser.close()
