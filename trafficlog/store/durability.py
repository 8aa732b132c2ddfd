"""What PostgreSQL promises of a commit, looked at where records are written.

That an acknowledged record survives a crash rests on three settings of the server.
``synchronous_commit`` our connections set for themselves, above what the server, the
database or the role is set to. ``fsync`` and ``full_page_writes`` belong to the server
alone, and a reload of its configuration can change them at any time: so they are looked at
again and again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from trafficlog.errors import DatabaseUnavailableError
from trafficlog.queries import queries, rows

if TYPE_CHECKING:
    from trafficlog.config import Config
    from trafficlog.metrics import Metrics
    from trafficlog.store.database import Database

log = structlog.get_logger()

# The values under which a commit that was answered is on disk, and stays whole there.
DURABLE: Final = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_apply"),
}
LOST: Final = {
    "fsync": "acknowledged records can be lost, and the database ruined, when the machine crashes",
    "full_page_writes": "the database can be ruined when the machine crashes",
    "synchronous_commit": "acknowledged records can be lost when the server crashes",
}


class DurabilityWatch:
    """Tells by log and metric when the server is set so that a commit can be lost."""

    def __init__(self, database: Database, config: Config, metrics: Metrics) -> None:
        self._database = database
        self._seconds = config.durability_check_seconds
        self._metrics = metrics
        self._known: dict[str, str] = {}

    async def look(self) -> dict[str, str]:
        """The settings as they are for a connection that writes records; tells of changes.

        Raises:
            DatabaseUnavailableError: it cannot be asked.
        """
        async with self._database.ingest() as connection:
            found = {r["name"]: r["setting"] for r in await rows(queries.durability(connection))}
        for name, value in found.items():
            durable = value in DURABLE[name]
            self._metrics.database_durable.labels(name).set(int(durable))
            if value == self._known.get(name):
                continue
            if not durable:
                log.warning("database_not_durable", setting=name, value=value, means=LOST[name])
            elif name in self._known:
                log.info("database_durable_again", setting=name, value=value)
        self._known = found
        return found

    async def run_for_ever(self) -> None:
        """Looks at the start, and then at every interval."""
        while True:
            try:
                await self.look()
            except DatabaseUnavailableError as error:
                log.info("durability_unknown", reason=error.detail)
            await asyncio.sleep(self._seconds)
