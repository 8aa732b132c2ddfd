"""``trafficlog simulate``: traffic as a gateway's, the same for a seed, at its own pace."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.flaky import flaky_service
from tests.cli.process import trafficlog
from trafficlog.client import Client, Retry
from trafficlog.errors import InvalidValueError
from trafficlog.records import Limits, parse_report
from trafficlog.simulate import (
    Mix,
    NoProgress,
    SimulateOptions,
    SimulationFailedError,
    SimulationState,
    Sort,
    Traffic,
    simulate,
)
from trafficlog.simulate.latency import Latencies

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
MIXED = Mix(duplicates=0.05, late=0.05, bad=0.05)


def traffic(**changes) -> Traffic:
    """Some traffic of a hundred customers."""
    given = {"rate": 200.0, "accounts": 100, "seconds": 20.0, "seed": 1, "mix": MIXED}
    return Traffic(**given | {"start": START} | changes)


def test_a_seed_makes_the_same_traffic_always():
    """Report by report and moment by moment; another seed makes other traffic."""
    first, same, other = (list(traffic(seed=seed).reports()) for seed in (7, 7, 8))
    assert first == same
    assert first != other
    # Only the time moves with the start.
    moved = list(traffic(seed=7, start=START + timedelta(days=1)).reports())
    assert [(each.due, each.record["id"]) for each in moved] == [
        (each.due, each.record["id"]) for each in first
    ]


@pytest.mark.parametrize("rate", [20.0, 500.0])
def test_the_rate_is_kept_and_what_is_due_is_in_order(rate):
    """Over a while as many reports as asked for; later ones are within the rate, not on top."""
    planned = list(traffic(rate=rate, seconds=60.0).reports())
    expected = rate * 60
    assert abs(len(planned) - expected) < 5 * expected**0.5
    assert all(0 < each.due < 60 for each in planned)
    assert [each.due for each in planned] == sorted(each.due for each in planned)


def test_the_mix_is_what_was_asked_for():
    """Shares of all reports; delivery reports are about half; a share of nothing is none."""
    sorts = Counter(each.sort for each in traffic(rate=1000.0, seconds=30.0).reports())
    for sort in (Sort.DUPLICATE, Sort.LATE, Sort.BAD):
        assert 0.04 < sorts[sort] / sorts.total() < 0.06
    assert 0.4 < sorts[Sort.LATER] / sorts.total() < 0.6
    plain = Mix(calls=0, incoming=0, reports=0, duplicates=0, late=0, bad=0)
    only = list(traffic(mix=plain).reports())
    assert {(each.sort, each.record["status"]) for each in only} == {(Sort.NEW, "created")}


def test_a_few_customers_make_half_of_the_traffic_and_many_make_little():
    """The long tail that a gateway has."""
    records = [each.record for each in traffic(rate=1000.0, accounts=500).reports()]
    by_account = Counter(each["account"] for each in records)
    counts = sorted(by_account.values(), reverse=True)
    taken = next(n for n in range(len(counts)) if sum(counts[:n]) > len(records) / 2)
    assert taken < 50
    assert len(by_account) > 300


def test_messages_and_calls_live_as_they_do():
    """Created, sent, delivered or failed; ongoing and ended; replies to what was received."""
    planned = list(traffic(seconds=60.0, mix=Mix(bad=0)).reports())
    lives: dict[str, list[dict]] = {}
    for each in planned:
        if each.sort is not Sort.DUPLICATE:
            lives.setdefault(each.record["id"], []).append(each.record)
    seen = Counter((life[0]["kind"], *(each["status"] for each in life)) for life in lives.values())
    for expected in (
        ("sms", "created", "sent", "delivered"),
        ("sms", "created", "sent", "failed"),
        ("sms", "received"),
        ("sms", "delivered"),
        ("mms", "created", "sent", "delivered"),
        ("call", "ongoing", "success"),
        ("call", "success"),
    ):
        assert seen[expected], expected
    for life in lives.values():
        assert len({(each["account"], each["created"], each["from"]) for each in life}) == 1
        updates = [each["updated"] for each in life if "updated" in each]
        assert updates == sorted(updates)
        assert all(each["created"] <= each["updated"] for each in life if "updated" in each)
    calls = [each.record for each in planned if each.record.get("duration")]
    assert max(each["duration"] for each in calls) > 300
    firsts = [life[0] for life in lives.values()]
    received = {(r["account"], r["from"]) for r in firsts if r["status"] == "received"}
    replies = [each for each in firsts if each["direction"] == "outgoing-reply"]
    assert replies
    assert all((each["account"], each["to"]) in received for each in replies)


@settings(max_examples=25)
@given(st.integers(0, 2**63), st.floats(0.5, 100.0), st.integers(1, 1000))
def test_the_service_takes_all_but_the_bad_ones(seed, seconds, accounts):
    """By the service's own rules: every other report is right, and no bad one is."""
    for each in traffic(seed=seed, seconds=seconds, accounts=accounts, rate=10.0).reports():
        now = START + timedelta(seconds=each.due)
        limits = Limits(now, now - timedelta(days=60))
        raw = orjson.dumps(each.record)
        if each.sort is Sort.BAD:
            with pytest.raises(InvalidValueError):
                parse_report(raw, limits)
        else:
            parse_report(raw, limits)


@given(st.lists(st.floats(0.0005, 60.0), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_right_within_its_bucket(seconds, share):
    """No less than the share of all are at most the quantile, by the bucket's 5 % either way."""
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    found = latencies.quantile_ms(share) / 1000
    assert sum(each <= found * 1.06 for each in seconds) >= share * len(seconds) - 1e-9
    assert any(found / 1.06 <= each <= found * 1.06 for each in seconds)
    assert latencies.max_seconds == max(seconds)
    assert Latencies().quantile_ms(0.5) is None


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": float("nan")}, {"accounts": 0}, {"seconds": -1}, {"seconds": 1e9}],
)
def test_options_that_make_no_traffic_are_refused(wrong):
    """Each is named with its bounds."""
    with pytest.raises(InvalidValueError, match=next(iter(wrong))):
        SimulateOptions(url="http://127.0.0.1", key="k", **wrong)
    with pytest.raises(InvalidValueError, match="late"):
        Mix(duplicates=0.5, late=0.5, bad=0.5)


async def test_what_is_sent_is_what_the_service_says_it_got(service):
    """Each report is answered once; the service refuses the bad ones and notes them, no others."""
    key = await service.key("ingest")
    done = await trafficlog(
        *("simulate", "--url", service.url, "--key", key, "--rate", "300", "--seconds", "3"),
        *("--accounts", "40", "--seed", "3", "--bad", "0.05", "--duplicates", "0.05", "--json"),
    )
    assert done.code == 0, done.err
    told = done.json
    sorts = told["sent_by_sort"]
    assert 700 < told["sent"] < 1100
    assert sum(sorts.values()) == told["sent"]
    assert told["refused"] == sorts["bad"] == sum(told["refused_by_code"].values()) > 0
    answered = told["accepted"] + told["updated"] + told["duplicates"] + told["refused"]
    assert answered == told["sent"]
    assert told["accepted"] == sorts["new"] + sorts["late"]
    assert (told["unanswered"], told["retries"], told["stopped"]) == (0, 0, False)
    assert 0 < told["p50_ms"] <= told["p99_ms"] <= told["max_ms"]
    connection = await asyncpg.connect(service.dsn)
    try:
        stored = await connection.fetchval("SELECT count(*) FROM trafficlog.traffic_record")
        noted = await connection.fetchval("SELECT count(*) FROM trafficlog.debug_log")
    finally:
        await connection.close()
    assert (stored, noted) == (told["accepted"], told["refused"])


async def test_for_people_there_is_a_table_and_for_a_wrong_key_a_sentence(service):
    """Without ``--json`` the figures by name; exit code 1 when the key opens nothing."""
    common = ("simulate", "--url", service.url, "--rate", "50", "--seconds", "1", "--key")
    done, wrong = await asyncio.gather(
        trafficlog(*common, await service.key("ingest")),
        trafficlog(*common, await service.key("operator")),
    )
    assert done.code == 0, done.err
    assert "p99 ms" in done.out
    assert wrong.code == 1
    assert "this key does not open the ingest of records" in wrong.err
    assert "Traceback" not in wrong.err


def options(url: str, **changes) -> SimulateOptions:
    """A short run."""
    given = {"rate": 200.0, "accounts": 20, "seconds": 1.0, "give_up_after_seconds": 0.3}
    return SimulateOptions(**{"url": url, "key": "k"} | given | changes)


class Told(NoProgress):
    """Remembers what it was told."""

    seconds = 0.1

    def __init__(self) -> None:
        self.states: list[SimulationState] = []

    def moved(self, state: SimulationState) -> None:
        """Remembers it."""
        self.states.append(state)


async def test_a_slow_service_is_not_asked_less_often():
    """The loop is open: the rate is kept, and what waits counts into the latencies."""
    async with flaky_service() as flaky:
        flaky.script = ["sleep"] * 4
        told = Told()
        summary = await simulate(options(flaky.url, mix=Mix(bad=0)), datetime.now(UTC), told)
    assert summary.behind_seconds_max < 0.5
    assert 120 < summary.sent < 280
    assert summary.accepted + summary.duplicates == summary.sent
    assert summary.p99_ms > 900
    assert max(state.waiting for state in told.states) > 50
    assert all(one.sent <= two.sent for one, two in zip(told.states, told.states[1:], strict=False))


async def test_a_run_that_is_stopped_answers_for_what_it_sent():
    """It ends at once with the summary of what was sent until then."""
    async with flaky_service() as flaky:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        async with asyncio.timeout(5):
            summary = await simulate(
                options(flaky.url, seconds=3600.0), datetime.now(UTC), stop=stop
            )
    assert summary.stopped
    assert 0 < summary.sent < 200
    assert summary.accepted + summary.duplicates + summary.refused == summary.sent


async def test_a_service_that_is_nowhere_ends_the_run(unused_tcp_port):
    """When nothing could be brought to it at all, there is no use in going on."""
    async with asyncio.timeout(5):
        with pytest.raises(SimulationFailedError) as caught:
            await simulate(
                options(f"http://127.0.0.1:{unused_tcp_port}", seconds=3600.0), datetime.now(UTC)
            )
    assert caught.value.summary.unanswered > 0
    json.dumps(caught.value.summary.as_dict())


async def test_what_nobody_foresaw_is_no_summary(unused_tcp_port):
    """An error that is none of trafficlog's own comes out; it is not taken for an end."""

    class Broken(NoProgress):
        def retrying(self, _retry: Retry) -> None:
            raise LookupError("nobody foresaw it")

    with pytest.raises(ExceptionGroup) as caught:
        await simulate(
            options(f"http://127.0.0.1:{unused_tcp_port}", seconds=0.3),
            datetime.now(UTC),
            Broken(),
        )
    assert caught.group_contains(LookupError)


async def test_with_a_spool_nothing_is_given_up(tmp_path):
    """What the service did not take while it was away is on the disk when the run ends."""
    async with flaky_service() as flaky:
        flaky.away = True
        summary = await simulate(
            options(flaky.url, spool=tmp_path, seconds=0.3, close_seconds=0.1), datetime.now(UTC)
        )
        assert summary.unanswered == 0
        assert summary.spooled == summary.sent > 0
        assert summary.spool_bytes > 0
        flaky.away = False
        async with Client(flaky.url, "k", spool=tmp_path) as client:
            await client.flush()
            figures = client.figures
    assert figures.acknowledged + figures.refused == summary.sent
