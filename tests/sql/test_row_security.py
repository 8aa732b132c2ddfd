"""A customer's connection sees one account and nothing of another, and the ledger only grows."""

import asyncpg
import pytest

from tests.sql.roles import as_role


@pytest.fixture
async def two_accounts(database):
    """A database with two accounts of three history rows each."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    try:
        await connection.execute("""
            SELECT ensure_partition('history_record', '2026-12-01Z'::timestamptz, '2026-12-02Z');
            INSERT INTO account (account_id, created_at, history_days, history_days_min,
                                 history_days_max)
            VALUES ('acme', '2026-09-01Z', 90, 90, 90), ('other', '2026-09-01Z', 90, 90, 90);
            INSERT INTO history_record (account_key, created_at, expires_at, kind, direction,
                                        withheld, id, message)
            SELECT account_key, '2026-09-02Z', '2026-12-01Z', 1, 1, 0, 'm' || n, account_id
            FROM account, generate_series(1, 3) n;
            ANALYZE history_record;
        """)
    finally:
        await connection.close()
    return database


async def test_a_customer_sees_its_own_account_without_any_condition(two_accounts):
    """A query that forgets its WHERE shows no other account's rows."""
    async with as_role(two_accounts, "trafficlog_customer", 1) as connection:
        assert {r["message"] for r in await connection.fetch("SELECT * FROM history_record")} == {
            "acme"
        }
        assert await connection.fetchval("SELECT count(*) FROM history_record") == 3
        asked = "SELECT count(*) FROM history_record WHERE account_key = 2"
        assert await connection.fetchval(asked) == 0
        assert [r["account_id"] for r in await connection.fetch("SELECT * FROM account")] == [
            "acme"
        ]


@pytest.mark.parametrize("setting", ["", "3", "-1"])
async def test_without_an_account_nothing_is_seen(two_accounts, setting):
    """No account, or one that does not exist, sees no row at all."""
    async with as_role(two_accounts, "trafficlog_customer") as connection:
        await connection.execute("SELECT set_config('trafficlog.account_key', $1, false)", setting)
        assert await connection.fetch("SELECT * FROM history_record") == []
        assert await connection.fetch("SELECT * FROM account") == []


async def test_a_partition_cannot_be_read_past_the_policy(two_accounts):
    """The policy stands on the parent; the partition itself is closed."""
    async with as_role(two_accounts, "trafficlog_customer", 1) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM history_record_20261201")


async def test_a_cheap_function_sees_no_row_of_another_account(two_accounts):
    """The policy is applied before any condition that could tell of a row."""
    seen = []
    async with as_role(two_accounts, "trafficlog_customer", 1) as connection:
        connection.add_log_listener(lambda _, message: seen.append(message.message))
        await connection.execute(
            "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
            " AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'"
        )
        await connection.execute("SELECT * FROM history_record WHERE pg_temp.peek(message)")
    assert set(seen) == {"acme"}


async def test_statistics_show_a_customer_nothing_of_others(two_accounts):
    """Under row-level security the planner's most common values are hidden."""
    async with as_role(two_accounts, "trafficlog_customer", 1) as connection:
        found = "SELECT count(*) FROM pg_stats WHERE tablename LIKE 'history_record%'"
        assert await connection.fetchval(found) == 0


async def test_an_erasure_reaches_the_present_account_alone(two_accounts):
    """erase_history goes by the account of the connection, whatever id it is given."""
    async with as_role(two_accounts, "trafficlog_customer", 1) as connection:
        erased = await connection.fetchval(
            "SELECT rows_erased"
            " FROM erase_history('m1', ARRAY['2026-09-02Z'::timestamptz], '2026-11-21Z')"
        )
        assert erased == 1
    async with as_role(two_accounts, "trafficlog_customer", 2) as connection:
        assert await connection.fetchval("SELECT count(*) FROM history_record") == 3


@pytest.mark.parametrize("role", ["trafficlog_owner", "trafficlog_retention", "postgres"])
async def test_the_ledger_is_only_added_to(two_accounts, role):
    """Not even the owner changes, deletes or empties what the ledger says."""
    async with as_role(two_accounts, "trafficlog_customer", 1) as customer:
        await customer.fetchval(
            "SELECT rows_erased"
            " FROM erase_history('m1', ARRAY['2026-09-02Z'::timestamptz], '2026-11-21Z')"
        )
    async with as_role(two_accounts, role) as connection:
        for statement in (
            "UPDATE purge_ledger SET rows = 0",
            "UPDATE purge_ledger SET hash = hash WHERE false",
            "DELETE FROM purge_ledger",
            "DELETE FROM purge_ledger WHERE seq = 1",
            "TRUNCATE purge_ledger",
        ):
            with pytest.raises(asyncpg.RaiseError, match="only ever added to"):
                await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM purge_ledger") == 1


async def test_the_ledgers_hash_is_the_one_python_computes(two_accounts):
    """The database and the verifier take the hash of the same text."""
    from trafficlog.store.verify import verify_ledger

    async with as_role(two_accounts, "trafficlog_customer", 1) as customer:
        for record in ("m1", "m2", "m3"):
            await customer.fetchval(
                "SELECT rows_erased"
                " FROM erase_history($1, ARRAY['2026-09-02Z'::timestamptz], now())",
                record,
            )
    async with as_role(two_accounts, "trafficlog_operator") as operator:
        await operator.execute("SET timezone = 'Asia/Kathmandu'")
        report = await verify_ledger(operator)
    assert (report.entries, report.faults) == (3, ())
