"""Lines that explain a record's fate, from the gateway."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from trafficlog.api.body import media_type
from trafficlog.api.problems import json_response, problem
from trafficlog.api.records import GROUP
from trafficlog.api.routes import JSON, Answer, Body, Refused, Route, scopes
from trafficlog.api.schemas import LinesTaken
from trafficlog.api.splitting import LINES_SCHEMA, NDJSON_TYPES, PARSE_STEP_RECORDS, split
from trafficlog.errors import BatchTooLargeError, InvalidValueError
from trafficlog.retention import AHEAD_MAX, DataClass
from trafficlog.store.debug_log import DebugLine
from trafficlog.store.ingest import Batch
from trafficlog.values import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from trafficlog.api.services import Services


class DebugLineIn(msgspec.Struct, gc=False):
    """One line of ``POST /v1/debug-logs``."""

    line: str
    level: Literal["debug", "info", "warning", "error"] = "info"
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "gateway"
    at: datetime | None = None
    account: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None
    record: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None


_decoder = msgspec.json.Decoder(DebugLineIn)


async def post_debug_logs(request: web.Request, services: Services) -> web.Response:
    """Stores debug lines; answers once they are on disk."""
    config = services.config
    items = split(
        media_type(request), await services.bodies.read(request), config.batch_records_max
    )
    with services.buffer.room(len(items)):
        lines, rejected = await _read(items, services)
    if lines:
        await services.buffer.submit(Batch([], lines), len(lines))
    answer = {"accepted": len(lines), "rejected": rejected}
    if not lines:
        return problem(422, "all_refused", "no line of the request could be stored", more=answer)
    return json_response(answer)


async def _read(
    items: Sequence[bytes | memoryview], services: Services
) -> tuple[list[DebugLine], list[dict[str, Any]]]:
    """The lines that can be taken, and why others cannot."""
    now = services.clock.now()
    policy = services.writer.settings.policies.in_force(DataClass.DEBUG, now)
    oldest = now - policy.retention_period
    lines: list[DebugLine] = []
    rejected: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        if index and index % PARSE_STEP_RECORDS == 0:
            await services.writer.turns.next()
        try:
            line = _parse_debug_line(bytes(item), now, services.config.refusal_chars_max)
            if line.at <= oldest:
                raise InvalidValueError(
                    "at",
                    line.at.isoformat(),
                    f"must be later than {oldest.isoformat()}",
                    reason_code="too_early",
                )
            lines.append(line)
        except InvalidValueError as error:
            rejected.append(
                {
                    "index": index,
                    "field": error.field,
                    "code": error.reason_code,
                    "detail": error.detail,
                }
            )
    return lines, rejected


def _parse_debug_line(raw: bytes, now: datetime, chars_max: int) -> DebugLine:
    try:
        line = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found = re.search(r"`\$\.(\w+)|required field `(\w+)`", str(error))
        field = (found[1] or found[2]) if found else "line"
        raise InvalidValueError(field, raw[:200].decode("utf-8", "replace"), str(error)) from None
    at = line.at or now
    try:
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise InvalidValueError(
            "at", str(at), "lies outside of the calendar", reason_code="out_of_range"
        ) from None
    if at > now + AHEAD_MAX:
        raise InvalidValueError("at", at.isoformat(), "lies in the future", reason_code="too_late")
    for name, text in (("line", line.line), ("source", line.source)):
        if "\0" in text:
            raise InvalidValueError(
                name, text, "must not contain the NUL character", reason_code="nul"
            )
    return DebugLine(at, line.level, line.source, line.line[:chars_max], line.account, line.record)


ROUTES: Final = (
    Route(
        "POST",
        "/v1/debug-logs",
        post_debug_logs,
        scopes("ingest"),
        group=GROUP,
        body=Body(
            {
                JSON: list[DebugLineIn],
                NDJSON_TYPES[0]: LINES_SCHEMA
                | {"examples": ['{"line":"m1: handed to the operator"}\n']},
            },
            "Lines that explain a record's fate, kept for days and read by staff.",
            items_max=lambda config: config.batch_records_max,
        ),
        answers=(Answer.json("At least one line is on disk.", LinesTaken),),
        errors=(
            BatchTooLargeError,
            Refused(422, "all_refused", "No line of the request could be stored.", LinesTaken),
        ),
    ),
)
