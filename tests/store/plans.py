"""The plans by which the statements inside a function are run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import asyncpg

from trafficlog.config import Config
from trafficlog.store.database import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Plan = dict[str, Any]


class Explained:
    """A connection in the writer's role, and the plan of every statement that it runs."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._told: list[str] = []
        connection.add_log_listener(lambda _, message: self._told.append(message.message))

    async def merges(self) -> list[Plan]:
        """The plans of the merges since this was last asked for."""
        # The listener is told in another turn of the loop.
        await asyncio.sleep(0)
        told, self._told = self._told, []
        found = [json.loads(text.partition("plan:")[2]) for text in told if "plan:" in text]
        return [p["Plan"] for p in found if "UPDATE history_record" in p["Query Text"]]


@contextlib.asynccontextmanager
async def explained(dsn: str) -> AsyncIterator[Explained]:
    """Such a connection; what it writes is undone."""
    settings = server_settings("trafficlog_ingest", Config())
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": settings["search_path"], "timezone": "UTC"}
    )
    try:
        await connection.execute("""
            LOAD 'auto_explain';
            SET auto_explain.log_min_duration = 0;
            SET auto_explain.log_nested_statements = on;
            SET auto_explain.log_format = json;
            SET client_min_messages = log;
            SET ROLE trafficlog_ingest;
        """)
        await connection.execute("BEGIN")
        yield Explained(connection)
    finally:
        await connection.close()


def nodes(plan: Plan) -> Iterator[Plan]:
    """All nodes of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def scans(plan: Plan) -> list[tuple[str, str]]:
    """The nodes that read a table: that table, and how they do."""
    return [
        (node["Relation Name"], node["Node Type"])
        for node in nodes(plan)
        if "Relation Name" in node and node["Node Type"] != "ModifyTable"
    ]


def look_ups(plan: Plan) -> list[str]:
    """The conditions under which indexes are read."""
    return [node["Index Cond"] for node in nodes(plan) if "Index Cond" in node]
