"""The schema that the migrations make, as text: ``python -m tests.sql.dump_schema`` writes it.

``sql/schema.sql`` is for people to read and for a review to show what a migration changes; it
is never applied.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from trafficlog import migrate, postgres
from trafficlog.cluster import programs
from trafficlog.queries import sql_directory

GOLDEN = sql_directory() / "schema.sql"
HEADING = """\
-- The whole schema as the migrations make it, dumped by `python -m tests.sql.dump_schema`.
-- Generated, to be read and compared; never applied.
"""
# What depends on the dumping program alone: its version, its settings, a random word.
_OF_THE_PROGRAM = re.compile(r"^(--.*|SET .*|\\(un)?restrict .*|SELECT pg_catalog\.set_config.*)$")


def dump(dsn: str) -> str:
    """The schema ``trafficlog`` of the database at ``dsn``, with owners and privileges."""
    program = programs() / "pg_dump"
    done = subprocess.run(
        [program, "--schema-only", "--schema=trafficlog", f"--dbname={dsn}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return HEADING + normalise(done.stdout)


def normalise(text: str) -> str:
    """A dump without what depends on the dumping program, one blank line between statements."""
    kept: list[str] = []
    in_body = False
    for line in text.splitlines():
        # A comment within a function belongs to it.
        if not in_body and _OF_THE_PROGRAM.match(line):
            continue
        if line.count("$$") % 2:
            in_body = not in_body
        if line or (kept and kept[-1]) or in_body:
            kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"


def main() -> None:
    """Migrates an empty database of a throw-away server and writes its schema."""
    with tempfile.TemporaryDirectory() as directory, postgres.running(Path(directory)) as server:
        asyncio.run(migrate.migrate(server.dsn))
        GOLDEN.write_text(dump(server.dsn), "utf-8")


async def server_major(dsn: str) -> int:
    """The major version of the server at ``dsn``."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(connection.get_server_version().major)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
