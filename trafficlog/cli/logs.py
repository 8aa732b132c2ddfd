"""Where logs go and what may stand in them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

from trafficlog.api.request_ids import with_request_id

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# Up to the end of the error it belongs to: values may have lines of their own.
_ROW_VALUES: Final = re.compile(
    r"DETAIL:.*?(?=\n\nThe above exception|\n\nDuring handling of|\Z)", re.DOTALL
)


def configure_logs(level: int, *, as_json: bool | None = None) -> None:
    """Logs go to standard error: for people on a terminal, as JSON lines elsewhere."""
    machine = not sys.stderr.isatty() if as_json is None else as_json
    renderer: Any = structlog.processors.JSONRenderer()
    if not machine:
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            with_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            without_row_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def without_row_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Leaves out of a line what PostgreSQL's ``DETAIL`` quotes: the values of a row."""
    for name in ("reason", "exception"):
        if isinstance(text := event.get(name), str) and "DETAIL:" in text:
            event[name] = _ROW_VALUES.sub("DETAIL: (left out)", text)
    return event
