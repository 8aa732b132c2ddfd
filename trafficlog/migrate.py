"""Migrations: numbered SQL files, applied once each, in order, forward only.

An advisory lock lets one process migrate at a time. Each file is one transaction,
and its checksum is kept: a file that was changed after it had been applied, or a
database that is ahead of this version, stops the start.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from trafficlog.errors import DatabaseUnavailableError, MigrationError
from trafficlog.queries import queries, rows, sql_directory

if TYPE_CHECKING:
    from pathlib import Path

SERVER_MAJOR_MIN = 15


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``sql/migrations``."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """The schema's version before and after, and the names of what was applied."""

    before: int
    after: int
    applied: tuple[str, ...]


def migrations(directory: Path | None = None) -> list[Migration]:
    """All migrations in order.

    Raises:
        MigrationError: a file is not named ``NNNN_what.sql``, or a number is
            missing or there twice.
    """
    found = []
    for path in sorted((directory or sql_directory() / "migrations").glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)", path.stem)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_what.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text("utf-8")))
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations are not numbered 1 to {len(found)} without gaps")
    return found


async def migrate(dsn: str) -> MigrationResult:
    """Brings the database at ``dsn`` to this version's schema.

    Raises:
        DatabaseUnavailableError: there is no database at ``dsn``.
        MigrationError: the database is not one that this version can bring there.
    """
    connection = await _connect(dsn)
    try:
        if connection.get_server_version()[0] < SERVER_MAJOR_MIN:
            raise MigrationError(f"PostgreSQL {SERVER_MAJOR_MIN} or newer is needed")
        await queries.lock_migrations(connection)
        return await _apply(connection)
    finally:
        await connection.close()


async def check(dsn: str) -> None:
    """Makes sure that the database at ``dsn`` has this version's schema.

    Raises:
        DatabaseUnavailableError: there is no database at ``dsn``.
        MigrationError: its schema is another one, or it has none.
    """
    connection = await _connect(dsn)
    try:
        version = 0
        if await queries.has_schema(connection):
            version = await queries.schema_version(connection)
    finally:
        await connection.close()
    if version != len(migrations()):
        raise MigrationError(
            f"the database is at version {version}, this trafficlog needs {len(migrations())}: "
            "run `trafficlog migrate`, or a newer trafficlog"
        )


async def _connect(dsn: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(dsn)
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        reason = str(error) or type(error).__name__
        raise DatabaseUnavailableError(f"the database cannot be reached: {reason}") from error


async def _apply(connection: asyncpg.Connection) -> MigrationResult:
    wanted = migrations()
    applied: dict[int, str] = {}
    if await queries.has_schema(connection):
        applied = {
            row["version"]: row["checksum"] for row in await rows(queries.applied(connection))
        }
    before = max(applied, default=0)
    if before > len(wanted):
        raise MigrationError(
            f"the database is at version {before}, this trafficlog knows {len(wanted)}: "
            "start a newer one"
        )
    done = []
    for migration in wanted:
        if migration.version in applied:
            if applied[migration.version] != migration.checksum:
                raise MigrationError(
                    f"migration {migration.version} ({migration.name}) is not the one that was "
                    "applied to this database"
                )
            continue
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute("RESET ROLE")
                await queries.note_applied(
                    connection,
                    version=migration.version,
                    name=migration.name,
                    checksum=migration.checksum,
                )
        except asyncpg.PostgresError as error:
            raise MigrationError(
                f"migration {migration.version} ({migration.name}) failed: {error}"
            ) from error
        done.append(migration.name)
    return MigrationResult(before, len(wanted), tuple(done))
