"""A store full of history, filled straight into the schema, and the same rows in other tables.

Accounts have settings that are spread evenly over 1, 2, … days, so that every night something
expires, and each brings in the same number of records a day. So an account of 7 days has 7 days'
worth of rows, one of 90 days or more 90 days' worth, as after 90 days of service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from trafficlog.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

# Any midnight does: no part of the product reads a clock here.
START = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORY_DAYS = 90
HELD_ACCOUNT = "held"
COLUMNS = (
    "account_key, created_at, expires_at, updated_at, delivered_at, duration, parts, cost, kind, "
    "direction, status, withheld, id, sender, recipient, owner, tags, message"
)
# One record as the gateway sends them; $1 the first instant, $2 the pause between two records,
# $3 how many, $4 keys and $5 days of the accounts, $6 a salt for ids.
RECORDS = """
    SELECT k[1 + n], at, at + d[1 + n] * interval '24 hours', at + interval '3 seconds',
           at + interval '3 seconds', NULL::integer, 1, 3500, 1::smallint, 2::smallint, 5::smallint,
           0::smallint, left(md5($6 || g), 22), 'Acme', '+4670' || 1000000 + abs(hashint8(g)) % 9000000,
           NULL::text, NULL::text[],
           'Your order ' || g || ' is on its way and arrives tomorrow between 10 and 12. Reply STOP to end.'
    FROM (SELECT g, $1::timestamptz + g * $2::interval AS at, $4::bigint[] AS k, $5::int[] AS d,
                 abs(hashint8(g)) % cardinality($4::bigint[]) AS n
          FROM generate_series(1, $3::bigint) g OFFSET 0) s
"""  # noqa: E501


@dataclass
class Stock:
    """A database with history; ``accounts`` are keys and their days."""

    name: str
    dsn: str
    rows: int
    admin: asyncpg.Connection
    accounts: list[tuple[int, int]] = field(default_factory=list)

    async def bytes_stored(self) -> int:
        """What the database's files take."""
        return await self.admin.fetchval("SELECT pg_database_size(current_database())")

    async def partitions(self, table: str) -> list[str]:
        """The partitions of a table, the oldest first."""
        found = await self.admin.fetch(
            "SELECT name FROM partition_catalogue WHERE table_name = $1 ORDER BY lower", table
        )
        return [row["name"] for row in found]

    async def partition_at(self, instant: datetime) -> str:
        """The history partition of the day of expiry from ``instant`` on, made if need be."""
        await self.ensure(instant)
        return await self.admin.fetchval(
            "SELECT name FROM partition_catalogue WHERE table_name = 'history_record'"
            " AND lower = $1",
            instant,
        )

    async def ensure(self, *lowers: datetime) -> None:
        """Makes history partitions."""
        for lower in lowers:
            await self.admin.execute(
                "SELECT ensure_partition('history_record', $1, $2)", lower, lower + DAY
            )

    async def add_records(
        self,
        table: str,
        accounts: list[tuple[int, int]],
        count: int,
        created: tuple[datetime, datetime],
        salt: str,
    ) -> None:
        """Adds records of these accounts, evenly over a span of creation."""
        first, end = created
        await self.admin.execute(
            f"INSERT INTO {table} ({COLUMNS}) {RECORDS}",
            first,
            # Rounded down, or the last of a million would stand at the end.
            (end - first) // (count + 1),
            count,
            [key for key, _ in accounts],
            [days for _, days in accounts],
            salt,
        )

    async def add_expired(self, lower: datetime, count: int, accounts: int = 100) -> str:
        """A partition of past expiry with that many rows, in the order of its key; its name."""
        name = await self.partition_at(lower)
        chosen = [(key, HISTORY_DAYS) for key, _ in self.accounts[:accounts]]
        created = lower - HISTORY_DAYS * DAY
        await self.add_records(name, chosen, count, (created, created + DAY), name)
        await self.admin.execute(f"VACUUM (FREEZE, ANALYZE) {name}")
        return name

    async def settle(self, *tables: str) -> None:
        """What autovacuum and checkpoints do meanwhile where rows come in over 90 days."""
        for table in tables:
            await self.admin.execute(f"VACUUM (ANALYZE) {table}")
        await self.admin.execute("CHECKPOINT")


async def make_stock(
    server_dsn: str,
    name: str,
    rows: int,
    settings: int,
    accounts: int,
    advance: Callable[[], None],
    *,
    by_creation: bool = False,
) -> Stock:
    """Makes the database ``name`` with ``rows`` rows of ``accounts`` accounts.

    Args:
        server_dsn: of a database of the server.
        name: of the new database.
        rows: of history, over 90 days.
        settings: how many distinct periods there are: 1 day, 2 days, … (one: 90 days).
        accounts: how many accounts there are.
        advance: called after each of the 90 days.
        by_creation: put the same rows into ``by_creation``, partitioned by day of creation.
    """
    first = await asyncpg.connect(server_dsn)
    # One of an earlier run that was interrupted.
    await first.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await first.execute(f'CREATE DATABASE "{name}"')
    await first.close()
    parts = urlsplit(server_dsn)
    dsn = urlunsplit(parts._replace(path=f"/{name}"))
    await migrate(dsn)
    admin = await asyncpg.connect(
        dsn, server_settings={"search_path": "trafficlog, public", "timezone": "UTC"}
    )
    stock = Stock(name, dsn, rows, admin)
    found = await admin.fetch(
        "INSERT INTO account"
        " (account_id, created_at, history_days, history_days_min, history_days_max)"
        " SELECT 'a' || n, $2, d, d, d FROM generate_series(0, $1 - 1) n,"
        " LATERAL (SELECT CASE WHEN $3 = 1 THEN 90 ELSE 1 + n % $3 END AS d) x"
        " RETURNING account_key, history_days",
        accounts,
        START - HISTORY_DAYS * DAY,
        settings,
    )
    stock.accounts = [(row["account_key"], row["history_days"]) for row in found]
    longest = max(days for _, days in stock.accounts)
    await stock.ensure(*(START + n * DAY for n in range(longest + 1)))
    if by_creation:
        await admin.execute(
            "CREATE TABLE by_creation (LIKE history_record INCLUDING ALL)"
            " PARTITION BY RANGE (created_at)"
        )
    day_accounts = [
        [a for a in stock.accounts if a[1] > age] for age in reversed(range(HISTORY_DAYS))
    ]
    daily = rows / sum(map(len, day_accounts))
    for number, present in enumerate(day_accounts):
        created = START - (HISTORY_DAYS - number) * DAY
        if present:
            count = round(daily * len(present))
            span = (created, created + DAY)
            await stock.add_records("history_record", present, count, span, f"{number}/")
            if by_creation:
                await admin.execute(
                    f"CREATE TABLE by_creation_{number} PARTITION OF by_creation"
                    f" FOR VALUES FROM ('{span[0]}') TO ('{span[1]}')"
                )
                await stock.add_records("by_creation", present, count, span, f"{number}/")
        advance()
    await stock.settle("history_record", *(["by_creation"] if by_creation else []))
    return stock
