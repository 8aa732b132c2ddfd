"""Small requests of records that are plainly right, from their bytes to their answer.

A gateway that posts each record as it comes makes thousands of requests a second, and what
surrounds a handler costs more than to store what is in it (measured for one record a request, of
the service's time: 56 us so and 130 the long way, where an empty handler takes 40). So such a
request is answered here in one go. There is but one outcome: whatever is not plainly right (no
such key, a record that is refused, a buffer that is full) is left to ``post_records`` and what
surrounds it, which begin anew with the same bytes and alone say what is wrong.
"""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import orjson
import structlog

from trafficlog.api.body import UNKNOWN_TYPE, media_type_of
from trafficlog.api.framing import HEAD_END, Told, end_of, read_head
from trafficlog.api.problems import SECURITY_HEADERS, problem_of
from trafficlog.api.rates import UNLIMITED
from trafficlog.api.records import ROUTE, answer_to, count_outcome, limits_now
from trafficlog.api.request_ids import HEADER, REQUEST_ID, request_id
from trafficlog.api.splitting import NDJSON_TYPES, split
from trafficlog.auth import secret_in
from trafficlog.errors import TrafficlogError
from trafficlog.reading import Read, read_each, read_lines
from trafficlog.store.ingest import PIECE_RECORDS, Batch, Outcome
from trafficlog.store.keys import digest_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from trafficlog.api.framing import Head
    from trafficlog.api.services import Services
    from trafficlog.store.keys import Principal

log = structlog.get_logger()

_ID_FIELD: Final = HEADER.lower().encode()
LINE: Final = f"{ROUTE.method} {ROUTE.path} HTTP/1.1\r\n".encode()
HEAD_BYTES_MAX: Final = 4096
# So many are remembered: a client sends the same again and again, but for the body's length.
HEADS_MAX: Final = 2048
# A larger body takes so long to be read that it has to give way to others meanwhile.
BODY_BYTES_MAX: Final = 64 * 1024
_ANSWER: Final = "".join(
    f"{name}: {value}\r\n"
    for name, value in {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        **SECURITY_HEADERS,
    }.items()
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the head of a request says; the body goes from the byte ``body`` up to ``end``."""

    body: int
    end: int
    key_digest: bytes
    media_type: str
    request_id: str | None


@dataclass(slots=True)
class Order:
    """A request whose records wait to be written."""

    began: float
    request_id: str
    body_bytes: int
    limits: Mapping[str, str]
    outcome: asyncio.Future[Outcome]


class Express:
    """Takes requests from the bytes of a connection, and makes the bytes of their answers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        config, metrics = services.config, services.metrics
        self._head_bytes_max = min(
            HEAD_BYTES_MAX, config.header_bytes_max, config.request_line_bytes_max
        )
        self._records_max = min(PIECE_RECORDS - 1, config.batch_records_max)
        self._body_bytes_max = min(
            BODY_BYTES_MAX, config.body_bytes_max, config.body_decoded_bytes_max
        )
        self._asked: dict[bytes, Asked] = {}
        self._seconds = metrics.http_request_seconds.labels(ROUTE.path)
        self._answered = functools.cache(
            lambda status: metrics.http_requests.labels(ROUTE.path, status)
        )

    def look(self, data: bytes) -> Asked | Told:
        """What can be told of what has come: how a request such as are taken here begins."""
        end = data.find(HEAD_END, 0, self._head_bytes_max)
        # Not the head itself, which has a key in it.
        mark = hashlib.blake2b(data[:end], digest_size=16).digest() if end > 0 else b""
        asked = self._asked.get(mark)
        if asked is None:
            head = read_head(data, LINE, self._head_bytes_max, self._services.config.headers_max)
            if isinstance(head, Told):
                return head
            asked = _asked(head)
            if len(self._asked) >= HEADS_MAX:
                self._asked.clear()
            self._asked[mark] = asked
        return asked

    def end_of(self, data: bytes) -> int | None:
        """After how many bytes the request ends that the bytes begin with, if that can be told."""
        return end_of(data, self._head_bytes_max, self._services.config.headers_max)

    def is_small(self, head: Asked) -> bool:
        """Whether the request is small enough to be taken here."""
        return head.end - head.body <= self._body_bytes_max

    def take(self, head: Asked, data: bytes) -> Order | None:
        """The whole request in ``data``, handed in; None: it is not for here."""
        began = time.perf_counter()
        services = self._services
        principal = self._principal(head)
        settings = services.writer.settings
        if (
            principal is None
            or settings.is_older_than(services.config.settings_refresh_seconds)
            # What will be turned away is not to be read first.
            or services.buffer.waiting >= services.config.waiting_records_max
        ):
            return None
        try:
            read = self._read(head, data[head.body :])
            if read.refused or not 0 < len(read.reports) <= self._records_max:
                return None
            services.buffer.admit(len(read.reports))
            body_bytes = head.end - head.body
            services.bodies.enter(body_bytes)
            try:
                # Last, for what is left to the framework's road counts there.
                limits = services.key_rates.admit(principal)
                outcome = services.buffer.hand_in(Batch(read.reports), len(read.reports))
            except TrafficlogError:
                services.bodies.leave(body_bytes)
                raise
        except TrafficlogError:
            return None
        except Exception:
            # Should it be none of this road alone, the answer to it is made there.
            log.exception("express_broke")
            return None
        return Order(began, request_id(head.request_id), body_bytes, limits, outcome)

    def answer(self, order: Order, *, last: bool) -> bytes:
        """The whole answer to an order that has been carried out, or failed.

        ``last``: the connection is to be closed behind it.
        """
        self._services.bodies.leave(order.body_bytes)
        error = order.outcome.exception()
        if error is None:
            status, headers = HTTPStatus.OK, _ANSWER
            outcome = order.outcome.result()
            body = _told(outcome.accepted, outcome.updated, outcome.duplicates)
            count_outcome(self._services.metrics, outcome, rejected=0)
        else:
            status, headers, body = _failure(error, order.request_id)
        seconds = time.perf_counter() - order.began
        if error is None:
            self._services.metrics.ingest_request_seconds.observe(seconds)
        self._seconds.observe(seconds)
        self._answered(status.value).inc()
        if order.limits is not UNLIMITED:
            headers += "".join(f"{name}: {value}\r\n" for name, value in order.limits.items())
        if last:
            headers += "Connection: close\r\n"
        return (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n{headers}"
            f"{HEADER}: {order.request_id}\r\n"
            f"Content-Length: {len(body)}\r\nDate: {_date(int(time.time()))}\r\n\r\n"
        ).encode() + body

    def _principal(self, head: Asked) -> Principal | None:
        """Whose key it is, if it opens this and was seen lately."""
        principal = self._services.authenticator.known(head.key_digest)
        return principal if principal is not None and principal.scope in ROUTE.scopes else None

    def _read(self, head: Asked, body: bytes) -> Read:
        limits = limits_now(self._services)
        if head.media_type in NDJSON_TYPES:
            return read_lines(body, limits)
        records_max = self._services.config.batch_records_max
        return read_each(split(head.media_type, body, records_max), limits)


def _asked(head: Head) -> Asked:
    said = {name: value.decode() for name, value in head.fields.items()}
    return Asked(
        head.body,
        head.end,
        digest_of(secret_in(said.get(b"authorization"))),
        media_type_of(said.get(b"content-type", UNKNOWN_TYPE)),
        said.get(_ID_FIELD),
    )


def _failure(error: BaseException, current: str) -> tuple[HTTPStatus, str, bytes]:
    """Status, headers and body of the answer to what went wrong."""
    token = REQUEST_ID.set(current)
    try:
        if not isinstance(error, TrafficlogError):
            log.error("request_broke", method=ROUTE.method, route=ROUTE.path, exc_info=error)
            error = TrafficlogError()
        answer = problem_of(error)
    finally:
        REQUEST_ID.reset(token)
    told = {**answer.headers, **SECURITY_HEADERS}
    return (
        HTTPStatus(answer.status),
        "".join(f"{name}: {value}\r\n" for name, value in told.items()),
        cast("bytes", answer.body),
    )


@functools.lru_cache(maxsize=1024)
def _told(accepted: int, updated: int, duplicates: int) -> bytes:
    return orjson.dumps(answer_to(Outcome(accepted, updated, duplicates), []))


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
