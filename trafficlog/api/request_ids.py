"""A request's id: in its answer, in each line of the log that it causes, in a problem's body.

A client or a proxy may bring one, so that one id follows a request through all its programs.
"""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

HEADER: Final = "X-Request-Id"
# Nothing that could forge a line of a log or a header.
PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"
NEW_ID_BITS: Final = 64

# Read when a line is in fact logged, which most requests never do.
REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)

_SAFE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def request_id(brought: str | None) -> str:
    """The id that a request brought if it can be one, else a new one."""
    if brought is not None and _SAFE.fullmatch(brought):
        return brought
    # It tells requests apart and opens nothing: the system's randomness would cost a call.
    return f"{random.getrandbits(NEW_ID_BITS):016x}"


def with_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Puts the request's id into a line of the log, as a processor of structlog."""
    current = REQUEST_ID.get()
    if current is not None:
        event.setdefault("request_id", current)
    return event
