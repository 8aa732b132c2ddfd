"""Request bodies: read whole, within bounds of size, ratio and time."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

import zstandard
from aiohttp import web

from trafficlog.errors import (
    BodyTooLargeError,
    BodyUnreadableError,
    BufferFullError,
    MediaTypeUnsupportedError,
    ServiceStoppingError,
)

if TYPE_CHECKING:
    from trafficlog.config import Config

ENCODINGS: Final = ("identity", "gzip", "zstd")
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
ZSTD_WINDOW_MAX: Final = 2**27
# zstd gives no bound on its output, so its input is fed in small steps: one of these
# grows to 40 MB at the very most.
ZSTD_STEP_BYTES: Final = 1024
# Compressed bodies larger than this are decompressed beside the event loop, which they would
# otherwise keep from all other requests; below it, the change of threads costs more.
ASIDE_BYTES: Final = 128 * 1024
# And such as grow to more than this, which takes up to 20 ms.
GROWN_NEAR_BYTES: Final = 4 * 1024 * 1024
# What a body is that comes without a word on it (RFC 9110, 8.3).
UNKNOWN_TYPE: Final = "application/octet-stream"
BYTES_IN_WORK: Final = web.RequestKey("bytes_in_work", int)


class SlowBodyError(Exception):
    """The client did not send its body in time."""


class BodyReader:
    """Reads bodies and knows how many bytes of them are in work.

    A body counts from its first byte on until ``release`` is called for its request, when
    it has been answered: decompressed and waiting to be written it takes up its room as well.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._in_work = 0
        self._arriving: set[asyncio.Timeout] = set()
        self._end: float | None = None

    async def read(self, request: web.Request, bytes_max: int | None = None) -> bytes:
        """The body, decompressed.

        Raises:
            BodyTooLargeError: it is larger than it may be, before or after decompression.
            BodyUnreadableError: it is not what its encoding says.
            MediaTypeUnsupportedError: its encoding is none that is read here.
            BufferFullError: too many bytes are in work.
            SlowBodyError: it did not come in time.
            ServiceStoppingError: the service stops before it has come.
        """
        config = self._config
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ENCODINGS:
            raise MediaTypeUnsupportedError(
                f"Content-Encoding {encoding!r} is not one of {', '.join(ENCODINGS)}"
            )
        sent_max = min(config.body_bytes_max, bytes_max or config.body_bytes_max)
        decoded_max = min(config.body_decoded_bytes_max, bytes_max or config.body_decoded_bytes_max)
        if encoding == "identity":
            sent_max = min(sent_max, decoded_max)
        if (request.content_length or 0) > sent_max:
            raise _too_large(sent_max)
        sent = await self._receive(request, sent_max)
        if encoding == "identity":
            return sent
        grown_max = max(config.body_any_ratio_bytes_max, config.body_ratio_max * len(sent))
        limit = min(decoded_max, grown_max)
        try:
            plain = await _decompressed(encoding, sent, limit)
        except BodyTooLargeError:
            if limit == decoded_max:
                raise
            raise BodyTooLargeError(
                f"the body grows to more than {config.body_ratio_max} times its size", limit=limit
            ) from None
        # What was sent is done with; what it became takes its place.
        request[BYTES_IN_WORK] = len(plain)
        self._take(len(plain) - len(sent))
        return plain

    def release(self, request: web.Request) -> None:
        """Counts the body of an answered request no longer."""
        self.leave(request.get(BYTES_IN_WORK, 0))

    def enter(self, count: int) -> None:
        """Counts so many bytes that have come whole, until ``leave`` is called for them.

        Raises:
            BufferFullError: too many bytes are in work; these are not counted.
        """
        try:
            self._take(count)
        except BufferFullError:
            self.leave(count)
            raise

    def leave(self, count: int) -> None:
        """Counts bytes no longer."""
        self._in_work -= count

    def close(self, seconds: float) -> None:
        """Gives the bodies that are on their way, and those to come, so long to arrive.

        One that is late is answered that the service stops: nothing of it was taken.
        """
        self._end = asyncio.get_running_loop().time() + seconds
        for each in self._arriving:
            when = each.when()
            each.reschedule(self._end if when is None else min(self._end, when))

    async def _receive(self, request: web.Request, sent_max: int) -> bytes:
        """The bytes as they were sent."""
        if request.content.is_eof():
            # All of it came with the headers, as small ones do: nothing is to be waited for.
            whole = request.content.read_nowait()
            request[BYTES_IN_WORK] = len(whole)
            self._take(len(whole))
            if len(whole) > sent_max:
                raise _too_large(sent_max)
            return whole
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        sent = bytearray()
        end = asyncio.get_running_loop().time() + self._config.read_seconds_max
        limit = asyncio.timeout_at(end if self._end is None else min(end, self._end))
        self._arriving.add(limit)
        try:
            async with limit:
                async for chunk in request.content.iter_any():
                    sent += chunk
                    self._take(len(chunk))
                    if len(sent) > sent_max:
                        raise _too_large(sent_max)
        except TimeoutError:
            if self._end is not None:
                raise ServiceStoppingError from None
            raise SlowBodyError from None
        finally:
            request[BYTES_IN_WORK] = len(sent)
            self._arriving.discard(limit)
        return bytes(sent)

    def _take(self, count: int) -> None:
        self._in_work += count
        if self._in_work > self._config.waiting_bytes_max:
            raise BufferFullError("too many bytes of requests are in work; try again shortly")


def media_type(request: web.Request) -> str:
    """What the body is said to be, in small letters and without parameters.

    aiohttp has the standard library's parser of e-mail read this header, which breaks at
    parameters such as ``D*``.
    """
    return media_type_of(request.headers.get("Content-Type", UNKNOWN_TYPE))


def media_type_of(said: str) -> str:
    """The same of what a header says."""
    return said.partition(";")[0].strip().lower()


async def _decompressed(encoding: str, content: bytes, bytes_max: int) -> bytes:
    """What ``decompress`` gives, in this thread if that is soon done."""
    near_max = min(bytes_max, GROWN_NEAR_BYTES)
    if len(content) <= ASIDE_BYTES:
        try:
            return decompress(encoding, content, near_max)
        except BodyTooLargeError:
            if near_max == bytes_max:
                raise
    return await asyncio.to_thread(decompress, encoding, content, bytes_max)


def decompress(encoding: str, content: bytes, bytes_max: int) -> bytes:
    """``content`` decompressed, never to more than ``bytes_max``.

    Raises:
        BodyTooLargeError: it would be more.
        BodyUnreadableError: it is damaged, cut short, or something follows it.
    """
    try:
        if encoding == "gzip":
            gzip = zlib.decompressobj(GZIP_WINDOW)
            plain = gzip.decompress(content, bytes_max + 1)
            whole, rest = gzip.eof, gzip.unused_data
        else:
            zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX).decompressobj()
            grown, start = bytearray(), 0
            for start in range(0, len(content), ZSTD_STEP_BYTES):
                grown += zstd.decompress(content[start : start + ZSTD_STEP_BYTES])
                if zstd.eof or len(grown) > bytes_max:
                    break
            plain, whole = bytes(grown), zstd.eof
            rest = zstd.unused_data + content[start + ZSTD_STEP_BYTES :]
    except (zlib.error, zstandard.ZstdError) as error:
        raise BodyUnreadableError(f"the body is not {encoding}: {error}") from None
    if len(plain) > bytes_max:
        raise _too_large(bytes_max)
    if not whole:
        raise BodyUnreadableError(f"the {encoding} body is cut short")
    if rest:
        raise BodyUnreadableError(f"something follows the end of the {encoding} body")
    return plain


def _too_large(bytes_max: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {bytes_max} bytes", limit=bytes_max)
