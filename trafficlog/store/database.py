"""Connections: one pool for each database role, and what goes wrong with them.

Each role sees what its work needs and no more, so a mistake in a query of the
customer's side cannot reach the legal record: the database refuses it.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from trafficlog.errors import DatabaseUnavailableError
from trafficlog.queries import queries
from trafficlog.store.pooled import pooled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trafficlog.config import Config
    from trafficlog.records import AccountKey

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # The database takes no connections: ALTER DATABASE … ALLOW_CONNECTIONS false.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
    asyncpg.PostgresIOError,
)

# So much longer than the server itself may take is it waited for: then it does not answer at all.
GRACE_SECONDS = 5

# A client that fell silent in the middle of a COPY would keep its locks for hours, and who sends
# its records again would wait for them: nothing but the end of its connection ends that wait.
KEEPALIVES = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


# Whose rows alone the work at hand may see, whatever it asks for.
_only: ContextVar[AccountKey | None] = ContextVar("only_account", default=None)


@contextlib.contextmanager
def only_account(account: AccountKey) -> Iterator[None]:
    """What is done inside sees the rows of one account, even if it asks for those of another.

    The account is that of the key which a request came with. So a mistake in what the request's
    address is taken to mean shows nothing of anybody else.
    """
    token = _only.set(account)
    try:
        yield
    finally:
        _only.reset(token)


def visible_key(wanted: AccountKey) -> AccountKey:
    """The account whose rows can be seen when those of ``wanted`` are asked for."""
    only = _only.get()
    return wanted if only is None else only


@contextlib.contextmanager
def availability() -> Iterator[None]:
    """Turns the ways in which a database can be away into one error."""
    try:
        yield
    except UNAVAILABLE as error:
        # asyncpg calls a value it cannot encode an interface error as well.
        if isinstance(error, ValueError) and not isinstance(
            error, asyncpg.ClientConfigurationError
        ):
            raise
        reason = str(error) or type(error).__name__
        raise DatabaseUnavailableError(f"the database did not answer: {reason}") from error


@contextlib.asynccontextmanager
async def transaction(
    connection: asyncpg.Connection, *, snapshot: bool = False
) -> AsyncIterator[None]:
    """A transaction whose connection is given up when the server does not answer in time.

    It would not answer either when it is asked to break off and to roll back, and each of
    these would be waited for as long again. With ``snapshot`` it only reads, and all of its
    statements see the same moment: a setting that was read fits the rows looked for by it.
    """
    isolation = "repeatable_read" if snapshot else None
    async with (
        connection.transaction(isolation=isolation, readonly=snapshot),
        given_up_when_silent(connection),
    ):
        yield


@contextlib.asynccontextmanager
async def given_up_when_silent(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A connection that is given up when the server does not answer in time."""
    try:
        yield
    except TimeoutError:
        connection.terminate()
        raise


def server_settings(role: str, config: Config) -> dict[str, str]:
    """What each connection of a role starts with."""
    return {
        "role": role,
        "timezone": "UTC",
        # Exports read times as text, which a server may be set to write otherwise.
        "datestyle": "ISO",
        "search_path": "trafficlog, pg_temp",
        "application_name": role,
        "statement_timeout": f"{config.statement_seconds_max}s",
        "idle_in_transaction_session_timeout": "60s",
        # An acknowledged record is on disk, however the server is set.
        "synchronous_commit": "on",
    }


async def connect(dsn: str, role: str, config: Config, **settings: str) -> asyncpg.Connection:
    """One connection of its own, in a role.

    Raises:
        DatabaseUnavailableError: there is no database at ``dsn``.
    """
    with availability():
        return await asyncpg.connect(
            dsn,
            timeout=config.connect_seconds_max,
            server_settings={**server_settings(role, config), **KEEPALIVES, **settings},
        )


class _Unset(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that need not be put back after use: all that is set ends with a transaction.

    So reading a page costs one round trip, and not a second one to undo nothing; a group of
    records six, and not seven.
    """

    def get_reset_query(self) -> str:
        """Nothing."""
        return ""


class Database:
    """The pools of one process. Closed by leaving the ``async with``.

    Args:
        dsn: where the database is.
        config: how many connections, and how patient they are.
        pooler_url: where the connections go instead, when that leads through a pooler in
            transaction mode.
    """

    def __init__(self, dsn: str, config: Config, pooler_url: str | None = None) -> None:
        self.dsn = dsn
        self.config = config
        self._pooler_url = pooler_url
        self._stack = contextlib.AsyncExitStack()
        self._pools: dict[str, asyncpg.Pool] = {}

    async def __aenter__(self) -> Self:
        config = self.config
        sizes = {
            "trafficlog_ingest": config.ingest_connections + 2,
            "trafficlog_customer": config.read_connections,
            "trafficlog_operator": 4,
            "trafficlog_officer": 2,
        }
        with availability():
            for role, size in sizes.items():
                self._pools[role] = await self._stack.enter_async_context(
                    asyncpg.create_pool(
                        self._pooler_url or self.dsn,
                        # Officers ask seldom: a connection is made when one does.
                        min_size=0 if role == "trafficlog_officer" else 1,
                        max_size=size,
                        timeout=config.connect_seconds_max,
                        command_timeout=config.statement_seconds_max + GRACE_SECONDS,
                        **self._options(role),
                    )
                )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if exc[0] is not None:
            # Something broke: connections in use are not waited for.
            self.break_off()
        await self._stack.aclose()

    def break_off(self) -> None:
        """Ends every connection at once, whatever it is used for."""
        for pool in self._pools.values():
            pool.terminate()

    def _options(self, role: str) -> dict[str, Any]:
        settings = server_settings(role, self.config)
        if self._pooler_url is None:
            return {"server_settings": settings | KEEPALIVES, "connection_class": _Unset}
        return {"connection_class": pooled(settings), "statement_cache_size": 0}

    @contextlib.asynccontextmanager
    async def _acquire(self, role: str) -> AsyncIterator[asyncpg.Connection]:
        with availability():
            async with self._pools[role].acquire(
                timeout=self.config.connect_seconds_max
            ) as connection:
                yield connection

    def ingest(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A connection that may add records and what a merge of them needs."""
        return self._acquire("trafficlog_ingest")

    def operator(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A connection for accounts, keys, holds, debug lines and the ledger."""
        return self._acquire("trafficlog_operator")

    def customer(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A connection for statements that say themselves which account they may see."""
        return self._acquire("trafficlog_customer")

    def officer(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """A connection for disclosures, held legal copies and the access log."""
        return self._acquire("trafficlog_officer")

    @contextlib.asynccontextmanager
    async def as_account(
        self, account: AccountKey, *, operator: bool = False, snapshot: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        """A transaction in which one account, and nothing of another, can be seen.

        What is done for a customer is done in the customer's role, and never sees another account
        than the customer's own (``only_account``).
        """
        operator = operator and _only.get() is None
        role = "trafficlog_operator" if operator else "trafficlog_customer"
        async with (
            self._acquire(role) as connection,
            transaction(connection, snapshot=snapshot),
        ):
            await queries.see_account(connection, account_key=str(visible_key(account)))
            yield connection
