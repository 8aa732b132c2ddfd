"""The sealing of one partition that gets no more records: frozen once, and indexed for look-ups.

Readers and writers go on meanwhile: records that come late still go into it. A partition is
sealed when it was frozen and the catalogue has every look-up index of its table on it, valid;
so one that an older version froze gets its indexes, and an index that a kill left half made is
made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trafficlog.queries import queries, rows
from trafficlog.store.ddl import quoted, set_lock_timeout

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

    from trafficlog.config import Config
    from trafficlog.partitions import Partition


class Sealing:
    """Seals single partitions over the connection of a retention run."""

    def __init__(self, connection: asyncpg.Connection, config: Config) -> None:
        self._connection = connection
        self._config = config

    async def seal(self, partition: Partition, now: datetime) -> str:
        """Freezes a partition and builds the look-up indexes it lacks; gives its name.

        Raises:
            asyncpg.LockNotAvailableError: somebody had the partition, or a transaction stayed
                open, for longer than ``seal_wait_seconds_max``; the next run begins with what is
                missing.
        """
        # Nobody waits for the locks that this needs, and it waits for every transaction that is
        # older; so it may wait longer than what others stand behind. An automatic vacuum that is
        # at the partition already is ended by the server when it was waited for a second.
        await set_lock_timeout(self._connection, self._config.seal_wait_seconds_max * 1000)
        try:
            await self._freeze(partition, now)
            await self._index(partition)
        finally:
            if not self._connection.is_closed():
                await set_lock_timeout(self._connection, self._config.lock_timeout_ms)
        return partition.name

    async def _freeze(self, partition: Partition, now: datetime) -> None:
        # First: dead rows go from one index then, not from six, and are not read for them
        # (1,000,000 records of which a tenth were updated: 6.1 s, the other way about 7.2).
        place = {"table_name": partition.table, "lower": partition.bounds.lower}
        if not await queries.is_frozen(self._connection, **place):
            name = await quoted(self._connection, partition.name)
            await self._connection.execute(f"VACUUM (FREEZE, ANALYZE) {name}")
            await queries.note_frozen(self._connection, **place, at=now)

    async def _index(self, partition: Partition) -> None:
        missing = await rows(queries.look_ups_missing(self._connection, name=partition.name))
        if missing:
            # One core at the most: ingest goes on beside it.
            await queries.set_parallel_builds(self._connection, workers="0")
        for index in missing:
            await self._build(partition, index["name"], index["definition"], begun=index["made"])

    async def _build(
        self, partition: Partition, name: str, definition: str, *, begun: bool
    ) -> None:
        index = await quoted(self._connection, name)
        table = await quoted(self._connection, partition.name)
        if begun:
            await self._connection.execute(f"DROP INDEX CONCURRENTLY {index}")
        # An index's name has no schema here: it is made in its table's.
        bare = await queries.quote_identifier(self._connection, name=name)
        await self._connection.execute(f"CREATE INDEX CONCURRENTLY {bare} ON {table} {definition}")
