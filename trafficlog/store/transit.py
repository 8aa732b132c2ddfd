"""What is in transit: what a communication needs until it is delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trafficlog.errors import NotFoundError
from trafficlog.queries import queries
from trafficlog.retention import DataClass
from trafficlog.store.database import transaction
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.store.database import Database
    from trafficlog.store.ingest import RecordWriter


@dataclass(frozen=True, slots=True)
class InTransit:
    """What a communication needs until it is delivered."""

    content: bytes
    created_at: datetime
    expires_at: datetime


class Transit:
    """Writes, reads and completes what is in transit."""

    def __init__(self, database: Database, writer: RecordWriter) -> None:
        self._database = database
        self._writer = writer

    @tried_again
    async def put(
        self, transit_id: str, content: bytes, account: str | None, now: datetime
    ) -> tuple[datetime, bool]:
        """Stores or replaces; gives when it ends and whether it is new.

        Replacing does not prolong: the time counts from the first storing.
        """
        settings = self._writer.settings
        account_key = None
        if account is not None:
            await settings.ensure_accounts({account}, now)
            account_key = settings.accounts[account].key
        expires_at = settings.policies.expires_at(DataClass.IN_TRANSIT, now)
        await self._writer.ensure_partitions(DataClass.IN_TRANSIT, [expires_at])
        async with self._database.ingest() as connection, transaction(connection):
            await queries.lock_in_transit(connection, id=transit_id)
            kept = await queries.put_in_transit(
                connection, id=transit_id, content=content, account_key=account_key, now=now
            )
            if kept is not None:
                return kept, False
            await queries.add_in_transit(
                connection,
                id=transit_id,
                content=content,
                account_key=account_key,
                created_at=now,
                expires_at=expires_at,
            )
        return expires_at, True

    async def get(self, transit_id: str, now: datetime) -> InTransit:
        """What is in transit under an id.

        Raises:
            NotFoundError: nothing is, or nothing any more.
        """
        async with self._database.ingest() as connection:
            row = await queries.get_in_transit(connection, id=transit_id, now=now)
        if row is None:
            raise NotFoundError("nothing is in transit under this id")
        return InTransit(row["content"], row["created_at"], row["expires_at"])

    @tried_again
    async def complete(self, transit_id: str, now: datetime) -> None:
        """Removes what was in transit.

        Raises:
            NotFoundError: nothing was.
        """
        async with self._database.ingest() as connection:
            if not await queries.complete_in_transit(connection, id=transit_id, at=now):
                raise NotFoundError("nothing is in transit under this id")
