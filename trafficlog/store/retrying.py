"""Transactions of requests that are done again when another one was in their way.

Requests, writers and jobs lock the same rows in whatever order these come to them: the database
ends one of two that wait for one another. And a row may be moved to another partition just when
it is to be changed. In either case nothing was done, and the same can be done at once. (Writers
and jobs have tries of their own.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import asyncpg
import structlog

from trafficlog.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from trafficlog.store.database import Database

log = structlog.get_logger()

GAVE_WAY: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class _HasDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_HasDatabase)
T = TypeVar("T")
P = ParamSpec("P")
Method = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]


def tried_again(method: Method[S, P, T]) -> Method[S, P, T]:
    """A method that is done again, all of it, when its transaction gave way to another one.

    It changes nothing but by one transaction, or by what does no harm when it is done twice. No
    pause is made: what was in the way has its locks already, and is waited for.

    Raises:
        DatabaseUnavailableError: it gave way in each of ``flush_attempts_max`` tries.
    """

    @functools.wraps(method)
    async def tried(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        attempts_max = self._database.config.flush_attempts_max
        for attempt in range(attempts_max):
            try:
                return await method(self, *args, **kwargs)
            except GAVE_WAY as error:
                log.info(
                    "transaction_retried",
                    work=method.__qualname__,
                    attempt=attempt,
                    reason=type(error).__name__,
                )
        raise DatabaseUnavailableError(
            f"other transactions were in the way in all {attempts_max} tries; nothing was done"
        )

    return tried
