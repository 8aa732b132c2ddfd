"""A plain aiohttp service that writes each request with ``executemany``, in one transaction.

``ON CONFLICT DO NOTHING`` makes a request that is sent again harmless, at hardly any cost. Run as
``python plain_executemany.py DSN``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plain import HISTORY_COLUMNS, TRAFFIC_COLUMNS, accepted, run

if TYPE_CHECKING:
    from aiohttp import web
    from plain import Handler, Store


def insert_into(table: str, columns: tuple[str, ...]) -> str:
    """The statement for one row."""
    places = ", ".join(f"${n + 1}" for n in range(len(columns)))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"


INSERT_TRAFFIC = insert_into("traffic_record", TRAFFIC_COLUMNS)
INSERT_HISTORY = insert_into("history_record", HISTORY_COLUMNS)


def make_handler(store: Store) -> Handler:
    """What takes a request's records."""

    async def post(request: web.Request) -> web.Response:
        traffic, history = store.rows(await request.read())
        async with store.pool.acquire() as connection, connection.transaction():
            await connection.executemany(INSERT_TRAFFIC, traffic)
            await connection.executemany(INSERT_HISTORY, history)
        return accepted(len(traffic))

    return post


if __name__ == "__main__":
    run(make_handler)
