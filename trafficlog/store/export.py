"""Reading an account's history for an export: page after page, each in a short transaction.

One long transaction would be simpler, and would keep every concurrent detach of a partition, and
vacuum, waiting for as long as a slow client takes to read. So a page is read whole, within one
snapshot, and its connection is given back before anything of it is sent. Between two pages rows
may expire, be erased, or move to another partition; the place from which the next page goes on is
a record's ``(created, id)``, which never changes, so whatever is there at the start and stays is
there once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from trafficlog.errors import DatabaseUnavailableError, TooManyExportsError
from trafficlog.export.columns import instant_of, read_page
from trafficlog.queries import queries
from trafficlog.retention import HistoryDays
from trafficlog.store.accounts import load_account
from trafficlog.store.history_list import Position
from trafficlog.store.history_windows import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    import pyarrow as pa

    from trafficlog.config import Config
    from trafficlog.records import AccountKey
    from trafficlog.store.database import Database
    from trafficlog.store.history_list import HistoryFilter

# A first page comes soon, and tells how long the rows are.
FIRST_ROWS: Final = 1_000
ROWS_MAX: Final = 20_000
# What a page is to have, and what it may have at most, as PostgreSQL writes it.
BYTES_WANTED: Final = 2 * 2**20
BYTES_MAX: Final = 4 * BYTES_WANTED
SHRINK: Final = 16
THREADS: Final = 2


class Exports:
    """The exports of one process: how many there may be, and the threads that encode them.

    Encoding is done in few threads of their own, so that any number of exports leaves the
    processors, and the loop's own threads, to those who bring records.
    """

    def __init__(self, database: Database, config: Config) -> None:
        self._database = database
        self._config = config
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="trafficlog-export")
        self._running: Counter[AccountKey] = Counter()

    @contextmanager
    def place(self, key: AccountKey) -> Iterator[None]:
        """A place for one export of an account.

        Raises:
            TooManyExportsError: there is none, of the process or of the account.
        """
        if self._running[key] >= self._config.account_exports_max:
            raise TooManyExportsError(
                "an export of this account is running; a further one can start when it has ended"
            )
        if self._running.total() >= self._config.exports_running_max:
            raise TooManyExportsError
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            self._running += Counter()  # what is at zero goes

    def reader(
        self, key: AccountKey, wanted: HistoryFilter, clock: Callable[[], datetime]
    ) -> Reader:
        """What reads the history of an account that a filter means, newest first."""
        return Reader(self._database, key, wanted, clock, self.in_thread)

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` gives, done in a thread of the exports."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Lets the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Reader:
    """Pages of one account's history, one after the other."""

    def __init__(
        self,
        database: Database,
        key: AccountKey,
        wanted: HistoryFilter,
        clock: Callable[[], datetime],
        in_thread: Callable[..., Any],
    ) -> None:
        self._database = database
        self._key = key
        self._wanted = wanted
        self._clock = clock
        self._in_thread = in_thread
        self._position = Position()
        self._rows = FIRST_ROWS
        self._too_long = self._ended = False

    async def next_page(self) -> pa.RecordBatch | None:
        """What follows, as ``trafficlog.export.columns.PAGE``; None after the last.

        Raises:
            DatabaseUnavailableError: the database is away; nothing of the page was read.
        """
        while not self._ended:
            self._too_long = False
            try:
                blocks, count, period = await self._read()
            except DatabaseUnavailableError:
                if not self._too_long:
                    raise
                self._rows = max(1, self._rows // SHRINK)
                continue
            self._ended = count < self._rows
            if not count:
                break
            mean = sum(map(len, blocks)) / count
            self._rows = max(1, min(ROWS_MAX, self._rows * SHRINK, int(BYTES_WANTED / mean)))
            page = await self._in_thread(read_page, blocks, period)
            last = page.num_rows - 1
            self._position = Position(
                instant_of(page["created"][last].as_py()), page["id"][last].as_py()
            )
            return page
        return None

    async def _read(self) -> tuple[list[bytes], int, Any]:
        """The next rows as blocks of CSV, how many, and the account's period."""
        blocks: list[bytes] = []
        left, room = self._rows, BYTES_MAX
        async with self._database.as_account(self._key, snapshot=True) as connection:
            account = await load_account(connection, self._key)
            # To sort what is left of the history for each of its pages would cost ever so much.
            await queries.take_in_order(connection)
            for window in windows(account, self._wanted, self._clock(), self._position):
                block, count = await self._copy(connection, window | {"limit": left}, room)
                if count:
                    blocks.append(block)
                    left, room = left - count, room - len(block)
                if not left:
                    break
        setting = account.setting
        period = setting.retention_period if isinstance(setting, HistoryDays) else None
        return blocks, self._rows - left, period

    async def _copy(
        self, connection: Any, arguments: Mapping[str, Any], bytes_max: int
    ) -> tuple[bytes, int]:
        """What the query ``history_window`` gives, as CSV with a header; how many rows.

        The connection is given up when that is longer than ``bytes_max``: asyncpg would wait for
        ever to break off a COPY that has just ended, and to take all in could be gigabytes.
        """
        parts: list[bytes] = []
        size = 0

        async def take(part: bytes) -> None:
            nonlocal size
            size += len(part)
            # One row goes, however long it is.
            if size > bytes_max and self._rows > 1:
                self._too_long = True
                connection.terminate()
            else:
                parts.append(part)

        # The very query of the pages, so that what is visible is said in one place.
        status = await connection.copy_from_query(
            queries.history_window.sql.rstrip().rstrip(";"),
            *(arguments[name] for name in queries.driver_adapter.var_sorted["history_window"]),
            output=take,
            format="csv",
            header=True,
        )
        return b"".join(parts), int(status.split()[-1])
