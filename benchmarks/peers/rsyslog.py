"""rsyslog into PostgreSQL (Debian's ``rsyslog-pgsql``), as a plain process of its own.

Records come as syslog messages over TCP, one a line, with the record's JSON as their text; each is
parsed and inserted into a table with the key ``(created, account, id)`` and the whole record as
JSON. Transactions of up to 1,000 messages, on two connections. One period for all is what such a
table has; who is to be deleted when is left to whoever reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLACES = ("/usr/sbin/rsyslogd", "/sbin/rsyslogd")
PLUGINS = "*/rsyslog/ompgsql.so"
START_SECONDS = 10

TABLE = """
    CREATE SCHEMA IF NOT EXISTS rsyslog_peer;
    CREATE TABLE IF NOT EXISTS rsyslog_peer.record (
        created timestamptz, account text COLLATE "C", id text COLLATE "C", content jsonb NOT NULL,
        PRIMARY KEY (created, account, id)
    );
"""
CONFIGURATION = """
global(workDirectory="{directory}" maxMessageSize="64k")
module(load="imtcp")
module(load="mmjsonparse")
module(load="ompgsql")
template(name="insert" type="string" option.stdsql="on" string="INSERT INTO rsyslog_peer.record \
VALUES ('%$!created%', '%$!account%', '%$!id%', '%$!all-json%') ON CONFLICT DO NOTHING")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="records")
ruleset(name="records") {{
    action(type="mmjsonparse" cookie="")
    action(
        type="ompgsql" server="{host}" db="{database}" user="{user}" pass="" template="insert"
        queue.type="LinkedList" queue.size="100000" queue.timeoutEnqueue="600000"
        queue.dequeueBatchSize="1000" queue.workerThreads="2"
        queue.workerThreadMinimumMessages="1000"
        action.resumeRetryCount="-1"
    )
}}
"""


def missing() -> str | None:
    """Why it cannot take part here; None: it can."""
    if program() is None:
        return "rsyslog is not installed"
    if not any(Path("/usr/lib").glob(PLUGINS)):
        return "rsyslog-pgsql is not installed"
    return None


def program() -> str | None:
    """Where rsyslogd is."""
    found = [shutil.which("rsyslogd"), *(each for each in PLACES if Path(each).exists())]
    return next(filter(None, found), None)


@contextlib.asynccontextmanager
async def running(dsn: str, directory: Path) -> AsyncIterator[tuple[psutil.Process, str]]:
    """rsyslogd, listening: its process and where."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(TABLE)
    finally:
        await connection.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = urlsplit(dsn)
    host = parts.hostname or parse_qs(parts.query)["host"][0]
    configuration = directory / "rsyslog.conf"
    configuration.write_text(
        CONFIGURATION.format(
            directory=directory,
            port=port,
            host=host,
            database=parts.path.removeprefix("/"),
            user=parts.username,
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(program() or "rsyslogd", "-n", "-f", str(configuration)),
        *("-i", str(directory / "rsyslog.pid")),
    )
    try:
        await _listening(process, port)
        yield psutil.Process(process.pid), f"tcp://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Waits until it takes connections.

    Raises:
        RuntimeError: it does not.
    """
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise RuntimeError("rsyslogd did not start")
