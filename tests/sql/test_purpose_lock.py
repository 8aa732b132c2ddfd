"""The legal record is read neither for history nor by operators: the database refuses it.

Officers read it through one function, which writes the access log.
"""

import io

import asyncpg
import pytest

from tests.sql.roles import as_role

LOCKED_OUT = ["trafficlog_customer", "trafficlog_operator", "trafficlog_officer"]
TABLES = ["traffic_record", "traffic_record_20261121"]
SECRET = "+46700000001"
# A server may be built without XML, which is as good a refusal.
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)

# Every way to the rows, or to what is known of them, that a statement has.
STATEMENTS = [
    "SELECT * FROM {table}",
    "SELECT count(*) FROM {table}",
    "SELECT created_at FROM {table} LIMIT 1",
    "SELECT ctid, tableoid FROM {table}",
    "SELECT EXISTS (SELECT FROM {table})",
    "SELECT t FROM {table} t",
    "TABLE {table}",
    "SELECT * FROM ONLY {table}",
    "SELECT 1 FROM kind k JOIN {table} t ON t.kind = k.code",
    "SELECT * FROM {table} FOR UPDATE",
    "WITH t AS (SELECT * FROM {table}) SELECT * FROM t",
    "EXPLAIN SELECT * FROM {table}",
    "EXPLAIN ANALYZE SELECT * FROM {table}",
    "COPY {table} TO STDOUT",
    "COPY (SELECT * FROM {table}) TO STDOUT",
    "COPY {table} TO PROGRAM 'cat'",
    "BEGIN; DECLARE c CURSOR FOR SELECT * FROM {table}; FETCH ALL FROM c",
    "CREATE TEMP TABLE mine AS SELECT * FROM {table}",
    "CREATE TEMP VIEW mine AS SELECT * FROM {table}; SELECT * FROM mine",
    "CREATE MATERIALIZED VIEW mine AS SELECT * FROM {table}",
    (
        "CREATE FUNCTION pg_temp.peek() RETURNS bigint LANGUAGE sql"
        " AS 'SELECT count(*) FROM trafficlog.{table}'; SELECT pg_temp.peek()"
    ),
    "DO $$ BEGIN PERFORM * FROM trafficlog.{table}; END $$",
    "SELECT table_to_xml('trafficlog.{table}', true, true, '')",
    "SELECT query_to_xml('SELECT * FROM trafficlog.{table}', true, true, '')",
    "INSERT INTO {table} DEFAULT VALUES RETURNING *",
    "UPDATE {table} SET duration = 1",
    "UPDATE {table} SET ip = ip RETURNING *",
    "DELETE FROM {table} RETURNING *",
    "MERGE INTO {table} t USING kind k ON t.kind = k.code WHEN MATCHED THEN DELETE",
    "TRUNCATE {table}",
    "BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE",
    "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    "DROP TABLE {table}",
    "ALTER TABLE {table} OWNER TO trafficlog_customer",
    "GRANT SELECT ON {table} TO PUBLIC",
    "CREATE INDEX ON {table} (sender)",
    "CREATE RULE r AS ON INSERT TO {table} DO ALSO SELECT 1",
    "SELECT pg_read_file(pg_relation_filepath('{table}'))",
    "SELECT * FROM pg_statistic WHERE starelid = '{table}'::regclass",
    "SELECT copy_held('{table}', 'traffic_record', now(), now())",
    "SELECT weigh_partition('traffic_record', '{table}', now())",
    "SELECT begin_drop('traffic_record', '{table}', now())",
    "SELECT finish_drop('{table}', now(), 0)",
]


@pytest.fixture
async def filled(database):
    """A database with one legal record, analysed, and a hold that keeps a copy of it."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    try:
        await connection.execute(f"""
            SELECT ensure_partition('traffic_record', '2026-11-21Z'::timestamptz, '2026-11-22Z');
            INSERT INTO account (account_id, created_at, history_days_min, history_days_max)
            VALUES ('acme', now(), 90, 90);
            INSERT INTO traffic_record (created_at, expires_at, account_key, kind, direction, id,
                                        sender, recipient)
            SELECT '2026-09-22Z', '2026-11-21Z', 1, 1, 1, 'm' || n, '{SECRET}', '{SECRET}'
            FROM generate_series(1, 100) n;
            ANALYZE traffic_record;
            ANALYZE traffic_record_20261121;
            SELECT place_hold('h1', 1, NULL, NULL, NULL, NULL, NULL, 'reason', 'case', 'test',
                              '2026-11-20Z', '2027-11-20Z');
            SELECT copy_held('traffic_record', 'traffic_record', '2026-11-22Z', '2026-11-22Z');
            INSERT INTO held_record (data_class, account_key, created_at, record_id, expires_at,
                                     copied_at, content)
            VALUES ('history_record', 1, now(), 'm1', now(), now(), '{{}}');
        """)
    finally:
        await connection.close()
    return database


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", LOCKED_OUT)
async def test_no_statement_reaches_the_legal_record(filled, role, table):
    """Neither through the table nor through a partition, whatever the statement."""
    came_through = []
    async with as_role(filled, role, 1) as connection:
        for statement in STATEMENTS:
            text = statement.format(table=table)
            try:
                if text.startswith("COPY ") and text.endswith("STDOUT"):
                    await copy_out(connection, text)
                else:
                    await connection.execute(text)
            except REFUSED:
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
            except asyncpg.PostgresError as error:
                came_through.append(f"{text}: {error}")
            else:
                came_through.append(text)
    assert came_through == []


async def copy_out(connection, text):
    """Runs a COPY to the client."""
    source = text.removeprefix("COPY ").removesuffix(" TO STDOUT").removeprefix("trafficlog.")
    if source.startswith("("):
        await connection.copy_from_query(source.strip("()"), output=io.BytesIO())
    else:
        await connection.copy_from_table(source, output=io.BytesIO())


@pytest.mark.parametrize("role", LOCKED_OUT)
async def test_statistics_show_nothing_of_the_legal_record(filled, role):
    """The planner's most common values are the numbers themselves: they are not shown."""
    async with as_role(filled, role, 1) as connection:
        for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
            found = f"SELECT count(*) FROM {view} WHERE tablename LIKE 'traffic_record%'"
            assert await connection.fetchval(found) == 0
            anywhere = f"SELECT count(*) FROM {view} v WHERE v::text LIKE '%{SECRET}%'"
            assert await connection.fetchval(anywhere) == 0
    superuser = await asyncpg.connect(filled)
    seen = await superuser.fetchval(
        "SELECT count(*) FROM pg_stats v WHERE tablename LIKE 'traffic_record%'"
        f" AND v::text LIKE '%{SECRET}%'"
    )
    await superuser.close()
    assert seen > 0, "the statistics are there, so that not seeing them says something"


async def test_the_legal_copies_of_a_hold_are_hidden_from_operators(filled):
    """Operators count the held legal records and do not see them; officers see them alone."""
    async with as_role(filled, "trafficlog_operator") as operator:
        classes = await operator.fetch("SELECT DISTINCT data_class FROM held_record")
        assert [r["data_class"] for r in classes] == ["history_record"]
        counts = await operator.fetch("SELECT * FROM held_counts('h1')")
        assert {r["data_class"]: r["rows"] for r in counts} == {
            "history_record": 1,
            "traffic_record": 100,
        }
    async with as_role(filled, "trafficlog_officer") as officer:
        classes = await officer.fetch("SELECT DISTINCT data_class FROM held_record")
        assert [r["data_class"] for r in classes] == ["traffic_record"]
    async with as_role(filled, "trafficlog_customer", 1) as customer:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await customer.fetch("SELECT * FROM held_record")


async def test_a_cheap_function_does_not_see_rows_before_the_policy(filled):
    """A function that the planner would like to call first is shown no hidden row."""
    seen = []
    async with as_role(filled, "trafficlog_operator") as operator:
        operator.add_log_listener(lambda _, message: seen.append(message.message))
        await operator.execute(
            "CREATE FUNCTION pg_temp.peek(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
            " AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'"
        )
        await operator.execute("SELECT * FROM trafficlog.held_record WHERE pg_temp.peek(content)")
    assert len(seen) == 1
    assert not any(SECRET in text for text in seen)


DISCLOSE = (
    "SELECT * FROM disclose('acme', NULL, NULL, NULL, '2026-09-01Z', '2026-10-01Z', NULL, NULL,"
    " NULL, 1000, '2026-11-20Z', 'me', 'order', 'PO-1')"
)


@pytest.mark.parametrize("role", ["trafficlog_ingest", *LOCKED_OUT[:2]])
async def test_a_disclosure_is_for_officers_alone(filled, role):
    """No other role may call what reads the legal record."""
    async with as_role(filled, role, 1) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(DISCLOSE)


async def test_an_officer_reads_no_legal_record_without_the_access_log(filled):
    """What the function gives is what the log says, and an officer cannot write or change that."""
    async with as_role(filled, "trafficlog_officer") as officer:
        assert len(await officer.fetch(DISCLOSE)) == 100
        [entry] = await officer.fetch("SELECT actor, reason, case_ref, rows FROM access_log")
        assert tuple(entry) == ("me", "order", "PO-1", 100)
        for statement in (
            "INSERT INTO access_log DEFAULT VALUES",
            "UPDATE access_log SET rows = 0",
            "DELETE FROM access_log",
            "TRUNCATE access_log",
            "SELECT * FROM history_record",
            "SELECT * FROM debug_log",
            "SELECT history_days FROM account",
            "UPDATE abuse_hold SET ends_at = now()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await officer.execute(statement)


async def test_ingest_cannot_read_the_parties_of_a_legal_record(filled):
    """The writer may merge a later report; whose number it is it cannot read back."""
    async with as_role(filled, "trafficlog_ingest") as connection:
        for column in ("sender", "recipient", "direction", "*"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT {column} FROM traffic_record")
        for statement in ("DELETE FROM traffic_record", "TRUNCATE traffic_record"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
