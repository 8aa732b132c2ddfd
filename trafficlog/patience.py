"""Waiting for the database, and for so long only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from trafficlog.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

# What nobody waits for any more, kept until it ends.
_going_on: set[asyncio.Future[Any]] = set()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The outcome of ``work`` when it comes within ``seconds``.

    When it does not, the work goes on by itself and is not cancelled: to break off with a
    database that hangs takes as long as to wait for it.

    Raises:
        DatabaseUnavailableError: it takes longer.
    """
    task = asyncio.ensure_future(work)
    _going_on.add(task)
    task.add_done_callback(_ended)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        raise unanswered(seconds)
    return task.result()


def unanswered(seconds: float) -> DatabaseUnavailableError:
    """The error that tells of an answer that did not come within ``seconds``."""
    return DatabaseUnavailableError(f"the database did not answer in {seconds:g} seconds")


def _ended(task: asyncio.Future[Any]) -> None:
    _going_on.discard(task)
    if not task.cancelled():
        # Nobody may be left to hear of it.
        task.exception()
