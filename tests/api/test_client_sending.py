"""What ``send`` promises: stored, or spooled, or told. Against a server that fails on demand."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress

import pytest
from aiohttp import web

from tests.api.flaky import FAST, FlakyService, problem
from trafficlog.client import (
    AnswerUnreadableError,
    Client,
    ClientClosedError,
    Outcome,
    RecordRefusedError,
    RefusedRecord,
    RequestRefusedError,
    RetryPolicy,
    ServiceUnreachableError,
    SpoolBusyError,
    SpoolFullError,
)
from trafficlog.client.spool import Spool
from trafficlog.errors import InvalidValueError, KeyMissingError, ScopeMissingError


def client(service: FlakyService, **options) -> Client:
    """A client of ``service`` that does not wait long."""
    given = {"retry": FAST, "batch_seconds": 0.01, "spool_after_seconds": 0.5}
    return Client(service.url, "secret", **given | options)


def records(count: int, first: int = 0) -> list[dict]:
    """So many records, each with its own id."""
    return [{"id": f"r{number:05}"} for number in range(first, first + count)]


async def send_all(sending: Client, given: list[dict]) -> list:
    """Sends records at once; their outcomes, or what was raised."""
    return await asyncio.gather(*map(sending.send, given), return_exceptions=True)


async def until(condition, seconds: float = 10.0) -> None:
    """Waits until ``condition()`` holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def test_what_is_sent_at_once_shares_requests(flaky):
    """A request goes when it is full; the last one when its oldest record is old enough."""
    async with client(flaky, batch_records_max=10) as sending:
        assert await send_all(sending, records(25)) == [Outcome.STORED] * 25
        figures = sending.figures
    assert len(flaky.requests) == 3
    assert (figures.sent, figures.accepted, figures.waiting, figures.requests) == (25, 25, 0, 3)
    assert list(flaky.stored) == [each["id"] for each in records(25)]


async def test_a_batch_that_is_not_full_goes_when_it_is_old(flaky):
    """``batch_seconds`` after its first record, neither at once nor when somebody adds to it."""
    loop = asyncio.get_running_loop()
    async with client(flaky, batch_seconds=0.15) as sending:
        began = loop.time()
        sent = asyncio.create_task(sending.send({"id": "a"}))
        await asyncio.sleep(0.05)
        await sending.send({"id": "b"})
        await sent
        assert 0.14 <= loop.time() - began < 2.0
    assert len(flaky.requests) == 1


async def test_flush_does_not_wait_for_age(flaky):
    """All that was handed over is on its way at once, and there when it returns."""
    async with client(flaky, batch_seconds=3600) as sending:
        sent = asyncio.create_task(sending.send({"id": "a"}))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await sending.flush()
        assert await sent == Outcome.STORED
        await sending.flush()


async def test_leaving_delivers_what_waits(flaky):
    """A record that was handed over is stored when the block is left."""
    async with client(flaky, batch_seconds=3600) as sending:
        sent = asyncio.create_task(sending.send({"id": "a"}))
        await asyncio.sleep(0)
    assert await sent == Outcome.STORED
    with pytest.raises(ClientClosedError):
        await sending.send({"id": "b"})


async def test_a_client_outside_its_block_is_a_mistake(flaky):
    """It is told, and nothing waits for ever."""
    with pytest.raises(RuntimeError, match="async with"):
        await client(flaky).send({"id": "a"})


async def test_without_a_spool_a_service_that_stays_away_is_told(flaky):
    """``send`` raises after ``give_up_after_seconds``; the caller has the record still."""
    flaky.away = True
    policy = RetryPolicy(first_seconds=0.01, pause_seconds_max=0.02, give_up_after_seconds=0.1)
    async with client(flaky, retry=policy) as sending:
        told = await send_all(sending, records(3))
        assert [type(each) for each in told] == [ServiceUnreachableError] * 3
        flaky.away = False
        assert await sending.send({"id": "a"}) == Outcome.STORED


async def test_a_service_away_for_a_while_loses_nothing(flaky, tmp_path):
    """What it did not take waits in the spool, and arrives once, oldest first, by itself."""
    async with client(flaky, spool=tmp_path, batch_records_max=10) as sending:
        assert await sending.send({"id": "before"}) == Outcome.STORED
        flaky.away = True
        assert await send_all(sending, records(50)) == [Outcome.SPOOLED] * 50
        assert await send_all(sending, records(50, 50)) == [Outcome.SPOOLED] * 50
        figures = sending.figures
        assert figures.service_away
        assert (figures.spooled, figures.accepted) == (100, 1)
        assert figures.spool_bytes > 0
        assert figures.retries > 0
        flaky.away = False
        async with asyncio.timeout(10):
            await sending.flush()
        assert await sending.send({"id": "after"}) == Outcome.STORED
        figures = sending.figures
    assert not figures.service_away
    assert (figures.spool_bytes, figures.accepted) == (0, 102)
    assert sorted(flaky.stored) == sorted(
        [*(each["id"] for each in records(100)), "before", "after"]
    )
    spooled = [name for name in flaky.stored if name.startswith("r")]
    assert set(spooled[:50]) == {each["id"] for each in records(50)}
    assert list(tmp_path.glob("*.segment")) == []


async def test_a_service_that_answers_at_all_is_tried_directly_again(flaky, tmp_path):
    """When the spool has been sent once, new records do not go by the disk any more."""
    flaky.away = True
    async with client(flaky, spool=tmp_path) as sending:
        assert await sending.send({"id": "a"}) == Outcome.SPOOLED
        flaky.away = False
        await until(lambda: not sending.figures.service_away)
        assert await sending.send({"id": "b"}) == Outcome.STORED
        assert sending.figures.spooled == 1


async def test_what_is_left_in_the_spool_is_sent_by_the_next_client(flaky, tmp_path):
    """Leaving does not wait for a service that is away; the next start goes on."""
    flaky.away = True
    async with asyncio.timeout(3), client(flaky, spool=tmp_path, close_seconds=60) as sending:
        assert await send_all(sending, records(5)) == [Outcome.SPOOLED] * 5
    flaky.away = False
    async with client(flaky, spool=tmp_path) as sending:
        await sending.flush()
        assert sending.figures.accepted == 5
    assert len(flaky.stored) == 5


async def test_leaving_keeps_what_is_under_way(flaky, tmp_path):
    """A request that is not answered in time is put into the spool and not dropped."""
    flaky.script = ["sleep"] * 9
    async with client(flaky, spool=tmp_path, close_seconds=0.05, spool_after_seconds=60) as sending:
        sent = asyncio.create_task(sending.send({"id": "a"}))
        await until(lambda: flaky.requests)
    assert await sent == Outcome.SPOOLED
    async with client(flaky) as sending:
        flaky.script = ["sleep"] * 9
    async with client(flaky, close_seconds=0.05) as sending:
        sent = asyncio.create_task(sending.send({"id": "b"}))
        await until(lambda: len(flaky.requests) > 1)
    with pytest.raises(ClientClosedError):
        await sent


async def test_a_service_that_is_silent_holds_send_up_no_longer_than_one_that_is_away(tmp_path):
    """It takes the connection and the request, and never answers: the record is in the spool."""
    loop = asyncio.get_running_loop()
    lines = []

    async def keep_silent(reader, writer):
        lines.append(writer)
        with suppress(ConnectionError):
            while await reader.read(2**16):
                pass

    silent = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    given = {"spool_after_seconds": 0.3, "request_seconds": 60, "close_seconds": 0.1}
    async with Client(url, "secret", spool=tmp_path, **given) as sending:
        began = loop.time()
        assert await send_all(sending, records(3)) == [Outcome.SPOOLED] * 3
        assert 0.2 < loop.time() - began < 2.0
        assert sending.figures.service_away
        # From the spool they are sent by a request that may take its time.
        await until(lambda: len(lines) == 2)
    silent.close()
    for each in lines:
        each.close()


async def test_a_slow_answer_out_of_the_spool_is_waited_for(flaky, tmp_path):
    """``request_seconds`` bound a request there, or a slow service would never get any."""
    flaky.script = ["sleep"] * 2
    async with client(flaky, spool=tmp_path, spool_after_seconds=0.2) as sending:
        assert await sending.send({"id": "a"}) == Outcome.SPOOLED
        async with asyncio.timeout(10):
            await sending.flush()
        assert sending.figures.requests == 1
    assert len(flaky.requests) == 2
    assert set(flaky.stored) == {"a"}


@pytest.mark.parametrize("status", [429, 503])
async def test_a_long_retry_after_sends_records_to_the_spool_and_is_waited_for_there(
    flaky, tmp_path, status
):
    """``send`` does not wait longer than ``spool_after_seconds``; the service is left alone."""
    loop = asyncio.get_running_loop()
    flaky.script = [problem(status, "later", **{"Retry-After": "1"}) for _ in range(2)]
    async with client(flaky, spool=tmp_path) as sending:
        began = loop.time()
        assert await sending.send({"id": "b"}) == Outcome.SPOOLED
        assert loop.time() - began < 0.9
        async with asyncio.timeout(10):
            await sending.flush()
        assert loop.time() - began >= 1.0
    assert set(flaky.stored) == {"b"}


async def test_a_refused_record_is_told_to_the_caller_and_the_callback(flaky):
    """Those beside it are stored, and it is not sent again."""
    refused: list[RefusedRecord] = []
    async with client(flaky, on_refused=refused.append) as sending:
        told = await send_all(sending, [{"id": "a"}, {"x": 1}, {"id": "b"}])
        assert [told[0], told[2]] == [Outcome.STORED] * 2
        assert isinstance(told[1], RecordRefusedError)
        assert (told[1].rejection.code, told[1].rejection.field) == ("missing", "id")
        assert sending.figures.refused == 1
    (each,) = refused
    assert (each.record, each.rejection.code) == ({"x": 1}, "missing")
    assert len(flaky.requests) == 1


async def test_all_records_of_a_request_refused_is_no_reason_to_stop(flaky):
    """422 is an answer to each record; the next ones are sent."""
    async with client(flaky) as sending:
        told = await send_all(sending, [{}, {}])
        assert [type(each) for each in told] == [RecordRefusedError] * 2
        assert await sending.send({"id": "a"}) == Outcome.STORED


async def test_a_record_refused_out_of_the_spool_is_told_to_the_callback(flaky, tmp_path):
    """Its ``send`` has returned long ago; it leaves the spool and is not sent again."""
    flaky.away = True
    refused: list[RefusedRecord] = []
    async with client(flaky, spool=tmp_path, on_refused=refused.append) as sending:
        assert await send_all(sending, [{"id": "a"}, {"x": 1}]) == [Outcome.SPOOLED] * 2
        flaky.away = False
        await sending.flush()
        assert (sending.figures.accepted, sending.figures.refused) == (1, 1)
        assert sending.figures.spool_bytes == 0
    assert [each.record for each in refused] == [{"x": 1}]


async def test_a_callback_that_fails_stops_the_client_and_keeps_the_spool(flaky, tmp_path):
    """A refusal that nobody could take note of is told again by the next client."""
    flaky.away = True

    def fail(refused: RefusedRecord) -> None:
        raise OSError("no room for the note")

    async with client(flaky, spool=tmp_path, on_refused=fail) as sending:
        await sending.send({"x": 1})
        flaky.away = False
        with pytest.raises(OSError, match="no room for the note"):
            await sending.flush()
    assert list(tmp_path.glob("*.segment"))


async def test_a_batch_that_is_too_large_is_divided(flaky):
    """413 finds what the service takes; one record too large is refused, the others stored."""
    flaky.records_max, flaky.record_bytes_max = 3, 1000
    given = records(10)
    given[4]["message"] = "x" * 2000
    async with client(flaky, batch_records_max=10) as sending:
        told = await send_all(sending, given)
    assert told[4].rejection.code == "body_too_large"
    assert [each for each in told if each is Outcome.STORED] == [Outcome.STORED] * 9
    assert len(flaky.stored) == 9


async def test_a_record_that_spoils_the_spool_does_not_block_it(flaky, tmp_path):
    """What the service cannot read is found by halves, refused, and the rest is stored."""
    flaky.poison, flaky.away = "r00003", True
    async with client(flaky, spool=tmp_path) as sending:
        await send_all(sending, records(9))
        flaky.away = False
        await sending.flush()
        assert (sending.figures.accepted, sending.figures.refused) == (8, 1)


@pytest.mark.parametrize(("status", "error"), [(401, KeyMissingError), (403, ScopeMissingError)])
async def test_a_key_that_opens_nothing_stops_and_the_spool_keeps_all(
    flaky, tmp_path, status, error
):
    """What was handed over is kept; the next ``send`` raises; with a right key all arrive."""
    flaky.away = True
    async with client(flaky, spool=tmp_path) as sending:
        await send_all(sending, records(5))
    flaky.away = False
    flaky.script = [problem(status, "no") for _ in range(100)]
    async with client(flaky, spool=tmp_path) as sending:
        with suppress(error):
            assert await sending.send({"id": "more"}) == Outcome.SPOOLED
        for _ in range(3):
            with pytest.raises(error, match="no"):
                await sending.send({"id": "never"})
        with pytest.raises(error, match="no"):
            await sending.flush()
    requests = len(flaky.requests)
    flaky.script = []
    assert flaky.stored == {}
    async with client(flaky, spool=tmp_path) as sending:
        await sending.flush()
    assert len(flaky.requests) > requests
    assert (
        {each["id"] for each in records(5)}
        <= set(flaky.stored)
        <= {
            *(each["id"] for each in records(5)),
            "more",
        }
    )


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: problem(400, "some proxy's word"), RequestRefusedError),
        (lambda: problem(404, "nothing here"), RequestRefusedError),
        (lambda: problem(415, "not this type"), RequestRefusedError),
        (lambda: web.Response(text="<html>welcome</html>"), AnswerUnreadableError),
    ],
)
async def test_what_is_wrong_with_every_request_stops_the_client(flaky, tmp_path, answer, error):
    """No record is taken for refused because a URL or a proxy is wrong; leaving tells it."""
    flaky.script = [answer() for _ in range(100)]
    refused: list[RefusedRecord] = []
    with pytest.raises(error):
        async with client(flaky, spool=tmp_path, on_refused=refused.append) as sending:
            assert await sending.send({"id": "a"}) == Outcome.SPOOLED
    async with client(flaky, on_refused=refused.append) as sending:
        with pytest.raises(error):
            await sending.send({"id": "b"})
        with pytest.raises(error):
            await sending.send({"id": "c"})
    flaky.script = []
    async with client(flaky, spool=tmp_path) as sending:
        await sending.flush()
    assert set(flaky.stored) == {"a"}
    assert refused == []


async def test_a_full_spool_is_told_and_what_it_has_arrives(flaky, tmp_path):
    """Each ``send`` that found no room raises; every other record arrives, and there is room."""
    flaky.away = True
    async with client(flaky, spool=tmp_path, spool_bytes_max=1500, batch_records_max=10) as sending:
        outcomes = {}
        for first in range(0, 2000, 20):
            given = records(20, first)
            told = await send_all(sending, given)
            outcomes |= {each["id"]: told for each, told in zip(given, told, strict=True)}
        kept = {name for name, told in outcomes.items() if told is Outcome.SPOOLED}
        full = {name for name, told in outcomes.items() if isinstance(told, SpoolFullError)}
        assert kept
        assert full
        assert kept | full == set(outcomes)
        assert 0 < sending.figures.spool_bytes <= 1500
        flaky.away = False
        await sending.flush()
        assert set(flaky.stored) == kept
        flaky.away = True
        assert await sending.send({"id": "room again"}) == Outcome.SPOOLED


async def test_two_clients_do_not_share_a_spool(flaky, tmp_path):
    """The second is refused when it begins, and the first goes on."""
    async with client(flaky, spool=tmp_path) as first:
        with pytest.raises(SpoolBusyError):
            await client(flaky, spool=tmp_path).__aenter__()
        assert await first.send({"id": "a"}) == Outcome.STORED
    async with client(flaky, spool=tmp_path) as second:
        assert await second.send({"id": "b"}) == Outcome.STORED


async def test_memory_is_bounded_in_records_and_in_bytes(flaky):
    """While the service is slow, ``send`` waits for room; nothing is lost or turned away."""
    for limits in ({"waiting_records_max": 10}, {"waiting_bytes_max": 200}):
        flaky.away = True
        async with client(flaky, batch_records_max=5, requests_max=2, **limits) as sending:
            given = records(100, len(flaky.stored))
            tasks = [asyncio.create_task(sending.send(each)) for each in given]
            most = 0
            for _ in range(20):
                await asyncio.sleep(0.01)
                most = max(most, sending.figures.waiting)
            assert 5 <= most <= 12
            assert sending.figures.sent <= 12
            tasks[0].cancel()
            tasks[-1].cancel()
            flaky.away = False
            told = await asyncio.gather(*tasks[1:-1])
            assert told == [Outcome.STORED] * 98
            await until(lambda figures=sending: figures.figures.waiting == 0)


async def test_a_send_that_is_cancelled_leaves_the_client_whole(flaky):
    """Others in the same request are told what became of theirs."""
    async with client(flaky, batch_seconds=0.1) as sending:
        cancelled = asyncio.create_task(sending.send({"id": "a"}))
        other = asyncio.create_task(sending.send({"id": "b"}))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await other == Outcome.STORED
        assert sending.figures.waiting == 0


async def test_leaving_that_is_cut_off_again_and_again_leaves_nobody_waiting(
    flaky, tmp_path, monkeypatch
):
    """Whoever waits is told, also while the disk does not answer."""
    flaky.away = True
    disk, asked = threading.Event(), threading.Event()

    def append(_self: Spool, _lines: list[bytes]) -> None:
        asked.set()
        disk.wait(20)

    monkeypatch.setattr(Spool, "append", append)
    waiting: list[asyncio.Task] = []

    async def use() -> None:
        async with client(
            flaky, spool=tmp_path, spool_after_seconds=0.01, requests_max=1, batch_records_max=1
        ) as sending:
            waiting.extend(asyncio.create_task(sending.send(each)) for each in records(3))
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    await asyncio.to_thread(asked.wait, 10)
    for _ in range(4):
        using.cancel()
        await asyncio.sleep(0.05)
    disk.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    async with asyncio.timeout(5):
        told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [ClientClosedError] * 3


async def test_a_record_that_cannot_go_is_told_at_once(flaky):
    """Too large, or nothing that JSON has words for."""
    async with client(flaky, record_bytes_max=100) as sending:
        with pytest.raises(InvalidValueError, match="at most 100"):
            await sending.send({"id": "a", "message": "x" * 100})
        with pytest.raises(InvalidValueError, match="no JSON"):
            await sending.send({"id": "\ud800"})
    assert flaky.requests == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_max": 0},
        {"waiting_records_max": 0},
        {"record_bytes_max": 0},
        {"batch_records_max": 0},
        {"batch_bytes_max": 0},
        {"batch_seconds": -1.0},
        {"spool_after_seconds": math.nan},
        {"close_seconds": -0.1},
    ],
)
def test_a_bound_that_is_none_is_refused(wrong):
    """It is named."""
    with pytest.raises(InvalidValueError, match=next(iter(wrong))):
        Client("http://127.0.0.1:1", "k", **wrong)
