"""Every error that trafficlog raises on purpose: one root, a stable code, and data.

The docstring of a class is the sentence a person reads; ``code`` is what a
program goes by and never changes. Which HTTP status an error answers with is
the business of ``trafficlog.api`` and which exit code, of ``trafficlog.cli``.
"""

from __future__ import annotations

from typing import ClassVar


class TrafficlogError(Exception):
    """Something went wrong in trafficlog."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str | None = None, **data: object) -> None:
        self.detail = detail or (self.__doc__ or "").strip().splitlines()[0]
        self.data = data
        super().__init__(self.detail)


class InvalidValueError(TrafficlogError):
    """A value given from outside is not acceptable.

    ``field`` names it, ``value`` is what was given (shortened), ``reason`` says
    what would be right; ``reason_code`` is the stable word for it.
    """

    code = "invalid_value"

    def __init__(
        self, field: str, value: object, reason: str, *, reason_code: str = "invalid"
    ) -> None:
        shown = shorten(value)
        super().__init__(f"{field}: {reason} (got {shown})", field=field, value=shown)
        self.field = field
        self.reason = reason
        self.reason_code = reason_code


class BodyUnreadableError(TrafficlogError):
    """The body could not be read as what its headers say it is."""

    code = "body_unreadable"


class BodyTooLargeError(TrafficlogError):
    """The body is larger than the service takes."""

    code = "body_too_large"


class BatchTooLargeError(TrafficlogError):
    """The request holds more records than the service takes in one."""

    code = "batch_too_large"


class MediaTypeUnsupportedError(TrafficlogError):
    """The content type or encoding is not one that the service reads."""

    code = "media_type_unsupported"


class KeyMissingError(TrafficlogError):
    """The request carries no API key that is known."""

    code = "key_missing"


class ScopeMissingError(TrafficlogError):
    """The API key does not open this."""

    code = "scope_missing"


class NotFoundError(TrafficlogError):
    """There is nothing under this name."""

    code = "not_found"


class TooManyRequestsError(TrafficlogError):
    """More was asked in a short time than is allowed; try again later.

    ``retry_seconds`` says when; ``headers`` are what an answer tells of the limit.
    """

    code = "too_many_requests"

    def __init__(self, detail: str | None = None, *, retry_seconds: int) -> None:
        super().__init__(detail, retry_seconds=retry_seconds)
        self.retry_seconds = retry_seconds
        self.headers: dict[str, str] = {}


class TooManyExportsError(TooManyRequestsError):
    """As many exports are running as the service runs at a time; try again later."""

    code = "too_many_exports"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, retry_seconds=30)


class BufferFullError(TrafficlogError):
    """More records wait to be written than the service holds; try again shortly."""

    code = "buffer_full"


class DatabaseUnavailableError(TrafficlogError):
    """The database cannot be reached or cannot write; try again shortly."""

    code = "database_unavailable"


class ServiceStoppingError(TrafficlogError):
    """The service stops, and the request had not come whole; send it again."""

    code = "stopping"


class StaleSettingsError(TrafficlogError):
    """An account's setting changed while a batch was on its way; it is encoded anew."""

    code = "stale_settings"


class ClockJumpError(TrafficlogError):
    """The clock went backwards, or forward by more than the limit, since the last run."""

    code = "clock_jump"


class TimeTravelRefusedError(TrafficlogError):
    """A time later than the clock is accepted only with TRAFFICLOG_TIME_TRAVEL=1."""

    code = "time_travel_refused"


class ConflictError(TrafficlogError):
    """The state of things does not allow this."""

    code = "conflict"


class KeyReusedError(TrafficlogError):
    """This Idempotency-Key was sent before with a request for something else."""

    code = "idempotency_key_reused"


class PreconditionFailedError(TrafficlogError):
    """It is not in the state any more that `If-Match` names; read it anew."""

    code = "precondition_failed"


class MigrationError(TrafficlogError):
    """The database's schema is not what this version of trafficlog goes by."""

    code = "migration"


class EmbeddedPostgresError(TrafficlogError):
    """The embedded PostgreSQL could not be started or stopped."""

    code = "embedded_postgres"


class SigningKeyError(TrafficlogError):
    """There is no key to sign certificates with, or it cannot be used."""

    code = "signing_key"


class SignatureWrongError(TrafficlogError):
    """A signature does not fit what it stands under."""

    code = "signature_wrong"


def shorten(value: object, limit: int = 80) -> str:
    """``value`` as a person may be shown it: one line, at most ``limit`` characters."""
    text = repr(value[:limit] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
