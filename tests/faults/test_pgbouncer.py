"""Through PgBouncer in transaction mode, the real one, everything works as it does directly."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from tests.api.helpers import NDJSON, history, send, until
from tests.faults.load import free_port
from tests.faults.test_embedded_postgres import wait_until
from tests.serving import serving, utc
from trafficlog.config import Config
from trafficlog.osuser import OsUser
from trafficlog.store.database import Database

NOW = utc("2026-11-21T12:00:00Z")
# Debian puts it where only root's path leads.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@pytest.fixture
def pooler(server_dsn):
    """The address of a PgBouncer before the tests' server: two connections of the server's each."""
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed (Debian package pgbouncer)")
    [socket_dir] = parse_qs(urlsplit(server_dsn).query).get("host", [""])
    if not socket_dir.startswith("/"):
        pytest.skip("the server is not the embedded one")
    # It does not run as root, and the server lets its own user in.
    user = OsUser(Path(socket_dir).stat().st_uid, Path(socket_dir).stat().st_gid)
    directory = Path(tempfile.mkdtemp(prefix="trafficlog-pgbouncer-"))
    user.own(directory)
    port = free_port()
    (directory / "pgbouncer.ini").write_text(
        f"""
[databases]
* = host={socket_dir} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
server_round_robin = 1
"""
    )
    user.own(directory / "pgbouncer.ini")
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, directory / "pgbouncer.ini"],
            stdout=output,
            stderr=output,
            **user.process_options,
        )
    try:
        wait_until(lambda: answers(port))
        yield f"postgresql://{pwd.getpwuid(user.uid).pw_name}@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def answers(port):
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def through(pooler, dsn):
    """The pooler's way to the same database."""
    return pooler + urlsplit(dsn).path


async def test_the_whole_service_works_through_a_pooler(database, pooler):
    """Ingest on both roads, reading, settings, holds, in transit: from many clients at once.

    Two connections of the server's serve all pools of the service and both roles' work
    follows each other on them, so whatever were left of one transaction would show in the next.
    """
    async with serving(database, NOW, pooler_url=through(pooler, database)) as service:
        ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
        other = await service.key("customer", "beta")
        records = [service.record(f"m{n}") for n in range(300)]
        later = [r | {"updated": NOW.isoformat(), "status": "delivered"} for r in records]

        async def read():
            status, page = await service.call("GET", "/v1/accounts/acme/history?limit=5", customer)
            assert status == 200, page
            status, page = await service.call("GET", "/v1/accounts/beta/history", other)
            assert (status, page["data"]) == (200, [])

        for batch in (records, later):
            answers = await asyncio.gather(
                *(service.post(ingest, *batch[n : n + 10]) for n in range(0, 300, 10)),
                *(service.post(ingest, *batch[n : n + 10]) for n in range(0, 300, 30)),
                *(read() for _ in range(20)),
            )
            told = [each for each in answers if each is not None]
            assert {status for status, _ in told} == {200}
        assert sum(t["updated"] for _, t in told) == 300
        found = await history(service, customer)
        assert len(found) == 300
        assert {r["status"] for r in found} == {"delivered"}

        debug = b'{"line":"x","account":"acme"}'
        status, _, _ = await send(
            service, "POST", "/v1/debug-logs", ingest, data=debug, headers=NDJSON
        )
        assert status == 200
        bad = service.record("bad", kind="fax")
        assert (await service.post(ingest, bad))[0] == 422
        status, told = await service.call("GET", "/v1/debug-logs", service.operator_key)
        assert (status, len(told["data"])) == (200, 2)

        assert (await service.call("PUT", "/v1/in-transit/c1", ingest, data=b"1"))[0] == 201
        assert (await service.call("DELETE", "/v1/in-transit/c1", ingest))[0] == 204
        path = "/v1/accounts/acme"
        assert (await service.call("DELETE", f"{path}/history/m0", customer))[0] == 200
        hold = {"account": "acme", "reason": "r", "case_ref": "c", "until": "2026-12-01"}
        status, _ = await service.call("POST", "/v1/holds", service.operator_key, json=hold)
        assert status == 201
        short = {"history": {"days": 5}}
        assert (await service.call("PUT", f"{path}/settings", customer, json=short))[0] == 200

        async def moved():
            _, told = await service.call("GET", f"{path}/settings", customer)
            return told["applying_since"] is None

        # The jobs go by the direct connection, where their lock belongs to a session.
        await until(moved)
        assert len(await history(service, customer)) == 299


async def test_nothing_of_a_transaction_stays_with_the_poolers_connection(database, pooler):
    """Roles hold within, commits go to disk, and who comes next finds neither role nor setting."""
    async with Database(database, Config(), through(pooler, database)) as pools:
        for acquire, role in (
            (pools.ingest, "trafficlog_ingest"),
            (pools.operator, "trafficlog_operator"),
            (pools.ingest, "trafficlog_ingest"),
        ):
            async with acquire() as connection:
                row = await connection.fetchrow(
                    "SELECT current_user AS role, current_setting('synchronous_commit') AS sync,"
                    " current_setting('search_path') AS path, current_setting('timezone') AS zone"
                )
                assert tuple(row) == (role, "on", "trafficlog, pg_temp", "UTC")
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    assert await connection.fetchval("SELECT current_user") == role
        async with pools.operator() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM traffic_record")
            # The refusal ended its transaction, not the connection.
            assert await connection.fetchval("SELECT 1") == 1
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.executemany(
                    "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
                    " history_days_max) VALUES ($1, now(), 90, 90, 90)",
                    [("a",), ("a",)],
                )
            assert await connection.fetchval("SELECT count(*) FROM account") == 0
    stranger = await asyncpg.connect(through(pooler, database), statement_cache_size=0)
    for _ in range(6):
        row = await stranger.fetchrow(
            "SELECT current_user AS role, current_setting('search_path') AS path,"
            " (SELECT count(*) FROM pg_prepared_statements WHERE name <> '') AS prepared"
        )
        assert tuple(row) == ("postgres", '"$user", public', 0)
    await stranger.close()


async def test_a_pooler_that_is_away_is_a_database_that_is_away(database, server_dsn):
    """503 at the start already, told as such; nothing hangs."""
    from trafficlog.errors import DatabaseUnavailableError

    config = Config(connect_seconds_max=2)
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/x"
    with pytest.raises(DatabaseUnavailableError):
        async with Database(database, config, nowhere):
            pass
