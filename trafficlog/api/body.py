"""Request bodies: read whole, within bounds of size, ratio and time."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

import zstandard

from trafficlog.errors import (
    BodyTooLargeError,
    BodyUnreadableError,
    BufferFullError,
    MediaTypeUnsupportedError,
)

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.config import Config

ENCODINGS: Final = ("identity", "gzip", "zstd")
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
ZSTD_WINDOW_MAX: Final = 2**27
# zstd gives no bound on its output, so its input is fed in small steps: one of these
# grows to 40 MB at the very most.
ZSTD_STEP_BYTES: Final = 1024


class SlowBodyError(Exception):
    """The client did not send its body in time."""


class BodyReader:
    """Reads bodies and knows how many bytes of them are in work."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._in_work = 0

    async def read(self, request: web.Request, bytes_max: int | None = None) -> bytes:
        """The body, decompressed.

        Raises:
            BodyTooLargeError: it is larger than it may be, before or after decompression.
            BodyUnreadableError: it is not what its encoding says.
            MediaTypeUnsupportedError: its encoding is none that is read here.
            BufferFullError: too many bytes are in work.
            SlowBodyError: it did not come in time.
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
        sent = bytearray()
        try:
            async with asyncio.timeout(config.read_seconds_max):
                async for chunk in request.content.iter_any():
                    sent += chunk
                    self._take(len(chunk))
                    if len(sent) > sent_max:
                        raise _too_large(sent_max)
        except TimeoutError:
            raise SlowBodyError from None
        finally:
            self._in_work -= len(sent)
        if encoding == "identity":
            return bytes(sent)
        return decompress(encoding, bytes(sent), decoded_max)

    def _take(self, count: int) -> None:
        self._in_work += count
        if self._in_work > self._config.waiting_bytes_max:
            raise BufferFullError("too many bytes of requests are in work; try again shortly")


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
