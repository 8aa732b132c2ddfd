"""The SQL of trafficlog: where the files are, and the named queries in them.

Every statement that the service runs stands in ``sql/queries/*.sql`` under a name
and one sentence. They are parsed once, when this module is imported, so a broken
file stops the start and not a request.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosql

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

_PACKAGE = Path(__file__).parent


def sql_directory() -> Path:
    """The ``sql`` directory: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "sql"
    return inside if inside.is_dir() else _PACKAGE.parent / "sql"


def load() -> Any:
    """All named queries, as an object with one coroutine function for each."""
    return aiosql.from_path(sql_directory() / "queries", "asyncpg")


queries: Any = load()


async def rows(result: AsyncIterable[Any]) -> list[Any]:
    """All rows of a query that gives many."""
    return [row async for row in result]
