"""A real Kannel log shipped to the real service, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import shutil
import signal
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import aiohttp
import pytest
import pytest_asyncio

from trafficlog.records import AccountId
from trafficlog.ship import (
    LogNotFollowableError,
    LogUnreadableError,
    NoProgress,
    ShipFailedError,
    ShipOptions,
    ShipState,
    ship_kannel,
    ship_kannel_until_signal,
)

if TYPE_CHECKING:
    from trafficlog.client import Retry

LOG = Path(__file__).parent.parent / "data" / "kannel-access.log"
LINES = LOG.read_bytes().splitlines(keepends=True)
MESSAGES, REPORTS_POSTED, SUPERSEDED = 122, 93, 51
ACCOUNTS = [f"u{number:04}" for number in range(1, 21)]

pytestmark = pytest.mark.service_now("2026-11-22T00:00:00Z")


@pytest_asyncio.fixture
async def options(service, tmp_path):
    """Makes the options of a shipment to the service; nothing waits long."""
    key = await service.key("ingest")

    def make(path: Path = LOG, **changes) -> ShipOptions:
        given = {
            "path": path,
            "url": service.url,
            "key": key,
            "incoming_account": AccountId("inbox"),
            "poll_seconds": 0.02,
            "flush_seconds": 0.05,
            "quiet_seconds": 0.1,
            "give_up_after_seconds": 30.0,
        }
        return ShipOptions(**given | changes)

    return make


class Reader:
    """Reads an account's history as its customer does."""

    def __init__(self, service) -> None:
        self._service = service

    async def history(self, account: str) -> list[dict]:
        """Every record of the account, page by page."""
        key = await self._service.key("customer", account)
        records: list[dict] = []
        query = {"limit": "1000"}
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
            while True:
                url = f"{self._service.url}/v1/accounts/{account}/history"
                async with session.get(url, params=query) as response:
                    assert response.status == 200, await response.text()
                    page = await response.json()
                records += page["data"]
                if page["next"] is None:
                    return records
                query["cursor"] = page["next"]

    async def all_sent(self) -> list[dict]:
        """What every account of the cut has sent."""
        return [record for account in ACCOUNTS for record in await self.history(account)]


@pytest.fixture
def reader(service) -> Reader:
    """Reads back what was stored."""
    return Reader(service)


async def assert_stored_once_and_delivered(reader: Reader) -> None:
    """All messages of the cut are there, each once, and all that were sent are delivered."""
    sent = await reader.all_sent()
    assert Counter(each["status"] for each in sent) == {"delivered": 72}
    assert len({(each["created"], each["id"]) for each in sent}) == 72
    received = await reader.history("inbox")
    assert Counter(each["status"] for each in received) == {"received": 50}


async def until(condition, seconds: float = 10.0) -> None:
    """Waits until ``condition()`` holds, which may be asynchronous."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            await asyncio.sleep(0.02)


class Seen(NoProgress):
    """What a shipment has told last."""

    def __init__(self) -> None:
        self.state = ShipState(0, 0, 0, 0, 0, 0.0)
        self.retries: list[Retry] = []

    def moved(self, state: ShipState) -> None:
        """Keeps the state; nothing goes backwards but the bytes of a file that is rotated."""
        assert state.lines >= self.state.lines
        assert state.records_posted >= self.state.records_posted
        self.state = state

    def retrying(self, retry: Retry) -> None:
        """Keeps it."""
        self.retries.append(retry)


@asynccontextmanager
async def shipping(options: ShipOptions):
    """A shipment under way: its task, what it has told, and what stops it."""
    seen, stop = Seen(), asyncio.Event()
    task = asyncio.create_task(ship_kannel(options, seen, stop))
    try:
        yield task, seen, stop
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_real_log_is_stored_and_read_back(options, reader):
    """Every message is one record; what was sent is delivered, decoded, and counted in parts."""
    summary = await ship_kannel(options())
    assert summary.lines == len(LINES)
    assert (summary.records, summary.superseded) == (MESSAGES + REPORTS_POSTED, SUPERSEDED)
    assert summary.accepted == MESSAGES
    assert summary.updated + summary.duplicates == REPORTS_POSTED
    assert (summary.rejected, summary.unmatched, summary.unreadable) == (0, 0, 0)
    await assert_stored_once_and_delivered(reader)
    sent = {each["id"]: each for each in await reader.history("u0001")}
    first = next(each for each in sent.values() if each["to"] == "+46743013613")
    assert first["message"] == (
        "tio avsluta paketet mötet är är att café 🙂 hej till är paketet 482913"
    )
    assert (first["from"], first["owner"], first["parts"]) == ("71160", "sub4", 1)
    assert first["direction"] == "outgoing"
    assert first["delivered"]
    assert max(each["parts"] for each in await reader.all_sent()) == 6
    assert {each["message"] for each in await reader.history("inbox")} >= {"hej hopp", "stopp"}


async def test_shipping_the_same_log_again_changes_nothing(options, reader, tmp_path):
    """The ids and the times are those of the lines, plain or compressed: all are duplicates."""
    await ship_kannel(options())
    before = await reader.all_sent()
    packed = tmp_path / "access.log.1.gz"
    packed.write_bytes(gzip.compress(LOG.read_bytes()))
    summary = await ship_kannel(options(packed))
    assert (summary.accepted, summary.updated, summary.rejected) == (0, 0, 0)
    assert summary.duplicates == MESSAGES + REPORTS_POSTED
    assert await reader.all_sent() == before


@pytest.mark.parametrize("batch", [1, 7, 1000])
async def test_batches_of_any_size_store_the_same(options, reader, batch):
    """A report may be in another request than its message, or in the same."""
    summary = await ship_kannel(options(batch_records_max=batch))
    assert summary.requests == -(-(MESSAGES + REPORTS_POSTED) // batch)
    await assert_stored_once_and_delivered(reader)


async def test_a_restart_in_the_middle_loses_nothing_and_stores_nothing_twice(
    options, relay, reader
):
    """Refused connections are retried until the service is back."""
    relay.cut_at = 10
    given = options(url=relay.url, batch_records_max=5)
    async with shipping(given) as (task, _seen, _stop):
        await relay.cut.wait()
        await asyncio.sleep(1.0)
        await relay.listen_again()
        summary = await task
    assert summary.retries > 0
    assert summary.accepted + summary.updated + summary.duplicates == MESSAGES + REPORTS_POSTED
    assert summary.rejected == 0
    await assert_stored_once_and_delivered(reader)


async def test_a_lost_answer_makes_duplicates_and_no_second_record(options, relay, reader):
    """The service had stored the batch; it is posted again and counted as known."""
    relay.lose_answers_of = {2, 6}
    summary = await ship_kannel(options(url=relay.url, batch_records_max=20))
    assert summary.retries == 2
    assert summary.duplicates >= 20
    assert summary.accepted + summary.updated + summary.duplicates == MESSAGES + REPORTS_POSTED
    await assert_stored_once_and_delivered(reader)


async def test_unreadable_lines_are_named_and_do_not_stop_the_rest(options, reader, tmp_path):
    """Each is counted and listed by its number with a reason; the number listed is bounded."""
    path = tmp_path / "access.log"
    path.write_bytes(
        b"2026-11-21 22:11:43 Log begins\n"
        + LINES[0]
        + b"garbage\n"
        + LINES[1][: len(LINES[1]) // 2]
        + b"\n"
        + b"".join(LINES)
        + b"\xff\x00\n" * 30
    )
    summary = await ship_kannel(options(path, listed_max=5))
    assert (summary.skipped, summary.unreadable) == (1, 32)
    assert [each.line for each in summary.unreadable_lines] == [3, 4, 271, 272, 273]
    assert all(each.reason for each in summary.unreadable_lines)
    assert summary.lines == len(LINES) + 34
    assert summary.as_dict()["unreadable_lines"][0]["line"] == 3
    assert sum(each["status"] == "delivered" for each in await reader.all_sent()) == 72


async def test_records_that_the_service_refuses_are_named_by_their_line(options, tmp_path):
    """A service name that is no account is refused with its field; the rest is stored."""
    path = tmp_path / "access.log"
    sent = next(line for line in LINES if b" Sent SMS " in line)
    wrong = re.sub(rb"\[SVC:.*?\]", b"[SVC:not an account]", sent)
    path.write_bytes(LINES[0] + wrong + sent)
    summary = await ship_kannel(options(path))
    assert (summary.accepted, summary.rejected) == (2, 1)
    (rejected,) = summary.rejected_records
    assert (rejected.line, rejected.field) == (2, "account")
    assert rejected.code
    assert rejected.detail


async def test_nul_and_halves_of_surrogates_are_stored_as_replacement_characters(
    options, reader, tmp_path
):
    """The record is not refused for a character that no text of the store can hold."""
    path = tmp_path / "access.log"
    head = b"2026-11-21 22:11:44 Sent SMS [SMSC:F] [SVC:u0001] [ACT:] [BINF:] [FID:f1] "
    tail = b"[META:] [from:A] [to:+46] [flags:-1:2:-1:-1:31] [msg:8:00610000D83D0062] [udh:0:]\n"
    path.write_bytes(head + tail)
    summary = await ship_kannel(options(path))
    assert summary.accepted == 1
    (record,) = await reader.history("u0001")
    assert record["message"] == "a\ufffd\ufffdb"


async def test_a_local_log_is_stored_in_utc(options, reader, tmp_path):
    """The zone that was given decides what instant a line means."""
    path = tmp_path / "access.log"
    path.write_bytes(LINES[0])
    await ship_kannel(options(path, timezone=ZoneInfo("Europe/Stockholm")))
    (record,) = await reader.history("inbox")
    assert record["created"].startswith("2026-11-21T21:11:44")


async def test_a_growing_file_is_followed_through_both_rotations(options, reader, tmp_path):
    """Renamed and made anew, then copied and truncated: every line is shipped once."""
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(LINES[:50]) + LINES[50][:40])
    async with shipping(options(path, follow=True)) as (task, seen, stop):
        await until(lambda: seen.state.lines == 50)
        with path.open("ab") as file:
            file.write(LINES[50][40:] + b"".join(LINES[51:100]))
        await until(lambda: seen.state.lines == 100)
        path.rename(tmp_path / "access.log.1")
        with (tmp_path / "access.log.1").open("ab") as file:
            file.write(b"".join(LINES[100:120]))
        path.write_bytes(b"".join(LINES[120:180]))
        await until(lambda: seen.state.lines == 180)
        shutil.copy(path, tmp_path / "access.log.2")
        os.truncate(path, 0)
        with path.open("ab") as file:
            file.write(b"".join(LINES[180:]))
        await until(lambda: seen.state.lines == len(LINES))
        stop.set()
        summary = await task
    assert summary.stopped
    assert (summary.lines, summary.unreadable, summary.unmatched) == (len(LINES), 0, 0)
    await assert_stored_once_and_delivered(reader)


async def test_a_followed_file_is_posted_while_it_is_quiet(options, reader, tmp_path):
    """Batches that are not full go out after a short time, and so do reports without a line."""
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(LINES))
    async with shipping(options(path, follow=True)) as (_task, seen, _stop):
        await until(lambda: seen.state.records_posted == MESSAGES + REPORTS_POSTED)
        await assert_stored_once_and_delivered(reader)


async def test_half_a_line_is_not_shipped_when_following_ends(options, tmp_path):
    """What is not complete is left for the next shipment, and is no unreadable line."""
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(LINES[:10]) + LINES[10][:-20])
    async with shipping(options(path, follow=True)) as (task, seen, stop):
        await until(lambda: seen.state.lines == 10)
        stop.set()
        summary = await task
    assert (summary.lines, summary.unreadable) == (10, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_following_with_a_summary(options, reader, tmp_path, number):
    """What was read is posted first, and the program's own handlers are left as they were."""
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(LINES))
    seen = Seen()
    given = options(path, follow=True, flush_seconds=60.0)
    task = asyncio.create_task(ship_kannel_until_signal(given, seen))
    await until(lambda: seen.state.lines == len(LINES))
    os.kill(os.getpid(), number)
    summary = await task
    assert summary.stopped
    assert summary.accepted == MESSAGES
    await assert_stored_once_and_delivered(reader)
    assert not asyncio.get_running_loop().remove_signal_handler(number)


async def test_stopping_while_the_service_is_away_ends_in_time(options, relay):
    """After the grace the error comes with the summary, which says what was not posted."""
    relay.close()
    async with shipping(options(url=relay.url, stop_seconds=0.2)) as (task, seen, stop):
        await until(lambda: seen.retries)
        stop.set()
        with pytest.raises(ShipFailedError, match="stopped before") as caught:
            await task
    assert caught.value.cause.code == "service_unreachable"
    assert caught.value.summary.unposted == MESSAGES + REPORTS_POSTED


async def test_giving_up_says_how_far_it_came(options, relay):
    """The error carries the summary; a shipment from the start is harmless."""
    relay.cut_at = 4
    given = options(url=relay.url, batch_records_max=20, give_up_after_seconds=0.5)
    async with shipping(given) as (task, _seen, _stop):
        with pytest.raises(ShipFailedError) as caught:
            await task
    summary = caught.value.summary
    assert summary.records == summary.accepted + summary.updated + summary.duplicates == 60
    assert summary.records + summary.unposted == MESSAGES + REPORTS_POSTED
    again = await ship_kannel(options())
    assert again.accepted + again.updated + again.duplicates == MESSAGES + REPORTS_POSTED


@pytest.mark.parametrize("scope", [None, "metrics"])
async def test_a_key_that_does_not_open_the_ingest_is_told_at_once(options, service, scope):
    """A wrong key or scope is not tried again."""
    key = "wrong" if scope is None else await service.key(scope)
    with pytest.raises(ShipFailedError) as caught:
        await ship_kannel(options(key=key))
    assert caught.value.cause.code == ("key_missing" if scope is None else "scope_missing")
    assert caught.value.summary.retries == 0


async def test_a_file_that_cannot_be_shipped_is_told_before_anything_is_posted(options, tmp_path):
    """A missing file, and a compressed one that is to be followed."""
    with pytest.raises(LogUnreadableError):
        await ship_kannel(options(tmp_path / "missing.log"))
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(b"x"))
    with pytest.raises(LogNotFollowableError):
        await ship_kannel(options(packed, follow=True))
