"""What statements about partitions need that no query can carry as a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trafficlog.queries import queries

if TYPE_CHECKING:
    import asyncpg


async def quoted(connection: asyncpg.Connection, name: str) -> str:
    """A table or index of the schema, as it may stand in a statement."""
    return "trafficlog." + str(await queries.quote_identifier(connection, name=name))


async def set_lock_timeout(connection: asyncpg.Connection, milliseconds: int) -> None:
    """Sets how long the connection's statements wait for a lock."""
    await queries.set_lock_timeout(connection, timeout=f"{milliseconds}ms")
