"""Waiting for the database has an end, and the work that was begun goes on."""

import asyncio

import pytest

from trafficlog.errors import DatabaseUnavailableError
from trafficlog.patience import within


async def test_what_comes_in_time_is_given_and_what_fails_fails():
    """As if it had been awaited."""

    async def fail():
        raise ValueError("no")

    assert await within(5, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="no"):
        await within(5, fail())


async def test_what_takes_longer_goes_on_by_itself():
    """Who waits is told in time; the work is not broken off, and its failure disturbs nobody."""
    let, ended = asyncio.Event(), asyncio.Event()

    async def work():
        await let.wait()
        ended.set()
        raise ValueError("unheard")

    with pytest.raises(DatabaseUnavailableError, match=r"0\.01 seconds"):
        await within(0.01, work())
    let.set()
    async with asyncio.timeout(5):
        await ended.wait()
