"""Taking records in: ``POST /v1/records``, ``POST /v1/debug-logs``, ``/v1/in-transit``."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from trafficlog.api.problems import json_response, problem
from trafficlog.api.routes import Route, scopes
from trafficlog.errors import (
    BatchTooLargeError,
    BodyUnreadableError,
    InvalidValueError,
    MediaTypeUnsupportedError,
)
from trafficlog.reading import read_each, read_lines, steps
from trafficlog.records import WITHHELD_BITS, limits_of
from trafficlog.refusals import Refusal
from trafficlog.retention import AHEAD_MAX, DataClass
from trafficlog.store.debug_log import DebugLine, refusal_line
from trafficlog.store.ingest import Batch
from trafficlog.values import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trafficlog.api.services import Services
    from trafficlog.records import Report

NDJSON_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON_TYPE: Final = "application/json"
# Parsing gives way to other requests after so much.
PARSE_STEP_RECORDS: Final = 500
PARSE_STEP_BYTES: Final = 512 * 1024

_items = msgspec.json.Decoder(list[msgspec.Raw])


class DebugLineIn(msgspec.Struct, gc=False):
    """One line of ``POST /v1/debug-logs``."""

    line: str
    level: Literal["debug", "info", "warning", "error"] = "info"
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "gateway"
    at: datetime | None = None
    account: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None
    record: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None


_debug_line = msgspec.json.Decoder(DebugLineIn)


async def post_records(request: web.Request, services: Services) -> web.Response:
    """Stores a batch; answers once it is on disk."""
    began = time.perf_counter()
    config = services.config
    body = await services.bodies.read(request)
    parts = in_steps(request.content_type, body, config.batch_records_max)
    await services.writer.settings.refresh_when_older(
        config.settings_refresh_seconds, config.answer_seconds_max
    )
    now = services.clock.now()
    limits = limits_of(services.writer.settings.policies, now, config.message_chars_max)
    reports: list[Report] = []
    refusals: list[Refusal] = []
    index = 0
    for part in parts:
        if index:
            await asyncio.sleep(0)
        good, refused = (
            read_lines(part, limits) if isinstance(part, bytes) else read_each(part, limits)
        )
        reports += good
        refusals += [refuse(index + r.index, r.raw, r.error) for r in refused]
        index += len(good) + len(refused)
    kept = [
        refusal_line(r, now, config.refusal_chars_max) for r in refusals[: config.refusals_kept_max]
    ]
    outcome = await services.buffer.submit(Batch(reports, kept), len(reports) + len(kept))
    counted = services.metrics.records
    counted.labels("accepted").inc(outcome.accepted)
    counted.labels("updated").inc(outcome.updated)
    counted.labels("duplicate").inc(outcome.duplicates)
    counted.labels("rejected").inc(len(refusals))
    services.metrics.ingest_request_seconds.observe(time.perf_counter() - began)
    answer = {
        "accepted": outcome.accepted,
        "updated": outcome.updated,
        "duplicates": outcome.duplicates,
        "rejected": [
            {"index": r.index, "id": r.id, "field": r.field, "code": r.code, "detail": r.detail}
            for r in refusals
        ],
    }
    if not reports:
        return problem(422, "all_refused", "no record of the request could be stored", more=answer)
    return json_response(answer)


async def post_debug_logs(request: web.Request, services: Services) -> web.Response:
    """Stores debug lines; answers once they are on disk."""
    config = services.config
    items = split(
        request.content_type, await services.bodies.read(request), config.batch_records_max
    )
    now = services.clock.now()
    policy = services.writer.settings.policies.in_force(DataClass.DEBUG, now)
    oldest = now - policy.retention_period
    lines: list[DebugLine] = []
    rejected: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        try:
            line = _parse_debug_line(bytes(item), now, config.refusal_chars_max)
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
    if lines:
        await services.buffer.submit(Batch([], lines), len(lines))
    answer = {"accepted": len(lines), "rejected": rejected}
    if not lines:
        return problem(422, "all_refused", "no line of the request could be stored", more=answer)
    return json_response(answer)


async def put_in_transit(request: web.Request, services: Services) -> web.Response:
    """Keeps a JSON value until the communication is delivered, 72 hours at most."""
    transit_id = _name(request.match_info["id"], "id")
    account = request.query.get("account")
    if account is not None:
        _name(account, "account")
    content = await services.bodies.read(request, services.config.in_transit_bytes_max)
    try:
        msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUnreadableError(f"the body is not JSON: {error}") from None
    expires_at, is_new = await services.transit.put(
        transit_id, content, account, services.clock.now()
    )
    return json_response({"id": transit_id, "expires": expires_at}, 201 if is_new else 200)


async def get_in_transit(request: web.Request, services: Services) -> web.Response:
    """The JSON value as it was put."""
    transit_id = _name(request.match_info["id"], "id")
    found = await services.transit.get(transit_id, services.clock.now())
    return web.Response(
        body=found.content,
        content_type="application/json",
        headers={
            "Cache-Control": "no-store",
            "Last-Modified": _http_date(found.created_at),
            "Expires": _http_date(found.expires_at),
        },
    )


async def delete_in_transit(request: web.Request, services: Services) -> web.Response:
    """Removes it: the communication is complete."""
    transit_id = _name(request.match_info["id"], "id")
    await services.transit.complete(transit_id, services.clock.now())
    return web.Response(status=204)


def in_steps(
    content_type: str, body: bytes, records_max: int
) -> Iterator[bytes] | Iterator[Sequence[bytes | memoryview]]:
    """The records of a body in parts that one step reads: lines together, or JSON texts.

    Raises:
        what ``split`` raises.
    """
    if content_type in NDJSON_TYPES and body.count(b"\n") < records_max and body.strip():
        return steps(body, PARSE_STEP_BYTES)
    items = split(content_type, body, records_max)
    return (
        items[start : start + PARSE_STEP_RECORDS]
        for start in range(0, len(items), PARSE_STEP_RECORDS)
    )


def split(content_type: str, body: bytes, records_max: int) -> Sequence[bytes | memoryview]:
    """The JSON texts of a body: its lines, or the elements of its array.

    Raises:
        MediaTypeUnsupportedError: the type is neither.
        BodyUnreadableError: the array cannot be read, or there is nothing in the body.
        BatchTooLargeError: there are more than ``records_max``.
    """
    items: Sequence[bytes | memoryview]
    if content_type in NDJSON_TYPES:
        items = [line for line in body.split(b"\n") if line.strip()]
    elif content_type == JSON_TYPE:
        try:
            items = [memoryview(raw) for raw in _items.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BodyUnreadableError(f"the body is not a JSON array: {error}") from None
    else:
        raise MediaTypeUnsupportedError(
            f"Content-Type {content_type!r} is not read here: send application/x-ndjson "
            "(an object a line) or application/json (an array)"
        )
    if not items:
        raise BodyUnreadableError("the body holds no record")
    if len(items) > records_max:
        raise BatchTooLargeError(
            f"the request holds {len(items)} records; at most {records_max} are taken in one",
            limit=records_max,
        )
    return items


def refuse(index: int, raw: bytes, error: InvalidValueError) -> Refusal:
    """Why a record was refused, and its text without what it asked not to log."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    text = raw.decode("utf-8", "replace")
    known_id = None
    detail = error.detail
    # The detail quotes the value, and is kept beside the text.
    unquoted = f"{error.field}: {error.reason}"
    if isinstance(value, dict):
        known_id = value.get("id") if isinstance(value.get("id"), str) else None
        asked = value.get("dontlog") or []
        names = asked if isinstance(asked, list) else [asked]
        if not all(isinstance(name, str) and name in WITHHELD_BITS for name in names):
            # Which field it is that must not be logged cannot be told: then none is.
            names = list(WITHHELD_BITS)
        hidden = value.keys() & set(names)
        if hidden:
            text = json.dumps(value | dict.fromkeys(hidden, "(not logged)"))
        if error.field in hidden:
            detail = unquoted
    elif b"dontlog" in raw:
        text, detail = "(not logged: it asks so, and cannot be read)", unquoted
    shown_id = None if known_id is None else re.sub(r"[\ud800-\udfff]", "\ufffd", known_id)[:64]
    return Refusal(index, shown_id, error.field, error.reason_code, detail, text)


def _parse_debug_line(raw: bytes, now: datetime, chars_max: int) -> DebugLine:
    try:
        line = _debug_line.decode(raw)
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


def _name(text: str, field: str) -> str:
    if not re.match(NAME_PATTERN, text):
        raise InvalidValueError(
            field,
            text,
            "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
            reason_code="bad_format",
        )
    return text


def _http_date(at: datetime) -> str:
    return at.strftime("%a, %d %b %Y %H:%M:%S GMT")


ROUTES: Final = (
    Route("POST", "/v1/records", post_records, scopes("ingest")),
    Route("POST", "/v1/debug-logs", post_debug_logs, scopes("ingest")),
    Route("PUT", "/v1/in-transit/{id}", put_in_transit, scopes("ingest"), ("account",)),
    Route("GET", "/v1/in-transit/{id}", get_in_transit, scopes("ingest")),
    Route("DELETE", "/v1/in-transit/{id}", delete_in_transit, scopes("ingest")),
)
