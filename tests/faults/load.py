"""A gateway that never gives up: small batches, and a journal of what was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

import aiohttp
import asyncpg

from tests.cli.process import TIME_TRAVEL, trafficlog
from trafficlog.store.ingest import FEW_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

# However often PostgreSQL has died already, it is not waited with for longer.
SOON = TIME_TRAVEL | {"TRAFFICLOG_RESTART_SECONDS_MAX": "1"}
START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def kills(default: int, most: int = 100) -> int:
    """How often a series kills: ``TRAFFICLOG_FAULT_KILLS``, up to ``most``; few when not told."""
    return min(int(os.environ.get("TRAFFICLOG_FAULT_KILLS", default)), most)


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Load:
    """Workers that post batches until they are acknowledged, each batch again when in doubt.

    ``refusals`` counts the answers that were not 200, by status and Retry-After;
    ``slowest_seconds`` is the longest that an answer of any kind took to come.
    """

    # Accounts whose history is off.
    history_off: ClassVar[frozenset[str]] = frozenset()
    # Records in a batch of the first worker, where it is not as large as the others'.
    large: ClassVar[int | None] = None

    def __init__(self, url: str, key: str, *, workers: int = 4, batch: int = 5) -> None:
        self._url, self._key = url, key
        self._batches = [batch] * workers
        if self.large is not None:
            self._batches[0] = self.large
        self._numbers: Iterator[int] = itertools.count()
        self._stop = asyncio.Event()
        self._more = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        # Bad records that stood in a request that was acknowledged.
        self.refused_records: set[str] = set()
        # Records a later report of which was acknowledged.
        self.reported: set[str] = set()
        self.doubts = 0
        self.refusals: Counter[tuple[int, str | None]] = Counter()
        self.slowest_seconds = 0.0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(*each)) for each in enumerate(self._batches)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Lets every batch that was begun be acknowledged."""
        self._stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def progress(self, records: int) -> None:
        """Waits until so many more records are acknowledged than have been sent so far.

        Some of those may be on disk whatever has happened since: they show no progress.
        """
        wanted = len(self.sent) + records
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def refused(self, times: int = 1) -> None:
        """Waits until so many more batches were not acknowledged."""
        wanted = self.doubts + times
        async with asyncio.timeout(60):
            while self.doubts < wanted:  # noqa: ASYNC110 - a doubt is no progress
                await asyncio.sleep(0.02)

    async def _work(self, worker: int, batch: int) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            while not self._stop.is_set():
                numbers = [next(self._numbers) for _ in range(batch)]
                records = [self._record(n, worker) for n in numbers]
                self.sent |= {r["id"] for r in records}
                again, bad = self._beside(numbers[0], worker, records)
                await self._until_acknowledged(http, [*bad, *records, *again], len(bad))
                self.refused_records |= {r["id"] for r in bad}
                async with self._more:
                    self.acknowledged |= {r["id"] for r in records}
                    self._more.notify_all()
                if later := [r for r in map(self._later, numbers, records) if r is not None]:
                    await self._until_acknowledged(http, later)
                    self.reported |= {r["id"] for r in later}

    async def _until_acknowledged(
        self, http: aiohttp.ClientSession, records: list[dict[str, Any]], bad: int = 0
    ) -> None:
        while True:
            began = time.monotonic()
            stored = await self._post(http, records, bad)
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            if stored:
                return
            self.doubts += 1
            await asyncio.sleep(0.05)

    async def _post(
        self, http: aiohttp.ClientSession, records: list[dict[str, Any]], bad: int
    ) -> bool:
        try:
            async with http.post(f"{self._url}/v1/records", json=records) as answer:
                if answer.status == 200:
                    told = await answer.json()
                    good = told["accepted"] + told["updated"] + told["duplicates"]
                    # The bad ones stand first.
                    refused = [r["index"] for r in told["rejected"]]
                    if (good, refused) != (len(records) - bad, list(range(bad))):
                        self.wrong.append(str(told))
                    return True
                self.refusals[answer.status, answer.headers.get("Retry-After")] += 1
                if answer.status not in (429, 503):
                    self.wrong.append(f"{answer.status} {await answer.text()}")
                return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    @staticmethod
    def _record(number: int, worker: int) -> dict[str, Any]:
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

    @staticmethod
    def _later(number: int, record: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG004
        """A later report of a record; None when it has none."""
        return None

    @staticmethod
    def _beside(
        number: int,  # noqa: ARG004
        worker: int,  # noqa: ARG004
        records: list[dict[str, Any]],  # noqa: ARG004
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What else is sent with records: some of them again, and bad ones."""
        return [], []


class MixedLoad(Load):
    """Messages and calls that get later reports, some sent twice, and bad records among them.

    One account keeps no history, and every now and then there is an account that is new.
    Small batches are stored by one statement, the first worker's by COPY.
    """

    history_off: ClassVar[frozenset[str]] = frozenset({"a3"})
    large: ClassVar[int | None] = FEW_MAX + 100

    @classmethod
    def _record(cls, number: int, worker: int) -> dict[str, Any]:
        record = Load._record(number, worker)
        if number % 11 == 0:
            record["account"] = f"new{number // 100}"
        if number % 3:
            return record | {"status": "sent", "parts": 1 + number % 4, "cost": number % 700}
        del record["message"]
        return record | {"kind": "call", "status": "ongoing"}

    @staticmethod
    def _later(number: int, record: dict[str, Any]) -> dict[str, Any] | None:
        if number % 2:
            return None
        updated = (START + timedelta(seconds=1, milliseconds=number)).isoformat()
        if record["kind"] == "call":
            ended = {"status": "success", "duration": number % 100, "cost": number}
            return record | ended | {"updated": updated}
        return record | {"status": "delivered", "delivered": updated, "updated": updated}

    @classmethod
    def _beside(
        cls, number: int, worker: int, records: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        again = records[:2] if number % 3 == 0 else []
        bad = cls._record(number, worker) | {"id": f"bad{number}", "to": ""}
        return again, [bad] if number % 4 == 0 else []


@dataclass(frozen=True)
class Journal:
    """What was acknowledged up to an instant: records, later reports, refusals."""

    stored: set[str]
    reported: set[str]
    refused: set[str]


async def without_history(dsn: str) -> None:
    """Makes the accounts of a mixed load that keep no history."""
    for account in MixedLoad.history_off:
        made = await trafficlog("account", "create", account, "--history-off", dsn=dsn)
        assert made.code == 0, made.err


async def assert_all_there_once(dsn: str, load: Load) -> None:
    """Every acknowledged record is in both tables exactly once, none in one alone, all counted.

    A record of an account without history is in the legal table alone. The usage statistics
    say of each account, day, kind, direction and status what the rows themselves add up to.
    Each bad record of an acknowledged request has its debug line. The load may be under way:
    what it had acknowledged when this began is what must be there.
    """
    journal = Journal(set(load.acknowledged), set(load.reported), set(load.refused_records))
    assert load.wrong == []
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "trafficlog"})
    try:
        # The jobs may be summing up usage just now.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _assert_stored_once(connection, load, journal)
            await _assert_counted(connection, load)
            lines = await connection.fetch("SELECT line FROM debug_log WHERE source = 'ingest'")
    finally:
        await connection.close()
    noted = {name for row in lines for name in re.findall(r'"id": *"(bad\d+)"', row["line"])}
    assert journal.refused <= noted


async def _assert_stored_once(connection: asyncpg.Connection, load: Load, journal: Journal) -> None:
    tables = {}
    for table in ("traffic_record", "history_record"):
        rows = await connection.fetch(
            f"SELECT id, account_id, updated_at IS NOT NULL AS reported"
            f" FROM {table} JOIN account USING (account_key)"
        )
        tables[table] = {row["id"]: row for row in rows}
        assert len(rows) == len(tables[table]), f"some are in {table} twice"
    legal, history = tables["traffic_record"], tables["history_record"]
    assert journal.stored <= legal.keys() <= load.sent
    kept = {name for name, row in legal.items() if row["account_id"] not in load.history_off}
    assert history.keys() == kept
    assert journal.reported <= {name for name, row in legal.items() if row["reported"]}
    assert journal.reported & kept <= {name for name, row in history.items() if row["reported"]}


async def _assert_counted(connection: asyncpg.Connection, load: Load) -> None:
    by_status = await _sums(
        connection,
        "SELECT account_id, day, kind, direction, coalesce(status, 0),"
        " sum(records), sum(parts), sum(seconds), sum(cost)"
        " FROM (TABLE usage_statistic UNION ALL TABLE usage_delta) u"
        " JOIN account USING (account_key) GROUP BY 1, 2, 3, 4, 5",
        5,
    )
    of_history = await _sums(
        connection,
        "SELECT account_id, (r.created_at AT TIME ZONE 'UTC')::date, kind, direction,"
        " coalesce(status, 0), count(*), coalesce(sum(parts), 0), coalesce(sum(duration), 0),"
        " coalesce(sum(cost), 0)"
        " FROM history_record r JOIN account USING (account_key) GROUP BY 1, 2, 3, 4, 5",
        5,
    )
    assert {k: v for k, v in by_status.items() if k[0] not in load.history_off} == of_history
    # Without history there is no status to go by: the records themselves are counted.
    counted: Counter[tuple[Any, ...]] = Counter()
    for place, (records, *_) in by_status.items():
        counted[place[:4]] += int(records)
    of_legal = await _sums(
        connection,
        "SELECT account_id, (r.created_at AT TIME ZONE 'UTC')::date, kind, direction, count(*)"
        " FROM traffic_record r JOIN account USING (account_key) GROUP BY 1, 2, 3, 4",
        4,
    )
    assert counted == {place: records for place, (records,) in of_legal.items()}


async def _sums(
    connection: asyncpg.Connection, query: str, width: int
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Groups (the first ``width`` columns) and their sums; a group of nothing is none."""
    found = [tuple(row) for row in await connection.fetch(query)]
    return {row[:width]: row[width:] for row in found if any(row[width:])}
