"""The gateway's way to the service.

``Client`` takes records one by one, sends them in batches, and keeps them on the disk
while the service is away. ``Poster`` posts a list and returns the service's answer.
"""

from trafficlog.client.answers import IngestAnswer, Rejection
from trafficlog.client.errors import (
    AnswerUnreadableError,
    ClientClosedError,
    RecordRefusedError,
    RequestRefusedError,
    ServiceUnreachableError,
    SpoolBusyError,
    SpoolFailedError,
    SpoolFullError,
)
from trafficlog.client.figures import ClientFigures, Outcome, RefusedRecord
from trafficlog.client.posting import Encoding, Poster
from trafficlog.client.retries import Retry, RetryPolicy
from trafficlog.client.sending import Client

__all__ = [
    "AnswerUnreadableError",
    "Client",
    "ClientClosedError",
    "ClientFigures",
    "Encoding",
    "IngestAnswer",
    "Outcome",
    "Poster",
    "RecordRefusedError",
    "RefusedRecord",
    "Rejection",
    "RequestRefusedError",
    "Retry",
    "RetryPolicy",
    "ServiceUnreachableError",
    "SpoolBusyError",
    "SpoolFailedError",
    "SpoolFullError",
]
