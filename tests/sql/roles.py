"""Connections in one database role, and what a role may do to each table and function."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trafficlog.config import Config
from trafficlog.store.database import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

ROLES = (
    "trafficlog_ingest",
    "trafficlog_customer",
    "trafficlog_operator",
    "trafficlog_officer",
)


@contextlib.asynccontextmanager
async def as_role(
    dsn: str, role: str, account_key: int | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service makes it for ``role``, with an account to see or without."""
    settings = {} if account_key is None else {"trafficlog.account_key": str(account_key)}
    connection = await connect(dsn, role, Config(), **settings)
    try:
        yield connection
    finally:
        await connection.close()


# What a role may do with a relation: table privileges, and the columns where it has less.
TABLE_PRIVILEGES = """
SELECT c.relname::text AS relation, p.privilege,
    has_table_privilege($1, c.oid, p.privilege) AS whole,
    ARRAY(
        SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
          AND has_column_privilege($1, c.oid, a.attnum,
              CASE WHEN p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                   THEN p.privilege ELSE 'SELECT' END)
        ORDER BY a.attnum
    ) AS columns
FROM pg_class c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                        'TRIGGER']) AS p(privilege)
WHERE c.relnamespace = 'trafficlog'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname, p.privilege
"""


async def table_privileges(connection: asyncpg.Connection, role: str) -> dict[str, set[str]]:
    """For each relation what ``role`` may do: ``SELECT``, or ``SELECT(column …)``."""
    matrix: dict[str, set[str]] = {}
    for row in await connection.fetch(TABLE_PRIVILEGES, role):
        if row["whole"]:
            matrix.setdefault(row["relation"], set()).add(row["privilege"])
        elif row["columns"]:
            columns = " ".join(row["columns"])
            matrix.setdefault(row["relation"], set()).add(f"{row['privilege']}({columns})")
    return matrix


async def functions_of(connection: asyncpg.Connection, role: str) -> set[str]:
    """The names of the functions in the schema that ``role`` may execute."""
    found = await connection.fetch(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'trafficlog'::regnamespace"
        " AND has_function_privilege($1, oid, 'EXECUTE')",
        role,
    )
    return {row["proname"] for row in found}
