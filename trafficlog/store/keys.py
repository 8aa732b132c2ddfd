"""API keys: 256 random bits, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trafficlog.errors import InvalidValueError, NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.records import AccountId, AccountKey
from trafficlog.store.retrying import tried_again

if TYPE_CHECKING:
    from datetime import datetime

    from trafficlog.store.database import Database

SCOPES: Final = ("ingest", "customer", "operator", "officer", "metrics")
PREFIX: Final = "tl_"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a key belongs to: what it opens and, for a customer, whose account."""

    key_id: str
    scope: str
    account_key: AccountKey | None = None
    account_id: AccountId | None = None

    @property
    def actor(self) -> str:
        """How logs name it: the key's id, which opens nothing."""
        return f"key:{self.key_id}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; ``secret`` is shown this once and kept nowhere."""

    id: str
    scope: str
    account: str | None
    secret: str


def digest_of(secret: str) -> bytes:
    """What is kept of a key. A plain hash does: 256 random bits cannot be guessed."""
    # A header may hold bytes that are no UTF-8: such a key is unknown, like any other wrong one.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Keys:
    """Makes, lists, revokes and recognises keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @tried_again
    async def create(self, scope: str, account_id: str | None, now: datetime) -> NewKey:
        """Makes a key.

        Raises:
            InvalidValueError: the scope is none, or needs or forbids an account.
            NotFoundError: there is no such account.
        """
        if scope not in SCOPES:
            raise InvalidValueError("scope", scope, f"must be one of {', '.join(SCOPES)}")
        if (scope == "customer") != (account_id is not None):
            raise InvalidValueError(
                "account", account_id, "goes with the scope customer, and is needed there"
            )
        secret = PREFIX + secrets.token_urlsafe(32)
        key_id = secrets.token_hex(6)
        async with self._database.operator() as connection:
            account_key = None
            if account_id is not None:
                account_key = await queries.account_key_of(connection, account_id=account_id)
                if account_key is None:
                    raise NotFoundError(f"there is no account {account_id!r}", account=account_id)
            await queries.add_key(
                connection,
                key_id=key_id,
                scope=scope,
                account_key=account_key,
                digest=digest_of(secret),
                created_at=now,
            )
        return NewKey(key_id, scope, account_id, secret)

    async def any(self) -> bool:
        """Whether any key was ever made."""
        async with self._database.operator() as connection:
            return bool(await queries.has_keys(connection))

    async def all(self) -> list[Any]:
        """All keys as rows: id, scope, account, creation, revocation."""
        async with self._database.operator() as connection:
            return await rows(queries.keys(connection))

    @tried_again
    async def revoke(self, key_id: str, now: datetime) -> None:
        """Revokes a key.

        Raises:
            NotFoundError: there is no such key in force.
        """
        async with self._database.operator() as connection:
            if await queries.revoke_key(connection, key_id=key_id, at=now) is None:
                raise NotFoundError(f"there is no key {key_id!r} in force", key=key_id)

    async def recognise(self, secret: str) -> Principal | None:
        """Whose key this is; None when it is unknown or revoked."""
        async with self._database.ingest() as connection:
            row = await queries.authenticate(connection, digest=digest_of(secret))
        if row is None:
            return None
        return Principal(
            row["key_id"],
            row["scope"],
            None if row["account_key"] is None else AccountKey(row["account_key"]),
            None if row["account_id"] is None else AccountId(row["account_id"]),
        )
