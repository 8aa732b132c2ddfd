"""Keys that may be wrong: how many of one address are looked up, at a time and in the end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trafficlog.errors import TooManyRequestsError

if TYPE_CHECKING:
    from trafficlog.rates import Buckets


@dataclass(slots=True)
class _Origin:
    """The look-ups of one address: how many are under way, and those that wait for their turn.

    What a turn gives is 0 when it has come, or in how many seconds to come again.
    """

    under_way: int = 0
    waiting: dict[asyncio.Future[int], None] = field(default_factory=dict)


class Guesses:
    """Gives look-ups their turn: each takes a token, and gives it back unless its key was wrong.

    So an address has at most as many wrong keys looked up as it has tokens, however many come
    at once, while right ones cost it nothing. A look-up that finds no token waits for those of
    the same address that are under way, in the order in which they came, and is refused when
    the last of them has ended without leaving one. Those that wait are requests, of which each
    connection has one: there are never more of them than connections.
    """

    def __init__(self, tokens: Buckets) -> None:
        self._tokens = tokens
        # Those of which a look-up is under way.
        self._origins: dict[str, _Origin] = {}

    async def begin(self, origin: str) -> None:
        """Waits for the turn of a look-up; ``end`` must follow.

        Raises:
            TooManyRequestsError: the address has brought too many wrong keys.
        """
        there = self._origins.get(origin)
        retry_seconds = self._take(origin)
        if retry_seconds and there is not None:
            retry_seconds = await self._turn(origin, there)
        if retry_seconds:
            raise TooManyRequestsError(retry_seconds=retry_seconds)

    def end(self, origin: str, *, wrong: bool) -> None:
        """Notes the end of a look-up, and gives the next ones their turn."""
        there = self._origins[origin]
        there.under_way -= 1
        if not wrong:
            self._tokens.give_back(origin)
        retry_seconds = 0
        while there.waiting and not (retry_seconds := self._take(origin)):
            self._next(there).set_result(0)
        if not there.under_way:
            del self._origins[origin]
            while there.waiting:
                self._next(there).set_result(retry_seconds)

    def _take(self, origin: str) -> int:
        """Takes a token for a look-up; 0, or in how many seconds there will be one."""
        try:
            self._tokens.take(origin, time.monotonic())
        except TooManyRequestsError as error:
            return error.retry_seconds
        self._origins.setdefault(origin, _Origin()).under_way += 1
        return 0

    async def _turn(self, origin: str, there: _Origin) -> int:
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        there.waiting[turn] = None
        try:
            await asyncio.wait((turn,))
        except asyncio.CancelledError:
            there.waiting.pop(turn, None)
            if turn.done() and not turn.result():
                self.end(origin, wrong=False)
            raise
        return turn.result()

    @staticmethod
    def _next(there: _Origin) -> asyncio.Future[int]:
        turn = next(iter(there.waiting))
        del there.waiting[turn]
        return turn
