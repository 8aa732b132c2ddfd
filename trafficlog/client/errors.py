"""What can go wrong on the gateway's side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trafficlog.errors import TrafficlogError

if TYPE_CHECKING:
    from trafficlog.client.answers import Rejection


class ServiceUnreachableError(TrafficlogError):
    """The service could not be reached, or could not store, for as long as was to be tried."""

    code = "service_unreachable"


class RequestRefusedError(TrafficlogError):
    """The service refuses the request as a whole, and would again."""

    code = "request_refused"


class AnswerUnreadableError(TrafficlogError):
    """What answers at this URL does not answer as the service does."""

    code = "answer_unreadable"


class RecordRefusedError(TrafficlogError):
    """The service does not store this record, and would not when it came again."""

    code = "record_refused"

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(
            rejection.detail or f"the service refuses the record: {rejection.code}",
            field=rejection.field,
            reason=rejection.code,
        )
        self.rejection = rejection


class ClientClosedError(TrafficlogError):
    """The client was left before the record could be stored or kept."""

    code = "client_closed"


class SpoolFullError(TrafficlogError):
    """The service is away and the spool, or its disk, has no room: the record is not kept."""

    code = "spool_full"


class SpoolBusyError(TrafficlogError):
    """Another client has the spool; each needs a directory of its own."""

    code = "spool_busy"


class SpoolFailedError(TrafficlogError):
    """The spool's directory or files cannot be read or written."""

    code = "spool_failed"
