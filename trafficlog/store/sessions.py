"""What ends a page session before its time: its key was revoked, or its owner signed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trafficlog.queries import queries
from trafficlog.records import AccountId, AccountKey
from trafficlog.store.keys import Principal
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.store.database import Database


class PageSessions:
    """Asks the database about sessions, in the role that serves customers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def principal(
        self, account: AccountKey, key_id: str, session_id: bytes
    ) -> Principal | None:
        """Who a session speaks for; None when its key is revoked or it was signed out."""
        async with self._database.as_account(account) as connection:
            account_id = await queries.session_account(
                connection, key_id=key_id, session_id=session_id
            )
        if account_id is None:
            return None
        return Principal(key_id, "customer", account, AccountId(account_id))

    @tried_again
    async def end(
        self, account: AccountKey, session_id: bytes, expires_at: datetime, now: datetime
    ) -> None:
        """Ends a session; it is remembered until it would have ended by itself."""
        async with self._database.as_account(account) as connection:
            await queries.end_session(
                connection, session_id=session_id, expires_at=expires_at, at=now
            )


class OperatorSessions:
    """Asks the database about the sessions of operators, in their role."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def principal(self, key_id: str, session_id: bytes) -> Principal | None:
        """Who a session speaks for; None when its key is revoked or it was signed out."""
        async with self._database.operator() as connection:
            if not await queries.operator_session(connection, key_id=key_id, session_id=session_id):
                return None
        return Principal(key_id, "operator")

    @tried_again
    async def end(self, session_id: bytes, expires_at: datetime, now: datetime) -> None:
        """Ends a session; it is remembered until it would have ended by itself."""
        async with self._database.operator() as connection:
            await queries.end_session(
                connection, session_id=session_id, expires_at=expires_at, at=now
            )
