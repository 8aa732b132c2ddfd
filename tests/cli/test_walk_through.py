"""The whole story on a real gateway's log, as a new user would try it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import asyncpg

from tests.cli.process import TIME_TRAVEL, invoke, server, trafficlog

LOG = Path(__file__).parent.parent / "data" / "kannel-access.log"
SHORTENED, HELD = "u0001", "u0002"
PAST_60_DAYS, PAST_90_DAYS = "2027-01-22T00:00:00Z", "2027-02-21T00:00:00Z"


async def test_from_the_gateways_log_to_what_is_left_of_it(database):  # noqa: PLR0915 - one story
    """Shipped, read back, shortened, held, planned, run past 60 and 90 days, and proved."""

    async def run(*arguments: str):
        # The gateway's and the operator's main commands as they are called, the rest quicker.
        if arguments[0] in {"ship", "retention"}:
            done = await trafficlog(*arguments, "--json", dsn=database, env=TIME_TRAVEL)
        else:
            done = await asyncio.to_thread(
                invoke, *arguments, "--json", dsn=database, env=TIME_TRAVEL
            )
        assert done.code == 0, done.err + done.out
        return done.json

    connection = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    where = ("--database-url", database, "--listen", "127.0.0.1:0")
    async with server(*where, env=TIME_TRAVEL) as service:
        key = (await run("key", "create", "--scope", "ingest"))["key"]
        ship = ("ship", "kannel", str(LOG), "--url", service.url, "--key", key)
        summary = await run(*ship, "--incoming-account", "inbox")
        assert (summary["lines"], summary["unreadable"], summary["rejected"]) == (266, 0, 0)
        assert summary["accepted"] == 122

        # Read back: all that was sent is delivered, and counted by account.
        sent = Counter()
        for account in [a["account"] for a in (await run("account", "list"))["accounts"]]:
            records = await history(service.url, account, run)
            statuses = {r["status"] for r in records}
            assert statuses == ({"received"} if account == "inbox" else {"delivered"})
            sent[account] = len(records)
        assert sent["inbox"] == 50
        assert sum(sent.values()) == 122
        assert min(sent[SHORTENED], sent[HELD]) > 0

        # One account shortened, one held.
        await run("account", "set", SHORTENED, "--history-days", "30")
        async with asyncio.timeout(30):
            while (await run("account", "show", SHORTENED))["applying_since"]:
                pass
        hold = await run(
            *("hold", "place", "--account", HELD, "--reason", "fraud", "--case-ref", "2026-1"),
            *("--until", "2027-11-01"),
        )
        assert (await run("retention", "verify"))["ok"]

        # Past 60 days: the legal record goes, and the shortened account's history with it.
        at = ("--at", PAST_60_DAYS)
        plan = await run("retention", "plan", *at)
        done = await run("retention", "run", *at)
        for told in (plan, done):
            assert rows(told) == {
                "traffic_record": (122, sent[HELD]),
                "history_record": (sent[SHORTENED], 0),
            }
        assert done["failures"] == []
        assert (await run("retention", "verify", *at))["ok"]
        await assert_physically_gone(connection, done)

        # Past 90 days: all history goes; what is held is still there.
        at = ("--at", PAST_90_DAYS)
        done = await run("retention", "run", *at)
        assert rows(done) == {"history_record": (122 - sent[SHORTENED], sent[HELD])}
        assert (await run("retention", "verify", *at))["ok"]
        await assert_physically_gone(connection, done)
        shown = await run("hold", "show", hold["id"])
        assert shown["held"] == {"history_record": sent[HELD], "traffic_record": sent[HELD]}
        assert await history(service.url, HELD, run) == []

        # Released, the copies go with the next run, and the ledger tells the whole of it.
        await run("hold", "release", hold["id"])
        assert (await run("retention", "run", *at))["held_destroyed"] == 2 * sent[HELD]
        assert await connection.fetchval("SELECT count(*) FROM held_record") == 0
        assert (await run("retention", "verify", *at))["ok"]
        assert (await run("ledger", "verify"))["ok"]
        entries = (await run("ledger", "export"))["entries"]
        assert sum(e["rows"] for e in entries if e["reason"] == "expired") == 2 * 122
    await connection.close()


async def history(url: str, account: str, run) -> list[dict]:
    """What the account's customer sees."""
    key = (await run("key", "create", "--scope", "customer", "--account", account))["key"]
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(url, headers=headers) as http,
        http.get(f"/v1/accounts/{account}/history?limit=1000") as answer,
    ):
        assert answer.status == 200
        page = await answer.json()
        assert page["next"] is None
        return page["data"]


def rows(told: dict) -> dict[str, tuple[int, int]]:
    """Rows and held ones of each table that a plan or a run drops."""
    counted: dict[str, tuple[int, int]] = {}
    for each in told["dropped"]:
        if each["rows"]:
            before = counted.get(each["table"], (0, 0))
            counted[each["table"]] = (before[0] + each["rows"], before[1] + each["held"])
    return counted


async def assert_physically_gone(connection, done: dict) -> None:
    """Neither the dropped partitions nor any index of them is in the catalogue."""
    for each in done["dropped"]:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relname = $1 OR relname LIKE $1 || '\\_%'",
            each["name"],
        )
        assert found == 0
