"""Sessions that wait for a lock, as another session of the same database sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


async def waiting_sessions(connection: asyncpg.Connection, role: str = "%") -> int:
    """How many sessions of a role wait for a lock; ``connection`` may be in a transaction."""
    # Within one the list of sessions is that of the first look: one that connects later, because a
    # pool had none to spare, would never be seen.
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE $1 AND wait_event_type = 'Lock'",
        role,
    )
    return count
