"""A plain aiohttp service that writes each request with ``copy_records_to_table``.

Both tables in one transaction. COPY knows no ON CONFLICT: a request with a record that is there
already fails as a whole. Run as ``python plain_copy.py DSN``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from plain import HISTORY_COLUMNS, TRAFFIC_COLUMNS, accepted, run

if TYPE_CHECKING:
    from aiohttp import web
    from plain import Handler, Store

# COPY keeps buffers for few partitions at a time, so rows come in the order of their expiry.
by_expiry = itemgetter(HISTORY_COLUMNS.index("expires_at"))


def make_handler(store: Store) -> Handler:
    """What takes a request's records."""

    async def post(request: web.Request) -> web.Response:
        traffic, history = store.rows(await request.read())
        history.sort(key=by_expiry)
        async with store.pool.acquire() as connection, connection.transaction():
            for table, columns, rows in (
                ("traffic_record", TRAFFIC_COLUMNS, traffic),
                ("history_record", HISTORY_COLUMNS, history),
            ):
                await connection.copy_records_to_table(table, records=rows, columns=columns)
        return accepted(len(traffic))

    return post


if __name__ == "__main__":
    run(make_handler)
