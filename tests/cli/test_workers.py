"""``trafficlog serve --workers N``: one port, one answer, whichever process gives it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.process import TIME_TRAVEL, server, start_server, trafficlog
from tests.cli.test_serve import record
from tests.faults.load import Load, assert_all_there_once
from tests.jobs.stock import until
from tests.waiting import waiting_sessions
from trafficlog.cli.workers import PAUSE_SECONDS

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs /proc to see workers"
)
FAST = TIME_TRAVEL | {
    "TRAFFICLOG_MOVE_INTERVAL_SECONDS": "1",
    "TRAFFICLOG_DRAIN_SECONDS_MAX": "3",
}


def workers_of(pid: int) -> set[int]:
    """The live children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split() if is_worker(int(child))}


def is_worker(pid: int) -> bool:
    """Whether a process lives and is a worker."""
    try:
        return b"trafficlog.cli.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def connections_of(pid: int, port: int) -> int:
    """How many connections of clients a worker has."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if int(parts[1].partition(":")[2], 16) == port and parts[3] == "01":
            inodes.add(f"socket:[{parts[9]}]")
    found = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(each.readlink()) in inodes
        except OSError:
            continue
    return found


def shares(pid: int, port: int) -> list[int]:
    """How many connections of clients each worker has."""
    return [connections_of(worker, port) for worker in workers_of(pid)]


async def key_of(dsn: str, scope: str) -> str:
    """A new key."""
    made = await trafficlog("key", "create", "--scope", scope, "--json", dsn=dsn)
    return made.json["key"]


async def metrics(url: str, key: str) -> dict[str, float]:
    """The samples of ``/metrics``, as told on a connection of its own, by name and labels."""
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{url}/metrics") as answer,
    ):
        assert answer.status == 200
        text = await answer.text()
    return {
        "/".join([s.name, *s.labels.values()]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def test_workers_share_a_port_and_are_replaced_without_a_failed_request(database):
    """Connections are spread evenly; metrics count for all; SIGHUP under load fails nothing."""
    where = ("--database-url", database, "--listen", "127.0.0.1:0", "--workers", "3")
    operator, ingest = None, None
    async with server(*where, env=FAST) as running:
        pid, port = running.process.pid, urlsplit(running.url).port
        operator = running.operator_key
        ingest = await key_of(database, "ingest")
        await until_true(lambda: len(workers_of(pid)) == 3)
        await until(lambda: one_each(pid, port))
        async with contextlib.AsyncExitStack() as clients:
            for number in range(1, 13):
                # One after the other: of many at once a worker that gets no processor takes fewer.
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                clients.callback(writer.close)
                await until_true(lambda n=number: sum(shares(pid, port)) == n)
            assert min(shares(pid, port)) >= 3, shares(pid, port)
        # More connections at once than wrong keys are let: a new worker knows none.
        async with Load(running.url, ingest, workers=100) as load:
            await load.progress(100)
            before = workers_of(pid)
            for _ in range(2):
                old = workers_of(pid)
                os.kill(pid, signal.SIGHUP)
                await until_true(lambda old=old: replaced(pid, old), seconds=60)
                await load.progress(200)
            assert not workers_of(pid) & before
        assert load.doubts == 0

        async def nothing_waits():
            seen = await metrics(running.url, operator)
            return seen["trafficlog_ingest_waiting_records"] == 0

        await until(nothing_waits)
        told = [await metrics(running.url, operator) for _ in range(6)]
        # All of them, those of workers that are gone too, whichever worker tells.
        accepted = {each["trafficlog_records_total/accepted"] for each in told}
        assert accepted == {len(load.acknowledged)}
        assert all(each["trafficlog_worker_exits_total"] == 0 for each in told)
        assert all("trafficlog_holds_active" in each for each in told)
        assert await running.stop() == 0
        assert not [w for w in before if is_worker(w)]
    await assert_all_there_once(database, load)


async def test_a_worker_that_is_killed_is_started_again_and_its_jobs_taken_over(database):
    """What was acknowledged is there; another runs the jobs; the parent's end is everybody's."""
    where = ("--database-url", database, "--listen", "127.0.0.1:0", "--workers", "2")
    running = await start_server(*where, env=FAST)
    pid = running.process.pid
    try:
        ingest = await key_of(database, "ingest")
        await until_true(lambda: len(workers_of(pid)) == 2)
        admin = await asyncpg.connect(database)
        async with Load(running.url, ingest) as load:
            for _ in range(2):
                await load.progress(50)
                [in_charge] = await until(lambda: jobs_of(admin))
                # The worker that runs the jobs has the connection of retention's role.
                [victim] = [w for w in workers_of(pid) if holds_duty(w)]
                os.kill(victim, signal.SIGKILL)

                async def taken_over(gone=in_charge):
                    now = await jobs_of(admin)
                    return now and now != [gone]

                await until(taken_over)
                await load.progress(50)
                await until_true(lambda v=victim: len(workers_of(pid) - {v}) == 2, seconds=60)
        await admin.close()
        told = await metrics(running.url, running.operator_key)
        assert told["trafficlog_worker_exits_total"] == 2
        live = workers_of(pid)
        assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        await until_true(lambda: not any(is_worker(w) for w in live))
    finally:
        await running.stop(signal.SIGKILL)
    await assert_all_there_once(database, load)


async def test_workers_that_die_again_and_again_are_started_after_longer_pauses(database, tmp_path):
    """Up to the longest there may be, which the log tells."""
    where = ("--database-url", database, "--listen", "127.0.0.1:0", "--workers", "2")
    log = tmp_path / "log"
    env = FAST | {"TRAFFICLOG_RESTART_SECONDS_MAX": "1"}
    running = await start_server(*where, env=env, log=log)
    pid = running.process.pid
    try:
        for _ in range(3):
            await until_true(lambda: len(serving(log) & workers_of(pid)) == 2)
            victim = max(workers_of(pid))
            os.kill(victim, signal.SIGKILL)
            await until_true(lambda v=victim: v not in workers_of(pid))
        await until_true(lambda: len(serving(log) & workers_of(pid)) == 2)
    finally:
        await running.stop()
    pauses = [each["pause_seconds"] for each in said(log) if each["event"] == "worker_died"]
    assert pauses == [PAUSE_SECONDS, 1, 1]


async def test_workers_answer_what_is_in_flight_before_they_stop(database):
    """SIGTERM to the parent: requests that wait for the database are answered, then it exits 0."""
    where = ("--database-url", database, "--listen", "127.0.0.1:0", "--workers", "2")
    admin = await asyncpg.connect(database)
    async with server(*where, env=FAST) as running:
        ingest = await key_of(database, "ingest")
        await until_true(lambda: len(workers_of(running.process.pid)) == 2)
        headers = {"Authorization": f"Bearer {ingest}"}
        async with aiohttp.ClientSession(running.url, headers=headers) as http:
            async with admin.transaction():
                await admin.execute("LOCK TABLE trafficlog.traffic_record IN SHARE MODE")
                asked = []

                def ask():
                    post = http.post("/v1/records", json=[record(f"m{len(asked)}")])
                    asked.append(asyncio.create_task(post))

                for _ in range(6):
                    ask()
                polls = itertools.count(1)

                async def two_wait():
                    # All of them may have come to one worker, which writes them together, and
                    # more beside them only when as many wait.
                    if next(polls) % 50 == 0:
                        for _ in asked[:]:
                            ask()
                    return await waiting_sessions(admin, "trafficlog_ingest") >= 2

                await until(two_wait)
                running.process.send_signal(signal.SIGTERM)
                await until_true(lambda: refuses(urlsplit(running.url).port))
                assert not any(each.done() for each in asked)
            statuses = [(await each).status for each in asked]
            assert set(statuses) == {200}
            async with asyncio.timeout(30):
                assert await running.process.wait() == 0
    stored = await admin.fetchval("SELECT count(*) FROM trafficlog.history_record")
    assert stored == len(asked) >= 6
    await admin.close()


async def test_workers_that_cannot_start_end_the_service_with_their_reason():
    """A database that is not there: the sentence and the exit code of a single process."""
    done = await trafficlog(
        *("serve", "--workers", "2", "--listen", "127.0.0.1:0"),
        *("--database-url", "postgresql://postgres@127.0.0.1:1/none"),
    )
    assert done.code == 3
    assert "cannot be reached" in done.err
    assert "Traceback" not in done.err


async def test_idle_connections_hold_a_replacement_up_for_so_long_only(database):
    """Each worker that is replaced waits TRAFFICLOG_DRAIN_SECONDS_MAX for them, and closes them."""
    where = ("--database-url", database, "--listen", "127.0.0.1:0", "--workers", "2")
    async with (
        server(*where, env=FAST | {"TRAFFICLOG_DRAIN_SECONDS_MAX": "1"}) as running,
        contextlib.AsyncExitStack() as clients,
    ):
        pid, port = running.process.pid, urlsplit(running.url).port
        await until_true(lambda: len(workers_of(pid)) == 2)
        await until(lambda: one_each(pid, port))
        old = workers_of(pid)
        await until_true(lambda: shares(pid, port) == [0, 0])
        lines = []

        async def both_have_some():
            # A worker that gets no processor for a while misses its turn.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            clients.callback(writer.close)
            lines.append(reader)
            await until_true(lambda: sum(shares(pid, port)) == len(lines))
            return all(shares(pid, port))

        await until(both_have_some)
        os.kill(pid, signal.SIGHUP)
        # By default each would wait for 10 seconds.
        await until_true(lambda: replaced(pid, old), seconds=19)
        for reader in lines:
            assert await reader.read() == b""


async def test_a_worker_that_is_not_ready_in_time_did_not_start():
    """After TRAFFICLOG_WORKER_START_SECONDS_MAX it is ended, and that is told.

    Here the database never answers.
    """
    lines = []
    silent = await asyncio.start_server(lambda _, writer: lines.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with asyncio.timeout(30):
        done = await trafficlog(
            *("serve", "--workers", "2", "--listen", "127.0.0.1:0"),
            *("--database-url", f"postgresql://postgres@127.0.0.1:{port}/none?sslmode=disable"),
            env={"TRAFFICLOG_WORKER_START_SECONDS_MAX": "2"},
        )
    silent.close()
    for each in lines:
        each.close()
    assert done.code == 1
    assert "worker_not_ready" in done.err


def said(log: Path) -> list[dict[str, Any]]:
    """What a log says so far."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if "\n" in line]


def serving(log: Path) -> set[int]:
    """The processes that have told that they serve."""
    return {each["process"] for each in said(log) if each["event"] == "worker_serves"}


async def until_true(condition, seconds: float = 30) -> None:
    """Waits for a condition that needs no awaiting."""

    async def asked():
        return condition()

    await until(asked, seconds)


def replaced(pid: int, old: set[int]) -> bool:
    """Whether all workers are others, and the old ones are gone."""
    now = workers_of(pid)
    return len(now) == len(old) and not now & old


async def one_each(pid: int, port: int | None) -> bool:
    """Whether of so many connections as there are workers each gets one: all of them serve."""
    writers = []
    for _ in workers_of(pid):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
    await asyncio.sleep(0.05)
    found = [connections_of(w, port) for w in workers_of(pid)]
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    return set(found) == {1}


def holds_duty(pid: int) -> bool:
    """Whether a worker holds the lock of who runs the jobs."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if each.readlink().name == "jobs.lock":
                inode = each.stat().st_ino
                held = Path("/proc/locks").read_text().splitlines()
                return any(f":{inode} " in h and f" {pid} " in h and "->" not in h for h in held)
        except OSError:
            continue
    return False


def refuses(port: int | None) -> bool:
    """Whether nothing listens there any more."""
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def jobs_of(admin: asyncpg.Connection) -> list[int]:
    """The database's processes of whoever runs the jobs."""
    rows = await admin.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'trafficlog_retention'"
        " AND datname = current_database() ORDER BY pid"
    )
    return [r["pid"] for r in rows]
