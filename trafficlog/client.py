"""The gateway's way to the service: records are posted until they are stored.

Delivery is at least once. A request is sent again after whatever leaves open
whether it was stored: a connection that failed, an answer that never came, 408, 429
and every 5xx. The service stores a record once however often it comes, so a
request whose first answer was lost is counted among the duplicates (or the
updates) of the answer that arrived.
"""

from __future__ import annotations

import asyncio
import gzip
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import aiohttp
import msgspec
import orjson
import yarl
import zstandard

from trafficlog import __version__
from trafficlog.errors import (
    BodyTooLargeError,
    InvalidValueError,
    KeyMissingError,
    ScopeMissingError,
    TrafficlogError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

Encoding = Literal["identity", "gzip", "zstd"]


class ServiceUnreachableError(TrafficlogError):
    """The service could not be reached, or could not store, for as long as was to be tried."""

    code = "service_unreachable"


class RequestRefusedError(TrafficlogError):
    """The service refuses the request as a whole, and would again."""

    code = "request_refused"


class AnswerUnreadableError(TrafficlogError):
    """What answers at this URL does not answer as the service does."""

    code = "answer_unreadable"


class Rejection(msgspec.Struct, frozen=True):
    """A record that the service refused. ``index`` is its place among the records posted."""

    index: int
    code: str = "rejected"
    field: str | None = None
    detail: str | None = None
    id: str | None = None


class IngestAnswer(msgspec.Struct, frozen=True):
    """What became of the records of a request: each is counted or rejected once."""

    accepted: int = 0
    updated: int = 0
    duplicates: int = 0
    rejected: tuple[Rejection, ...] = ()

    def followed_by(self, other: IngestAnswer, offset: int) -> IngestAnswer:
        """This answer and that to the records from index ``offset`` on, as one."""
        moved = (msgspec.structs.replace(r, index=r.index + offset) for r in other.rejected)
        return IngestAnswer(
            accepted=self.accepted + other.accepted,
            updated=self.updated + other.updated,
            duplicates=self.duplicates + other.duplicates,
            rejected=(*self.rejected, *moved),
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long, and how often, a request is tried again.

    The n-th pause is random between nothing and ``first_seconds`` times 2 to the
    n, at most ``pause_seconds_max``, so that many clients do not come back
    together. A ``Retry-After`` is waited for in full, up to
    ``retry_after_seconds_max``. ``give_up_after_seconds`` runs from the first
    try of each request, and no try begins after it; ``None`` tries for ever.
    """

    first_seconds: float = 0.25
    pause_seconds_max: float = 15.0
    retry_after_seconds_max: float = 300.0
    give_up_after_seconds: float | None = 900.0

    def pause_seconds(self, attempt: int, asked_seconds: float | None) -> float:
        """The pause after try number ``attempt`` (from 0), given what the service asked for."""
        ceiling = min(self.pause_seconds_max, self.first_seconds * 2 ** min(attempt, 30))
        # Spreads load and guards nothing.
        jitter = random.uniform(0.0, ceiling)  # noqa: S311
        if asked_seconds is None:
            return jitter
        return min(asked_seconds, self.retry_after_seconds_max) + jitter


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is about to be sent again, and why."""

    attempt: int
    reason: str
    pause_seconds: float


@dataclass(slots=True)
class ClientCounters:
    """What the client has done: requests answered for good, and tries that were not."""

    requests: int = 0
    retries: int = 0


class _TryAgainError(Exception):
    """The try failed in a way that may pass."""

    def __init__(self, reason: str, asked_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked_seconds = asked_seconds


class _TooLargeError(Exception):
    """The service takes fewer or smaller records in one request."""


class TrafficlogClient:
    """Posts records to a trafficlog service. An asynchronous context manager.

    ``url`` is the service's root, ``key`` an API key with the scope ``ingest``.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        batch_records_max: int = 1000,
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
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=10.0)
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._exits = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self.counters = ClientCounters()

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
        """Posts records, in requests of at most ``batch_records_max``, and adds up the answers.

        A request that the service finds too large is halved; a single record
        that is too large is rejected with the code ``body_too_large``.

        Raises:
            ServiceUnreachableError: no request went through for ``give_up_after_seconds``.
            KeyMissingError: the service does not know the key.
            ScopeMissingError: the key does not open the ingest.
            RequestRefusedError: the service refuses the request as a whole.
            AnswerUnreadableError: the answer is not that of a trafficlog service.
            InvalidValueError: a record holds what JSON cannot.
        """
        answer = IngestAnswer()
        for start in range(0, len(records), self._batch_records_max):
            batch = [
                _encoded(record, start + place)
                for place, record in enumerate(records[start : start + self._batch_records_max])
            ]
            answer = answer.followed_by(await self._post_lines(batch), start)
        return answer

    async def _post_lines(self, lines: Sequence[bytes]) -> IngestAnswer:
        """Posts records that are JSON already as one request, or as halves of it."""
        try:
            return await self._post_until_answered(b"".join(lines))
        except _TooLargeError as error:
            if len(lines) == 1:
                detail = f"the service takes no record of {len(lines[0])} bytes: {error}"
                return IngestAnswer(
                    rejected=(Rejection(index=0, code=BodyTooLargeError.code, detail=detail),)
                )
        half = len(lines) // 2
        first = await self._post_lines(lines[:half])
        return first.followed_by(await self._post_lines(lines[half:]), half)

    async def _post_until_answered(self, body: bytes) -> IngestAnswer:
        compressed = _COMPRESS[self._encoding](body)
        clock = asyncio.get_running_loop().time
        give_up_after = self._retry.give_up_after_seconds
        started = clock()
        attempt = 0
        while True:
            try:
                answer = await self._post_once(compressed)
            except _TryAgainError as failed:
                pause = self._retry.pause_seconds(attempt, failed.asked_seconds)
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
                return _answer(response, await response.read())
        except aiohttp.ClientSSLError as error:
            raise RequestRefusedError(f"no secure connection: {error}") from error
        except TimeoutError as error:
            raise _TryAgainError(f"no answer within {self._timeout.total} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _TryAgainError(str(error) or type(error).__name__) from error


_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def _answer(response: aiohttp.ClientResponse, body: bytes) -> IngestAnswer:
    """Reads an answer, or says by an exception why it is none."""
    status = response.status
    if status == HTTPStatus.OK or (
        status == HTTPStatus.UNPROCESSABLE_ENTITY and b'"rejected"' in body
    ):
        try:
            return msgspec.json.decode(body, type=IngestAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AnswerUnreadableError(
                f"{response.url.origin()} does not answer as trafficlog does: {error}"
            ) from error
    detail = _problem(body) or response.reason or "no reason given"
    if status == HTTPStatus.UNAUTHORIZED:
        raise KeyMissingError(f"the service does not know this key: {detail}")
    if status == HTTPStatus.FORBIDDEN:
        raise ScopeMissingError(f"this key does not open the ingest of records: {detail}")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise _TooLargeError(detail)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = _retry_after_seconds(response.headers.get("Retry-After"))
        raise _TryAgainError(f"{status} {detail}", asked)
    raise RequestRefusedError(f"the service answers {status}: {detail}", status=status)


def _problem(body: bytes) -> str | None:
    """What a problem document (RFC 9457) says, if the body is one."""
    try:
        problem: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(problem, dict):
        return None
    said = problem.get("detail") or problem.get("title")
    return str(said) if said else None


def _retry_after_seconds(header: str | None) -> float | None:
    """RFC 9110 §10.2.3: a number of seconds or a date; what is neither is passed over."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _service_url(url: str) -> yarl.URL:
    try:
        parsed = yarl.URL(url)
    except ValueError:
        parsed = yarl.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidValueError("url", url, "must be http://HOST:PORT or https://HOST:PORT")
    return parsed.with_query(None).with_fragment(None)


def _header_safe(key: str) -> str:
    """The key, which is no part of any message."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidValueError("key", "…", "must be an API key as trafficlog shows it")
    return key


def _encoded(record: Mapping[str, object], place: int) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise InvalidValueError(f"records[{place}]", record, f"is no JSON: {error}") from error


def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=6, mtime=0)


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


_COMPRESS: Final[dict[Encoding, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": _gzipped,
    "zstd": _zstd,
}
