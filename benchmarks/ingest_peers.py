"""The peers that take part, as processes, and what each of them guarantees."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest_bench import HERE, TRAFFICLOG, serving
from peers import rsyslog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import psutil

EXECUTEMANY = "executemany"
PLAIN_COPY = "plain-copy"
RSYSLOG = "rsyslog"
FLOOR = "floor"
WORKERS = "workers"

GUARANTEE_HEADINGS = (
    "",
    "answer means durable",
    "sent again",
    "validated",
    "period of each account",
    "keys",
)
GUARANTEES = {
    "trafficlog": (
        "trafficlog",
        "yes: committed",
        "stored once, and said so; later reports merge",
        "each field; a bad record is refused alone, with its reason",
        "yes; a change holds for every row written after it",
        "yes, with scopes",
    ),
    EXECUTEMANY: (
        "plain service, executemany",
        "yes: committed",
        "stored once, not said; later reports are ignored",
        "types of the columns; a bad record fails its whole request",
        "as read when it started",
        "no",
    ),
    PLAIN_COPY: (
        "plain service, copy_records_to_table",
        "yes: committed",
        "fails its whole request; later reports too",
        "types of the columns; a bad record fails its whole request",
        "as read when it started",
        "no",
    ),
    RSYSLOG: (
        "rsyslog to PostgreSQL",
        "no: there is no answer, and what is queued in memory is lost in a crash",
        "stored once; later reports are ignored",
        "that it is JSON with the fields of the key",
        "no",
        "no (TLS certificates can be asked for)",
    ),
}
CLICKHOUSE = (
    "ClickHouse's HTTP insert is not among them, as Debian has no package of it; its answer is "
    "durable only with `fsync_after_insert`, and its keys refuse no duplicates."
)


@dataclass
class Peers:
    """Processes and URLs of those that run, and why others do not."""

    running: dict[str, tuple[psutil.Process, str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def words(self) -> str:
        """Who is not there, and why."""
        return " ".join(
            [CLICKHOUSE, *(f"{name} took no part: {why}." for name, why in self.absent.items())]
        )


@contextlib.asynccontextmanager
async def started(dsn: str, directory: Path) -> AsyncIterator[Peers]:
    """The peers on a database that has the accounts, the empty handler and two workers."""
    peers = Peers()
    async with contextlib.AsyncExitStack() as stack:
        for name, script, arguments in (
            (FLOOR, "empty_handler.py", ()),
            (EXECUTEMANY, "plain_executemany.py", (dsn,)),
            (PLAIN_COPY, "plain_copy.py", (dsn,)),
        ):
            command = (sys.executable, str(HERE / "peers" / script), *arguments)
            peers.running[name] = await stack.enter_async_context(serving(*command))
        arguments = ("--database-url", dsn, "--listen", "127.0.0.1:0", "--workers", "2", "--json")
        peers.running[WORKERS] = await stack.enter_async_context(
            serving(*TRAFFICLOG, "serve", *arguments)
        )
        why = rsyslog.missing()
        if why is None:
            running = rsyslog.running(dsn, directory)
            try:
                peers.running[RSYSLOG] = await stack.enter_async_context(running)
            except (RuntimeError, TimeoutError):
                why = "rsyslogd does not start"
        if why is not None:
            peers.absent[RSYSLOG] = why
        yield peers
