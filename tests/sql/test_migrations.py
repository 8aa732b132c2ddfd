import asyncio
import os
import re

import asyncpg
import pytest

from tests.conftest import administer, with_database
from trafficlog import migrate
from trafficlog.errors import MigrationError
from trafficlog.queries import sql_directory


@pytest.fixture
async def empty_database(server_dsn):
    """The dsn of a database in which nothing was ever made."""
    name = f"empty_{os.getpid()}"
    await administer(server_dsn, f"CREATE DATABASE {name} TEMPLATE template0")
    yield with_database(server_dsn, name)
    await administer(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def applied(dsn):
    """What a database says was applied to it."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch("SELECT * FROM trafficlog.schema_migration ORDER BY version")
    finally:
        await connection.close()


def test_migrations_are_numbered_without_gaps():
    """Every file of the directory is one of them, and each has its own number from 1 on."""
    found = migrate.migrations()
    assert [m.version for m in found] == list(range(1, len(found) + 1))
    files = sorted(p.name for p in (sql_directory() / "migrations").iterdir())
    assert [f"{m.version:04}_{m.name}.sql" for m in found] == files


@pytest.mark.parametrize(
    "names",
    [
        ("0001_a.sql", "0003_b.sql"),
        ("0001_a.sql", "0001_b.sql"),
        ("0002_a.sql",),
        ("1_a.sql",),
        ("0001_A b.sql",),
    ],
)
def test_a_misnumbered_migration_is_refused(tmp_path, names):
    """A gap, a number used twice or a name of another form stops everything."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        migrate.migrations(tmp_path)


async def test_each_is_applied_once_with_its_checksum(empty_database):
    """The first run applies all in order, the second none."""
    wanted = migrate.migrations()
    result = await migrate.migrate(empty_database)
    assert (result.before, result.after) == (0, len(wanted))
    assert result.applied == tuple(m.name for m in wanted)
    again = await migrate.migrate(empty_database)
    assert (again.before, again.after, again.applied) == (len(wanted), len(wanted), ())
    assert [(r["version"], r["name"], r["checksum"]) for r in await applied(empty_database)] == [
        (m.version, m.name, m.checksum) for m in wanted
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", m.checksum) for m in wanted)


async def test_a_file_changed_after_it_was_applied_is_refused(database, monkeypatch):
    """A migration is never edited: the database knows what it was when it was applied."""
    first, *others = migrate.migrations()
    changed = migrate.Migration(first.version, first.name, first.sql + "\n-- one word more")
    monkeypatch.setattr(migrate, "migrations", lambda: [changed, *others])
    with pytest.raises(MigrationError, match="not the one that was applied"):
        await migrate.migrate(database)


async def test_a_database_of_a_newer_version_is_refused(database):
    """An older trafficlog does not start on a schema it does not know."""
    version = len(migrate.migrations()) + 1
    await administer(
        database,
        f"INSERT INTO trafficlog.schema_migration VALUES ({version}, 'future', repeat('0', 64))",
    )
    with pytest.raises(MigrationError, match="start a newer one"):
        await migrate.migrate(database)


async def test_a_migration_that_fails_leaves_nothing_behind(database, monkeypatch):
    """Each file is one transaction: what it did before it failed is undone, and not noted."""
    known = migrate.migrations()
    broken = migrate.Migration(
        len(known) + 1, "broken", "CREATE TABLE trafficlog.half (a int); SELECT 1 / 0;"
    )
    monkeypatch.setattr(migrate, "migrations", lambda: [*known, broken])
    with pytest.raises(MigrationError, match="broken"):
        await migrate.migrate(database)
    assert len(await applied(database)) == len(known)
    with pytest.raises(asyncpg.UndefinedTableError):
        await administer(database, "SELECT * FROM trafficlog.half")


async def test_two_migrations_at_once_apply_each_file_once(empty_database):
    """Services started together wait for the one that migrates and find it done."""
    results = await asyncio.gather(*(migrate.migrate(empty_database) for _ in range(4)))
    wanted = len(migrate.migrations())
    assert sorted(len(r.applied) for r in results) == [0, 0, 0, wanted]
    assert len(await applied(empty_database)) == wanted


async def test_another_database_of_the_server_may_have_made_the_roles(server_dsn, empty_database):
    """Roles belong to the whole server; two databases can be migrated at the same moment."""
    other = f"other_{os.getpid()}"
    await administer(server_dsn, f"CREATE DATABASE {other} TEMPLATE template0")
    try:
        dsns = (empty_database, with_database(server_dsn, other))
        results = await asyncio.gather(*(migrate.migrate(dsn) for dsn in dsns))
    finally:
        await administer(server_dsn, f"DROP DATABASE {other} WITH (FORCE)")
    assert all(len(r.applied) == len(migrate.migrations()) for r in results)


async def test_no_report_is_made_of_a_month_that_was_counted_in_part(empty_database, monkeypatch):
    """An account that was there before reports gets them from its first whole month of usage on."""
    known = migrate.migrations()
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "migrations", lambda: known[:10])
        await migrate.migrate(empty_database)
    counted_from = "UPDATE trafficlog.schema_migration SET applied_at = '2026-10-31T23:59:59Z'"
    account = (
        "INSERT INTO trafficlog.account (account_id, created_at, history_days, history_days_min,"
        " history_days_max) VALUES ('acme', now(), 90, 90, 90)"
    )
    usage = (
        "INSERT INTO trafficlog.usage_statistic SELECT 1, month, 1, 2, 3, 1, 1, 0, 0"
        " FROM unnest('{2026-09-01,2026-10-31,2026-11-01}'::date[]) month"
    )
    for statement in (f"{counted_from} WHERE version = 10", account, usage):
        await administer(empty_database, statement)
    await migrate.migrate(empty_database)
    connection = await asyncpg.connect(
        empty_database, server_settings={"search_path": "trafficlog"}
    )
    for month in (9, 10, 11):
        await connection.execute(
            f"SELECT make_reports('2026-{month:02}-01', '2027-03-01Z', '2026-12-01Z', 10)"
        )
    made = await connection.fetch("SELECT month FROM monthly_report")
    await connection.close()
    assert [str(row["month"]) for row in made] == ["2026-11-01"]
