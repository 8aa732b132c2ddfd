import asyncpg
import pytest

from tests.sql.roles import ROLES, functions_of, table_privileges

PARTITION = "traffic_record_20261121"
CLOSED_SETS = ("kind", "direction", "status", "retained_table", "partition_catalogue")
EVERYBODY_READS = {name: {"SELECT"} for name in (*CLOSED_SETS, "schema_migration")}

MERGED = "updated_at delivered_at duration parts cost status withheld"
READ = MERGED.replace(" status", " kind status")
TEXTS = "sender recipient owner tags message"
ERASURE = (
    "everything fields filter found erased kinds oldest_day newest_day last_expiry reports"
    " reports_erased run_seconds backup_days repeat_key repeat_body"
)
ERASURE_ASKED = (
    "erasure_id account_key accepted_at everything fields filter created_after created_up_to"
    " found reports run_seconds backup_days repeat_key repeat_body"
    " ahead_created ahead_ids"
)

# What each role may do, table by table. A new grant must be written down here, with its reason
# in the review; what is not named is not allowed.
TABLES = {
    "trafficlog_ingest": {
        **EVERYBODY_READS,
        "account": {"SELECT", "INSERT"},
        "retention_policy": {"SELECT"},
        "settings_epoch": {"SELECT"},
        "debug_log": {"INSERT"},
        "usage_delta": {"INSERT"},
        "in_transit": {"SELECT", "INSERT", "UPDATE(account_key content)"},
        # What the merge of a later report needs: neither who sent it nor to whom.
        "traffic_record": {
            "INSERT",
            "SELECT(created_at expires_at updated_at account_key duration kind id ip user_agent)",
            "UPDATE(updated_at duration ip user_agent)",
        },
        "history_record": {
            "INSERT",
            f"SELECT(account_key created_at expires_at {READ} id {TEXTS})",
            f"UPDATE({MERGED} {TEXTS})",
        },
    },
    "trafficlog_customer": {
        **EVERYBODY_READS,
        "account": {"SELECT"},
        # Not how far the work has come: that names a record.
        "erasure": {
            f"SELECT(erasure_id account_key state accepted_at started_at finished_at {ERASURE})",
            f"INSERT({ERASURE_ASKED})",
        },
        "history_move": {"SELECT(account_key changed_at)"},
        "history_record": {"SELECT"},
        "monthly_report": {"SELECT"},
        "retention_policy": {"SELECT"},
        "usage_delta": {"SELECT"},
        "usage_statistic": {"SELECT"},
    },
    "trafficlog_operator": {
        **EVERYBODY_READS,
        "abuse_hold": {"SELECT", "UPDATE(ends_at released_at released_by)"},
        "account": {"SELECT", "INSERT"},
        "account_setting_change": {"SELECT"},
        "api_key": {"SELECT", "INSERT", "UPDATE(revoked_at)"},
        "debug_log": {"SELECT"},
        "ended_session": {"SELECT"},
        "held_record": {"SELECT"},
        "history_move": {"SELECT"},
        "ingest_minute": {"SELECT"},
        "installation": {"SELECT"},
        "job_run": {"SELECT"},
        "look_up_catalogue": {"SELECT"},
        "partition_drop": {"SELECT"},
        "partition_register": {"SELECT"},
        "purge_ledger": {"SELECT"},
        "purge_ledger_head": {"SELECT"},
        "retention_policy": {"SELECT"},
        "retention_state": {"SELECT"},
        "settings_epoch": {"SELECT"},
    },
    "trafficlog_officer": {
        **EVERYBODY_READS,
        # To find a hold, and whose it is; nothing of an account's settings.
        "abuse_hold": {"SELECT"},
        "access_log": {"SELECT"},
        "account": {"SELECT(account_key account_id)"},
        "held_record": {"SELECT"},
    },
}
FUNCTIONS = {
    "trafficlog_ingest": {
        "authenticate",
        "complete_in_transit",
        "ensure_partition",
        "is_later",
        "merge_later",
        "prefer",
        "settings_in_force",
        "store_later",
    },
    "trafficlog_customer": {
        "cancel_erasure",
        "change_settings",
        "current_account_key",
        "delete_report",
        "end_session",
        "erase_history",
        "history_page",
        "session_account",
    },
    "trafficlog_operator": {
        "change_settings",
        "close_account",
        "covers",
        "current_account_key",
        "describe_account",
        "end_session",
        "held_counts",
        "note_access",
        "set_policy",
        "place_hold",
        "protects",
    },
    "trafficlog_officer": {"covers", "disclose", "held_counts", "note_access", "protects"},
}


@pytest.fixture
async def connection(database):
    """The superuser's connection to a migrated database that has a partition."""
    connected = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    await connected.execute(
        "SELECT ensure_partition('traffic_record', '2026-11-21T00:00Z'::timestamptz,"
        " '2026-11-22T00:00Z'::timestamptz)"
    )
    yield connected
    await connected.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_to_each_table_what_is_written_down(connection, role):
    """Over all tables, views and partitions: no privilege more and none less."""
    assert await table_privileges(connection, role) == TABLES[role]


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_execute_the_functions_that_are_written_down(connection, role):
    """No function more and none less; what destroys is for retention and the account itself."""
    assert await functions_of(connection, role) == FUNCTIONS[role]


async def test_a_partition_is_open_to_the_owner_alone(connection):
    """Partitions have no grant of their own, so row-level security cannot be passed by."""
    for role in ROLES:
        assert PARTITION not in await table_privileges(connection, role)
    assert "SELECT" in (await table_privileges(connection, "trafficlog_owner"))[PARTITION]


async def test_nothing_is_open_to_everybody(connection):
    """PUBLIC may use neither the schema nor anything in it."""
    open_functions = await connection.fetch(
        "SELECT proname::text FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
        " WHERE pronamespace = 'trafficlog'::regnamespace AND grantee = 0"
    )
    assert open_functions == []
    open_tables = await connection.fetch(
        "SELECT relname::text FROM pg_class, aclexplode(relacl)"
        " WHERE relnamespace = 'trafficlog'::regnamespace AND grantee = 0"
    )
    assert open_tables == []
    public = (
        "SELECT count(*) FROM pg_namespace, aclexplode(nspacl) WHERE nspname = $1 AND grantee = 0"
    )
    assert await connection.fetchval(public, "trafficlog") == 0


async def test_no_narrow_role_is_a_member_of_another(connection):
    """Only retention takes the owner's part, because only an owner may detach and drop."""
    members = await connection.fetch(
        "SELECT r.rolname::text AS role, m.rolname::text AS member FROM pg_auth_members"
        " JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member"
        " WHERE m.rolname LIKE 'trafficlog%'"
    )
    assert [tuple(row) for row in members] == [("trafficlog_owner", "trafficlog_retention")]


async def test_no_role_has_the_servers_own_powers(connection):
    """No role is superuser or may log in or make roles; ingest alone bypasses row security."""
    roles = await connection.fetch(
        "SELECT rolname::text, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication"
        " OR rolcanlogin AS strong, rolbypassrls FROM pg_roles WHERE rolname LIKE 'trafficlog%'"
    )
    assert len(roles) == 6
    assert not any(row["strong"] for row in roles)
    assert [r["rolname"] for r in roles if r["rolbypassrls"]] == ["trafficlog_ingest"]


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_can_make_anything_in_the_schema(connection, role):
    """What stands in the schema is made by migrations and by ensure_partition."""
    create = "SELECT has_schema_privilege($1, 'trafficlog', 'CREATE')"
    assert not await connection.fetchval(create, role)
    create = "SELECT has_database_privilege($1, current_database(), 'CREATE')"
    assert not await connection.fetchval(create, role)


async def test_definer_functions_fix_their_search_path(connection):
    """A function that runs as the owner looks for nothing where its caller could put it."""
    loose = await connection.fetch(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'trafficlog'::regnamespace"
        " AND prosecdef"
        " AND NOT coalesce('search_path=trafficlog, pg_temp' = ANY (proconfig), false)"
    )
    assert loose == []
