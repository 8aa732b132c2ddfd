import re

import asyncpg
import pytest

from tests.sql.roles import as_role
from trafficlog.queries import queries, sql_directory

# Which role runs the queries of a file; a query named here is of another role's work as well,
# or instead.
ROLE_OF_FILE = {
    "ingest": "trafficlog_ingest",
    "durability": "trafficlog_ingest",
    "history": "trafficlog_customer",
    "erasures": "trafficlog_customer",
    "usage": "trafficlog_customer",
    "reports": "trafficlog_customer",
    "operate": "trafficlog_operator",
    "holds": "trafficlog_operator",
    "oversight": "trafficlog_operator",
    "disclosures": "trafficlog_officer",
    "retention": "trafficlog_retention",
    "explain": "trafficlog_retention",
    "migrate": "superuser",
}
ROLES_OF_QUERY = {
    "roll_up_usage": ("trafficlog_retention",),
    "note_job": ("trafficlog_retention",),
    "partitions": ("trafficlog_operator", "trafficlog_retention"),
    "history_periods": ("trafficlog_operator", "trafficlog_retention"),
    "last_reference": ("trafficlog_operator", "trafficlog_retention"),
    "drops_begun": ("trafficlog_operator", "trafficlog_retention"),
    "end_session": ("trafficlog_customer", "trafficlog_operator"),
    "erasures_open": ("trafficlog_retention",),
    "erase_step": ("trafficlog_retention",),
    "fail_erasure": ("trafficlog_retention",),
    "forget_repeats": ("trafficlog_retention",),
    "forget_erasures": ("trafficlog_retention",),
    "reports_due": ("trafficlog_retention",),
    "make_reports": ("trafficlog_retention",),
    "account_of_key": ("trafficlog_customer", "trafficlog_operator"),
    "change_settings": ("trafficlog_customer", "trafficlog_operator"),
    "authenticate": ("trafficlog_ingest",),
    "put_in_transit": ("trafficlog_ingest",),
    "add_in_transit": ("trafficlog_ingest",),
    "lock_in_transit": ("trafficlog_ingest",),
    "get_in_transit": ("trafficlog_ingest",),
    "complete_in_transit": ("trafficlog_ingest",),
    "ensure_partition": ("trafficlog_ingest", "trafficlog_retention"),
    "account_key_of": ("trafficlog_operator", "trafficlog_officer"),
    "note_access": ("trafficlog_operator", "trafficlog_officer"),
    "hold": ("trafficlog_operator", "trafficlog_officer"),
    "holds": ("trafficlog_operator", "trafficlog_officer"),
    "held_counts": ("trafficlog_operator", "trafficlog_officer"),
    "held_records": ("trafficlog_operator", "trafficlog_officer"),
    "policies": (
        "trafficlog_ingest",
        "trafficlog_customer",
        "trafficlog_operator",
        "trafficlog_retention",
    ),
    "schema_version": ("trafficlog_ingest",),
    "holds_active": ("trafficlog_operator", "trafficlog_retention"),
    "cursor_secret": ("trafficlog_operator", "trafficlog_retention"),
    "ledger": ("trafficlog_operator", "trafficlog_retention"),
    "ledger_head": ("trafficlog_operator", "trafficlog_retention"),
}
NAME = re.compile(r"^-- name: (\w+)[^\n]*\n(-- [^\n]+\n)?", re.MULTILINE)


def named_queries():
    """Every query with its file's name and whether a sentence follows its name."""
    for path in sorted((sql_directory() / "queries").glob("*.sql")):
        for match in NAME.finditer(path.read_text("utf-8")):
            yield path.stem, match[1], match[2]


ALL = list(named_queries())


def roles_of(file, name):
    """The roles that run a query."""
    return ROLES_OF_QUERY.get(name, (ROLE_OF_FILE[file],))


def test_every_query_has_a_name_of_its_own_and_a_sentence():
    """A query is found by its name and says in one sentence what it is for."""
    names = [name for _, name, _ in ALL]
    assert sorted(names) == sorted(set(names))
    assert [
        name
        for _, name, sentence in ALL
        if not sentence or not sentence.strip().endswith((".", ":"))
    ] == []
    assert {n for n in queries.available_queries if not n.endswith("_cursor")} == set(names)
    assert set(names) >= ROLES_OF_QUERY.keys()


async def test_every_query_can_be_planned_by_the_role_that_runs_it(database):
    """Each statement fits the schema, and the role that runs it may do all that it asks for.

    Preparing alone would not look at privileges; explaining the prepared statement does.
    """
    faults = []
    by_role = {}
    for file, name, _ in ALL:
        for role in roles_of(file, name):
            by_role.setdefault(role, []).append(name)
    for role, names in by_role.items():
        if role == "superuser":
            connection = await asyncpg.connect(database)
            faults += [f"{role}: {e}" for e in await explained(connection, names)]
            await connection.close()
            continue
        async with as_role(database, role, 1) as connection:
            faults += [f"{role}: {e}" for e in await explained(connection, names)]
    assert faults == []


async def explained(connection, names):
    """What the database objects to in each query."""
    faults = []
    for name in names:
        text = getattr(queries, name).sql.rstrip().rstrip(";")
        text = text.removeprefix("EXPLAIN (FORMAT JSON)")
        if text.startswith("CREATE"):
            continue
        parameters = max((int(n) for n in re.findall(r"\$(\d+)", text)), default=0)
        nulls = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        try:
            await connection.execute(f"PREPARE q_{name} AS {text}")
            await connection.execute(f"EXPLAIN EXECUTE q_{name}{nulls}")
        except asyncpg.PostgresError as error:
            faults.append(f"{name}: {error}")
    return faults


@pytest.mark.parametrize("role", ["trafficlog_customer", "trafficlog_officer"])
async def test_a_role_cannot_run_another_ones_queries(database, role):
    """The check above would notice a privilege that is not there."""
    async with as_role(database, role) as connection:
        faults = await explained(
            connection, ["debug_lines", "keys", "drops_begun", "get_in_transit"]
        )
    assert len(faults) == 4
    assert all("permission denied" in fault for fault in faults)


@pytest.mark.parametrize("file", sorted(ROLE_OF_FILE.keys() - {"retention", "migrate"}))
def test_what_goes_through_a_pool_leaves_nothing_in_its_session(file):
    """The next to have the connection finds no setting and no lock: nobody puts it back."""
    text = (sql_directory() / "queries" / f"{file}.sql").read_text("utf-8")
    code = re.sub(r"--.*", "", text)
    assert not re.findall(r"set_config\([^()]*,\s*false\)", code)
    assert not re.findall(r"pg_(?:try_)?advisory_lock(?:_shared)?\(", code)
    assert not re.findall(r"^\s*(?:SET|LISTEN|PREPARE|DECLARE)\b.*;", code, re.MULTILINE)
