"""``trafficlog disclose``: the legal record for an authority, as a table, JSON or CSV."""

from __future__ import annotations

import asyncio
import csv

import asyncpg
import pytest

from tests.cli.process import TIME_TRAVEL, invoke

ASKED = ("disclose", "--reason", "order of the court", "--case-ref", "PO-17")
WINDOW = ("--from", "2026-11-20", "--to", "2026-11-22")


@pytest.fixture
async def filled(database):
    """A database with three legal records of the account acme, created at the same time."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    await connection.execute("""
        SELECT ensure_partition('traffic_record', '2027-01-20Z'::timestamptz, '2027-01-21Z');
        INSERT INTO account (account_id, created_at, history_days_min, history_days_max)
        VALUES ('acme', now(), 90, 90);
        INSERT INTO traffic_record (created_at, expires_at, account_key, kind, direction, id,
                                    sender, recipient)
        SELECT '2026-11-21Z', '2027-01-20Z', account_key, 1, 2, 'm' || n, 'Acme, Inc', '+46701'
        FROM account, generate_series(1, 3) n
    """)
    await connection.close()
    return database


def accesses(dsn):
    """The readings that the access log has, the smallest first."""

    async def read():
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetch("SELECT * FROM trafficlog.access_log ORDER BY rows")
        finally:
            await connection.close()

    return asyncio.run(read())


def test_all_pages_are_printed_and_each_is_noted(filled):
    """With the person who ran the command, the reason and the case; as JSON and as a table."""

    def run(*arguments):
        env = TIME_TRAVEL | {"TRAFFICLOG_PAGE_RECORDS_MAX": "2"}
        return invoke(*ASKED, *WINDOW, *arguments, dsn=filled, env=env)

    found = run("--number", "00 46 701", "--json").json["records"]
    assert [r["id"] for r in found] == ["m1", "m2", "m3"]
    assert (found[0]["from"], found[0]["to"], found[0]["account"]) == (
        "Acme, Inc",
        "+46701",
        "acme",
    )
    table = run("--account", "acme").out.splitlines()
    assert len(table) == 4
    assert table[0].split()[:2] == ["account", "id"]
    nothing = run("--ip", "10.0.0.1")
    assert (nothing.code, nothing.out.strip()) == (0, "no records")
    noted = accesses(filled)
    assert [r["rows"] for r in noted] == [0, 1, 1, 2, 2]
    assert {r["actor"].partition(":")[0] for r in noted} == {"cli"}
    assert {(r["reason"], r["case_ref"]) for r in noted} == {("order of the court", "PO-17")}


def test_a_csv_file_says_all_that_the_api_says(filled, tmp_path):
    """With the API's names, times in UTC, and a cell left empty for what is not known."""
    path = tmp_path / "out.csv"
    arguments = ("--record", "acme/m2", "--csv", str(path))
    done = invoke(*ASKED, *WINDOW, *arguments, dsn=filled, env=TIME_TRAVEL)
    assert (done.code, done.out) == (0, "")
    [row] = csv.DictReader(path.read_text("utf-8").splitlines())
    assert (row["id"], row["from"], row["ip"]) == ("m2", "Acme, Inc", "")
    assert (row["created"], row["expires"]) == ("2026-11-21T00:00:00Z", "2027-01-20T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((*WINDOW,), 2, "selector"),
        ((*WINDOW, "--account", "acme", "--number", "1"), 2, "selector"),
        (("--from", "2026-01-01", "--to", "2026-12-01", "--account", "acme"), 2, "created_to"),
        (("--from", "2026-12-01", "--to", "2026-11-01", "--account", "acme"), 2, "created_to"),
        (("--from", "soon", "--to", "2026-11-22", "--account", "acme"), 2, "created_from"),
        (("--account", "acme"), 2, "--from"),
        ((*WINDOW, "--account", "nobody"), 1, "nobody"),
    ],
)
def test_what_cannot_be_answered_says_why(filled, arguments, code, named):
    """Wrong usage is exit code 2 and an account that is not there 1; no file is begun."""
    done = invoke(*ASKED, *arguments, "--csv", "never.csv", dsn=filled, env=TIME_TRAVEL)
    assert done.code == code
    assert named in done.err
