import asyncpg
import pytest

from tests.sql.dump_schema import GOLDEN, dump, server_major
from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES
from trafficlog.retention import HISTORY_DAYS_MAX, WIDTHS
from trafficlog.store.settings import policy_book


@pytest.fixture
async def connection(database):
    """The superuser's connection to a migrated database."""
    connected = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    yield connected
    await connected.close()


async def test_the_golden_schema_is_what_the_migrations_make(database):
    """`sql/schema.sql` shows the schema as it is: who changes a migration generates it anew."""
    if await server_major(database) != 18:
        pytest.skip("the golden schema is that of PostgreSQL 18, which the wheel brings")
    assert dump(database) == GOLDEN.read_text("utf-8"), (
        "run `python -m tests.sql.dump_schema` and look at what it changes"
    )


@pytest.mark.parametrize(
    ("table", "codes"),
    [("kind", KIND_CODES), ("direction", DIRECTION_CODES), ("status", STATUS_CODES)],
)
async def test_code_tables_say_what_the_code_says(connection, table, codes):
    """A code in a row means the same to the database and to the service."""
    stored = await connection.fetch(f"SELECT name, code FROM {table}")
    assert {row["name"]: row["code"] for row in stored} == codes


async def test_every_retained_table_is_partitioned_by_its_expiry(connection):
    """Each retained table is range-partitioned by expires_at alone, with the width of its class."""
    stored = await connection.fetch("SELECT table_name, width FROM retained_table")
    assert {row["table_name"]: row["width"] for row in stored} == {
        data_class.value: width.value for data_class, width in WIDTHS.items()
    }
    keys = await connection.fetch(
        "SELECT relname::text, pg_get_partkeydef(oid) AS key FROM pg_class"
        " WHERE relkind = 'p' AND relnamespace = 'trafficlog'::regnamespace"
    )
    assert {row["relname"]: row["key"] for row in keys} == {
        data_class.value: "RANGE (expires_at)" for data_class in WIDTHS
    }


async def test_a_retained_table_has_one_index_and_no_default_partition(connection):
    """One key each while it takes inserts, and never a default partition: detaching needs none."""
    indexes = await connection.fetch(
        "SELECT tablename::text AS table, indexname::text AS index FROM pg_indexes"
        " WHERE schemaname = 'trafficlog' AND tablename = ANY ($1)",
        [data_class.value for data_class in WIDTHS],
    )
    assert sorted((row["table"], row["index"]) for row in indexes) == sorted(
        (data_class.value, f"{data_class.value}_key") for data_class in WIDTHS
    )
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0")
        == 0
    )


async def test_no_trigger_or_volatile_default_slows_copy(connection):
    """COPY stays in batches: no trigger on a row or an INSERT of a retained table, no default."""
    tables = [data_class.value for data_class in WIDTHS]
    # Of tgtype the bit 1 is FOR EACH ROW, the bit 4 is INSERT.
    triggers = (
        "SELECT tgname FROM pg_trigger"
        " WHERE tgrelid::regclass::text = ANY ($1) AND NOT tgisinternal AND tgtype & 5 <> 0"
    )
    assert await connection.fetch(triggers, tables) == []
    defaults = "SELECT adrelid::regclass FROM pg_attrdef WHERE adrelid::regclass::text = ANY ($1)"
    assert await connection.fetch(defaults, tables) == []


async def test_each_class_has_a_period_with_a_legal_basis(connection):
    """The periods of DESIGN §2 stand in the database, each with its basis; none is a constant."""
    rows = await connection.fetch("SELECT * FROM retention_policy")
    assert all(row["legal_basis"] for row in rows)
    days = {
        p.data_class.value: p.retention_period.total_seconds() / 86_400 for p in policy_book(rows)
    }
    assert days == {
        "traffic_record": 60,
        "history_record": 90,
        "debug_log": 14,
        "in_transit": 3,
        "access_log": 365,
    }


@pytest.mark.parametrize("days", [0, -1, HISTORY_DAYS_MAX + 1])
async def test_the_database_refuses_a_setting_that_is_no_period(connection, days):
    """Zero, negative and endless days are refused below the service too; off is NULL."""
    insert = (
        "INSERT INTO account (account_id, created_at, history_days, history_days_min,"
        " history_days_max) VALUES ('a', now(), $1, 1, 1)"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(insert, days)
    await connection.execute(insert, None)


@pytest.mark.parametrize(
    ("table", "lower", "upper"),
    [
        ("traffic_record", "2026-11-21T01:00Z", "2026-11-22T01:00Z"),
        ("traffic_record", "2026-11-21T00:00Z", "2026-11-23T00:00Z"),
        ("in_transit", "2026-11-21T00:00Z", "2026-11-22T00:00Z"),
        ("access_log", "2026-11-02T00:00Z", "2026-12-02T00:00Z"),
        ("account", "2026-11-21T00:00Z", "2026-11-22T00:00Z"),
    ],
)
async def test_a_partition_is_exactly_one_width_of_a_retained_table(
    connection, table, lower, upper
):
    """The database makes no partition but of the width and on the boundary its table has."""
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await connection.fetchval(
            "SELECT ensure_partition($1, $2::text::timestamptz, $3::text::timestamptz)",
            table,
            lower,
            upper,
        )


async def test_a_partition_is_made_once_and_with_the_zone_of_nobody(connection):
    """Made twice it is there once, with UTC bounds, wherever the session's clock stands."""
    await connection.execute("SET timezone = 'Australia/Lord_Howe'")
    make = (
        "SELECT ensure_partition('traffic_record', '2026-11-21T00:00Z'::timestamptz,"
        " '2026-11-22T00:00Z'::timestamptz)"
    )
    assert [await connection.fetchval(make) for _ in range(2)] == [True, False]
    row = await connection.fetchrow(
        "SELECT name, lower = '2026-11-21T00:00Z' AS low, upper = '2026-11-22T00:00Z' AS high"
        " FROM partition_catalogue"
    )
    assert tuple(row) == ("traffic_record_20261121", True, True)
    assert await connection.fetchval("SELECT count(*) FROM partition_register") == 1
