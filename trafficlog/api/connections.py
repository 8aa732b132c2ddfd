"""Connections of clients: how long a slow one may take.

A client holds a connection only while it uses it. One that is silent, or lets its headers
trickle in, is sent away after a time; bodies have their own (``trafficlog.api.body``). How many
there may be stands in ``trafficlog.api.door``.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage

from trafficlog.api.problems import RETRY_AFTER_SECONDS, problem, problem_body
from trafficlog.errors import BodyUnreadableError

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

    from trafficlog.api.door import Door

log = structlog.get_logger()

# Whoever is sent away is given a moment to read why.
LINGER_SECONDS: Final = 1
# A single one waits for a moment whenever a request comes.
WAITING_MAX: Final = 2


class Connection(web.RequestHandler):
    """One connection of HTTP/1.1, with a bound on the time that headers may take."""

    def __init__(self, door: Door, server: web.Server) -> None:
        config = door.config
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as AppRunner itself passes it on
            auto_decompress=False,
            keepalive_timeout=config.idle_seconds_max,
            max_line_size=config.request_line_bytes_max,
            max_field_size=config.header_bytes_max,
            max_headers=config.headers_max,
            lingering_time=LINGER_SECONDS,
        )
        # No more is read while so many requests wait behind the one that is being answered, whose
        # bodies are in memory and not yet in work; the framework would read 32.
        self._max_msg_queue_size, self._msg_queue_resume_size = WAITING_MAX, WAITING_MAX - 1
        self._door = door
        self._header_timer: asyncio.TimerHandle | None = None
        self._heard = False

    @property
    def awaits_body(self) -> bool:
        """Whether a request is being answered whose body has not come whole."""
        request = self._current_request
        return request is not None and not request.content.is_eof()

    @property
    def _is_gone(self) -> bool:
        """Whether nobody is there any more to be answered."""
        return self.transport is None or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the clock: whoever connects has something to ask."""
        super().connection_made(transport)
        self._door.entered()
        give_up_unread(transport.get_extra_info("socket"), self._door.config.unread_seconds_max)
        self._start_header_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clock."""
        self._stop_header_timer()
        super().connection_lost(exc)
        self._door.left()

    def data_received(self, data: bytes) -> None:
        """Takes bytes, and sees whether a request's headers are under way."""
        super().data_received(data)
        self._tell_of_broken_body()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            # The handler still waits for a whole request, though bytes have come.
            self._heard = True
            if self._header_timer is None:
                self._start_header_timer()
        elif self._header_timer is not None and (waiter is not None or self._messages):
            self._stop_header_timer()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP: a problem like all others, without our inside."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, ConnectionError) and self._is_gone:
            raise exc
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("connection_broke", exc_info=exc)
            answer = problem(500, "internal", "something went wrong; the log says what")
        elif isinstance(exc, LineTooLong):
            answer = problem(431, "headers_too_large", "the request's line or a header is too long")
        else:
            detail = (message or "the request is not HTTP/1.1").partition("\n")[0].rstrip(":")
            answer = problem(400, "not_http", detail)
        answer.headers["Server"] = "trafficlog"
        answer.force_close()
        return answer

    def _tell_of_broken_body(self) -> None:
        """Wakes who waits for a body whose chunks turned out to be none.

        The framework queues the error as if it were the next request, and leaves them waiting.
        """
        request = self._current_request
        if (
            request is None
            or not self._messages
            or isinstance(self._messages[-1][0], RawRequestMessage)
            or request.content.is_eof()
        ):
            return
        self._messages.clear()
        self._close = True
        request.content.set_exception(BodyUnreadableError("the body's chunks are not HTTP/1.1"))
        request.content.feed_eof()

    def _start_header_timer(self) -> None:
        seconds = self._door.config.header_seconds_max
        self._header_timer = self._loop.call_later(seconds, self._headers_are_late)

    def _stop_header_timer(self) -> None:
        self._heard = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if self._waiter is None or self._waiter.done() or self.transport is None:
            return
        self._door.metrics.connections_refused.labels("headers").inc()
        if not self._heard:
            # To one that has said nothing an answer would be one to a question of later on.
            self.force_close()
            return
        line = self.transport
        line.write(bare(408, "too_slow", "the request's headers did not arrive in time"))
        line.write_eof()
        # Whatever still comes is not looked at, and does not reset the line beneath the answer.
        self._close = True
        self._loop.call_later(LINGER_SECONDS, line.abort)


def bare(status: int, code: str, detail: str) -> bytes:
    """A whole answer as it goes over the line, where there is no request to answer."""
    body = orjson.dumps(problem_body(status, code, detail))
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Server: trafficlog",
        "Connection: close",
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {RETRY_AFTER_SECONDS}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def give_up_unread(line: socket.socket | None, seconds: int) -> None:
    """Has the kernel end a connection whose client takes nothing of what it is sent."""
    option: Any = getattr(socket, "TCP_USER_TIMEOUT", None)
    if line is not None and option is not None and line.family != socket.AF_UNIX:
        line.setsockopt(socket.IPPROTO_TCP, option, seconds * 1000)
