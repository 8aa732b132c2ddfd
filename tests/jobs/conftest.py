"""A store to carry retention out on, with a small headroom so that a run is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio

from tests.jobs.stock import Stock, config
from trafficlog.store.database import Database
from trafficlog.store.ingest import RecordWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def stock(database: str) -> AsyncIterator[Stock]:
    """A fresh store, empty and without partitions."""
    admin = await asyncpg.connect(
        database, server_settings={"search_path": "trafficlog", "timezone": "UTC"}
    )
    async with Database(database, config()) as pools:
        writer = RecordWriter(pools, config())
        await writer.start()
        yield Stock(database, pools, writer, admin)
    await admin.close()
