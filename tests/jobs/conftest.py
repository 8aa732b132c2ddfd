"""A store to carry retention out on, with a small headroom so that a run is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.jobs.stock import Stock, open_stock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def stock(database: str) -> AsyncIterator[Stock]:
    """A fresh store, empty and without partitions."""
    async with open_stock(database) as opened:
        yield opened
