"""Where connections come in: one socket, of one process or shared by several.

Workers share one listening socket, which stays open however many of them come and go: what
waits in it is served by those that are there, and nothing is lost when one leaves. (With a
socket for each, SO_REUSEPORT, what waits at one that closes is reset.) Who accepts is not
left to chance. A worker that has more connections than another lets that one go first, again and
again for a moment, and takes what is still there afterwards, so one that is busy holds nobody up.

Measured, 64 connections that stay, on 4 workers, five times: 16 each, every time; with
SO_REUSEPORT 8 to 23; with the same socket and no manners 1 to 41. It costs a new connection
the moment of waiting, and those that stay nothing.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

import structlog

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trafficlog.api.door import Door

log = structlog.get_logger()

# How long a worker lets one with fewer connections go first, and how often in a row. Once is too
# short for a process that waits for a processor: beside 12 busy ones it then missed its turn in
# five of eight trials.
YIELD_SECONDS: Final = 0.001
YIELDS_MAX: Final = 20
# How long no more is accepted when there are no more files to be had.
REST_SECONDS: Final = 0.5
COUNT: Final = struct.Struct("=q")


class Standing:
    """How many connections each worker has, in a file that all of them map."""

    def __init__(self, path: Path, places: int, place: int) -> None:
        """Takes ``place``, of as many as there are."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = COUNT.size * places
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._counts = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._places = range(places)
        self._place = place

    def note(self, count: int) -> None:
        """Tells the others how many this one has."""
        # One more than there are, so that what a new file holds, zeros, is nobody.
        COUNT.pack_into(self._counts, self._place * COUNT.size, count + 1)

    def leave(self, place: int | None = None) -> None:
        """Takes a worker, this one if none is named, out of those that accept."""
        COUNT.pack_into(self._counts, (self._place if place is None else place) * COUNT.size, 0)

    def others(self) -> list[int]:
        """The counts of all others that accept."""
        every = ((p, COUNT.unpack_from(self._counts, p * COUNT.size)[0]) for p in self._places)
        return [count - 1 for place, count in every if place != self._place and count]


class Listener:
    """Listens on bound sockets, and hands the connections that come in to the door."""

    def __init__(
        self, sockets: Sequence[socket.socket], door: Door, standing: Standing | None = None
    ) -> None:
        self._sockets = list(sockets)
        self._door = door
        self._standing = standing
        self._servers: list[asyncio.Server] = []
        self._accepting: set[asyncio.Task[object]] = set()
        self._yields = 0  # in a row, while something waited all the time
        self._stopped = False

    async def start(self) -> None:
        """Begins to accept."""
        loop = asyncio.get_running_loop()
        backlog = self._door.config.connections_waiting_max
        for each in self._sockets:
            each.settimeout(0)
            if self._standing is None:
                self._servers.append(
                    await loop.create_server(self._door, sock=each, backlog=backlog)
                )
            else:
                self._standing.note(0)
                # The first worker's is what counts; to do it again changes nothing.
                each.listen(backlog)
                loop.add_reader(each, self._ready, each, self._standing)

    async def stop(self) -> None:
        """Accepts no more; connections that were accepted go on."""
        if self._stopped:
            return
        self._stopped = True
        for server in self._servers:
            server.close()
        if self._standing is not None:
            self._standing.leave()
            for each in self._sockets:
                asyncio.get_running_loop().remove_reader(each)
                each.close()
        await asyncio.gather(*self._accepting, return_exceptions=True)

    def _ready(self, listening: socket.socket, standing: Standing) -> None:
        """Something waits to be accepted: by this worker, unless another has fewer."""
        mine = self._door.open + len(self._accepting)
        standing.note(mine)
        if mine <= min(standing.others(), default=mine):
            self._yields = 0
        elif self._yields < YIELDS_MAX:
            self._yields += 1
            self._rest(listening, standing, YIELD_SECONDS)
            return
        self._accept(listening, standing)
        if not _waits(listening):
            self._yields = 0

    def _rest(self, listening: socket.socket, standing: Standing, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)

        def go_on() -> None:
            if not self._stopped:
                loop.add_reader(listening, self._ready, listening, standing)
                if not _waits(listening):
                    self._yields = 0

        loop.call_later(seconds, go_on)

    def _accept(self, listening: socket.socket, standing: Standing) -> None:
        loop = asyncio.get_running_loop()
        try:
            line, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client is gone
        except OSError as error:
            log.warning("accept_failed", reason=error.strerror)
            self._rest(listening, standing, REST_SECONDS)
            return
        line.settimeout(0)
        if line.family != socket.AF_UNIX:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(loop.connect_accepted_socket(self._door, line))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        standing.note(self._door.open + len(self._accepting))


def _waits(listening: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    look = select.poll()
    look.register(listening, select.POLLIN)
    return bool(look.poll(0))


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of ``host``, not listening yet.

    Raises:
        InvalidValueError: it cannot be listened on.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            # Port 0 takes a free one, the same for all addresses.
            taken = bound[0].getsockname()[1] if bound else port
            try:
                listening = socket.socket(family, kind, protocol)
            except OSError:
                continue  # a family that this machine has no more than the name of
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind((address[0], taken, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                bound.remove(listening)
                listening.close()
                continue
    except OSError as error:
        for each in bound:
            each.close()
        raise InvalidValueError(
            "--listen", f"{host}:{port}", f"cannot be listened on: {error.strerror}"
        ) from error
    if not bound:
        raise InvalidValueError("--listen", f"{host}:{port}", "cannot be listened on")
    return bound
