"""A customer's export: its history as one file, sent as it is read.

While a client reads, nothing of the database is held for it (see ``trafficlog.store.export``).
When something goes wrong after the first byte, the connection is cut: the answer has no end, and
neither has the file within it, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import HttpVersion11, web

from trafficlog.api.archive import archive_of
from trafficlog.api.history import FILTER_PARAMETERS, account_of, history_filter
from trafficlog.api.parameters import ChoiceParameter
from trafficlog.api.problems import SECURITY_HEADERS
from trafficlog.api.request_ids import HEADER, REQUEST_ID
from trafficlog.api.routes import Answer, Route, scopes
from trafficlog.api.services import LIMITS
from trafficlog.errors import InvalidValueError, TooManyExportsError, TrafficlogError
from trafficlog.export.formats import FORMATS, Gzipped, encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from trafficlog.api.services import Services
    from trafficlog.export.formats import Encoder
    from trafficlog.records import AccountKey
    from trafficlog.store.export import Reader
    from trafficlog.store.history_list import HistoryFilter

log = structlog.get_logger()

ARCHIVE: Final = "archive"
FORMAT: Final = ChoiceParameter(
    "format",
    "What the file is: lines of JSON, a table for spreadsheets, columns for programs, or a ZIP"
    " archive of all that is kept for the account.",
    known=(*FORMATS, ARCHIVE),
    default="ndjson",
)
MEDIA_TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
    ARCHIVE: "application/zip",
}
SUFFIXES: Final = {"ndjson": "ndjson", "csv": "csv", "parquet": "parquet", ARCHIVE: "zip"}
# The others compress themselves.
COMPRESSIBLE: Final = frozenset({"ndjson", "csv"})
PIECE_BYTES: Final = 256 * 1024
_NOT_IN_FILE_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_NO_GZIP: Final = re.compile(r"q=0(?:\.0*)?\Z")


async def get_export(request: web.Request, services: Services) -> web.StreamResponse:
    """The account's history as a file, newest first; or all that is kept for it as an archive."""
    query = request.query
    name = FORMAT.demand(query)
    wanted = history_filter(query)
    for parameter in FILTER_PARAMETERS:
        if name == ARCHIVE and parameter.name in query:
            raise InvalidValueError(
                parameter.name,
                query[parameter.name],
                "does not go with an archive, which is of the whole account",
                reason_code="not_together",
            )
    key = await account_of(request, services)
    account = request.match_info["account"]
    return await send_export(request, services, key, account, name, wanted)


async def send_export(
    request: web.Request,
    services: Services,
    key: AccountKey,
    account: str,
    name: str,
    wanted: HistoryFilter,
) -> web.StreamResponse:
    """Sends what a filter means of an account's history, in the format of that name.

    Raises:
        TooManyExportsError: as many are running as may be.
        DatabaseUnavailableError: nothing could be read.
        ConnectionResetError: the connection is cut, in the middle of the answer.
    """
    with _place(services, key):
        now = services.clock.now()
        reader = services.exports.reader(key, wanted, services.clock.now)
        file: Encoder
        if name == ARCHIVE:
            file = await archive_of(services, key)
        else:
            file = encoder(name, {"account": account, "exported_at": now.isoformat()})
        # What cannot be read at all is told as every error is.
        first = await reader.next_page()
        zipped = name in COMPRESSIBLE and takes_gzip(request)
        response = _response(name, f"{account}-{now:%Y%m%dT%H%M%SZ}", zipped=zipped)
        response.headers.update(request.get(LIMITS, {}))
        if request.version < HttpVersion11:
            # There the end of the file is the end of the connection.
            response.force_close()
        await response.prepare(request)
        outcome = "cut"
        try:
            async with asyncio.timeout(services.config.export_seconds_max):
                await _send(
                    response, services, name, Gzipped(file) if zipped else file, reader, first
                )
                await response.write_eof()
            outcome = "complete"
        except ConnectionError:
            outcome = "left"
            raise
        except (TrafficlogError, TimeoutError) as error:
            log.warning("export_cut", format=name, reason=str(error) or "it took too long")
            raise ConnectionResetError from error
        except Exception as error:
            log.exception("export_broke", format=name)
            raise ConnectionResetError from error
        finally:
            services.metrics.exports.labels(outcome).inc()
            if outcome != "complete" and request.transport is not None:
                _break_off(request.transport, reset=request.version < HttpVersion11)
        return response


def _break_off(transport: asyncio.Transport, *, reset: bool) -> None:
    """Ends a connection in the middle of its answer.

    An answer to HTTP/1.0, as proxies like to ask by, has no last chunk: an end that is not a
    ``reset`` would be the end of the file there.
    """
    line = transport.get_extra_info("socket")
    if reset and line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@contextmanager
def _place(services: Services, key: AccountKey) -> Iterator[None]:
    running = services.metrics.exports_running
    with services.exports.place(key):
        running.inc()
        try:
            yield
        finally:
            running.dec()


async def _send(
    response: web.StreamResponse,
    services: Services,
    name: str,
    file: Encoder,
    reader: Reader,
    first: pa.RecordBatch | None,
) -> None:
    """Sends page after page; each is encoded and sent while the next one is read."""
    counted = services.metrics.exported_rows.labels(name)
    in_thread = services.exports.in_thread
    page = first
    while page is not None:
        reading = asyncio.create_task(reader.next_page())
        try:
            await _write(response, await in_thread(file.page, page))
            counted.inc(page.num_rows)
            page = await reading
        finally:
            # Its connection is given back before this one's end is told.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    await _write(response, await in_thread(file.end))


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Sends bytes no faster than they are taken."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        await response.write(view[start : start + PIECE_BYTES])


def _response(name: str, file_name: str, *, zipped: bool) -> web.StreamResponse:
    plain = _NOT_IN_FILE_NAMES.sub("_", file_name)
    headers = {
        **SECURITY_HEADERS,
        "Content-Type": MEDIA_TYPES[name],
        "Content-Disposition": f'attachment; filename="trafficlog-{plain}.{SUFFIXES[name]}"',
        "Cache-Control": "no-store",
        "Vary": "Accept-Encoding",
    }
    if zipped:
        headers["Content-Encoding"] = "gzip"
    request_id = REQUEST_ID.get()
    if request_id is not None:
        headers[HEADER] = request_id
    return web.StreamResponse(headers=headers)


def takes_gzip(request: web.Request) -> bool:
    """Whether the client says that it reads gzip."""
    told = ",".join(request.headers.getall("Accept-Encoding", ())).lower().replace(" ", "")
    return any(
        coding in ("gzip", "x-gzip") and not _NO_GZIP.match(weight)
        for coding, _, weight in (each.partition(";") for each in told.split(","))
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{account}/export",
        get_export,
        scopes("customer"),
        (FORMAT, *FILTER_PARAMETERS),
        group="Exports",
        text="It is sent as it is read, newest first. Records that expire or are erased meanwhile "
        "may be missing; what is there from beginning to end is in it once. NDJSON and CSV come "
        "compressed to who takes `gzip`. An answer that is cut off has no end: no last chunk, and "
        "the file itself none, so no part passes for the whole.",
        answers=(
            Answer.stream(
                "The file.",
                *(media_type.partition(";")[0] for media_type in MEDIA_TYPES.values()),
                headers={
                    "Content-Disposition": "What to call the file.",
                    "Content-Encoding": "`gzip`, if the client takes it.",
                },
            ),
        ),
        errors=(TooManyExportsError,),
    ),
)
