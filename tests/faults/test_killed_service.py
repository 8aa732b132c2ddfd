"""The service is killed, or its connections are, under load: no acknowledgement is ever broken."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
from pathlib import Path

import asyncpg

from tests.cli.process import COMMAND, TIME_TRAVEL, environment, start_server, trafficlog
from tests.faults.load import (
    Load,
    MixedLoad,
    assert_all_there_once,
    free_port,
    kills,
    without_history,
)
from tests.jobs.stock import until

LOG = Path(__file__).parent.parent / "data" / "kannel-access.log"
KILLS = kills(5)
TERMINATIONS = 5


async def ingest_key(dsn: str) -> str:
    """A key for the gateway."""
    made = await trafficlog("key", "create", "--scope", "ingest", "--json", dsn=dsn)
    return made.json["key"]


async def test_a_service_that_is_killed_again_and_again_keeps_every_acknowledgement(database):
    """Kill -9 at random moments: what was answered is stored once, in both tables, never half.

    Later reports, duplicates, bad records and accounts without history are among it, and what
    was counted is what is there: after each kill, while the next process is not there yet.
    """
    moments = random.Random(20261122)
    port = free_port()
    arguments = ("--database-url", database, "--listen", f"127.0.0.1:{port}")
    await without_history(database)
    service = await start_server(*arguments, env=TIME_TRAVEL)
    try:
        async with MixedLoad(service.url, await ingest_key(database)) as load:
            for _ in range(KILLS):
                await load.progress(moments.randrange(1, 200))
                await asyncio.sleep(moments.random() / 20)
                assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
                await no_session_left(database)
                await assert_all_there_once(database, load)
                service = await start_server(*arguments, env=TIME_TRAVEL)
            await load.progress(50)
        assert load.doubts > 0
        assert await service.stop() == 0
    finally:
        await service.stop(signal.SIGKILL)
    await assert_all_there_once(database, load)


async def no_session_left(dsn: str) -> None:
    """Waits until the server has noticed that a service is gone, and ended what it had begun."""
    admin = await asyncpg.connect(dsn)
    try:
        await until(
            lambda: admin.fetchval(
                "SELECT count(*) = 0 FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'trafficlog%'"
            )
        )
    finally:
        await admin.close()


async def test_a_service_whose_connections_are_cut_recovers_by_itself(database):
    """All its sessions terminated under load: the batch in doubt is refused, not lost."""
    arguments = ("--database-url", database, "--listen", "127.0.0.1:0")
    service = await start_server(*arguments, env=TIME_TRAVEL)
    admin = await asyncpg.connect(database)
    try:
        async with Load(service.url, await ingest_key(database)) as load:
            for _ in range(TERMINATIONS):
                await load.progress(100)
                cut = await admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                assert cut > 0
            await load.progress(100)
        assert await service.stop() == 0
    finally:
        await admin.close()
        await service.stop(signal.SIGKILL)
    await assert_all_there_once(database, load)


async def test_a_shipment_goes_on_when_the_service_is_killed_and_restarted(database):
    """Nothing lost, nothing twice: the summary counts every record of the log once."""
    port = free_port()
    arguments = ("--database-url", database, "--listen", f"127.0.0.1:{port}")
    service = await start_server(*arguments, env=TIME_TRAVEL)
    admin = await asyncpg.connect(database)
    try:
        shipping = await asyncio.create_subprocess_exec(
            *(COMMAND, "ship", "kannel", str(LOG), "--url", service.url, "--batch", "1"),
            *("--key", await ingest_key(database), "--incoming-account", "inbox"),
            env=environment(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for stored in (10, 60):
            query = "SELECT count(*) >= $1 FROM trafficlog.traffic_record"
            await until(functools.partial(admin.fetchval, query, stored))
            await service.stop(signal.SIGKILL)
            assert shipping.returncode is None
            service = await start_server(*arguments, env=TIME_TRAVEL)
        async with asyncio.timeout(60):
            assert await shipping.wait() == 0
        for table in ("traffic_record", "history_record"):
            counts = await admin.fetchrow(
                f"SELECT count(*), count(DISTINCT (account_key, created_at, id))"
                f" FROM trafficlog.{table}"
            )
            assert tuple(counts) == (122, 122)
        delivered = await admin.fetchval(
            "SELECT count(*) FROM trafficlog.history_record h JOIN trafficlog.status s"
            " ON s.code = h.status WHERE s.name = 'delivered'"
        )
        assert delivered == 72
        assert await service.stop() == 0
    finally:
        await admin.close()
        await service.stop(signal.SIGKILL)
