"""The whole service inside a test: a real socket, a real database, a clock that can be set."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from tests.documented import check_documented
from tests.records import GOOD
from trafficlog.cli.composition import Where, service
from trafficlog.clock import Clock
from trafficlog.config import Config
from trafficlog.store.database import Database
from trafficlog.store.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    import pytest


class SetClock(Clock):
    """A clock that stands where the test puts it, or runs with the system's when not put."""

    fixed: datetime | None = None

    def now(self) -> datetime:
        """The test's time."""
        return SetClock.fixed or super().now()

    def set(self, at: datetime) -> None:
        """Puts the clock."""
        SetClock.fixed = at

    def advance(self, by: timedelta) -> None:
        """Moves the clock on."""
        self.set(self.now() + by)


@dataclass
class Service:
    """A running service and what a test does with it."""

    url: str
    dsn: str
    clock: SetClock
    config: Config
    http: aiohttp.ClientSession
    database: Database
    operator_key: str
    signing_key_file: Path

    async def key(self, scope: str, account: str | None = None) -> str:
        """A new key; the account of a customer's key is made when it is not there."""
        if account is not None:
            async with self.database.operator() as connection:
                await connection.execute(
                    "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
                    " history_days_max) VALUES ($1, $2, 90, 90, 90) ON CONFLICT DO NOTHING",
                    account,
                    self.clock.now(),
                )
        return (await Keys(self.database).create(scope, account, self.clock.now())).secret

    async def call(
        self,
        method: str,
        path: str,
        key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> tuple[int, Any]:
        """Status and body (JSON decoded, else text) of one request."""
        async with self.http.request(
            method,
            self.url + path,
            headers=({} if key is None else {"Authorization": f"Bearer {key}"}) | (headers or {}),
            **options,
        ) as response:
            is_json = response.content_type in ("application/json", "application/problem+json")
            text = await response.read()
            body = orjson.loads(text) if is_json else text.decode(errors="replace")
            media_type = response.content_type if text else ""
            check_documented(
                method, response.url, response.status, media_type, body, response.headers
            )
            return response.status, body

    async def post(self, key: str, *records: dict[str, Any]) -> tuple[int, Any]:
        """Posts records as a JSON array."""
        return await self.call("POST", "/v1/records", key, json=list(records))

    def record(self, record_id: str = "m1", **fields: Any) -> dict[str, Any]:
        """A record that is as it should be, but for ``fields``; those of value ... are left out."""
        record = GOOD | {
            "id": record_id,
            "created": self.clock.now().isoformat(),
            "message": "hello",
        }
        record |= {name.rstrip("_"): value for name, value in fields.items()}
        return {name: value for name, value in record.items() if value is not ...}


@contextlib.asynccontextmanager
async def serving(
    dsn: str, now: datetime | None = None, *, pooler_url: str | None = None, **settings: int
) -> AsyncIterator[Service]:
    """A service on ``dsn`` whose clock stands at ``now``."""
    # A test asks as often as it likes, and brings as many wrong keys.
    unlimited = {"requests_per_second": 0, "wrong_keys_per_minute_max": 0}
    config = replace(Config(move_interval_seconds=1, key_cache_seconds=60, **unlimited), **settings)
    SetClock.fixed = now
    clock = SetClock(offset=timedelta(microseconds=1))
    with tempfile.TemporaryDirectory() as directory:
        # Made there if a test has something signed.
        key_file = Path(directory) / "key.pem"
        where = Where(
            dsn,
            pooler_url=pooler_url,
            signing_key_file=str(key_file),
            issuer="Example Telecom",
        )
        async with (
            service(where, config, clock) as (url, first),
            aiohttp.ClientSession() as http,
            Database(dsn, config) as database,
        ):
            secret = "" if first is None else first.secret
            yield Service(url, dsn, clock, config, http, database, secret, key_file)
    SetClock.fixed = None


def serving_as_marked(
    request: pytest.FixtureRequest, dsn: str
) -> AbstractAsyncContextManager[Service]:
    """A service with the clock and the settings that the test's markers say."""
    at = request.node.get_closest_marker("service_now")
    settings = request.node.get_closest_marker("service_config")
    return serving(dsn, utc(at.args[0]) if at else None, **(settings.kwargs if settings else {}))


def utc(text: str) -> datetime:
    """An instant from its text."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
