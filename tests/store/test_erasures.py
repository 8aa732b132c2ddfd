"""Erasures in the database: who sees and makes them."""

import asyncpg
import pytest

from tests.sql.roles import as_role
from tests.store.helpers import NOW, opened, report
from trafficlog.errors import NotFoundError
from trafficlog.store.erasures import Erasures, Wanted
from trafficlog.store.history_list import HistoryFilter


@pytest.fixture
async def two(store):
    """Two accounts with an erasure under way each; their keys and the erasures' ids."""
    await store.write(report("m1"), report("m1", account="other"))
    erasures = Erasures(store.database, b"secret" * 6)
    made = []
    for account in ("acme", "other"):
        key = await store.account_key(account)
        erasure = await erasures.start(key, Wanted(HistoryFilter(sender="Acme")), NOW)
        made.append((key, erasure.id))
    return erasures, made


async def test_an_erasure_tells_how_long_backups_are_kept(database):
    """As the setting was when it was accepted."""
    async with opened(database, backup_days=7) as store:
        await store.write(report("m1"))
        erasures, key = Erasures(store.database, b"secret" * 6), await store.account_key("acme")
        erasure = await erasures.start(key, Wanted(None), NOW)
        assert (await erasures.get(key, erasure.id)).backup_days == 7


async def test_a_customers_connection_sees_and_cancels_its_own_erasures_alone(store, two):
    """Without any condition of ours: the database itself shows and changes no other's."""
    erasures, [(acme, mine), (other, theirs)] = two
    async with as_role(store.dsn, "trafficlog_customer", acme) as connection:
        found = await connection.fetch("SELECT erasure_id FROM erasure")
        assert [row["erasure_id"] for row in found] == [mine]
        assert not await connection.fetchval("SELECT cancel_erasure($1, $2)", theirs, NOW)
    with pytest.raises(NotFoundError):
        await erasures.cancel(acme, theirs, NOW)
    assert (await erasures.get(other, theirs)).state == "queued"


async def test_a_customers_connection_asks_for_its_own_account_alone(store, two):
    """It can neither ask in another's name, nor change or delete what was asked."""
    _, [(acme, mine), (other, _)] = two
    statement = (
        "INSERT INTO erasure (erasure_id, account_key, accepted_at, everything, fields, filter,"
        " created_after, created_up_to, found, reports, run_seconds, backup_days)"
        " VALUES ('x', {}, now(), true, '{{}}', '{{}}', now(), now(), 0, false, 1, 1)"
    )
    async with as_role(store.dsn, "trafficlog_customer", acme) as connection:
        for bad in (
            statement.format(other),
            "UPDATE erasure SET found = 0",
            "DELETE FROM erasure",
            "SELECT reached_id FROM erasure",
            f"SELECT erase_step('{mine}', now(), 10, interval '1 day')",
            f"SELECT finish_erasure('{mine}', 'done', now())",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(bad)
        await connection.execute(statement.format(acme))
