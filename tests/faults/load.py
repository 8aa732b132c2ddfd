"""A gateway that never gives up: small batches, and a journal of what was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import aiohttp
import asyncpg

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Load:
    """Workers that post batches until they are acknowledged, each batch again when in doubt."""

    def __init__(self, url: str, key: str, *, workers: int = 4, batch: int = 5) -> None:
        self._url, self._key, self._workers, self._batch = url, key, workers, batch
        self._numbers: Iterator[int] = itertools.count()
        self._stop = asyncio.Event()
        self._more = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.doubts = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(n)) for n in range(self._workers)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Lets every batch that was begun be acknowledged."""
        self._stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def progress(self, records: int) -> None:
        """Waits until so many more records are acknowledged."""
        wanted = len(self.acknowledged) + records
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def _work(self, worker: int) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            while not self._stop.is_set():
                numbers = [next(self._numbers) for _ in range(self._batch)]
                records = [self._record(n, worker) for n in numbers]
                self.sent |= {r["id"] for r in records}
                while not await self._post(http, records):
                    self.doubts += 1
                    await asyncio.sleep(0.05)
                async with self._more:
                    self.acknowledged |= {r["id"] for r in records}
                    self._more.notify_all()

    async def _post(self, http: aiohttp.ClientSession, records: list[dict[str, str]]) -> bool:
        try:
            async with http.post(f"{self._url}/v1/records", json=records) as answer:
                if answer.status == 200:
                    told = await answer.json()
                    if told["accepted"] + told["duplicates"] != len(records):
                        self.wrong.append(str(told))
                    return True
                if answer.status < 500 and answer.status != 429:
                    self.wrong.append(f"{answer.status} {await answer.text()}")
                return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    @staticmethod
    def _record(number: int, worker: int) -> dict[str, str]:
        return {
            "id": f"m{number}",
            "account": f"a{worker}",
            "kind": "sms",
            "direction": "outgoing",
            "from": "Acme",
            "to": "+46701234567",
            "created": (START + timedelta(milliseconds=number)).isoformat(),
            "message": f"text {number}",
        }


async def assert_all_there_once(dsn: str, load: Load) -> None:
    """Every acknowledged record is in both tables exactly once, and none is in one alone."""
    assert load.wrong == []
    connection = await asyncpg.connect(dsn)
    try:
        tables = {}
        for table in ("traffic_record", "history_record"):
            rows = await connection.fetch(f"SELECT id FROM trafficlog.{table}")
            ids = [row["id"] for row in rows]
            assert len(ids) == len(set(ids)), f"some are in {table} twice"
            tables[table] = set(ids)
        assert tables["traffic_record"] == tables["history_record"]
        assert load.acknowledged <= tables["traffic_record"] <= load.sent
    finally:
        await connection.close()
