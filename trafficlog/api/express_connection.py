"""A connection whose small requests of records are answered from their bytes.

All others go to the web framework's parser, on the same connection. The two never look at parts
of one request: it is known where each that the framework was given ends, and what comes while it
is answered, or once that is not known any more, is the framework's too.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from trafficlog.api.connections import Connection
from trafficlog.api.express import Asked
from trafficlog.api.framing import Told

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.api.door import Door
    from trafficlog.api.express import Express, Order

# How long the rest of a request is waited for, which many clients send right behind the head; the
# framework waits for it otherwise, and for as long as a slow client may take.
HOLD_SECONDS: Final = 0.05
# So much may come while a request is answered: then no more is read until it is.
BEHIND_BYTES_MAX: Final = 64 * 1024


class ExpressConnection(Connection):
    """One connection of HTTP/1.1 that takes express requests."""

    def __init__(self, door: Door, server: web.Server, express: Express) -> None:
        super().__init__(door, server)
        # None once it is not known any more where a request begins.
        self._express: Express | None = express
        self._order: Order | None = None
        # Of a request that is not whole.
        self._held = b""
        self._hold: asyncio.TimerHandle | None = None
        # What came behind a request that is being answered.
        self._behind = bytearray()
        # How much the framework is still to be given of the request that it has.
        self._owed = 0

    def data_received(self, data: bytes) -> None:
        """Takes bytes: a request, a part of one, or more than one."""
        if not data:
            # The framework asks itself to go on with what it has.
            super().data_received(data)
            return
        if self._order is not None:
            self._put_behind(data)
            return
        data = self._held + data
        self._held = b""
        if self._express is None or self._close or self._force_close or not self._is_idle():
            self._pass_on(data)
            return
        head = self._express.look(data)
        if isinstance(head, Asked) and self._express.is_small(head):
            if head.end > len(data):
                self._wait_for_more(data)
                return
            order = self._express.take(head, data) if head.end == len(data) else None
            if order is not None:
                self._begin(self._express, order)
                return
        elif head is Told.MORE_IS_TO_COME:
            self._wait_for_more(data)
            return
        self._pass_on(data)

    @property
    def awaits_body(self) -> bool:
        """Whether a request has not come whole, of which something is here."""
        return bool(self._held) or super().awaits_body

    def connection_lost(self, exc: BaseException | None) -> None:
        """What was ordered is carried out all the same."""
        self._stop_holding()
        self._held = b""
        super().connection_lost(exc)

    def close(self) -> None:
        """Ends the connection when what was ordered, or has begun to come, has been answered."""
        self._let_go()
        self._close = True
        if self._order is None:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Ends it likewise, and waits for that."""
        if self._order is not None:
            await asyncio.wait({self._order.outcome}, timeout=timeout)
        await super().shutdown(timeout)

    def _is_idle(self) -> bool:
        """Whether the framework has answered all that it was given, and waits."""
        if self._owed or self._messages or self._paused:
            return False
        waiter = self._waiter
        if waiter is None:
            # Of a connection that sends at once it has not begun to wait.
            return self._request_count == 0
        return not waiter.done()

    def _begin(self, express: Express, order: Order) -> None:
        self._order = order
        self._stop_holding()
        self._stop_header_timer()
        order.outcome.add_done_callback(partial(self._answer, express, order))

    def _answer(self, express: Express, order: Order, _done: object) -> None:
        self._order = None
        last = self._close or self._door.closing
        answer = express.answer(order, last=last)
        if self.transport is None:
            return
        self.transport.write(answer)
        if last:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._door.config.idle_seconds_max
        if self._behind:
            data = bytes(self._behind)
            self._behind.clear()
            if len(data) > BEHIND_BYTES_MAX:
                self.transport.resume_reading()
            self.data_received(data)

    def _headers_are_late(self) -> None:
        """Ends a connection whose request does not come; one of which something has is told so."""
        self._let_go()
        super()._headers_are_late()

    def _process_keepalive(self) -> None:
        """Ends a connection that has been idle for long enough; the framework may be, it not."""
        if self._order is None:
            self._let_go()
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(
                self._door.config.idle_seconds_max, self._process_keepalive
            )

    def _put_behind(self, data: bytes) -> None:
        before = len(self._behind)
        self._behind += data
        if before <= BEHIND_BYTES_MAX < len(self._behind) and self.transport is not None:
            self.transport.pause_reading()

    def _wait_for_more(self, data: bytes) -> None:
        self._held = data
        if self._hold is None:
            self._hold = self._loop.call_later(HOLD_SECONDS, self._let_go)

    def _let_go(self) -> None:
        """Leaves what is not whole yet, if anything, to the framework."""
        if self._held:
            data, self._held = self._held, b""
            self._pass_on(data)

    def _stop_holding(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def _pass_on(self, data: bytes) -> None:
        """Gives bytes to the framework, and keeps count of where its request ends."""
        self._stop_holding()
        if self._express is not None:
            self._owed = (self._owed or self._express.end_of(data) or 0) - len(data)
            if self._owed < 0:
                # They are of more than one, or of one whose end is not known.
                self._owed = 0
                self._express = None
        super().data_received(data)
