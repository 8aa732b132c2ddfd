"""A way to the service that can be cut, and that loses answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit


class Relay:
    """Stands between client and service, and fails as a network and a restart do."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.requests = 0
        self.lose_answers_of: set[int] = set()
        self.cut_at: int | None = None
        self.cut = asyncio.Event()

    async def listen(self, port: int = 0) -> None:
        """Opens the relay, on the port it had before if it had one."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def listen_again(self) -> None:
        """Opens the relay once more where it was."""
        self.cut_at = None
        await self.listen(urlsplit(self.url).port)

    def close(self) -> None:
        """Drops every connection and listens no more."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self.cut.set()

    async def _relay(self, near_in, near_out) -> None:
        with suppress(OSError):
            far_in, far_out = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
            self._writers |= {near_out, far_out}
            await asyncio.gather(
                self._pump(near_in, far_out, near_out, counts=True),
                self._pump(far_in, near_out, near_out, counts=False),
                return_exceptions=True,
            )
            self._writers -= {near_out, far_out}
            near_out.close()
            far_out.close()

    async def _pump(self, source, sink, near_out, *, counts: bool) -> None:
        while data := await source.read(65536):
            if counts:
                self.requests += data.count(b"POST /v1/records")
                if self.requests == self.cut_at:
                    self.close()
                    return
            elif self.requests in self.lose_answers_of:
                self.lose_answers_of.discard(self.requests)
                near_out.transport.abort()
                return
            sink.write(data)
            await sink.drain()
        sink.close()
