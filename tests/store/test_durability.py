"""What the database promises of a commit is looked at, told, and where it is ours to set, set."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.api.helpers import until
from tests.api.test_metrics import value
from tests.conftest import administer
from tests.serving import serving
from trafficlog.config import Config
from trafficlog.metrics import Metrics
from trafficlog.store.database import Database
from trafficlog.store.durability import DURABLE, DurabilityWatch


async def shown(dsn, name):
    """A setting as a new connection of nobody in particular has it."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT current_setting($1)", name)
    finally:
        await connection.close()


async def settled(dsn, name, wanted):
    """Waits until a reloaded setting has reached the server's processes."""

    async def reached():
        return await shown(dsn, name) == wanted

    await until(reached)


async def test_records_are_committed_to_disk_however_server_database_and_role_are_set(database):
    """``synchronous_commit`` off for the server, the database and the role: on where we write."""
    name = urlsplit(database).path[1:]
    mine = f"ALTER ROLE postgres IN DATABASE {name}"
    await administer(database, f"ALTER DATABASE {name} SET synchronous_commit = off")
    await administer(database, f"{mine} SET synchronous_commit = off")
    assert await shown(database, "synchronous_commit") == "off"
    async with Database(database, Config()) as pools:
        found = await DurabilityWatch(pools, Config(), Metrics()).look()
        assert found["synchronous_commit"] == "on"
        for acquire in (pools.ingest, pools.operator, pools.officer):
            async with acquire() as connection:
                assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await administer(database, f"{mine} RESET synchronous_commit")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_can_lose_a_commit_is_told_of(database, server_dsn, setting, capfd):
    """Metric and log say so: at the start, after a reload that changes it, and when it is right."""
    async with Database(database, Config()) as pools:
        metrics = Metrics()
        watch = DurabilityWatch(pools, Config(), metrics)
        try:
            for text, durable in (("off", 0), ("on", 1), ("off", 0)):
                await administer(server_dsn, f"ALTER SYSTEM SET {setting} = {text}")
                await administer(server_dsn, "SELECT pg_reload_conf()")
                await settled(database, setting, text)

                async def told(text=text):
                    return (await watch.look())[setting] == text

                await until(told)
                exposition = metrics.exposition().decode()
                assert value(exposition, "trafficlog_database_durable", setting=setting) == durable
        finally:
            await administer(server_dsn, f"ALTER SYSTEM RESET {setting}")
            await administer(server_dsn, "SELECT pg_reload_conf()")
    said = capfd.readouterr()
    assert (said.out + said.err).count("database_not_durable") >= 2
    assert "database_durable_again" in said.out + said.err


async def test_the_service_looks_by_itself_at_the_start_and_again(database, server_dsn):
    """Each setting has its sample; one that changes is seen at the next look."""
    async with serving(database, durability_check_seconds=1) as service:

        async def seen(wanted=None):
            _, text = await service.call("GET", "/metrics", service.operator_key)
            if "trafficlog_database_durable{" not in text:
                return None
            found = {n: value(text, "trafficlog_database_durable", setting=n) for n in DURABLE}
            return found if wanted in (None, found["full_page_writes"]) else None

        assert (await until(seen))["synchronous_commit"] == 1
        before = await shown(database, "full_page_writes")
        other = {"on": "off", "off": "on"}[before]
        try:
            await administer(server_dsn, f"ALTER SYSTEM SET full_page_writes = {other}")
            await administer(server_dsn, "SELECT pg_reload_conf()")
            assert await until(lambda: seen(int(other == "on")))
        finally:
            await administer(server_dsn, "ALTER SYSTEM RESET full_page_writes")
            await administer(server_dsn, "SELECT pg_reload_conf()")
        await asyncio.sleep(0)
