"""What the service answers to records, read from its responses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.client.errors import AnswerUnreadableError, RequestRefusedError
from trafficlog.errors import (
    BodyTooLargeError,
    BodyUnreadableError,
    KeyMissingError,
    ScopeMissingError,
)

if TYPE_CHECKING:
    import aiohttp


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

    def is_for(self, records: int) -> bool:
        """Whether this says of so many records what became of each."""
        known = self.accepted + self.updated + self.duplicates
        return known + len(self.rejected) == records and all(
            0 <= each.index < records for each in self.rejected
        )

    def followed_by(self, other: IngestAnswer, offset: int) -> IngestAnswer:
        """This answer and that to the records from index ``offset`` on, as one."""
        moved = (msgspec.structs.replace(r, index=r.index + offset) for r in other.rejected)
        return IngestAnswer(
            accepted=self.accepted + other.accepted,
            updated=self.updated + other.updated,
            duplicates=self.duplicates + other.duplicates,
            rejected=(*self.rejected, *moved),
        )


class TryAgainError(Exception):
    """The try failed in a way that may pass."""

    def __init__(self, reason: str, asked_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked_seconds = asked_seconds


class DivideError(Exception):
    """The service does not take these records in one request; it may take them in smaller ones.

    ``code`` is what a record is refused with that is not taken alone either.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class _Problem(msgspec.Struct):
    """What is read of a problem document (RFC 9457)."""

    code: str | None = None
    title: str | None = None
    detail: str | None = None


_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def read_answer(response: aiohttp.ClientResponse, body: bytes) -> IngestAnswer:
    """Reads an answer, or says by an exception why it is none.

    Raises:
        TryAgainError: 408, 429 and every 5xx.
        DivideError: 413, and a 400 in which the service itself says that it
            cannot read the body: one record of it may be the reason.
        KeyMissingError: 401. ScopeMissingError: 403.
        RequestRefusedError: any other status that is no answer to records, such
            as 400, 404 or 415 and redirects.
        AnswerUnreadableError: 200 or 422, but not as the service answers.
    """
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
    problem = _problem(body)
    detail = problem.detail or problem.title or response.reason or "no reason given"
    if status == HTTPStatus.UNAUTHORIZED:
        raise KeyMissingError(f"the service does not know this key: {detail}")
    if status == HTTPStatus.FORBIDDEN:
        raise ScopeMissingError(f"this key does not open the ingest of records: {detail}")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise DivideError(BodyTooLargeError.code, detail)
    if status == HTTPStatus.BAD_REQUEST and problem.code == BodyUnreadableError.code:
        raise DivideError(BodyUnreadableError.code, detail)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = retry_after_seconds(response.headers.get("Retry-After"))
        raise TryAgainError(f"{status} {detail}", asked)
    raise RequestRefusedError(f"the service answers {status}: {detail}", status=status)


def _problem(body: bytes) -> _Problem:
    """The problem document that the body is, or an empty one."""
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()


def retry_after_seconds(header: str | None) -> float | None:
    """RFC 9110 §10.2.3: a number of seconds or a date; what is neither is passed over."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
