"""Connections through a pooler in transaction mode, such as PgBouncer.

There a connection of ours is another one of the server's in each transaction. So nothing
may outlive one: what a direct connection is started with (its role, its search path, that a
commit is on disk) is said at the beginning of every transaction, on the way of its BEGIN
and at the cost of no further message; what is sent outside of one gets one of its own; and
no statement is kept prepared.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Mapping


class PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that starts each of its transactions with what ``opening`` says."""

    opening: ClassVar[str] = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """As asyncpg's, within a transaction."""
        if self.is_in_transaction():
            return str(await super().execute(query, *args, timeout=timeout))
        if query.startswith("BEGIN"):
            return str(await super().execute(query + self.opening, timeout=timeout))
        async with self.transaction():
            return str(await super().execute(query, *args, timeout=timeout))

    async def _execute(self, query: str, *args: Any, **options: Any) -> Any:
        """What every fetch goes through, within a transaction."""
        if self.is_in_transaction():
            return await super()._execute(query, *args, **options)
        async with self.transaction():
            return await super()._execute(query, *args, **options)

    async def _executemany(self, *args: Any, **options: Any) -> Any:
        if self.is_in_transaction():
            return await super()._executemany(*args, **options)
        async with self.transaction():
            return await super()._executemany(*args, **options)

    async def _copy_in(self, *args: Any, **options: Any) -> Any:
        if self.is_in_transaction():
            return await super()._copy_in(*args, **options)
        async with self.transaction():
            return await super()._copy_in(*args, **options)

    def get_reset_query(self) -> str:
        """Nothing: there is no session to be put back."""
        return ""

    def _get_unique_id(self, prefix: str) -> str:
        """A name that no other process has in the server's connection that we share."""
        return f"__trafficlog_{prefix}_{secrets.token_hex(8)}__"


def pooled(settings: Mapping[str, str]) -> type[PooledConnection]:
    """The class of connections whose transactions go by these settings of the server."""
    said = "; ".join(
        # Quoted, a list of schemas would be one schema of that name.
        f"SET LOCAL {name} = {value if name == 'search_path' else _quoted(value)}"
        for name, value in settings.items()
    )
    return type("PooledConnection", (PooledConnection,), {"opening": f" {said};"})


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
