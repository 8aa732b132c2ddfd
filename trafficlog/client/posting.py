"""Posts lists of records until the service has answered for each of them.

Delivery is at least once. A request is sent again after whatever leaves open
whether it was stored: a connection that failed, an answer that never came, 408, 429
and every 5xx. The service stores a record once however often it comes, so a
request whose first answer was lost is counted among the duplicates (or the
updates) of the answer that arrived.
"""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import aiohttp
import orjson
import yarl
import zstandard

from trafficlog import __version__
from trafficlog.client.answers import (
    DivideError,
    IngestAnswer,
    Rejection,
    TryAgainError,
    read_answer,
)
from trafficlog.client.errors import (
    AnswerUnreadableError,
    RequestRefusedError,
    ServiceUnreachableError,
)
from trafficlog.client.retries import Retry, RetryPolicy
from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

Encoding = Literal["identity", "gzip", "zstd"]

BATCH_BYTES_MAX: Final = 4 * 2**20


@dataclass(slots=True)
class PosterCounters:
    """Requests answered for good, and tries that were not."""

    requests: int = 0
    retries: int = 0


class Poster:
    """Posts records to a trafficlog service. An asynchronous context manager.

    ``url`` is the service's root, ``key`` an API key with the scope ``ingest``.
    A request holds at most ``batch_records_max`` records and ``batch_bytes_max``
    bytes of JSON, or one record. ``request_seconds`` is how long one answer is
    waited for. Several requests may be under way at once.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        batch_records_max: int = 1000,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        encoding: Encoding = "gzip",
        request_seconds: float = 60.0,
        retry: RetryPolicy | None = None,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> None:
        if batch_records_max < 1:
            raise InvalidValueError("batch_records_max", batch_records_max, "must be at least 1")
        self._records_url = _service_url(url) / "v1" / "records"
        self._headers = {
            "Authorization": f"Bearer {_header_safe(key)}",
            "Content-Type": "application/x-ndjson",
            "User-Agent": f"trafficlog/{__version__}",
        }
        if encoding != "identity":
            self._headers["Content-Encoding"] = encoding
        self._encoding = encoding
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=10.0)
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._exits = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self.counters = PosterCounters()

    async def __aenter__(self) -> Self:
        self._session = await self._exits.enter_async_context(
            aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        await self._exits.aclose()

    async def post_records(self, records: Sequence[Mapping[str, object]]) -> IngestAnswer:
        """Posts records, in as many requests as they need, and adds up the answers.

        A request that the service finds too large, or cannot read, is halved; a
        single record of which that is true is rejected with the code
        ``body_too_large`` or ``body_unreadable``.

        Raises:
            ServiceUnreachableError: no request went through for ``give_up_after_seconds``.
            KeyMissingError: the service does not know the key.
            ScopeMissingError: the key does not open the ingest.
            RequestRefusedError: the service refuses the request as a whole.
            AnswerUnreadableError: the answer is not that of a trafficlog service.
            InvalidValueError: a record holds what JSON cannot; none was posted.
        """
        answer, start = IngestAnswer(), 0
        # All are looked at before the first goes: an error says that none was posted.
        lines = [as_line(record, f"records[{place}]") for place, record in enumerate(records)]
        for batch in in_batches(lines, self._batch_records_max, self._batch_bytes_max):
            answer = answer.followed_by(await self.post_lines(batch, self._retry), start)
            start += len(batch)
        return answer

    async def post_lines(self, lines: Sequence[bytes], retry: RetryPolicy) -> IngestAnswer:
        """Posts records that are lines of JSON already, as one request or as halves of it.

        Raises:
            As ``post_records`` does.
        """
        try:
            answer = await self._post_until_answered(b"".join(lines), retry)
        except DivideError as error:
            if len(lines) == 1:
                detail = f"the service takes no record of {len(lines[0])} bytes: {error}"
                return IngestAnswer(rejected=(Rejection(0, error.code, detail=detail),))
        else:
            if not answer.is_for(len(lines)):
                raise AnswerUnreadableError(
                    f"{self._records_url.origin()} does not answer as trafficlog does: its answer "
                    f"does not account for each of {len(lines)} records"
                )
            return answer
        half = len(lines) // 2
        first = await self.post_lines(lines[:half], retry)
        return first.followed_by(await self.post_lines(lines[half:], retry), half)

    async def _post_until_answered(self, body: bytes, retry: RetryPolicy) -> IngestAnswer:
        compressed = _COMPRESS[self._encoding](body)
        clock = asyncio.get_running_loop().time
        give_up_after = retry.give_up_after_seconds
        started = clock()
        attempt = 0
        while True:
            try:
                answer = await self._post_once(compressed)
            except TryAgainError as failed:
                pause = retry.pause_seconds(attempt, failed.asked_seconds)
                tried = clock() - started
                if give_up_after is not None and tried + pause > give_up_after:
                    raise ServiceUnreachableError(
                        f"gave up on {self._records_url.origin()} after {tried:.0f} s: "
                        f"{failed.reason}",
                        tries=attempt + 1,
                    ) from failed
                self.counters.retries += 1
                if self._on_retry is not None:
                    self._on_retry(Retry(attempt, failed.reason, pause))
                await asyncio.sleep(pause)
                attempt += 1
            else:
                self.counters.requests += 1
                return answer

    async def _post_once(self, body: bytes) -> IngestAnswer:
        if self._session is None:
            raise RuntimeError("the client is used outside its async with block")
        try:
            # A redirect would turn the request into another one and carry the key elsewhere.
            async with self._session.post(
                self._records_url, data=body, allow_redirects=False
            ) as response:
                return read_answer(response, await response.read())
        except aiohttp.ClientConnectorCertificateError as error:
            # Other failures of TLS may pass: a proxy sends alerts while it has no certificate.
            raise RequestRefusedError(f"no secure connection: {error}") from error
        except TimeoutError as error:
            raise TryAgainError(f"no answer within {self._timeout.total} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TryAgainError(str(error) or type(error).__name__) from error


def as_line(record: Mapping[str, object], name: str) -> bytes:
    """A record as a line of JSON.

    Raises:
        InvalidValueError: it holds what JSON cannot; ``name`` is what it is called.
    """
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise InvalidValueError(name, record, f"is no JSON: {error}") from error


def in_batches(
    lines: Iterable[bytes], records_max: int, bytes_max: int
) -> Iterator[Sequence[bytes]]:
    """The lines in their order, in batches within both bounds; one line may pass ``bytes_max``."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) >= records_max or size + len(line) > bytes_max):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


def _service_url(url: str) -> yarl.URL:
    try:
        parsed = yarl.URL(url)
        # As a connection will do, which is too late to say what is wrong.
        (parsed.raw_host or "").encode("idna")
    except ValueError:
        parsed = yarl.URL()
    if parsed.user is not None or parsed.password is not None:
        raise InvalidValueError("url", "…", "must hold no user and no password")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidValueError("url", url, "must be http://HOST:PORT or https://HOST:PORT")
    return parsed.with_query(None).with_fragment(None)


def _header_safe(key: str) -> str:
    """The key, which is no part of any message."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidValueError("key", "…", "must be an API key as trafficlog shows it")
    return key


def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=6, mtime=0)


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


_COMPRESS: Final[dict[Encoding, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": _gzipped,
    "zstd": _zstd,
}
