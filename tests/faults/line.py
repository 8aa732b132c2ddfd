"""The way from the service to PostgreSQL, which a test cuts, silences or leads elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOCKET = ".s.PGSQL.5432"
# What asyncpg ends a transaction with.
COMMIT = "COMMIT;"
# The messages with which asyncpg has a statement executed: as text, or prepared under a name. Each
# is sent when the one before is answered, and so begins what comes.
_QUERY = re.compile(rb"Q.{4}([^\0]*)\0", re.DOTALL)
_PARSE = re.compile(rb"P.{4}([^\0]*)\0([^\0]*)\0", re.DOTALL)
_BIND = re.compile(rb"B.{4}\0([^\0]*)\0", re.DOTALL)


class Line:
    """Stands at a socket of its own and hands on what comes, both ways, until it is to fail.

    ``cuts`` counts the failures that were asked for and came about.
    """

    def __init__(self, server_dir: Path, directory: Path) -> None:
        self.server_dir = server_dir
        self._directory = directory
        self._writers: set[asyncio.StreamWriter] = set()
        # Near and far ends on which nothing comes through.
        self._silent: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        # What is still to be seen before bytes are counted.
        self._mark: bytes | None = None
        self._bytes_left: int | None = None
        # The statement to cut at, if any, and whether the server is to hear of it.
        self._statement: bytes | None = None
        self._let_through = False
        self._silently = False
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._connected, self._directory / SOCKET)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listener.close()
        self.cut()

    def dsn(self, database: str) -> str:
        """The way to a database of the server through here, as the superuser."""
        path = urlsplit(database).path
        return f"postgresql://postgres@{path}?host={quote(str(self._directory))}"

    def cut(self) -> None:
        """Ends every connection that there is; new ones are taken."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def hang_up(self) -> None:
        """Tells the server, and not the service, that a silent connection is over."""
        for far_out in tuple(self._silent.values()):
            far_out.transport.abort()

    def fail_after(self, sent: int) -> None:
        """Cuts the connection on which so many more bytes (over all of them) were sent."""
        self._bytes_left, self._silently, self._mark = sent, False, None

    def fall_silent_in_copy(self, table: str, sent: int) -> None:
        """So many bytes into the next COPY to a table, nothing comes through any more.

        Neither end is told.
        """
        self._bytes_left, self._silently = sent, True
        self._mark = f'COPY "{table}"'.encode()

    def cut_at(self, statement: str, *, let_through: bool) -> None:
        """Cuts the next connection on which a statement is executed, as the server is told it.

        Either before the server hears of it, or when it has begun to answer: of one that commits,
        then it has committed, and the answer is lost.
        """
        self._statement, self._let_through = statement.encode(), let_through

    async def _connected(
        self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            far_in, far_out = await asyncio.open_unix_connection(self.server_dir / SOCKET)
            ends = {near_out, far_out}
            self._writers |= ends
            lost = asyncio.Event()
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._send(near_in, near_out, far_out, lost))
                    both.create_task(self._answer(far_in, near_out, lost))
            finally:
                for writer in ends:
                    writer.transport.abort()
                self._writers -= ends
                self._silent.pop(near_out, None)
        near_out.transport.abort()

    async def _send(
        self,
        near_in: asyncio.StreamReader,
        near_out: asyncio.StreamWriter,
        far_out: asyncio.StreamWriter,
        lost: asyncio.Event,
    ) -> None:
        prepared: dict[bytes, bytes] = {}
        with contextlib.suppress(OSError):
            async for content in _pieces(near_in):
                if near_out in self._silent:
                    continue
                if self._mark is not None and self._mark in content:
                    self._mark = None
                executed = _executed(content, prepared)
                if executed is not None and executed == self._statement:
                    self._statement = None
                    self.cuts += 1
                    if not self._let_through:
                        break
                    lost.set()
                elif self._bytes_left is not None and self._mark is None:
                    self._bytes_left -= len(content)
                    if self._bytes_left <= 0:
                        far_out.write(content[: self._bytes_left or None])
                        self._bytes_left = None
                        self.cuts += 1
                        if not self._silently:
                            break
                        self._silent[near_out] = far_out
                        continue
                far_out.write(content)
                await far_out.drain()
        if near_out not in self._silent:
            near_out.transport.abort()
            far_out.close()

    async def _answer(
        self, far_in: asyncio.StreamReader, near_out: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            async for content in _pieces(far_in):
                if near_out in self._silent:
                    continue
                if lost.is_set():
                    break
                near_out.write(content)
                await near_out.drain()
        if near_out not in self._silent:
            near_out.transport.abort()


def _executed(content: bytes, prepared: dict[bytes, bytes]) -> bytes | None:
    """The statement that is executed by what comes, if any; keeps those that are prepared."""
    if parse := _PARSE.match(content):
        prepared[parse[1]] = parse[2]
    if query := _QUERY.match(content):
        return query[1]
    bind = _BIND.match(content)
    return prepared.get(bind[1]) if bind else None


async def _pieces(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while content := await source.read(65_536):
        yield content


def socket_dir_of(dsn: str) -> Path | None:
    """The directory of the server's socket; None when it has none there of the usual name."""
    [directory] = parse_qs(urlsplit(dsn).query).get("host", [""])
    found = Path(directory)
    return found if directory.startswith("/") and (found / SOCKET).exists() else None
