"""Records in: a batch read, stored, and told what became of each."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import time
from typing import TYPE_CHECKING, Final

from trafficlog.api.body import media_type
from trafficlog.api.problems import json_response, problem
from trafficlog.api.routes import JSON, Answer, Body, Refused, Route, scopes
from trafficlog.api.schemas import Ingested
from trafficlog.api.splitting import LINES_SCHEMA, NDJSON_TYPES, Steps, in_steps
from trafficlog.errors import BatchTooLargeError, InvalidValueError
from trafficlog.reading import Read, read_each, read_lines
from trafficlog.records import WITHHELD_BITS, Limits, Report, limits_of, withheld_names
from trafficlog.refusals import EXPLAINED_BYTES_MAX, Refusal
from trafficlog.store.debug_log import DebugLine, RefusedRecord, refusal_line
from trafficlog.store.ingest import Batch
from trafficlog.values import is_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.metrics import Metrics
    from trafficlog.store.ingest import Outcome

GROUP: Final = "Records in"
# A body that is larger is read in turns with others: to read this much takes about half a
# millisecond.
TURN_BYTES: Final = 64 * 1024
# Whose record it is, of one that cannot be read.
_ACCOUNT: Final = re.compile(rb'"account"\s*:\s*"([A-Za-z0-9._:@+~=-]{1,64})"')
_RECORD_LINE: Final = (
    '{"id":"m1","account":"acme","kind":"sms","direction":"outgoing",'
    '"from":"Acme","to":"+46701234567","created":"2026-11-22T00:04:00Z"}\n'
)


async def post_records(request: web.Request, services: Services) -> web.Response:
    """Stores a batch; answers once it is on disk."""
    began = time.perf_counter()
    config = services.config
    body = await services.bodies.read(request)
    steps = in_steps(media_type(request), body, config.batch_records_max)
    with services.buffer.room(steps.count):
        batch, refusals = await _read(steps, services, in_turns=len(body) > TURN_BYTES)
    outcome = await services.buffer.submit(batch, len(batch.reports) + len(batch.refused))
    count_outcome(services.metrics, outcome, rejected=len(refusals))
    services.metrics.ingest_request_seconds.observe(time.perf_counter() - began)
    answer = answer_to(outcome, refusals)
    if not batch.reports:
        return problem(422, "all_refused", "no record of the request could be stored", more=answer)
    return json_response(answer)


async def _read(steps: Steps, services: Services, *, in_turns: bool) -> tuple[Batch, list[Refusal]]:
    """The batch of what can be taken, made ready to be written, and what is refused."""
    config = services.config
    await services.writer.settings.refresh_when_older(
        config.settings_refresh_seconds, config.answer_seconds_max
    )
    limits = limits_now(services)
    reads: list[Read] = []
    refusals: list[Refusal] = []
    kept: list[RefusedRecord] = []
    index = 0
    for part in steps.parts:
        if in_turns:
            await services.writer.turns.next()
        read = read_lines(part, limits) if isinstance(part, bytes) else read_each(part, limits)
        reads.append(read)
        for each in read.refused:
            refusal = refuse(index + each.index, each.raw, each.error)
            refusals.append(refusal)
            if len(kept) < config.refusals_kept_max:
                line = functools.partial(
                    _kept_line, refusal, each.raw, each.error, limits.now, config.refusal_chars_max
                )
                kept.append(RefusedRecord(refusal.account, line))
        index += read.count
    batch = Batch([report for read in reads for report in read.reports], refused=kept)
    await services.writer.prepare(batch, reads, limits.now)
    return batch, refusals


def limits_now(services: Services) -> Limits:
    """What records that have just come are checked by."""
    return limits_of(
        services.writer.settings.policies,
        services.clock.now(),
        services.config.message_chars_max,
    )


def count_outcome(metrics: Metrics, outcome: Outcome, *, rejected: int) -> None:
    """Counts what became of a request's records."""
    counts = (outcome.accepted, outcome.updated, outcome.duplicates, rejected)
    for counter, count in zip(metrics.records_by_outcome.values(), counts, strict=True):
        if count:
            counter.inc(count)


def answer_to(outcome: Outcome, refusals: Sequence[Refusal]) -> dict[str, object]:
    """What a request is told of its records."""
    return {
        "accepted": outcome.accepted,
        "updated": outcome.updated,
        "duplicates": outcome.duplicates,
        "rejected": [
            {"index": r.index, "id": r.id, "field": r.field, "code": r.code, "detail": r.detail}
            for r in refusals
        ],
    }


def _kept_line(
    refusal: Refusal,
    raw: bytes,
    error: InvalidValueError,
    at: datetime,
    chars_max: int,
    withheld: int,
) -> DebugLine:
    """The debug line of a refused record, also without what its account omits."""
    if withheld:
        refusal = refuse(refusal.index, raw, error, withheld)
    return refusal_line(refusal, at, chars_max)


def refuse(index: int, raw: bytes, error: InvalidValueError, withheld: int = 0) -> Refusal:
    """Why a record was refused, and its text without what it asked not to log.

    ``withheld`` are the fields that are not to be logged besides, as bits.
    """
    value = None
    is_large = len(raw) > EXPLAINED_BYTES_MAX
    if is_large:
        text = "(not logged: it is too large to see whether it asks so)"
    else:
        text = raw.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(raw)
    known_id = account = None
    # The detail quotes the value, and is kept beside the text.
    unquoted = f"{error.field}: {error.reason}"
    detail = unquoted if is_large else error.detail
    if isinstance(value, dict):
        known_id = value.get("id") if isinstance(value.get("id"), str) else None
        asked = value.get("dontlog") or []
        names = asked if isinstance(asked, list) else [asked]
        if not all(isinstance(name, str) and name in WITHHELD_BITS for name in names):
            # Which field it is that must not be logged cannot be told: then none is.
            names = list(WITHHELD_BITS)
        account = value.get("account")
        hidden = value.keys() & {*names, *withheld_names(withheld)}
        if hidden:
            text = json.dumps(value | dict.fromkeys(hidden, "(not logged)"))
        if error.field in hidden:
            detail = unquoted
    elif not is_large and (withheld or b"dontlog" in raw):
        text, detail = "(not logged: it asks so, and cannot be read)", unquoted
    elif told := _ACCOUNT.search(raw[:EXPLAINED_BYTES_MAX]):
        account = told[1].decode()
    shown_id = None if known_id is None else re.sub(r"[\ud800-\udfff]", "\ufffd", known_id)[:64]
    if not isinstance(account, str) or not is_name(account):
        account = None
    return Refusal(index, shown_id, error.field, error.reason_code, detail, text, account)


ROUTE: Final = Route(
    "POST",
    "/v1/records",
    post_records,
    scopes("ingest"),
    group=GROUP,
    text="A record that was refused does not touch those beside it; its text and the reason "
    "are kept in the debug log. A record is known by account, created and id: the same "
    "again is a duplicate, and a later state of it names `updated`.",
    body=Body(
        {
            JSON: list[Report],
            NDJSON_TYPES[0]: LINES_SCHEMA | {"examples": [_RECORD_LINE]},
        },
        f"Also as {' or '.join(NDJSON_TYPES[1:])}.",
        items_max=lambda config: config.batch_records_max,
    ),
    answers=(Answer.json("At least one record is on disk, or was known.", Ingested),),
    errors=(
        BatchTooLargeError,
        Refused(422, "all_refused", "No record of the request could be stored.", Ingested),
    ),
)
ROUTES: Final = (ROUTE,)
