"""Each command as a script calls it: exit codes, and answers that can be parsed."""

from __future__ import annotations

import asyncio

import asyncpg
import click
import pytest

from tests.cli.process import TIME_TRAVEL, invoke, trafficlog
from tests.conftest import with_database
from trafficlog.cli import main

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"
HOLD = ("hold", "place", "--account", "acme", "--reason", "fraud", "--case-ref", "c1")


def commands(group: click.Group, *path: str):
    """Every command with its name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        yield (*path, name), command


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_explains_itself(path):
    """A person who asks for help is told what it does, and what each option means."""
    command = COMMANDS[path]
    assert command.help
    assert command.help.strip().splitlines()[0].endswith((".", ":"))
    assert all(p.help for p in command.params if isinstance(p, click.Option))


async def test_help_of_the_real_command():
    """It names the groups and the exit codes, on standard output."""
    top, place = await asyncio.gather(trafficlog("--help"), trafficlog("hold", "place", "--help"))
    assert (top.code, place.code) == (0, 0)
    assert "wrong usage" in top.out
    assert "--until" in place.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("retention", "plan"),
        ("retention", "verify"),
        ("migrate",),
        ("key", "list"),
        ("serve", "--listen", "127.0.0.1:0"),
    ],
    ids=" ".join,
)
async def test_a_database_that_cannot_be_reached_is_exit_code_3(arguments):
    """Said in one sentence, without a stack trace."""
    done = await trafficlog(*arguments, dsn=NOBODY)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("trafficlog: ")
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [("key", "list"), ("migrate",)], ids=" ".join)
def test_a_database_that_is_not_there_is_exit_code_3(server_dsn, arguments):
    """The server answers, but has no database of this name."""
    done = invoke(*arguments, dsn=with_database(server_dsn, "missing"))
    assert done.code == 3
    assert "missing" in done.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("account", "create", "x", "--history-days", "0"), "--history-days"),
        (("account", "create", "x", "--history-days", "-1"), "--history-days"),
        (("account", "create", "x", "--history-days", "1.5"), "--history-days"),
        (("account", "create", "x", "--history-days", "99999"), "--history-days"),
        (("account", "create", "x", "--history-days", "forever"), "--history-days"),
        (("account", "create", "x y"), "ACCOUNT"),
        (("account", "set", "acme"), "--history-days"),
        (("account", "set", "acme", "--dontlog", "message,cost"), "--dontlog"),
        (("account", "set", "acme", "--dontlog", ""), "--dontlog"),
        (("account", "set", "acme", "--currency", "kr"), "currency"),
        (("account", "set", "acme", "--display-name", "x" * 101), "--display-name"),
        (("account", "set", "acme", "--display-name", "a\tb"), "--display-name"),
        (HOLD, "--until"),
        ((*HOLD, "--until", "soon"), "--until"),
        ((*HOLD, "--until", "2019-01-01"), "until"),
        ((*HOLD, "--until", "2199-01-01"), "until"),
        ((*HOLD, "--until", "2027-01-01", "--ip", "192.0.2.1"), "exactly one"),
        ((*HOLD[:2], *HOLD[4:], "--until", "2027-01-01", "--ip", "nonsense"), "ip"),
        ((*HOLD[:2], *HOLD[4:], "--until", "2027-01-01", "--record", "acme"), "ACCOUNT/ID"),
        (("retention", "plan", "--at", "yesterday"), "--at"),
        (("retention", "run", "--at", "2199-01-01"), "TRAFFICLOG_TIME_TRAVEL"),
        (("key", "create", "--scope", "everything"), "--scope"),
        (("key", "create", "--scope", "customer"), "account"),
        (("serve", "--listen", "nowhere"), "--listen"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_names_what_is_wrong(arguments, named, database):
    """Exit code 2 and a sentence that names the option."""
    done = invoke(*arguments, dsn=database)
    assert done.code == 2, done.err
    assert named in done.err


async def test_a_later_time_is_refused_without_time_travel(database):
    """Exit code 2, and nothing is done; with it, the run goes by that time."""
    refused = await trafficlog("retention", "run", "--at", "2199-01-01T00:00:00Z", dsn=database)
    assert refused.code == 2
    assert "TRAFFICLOG_TIME_TRAVEL" in refused.err
    set_clock = await trafficlog("key", "list", dsn=database, env={"TRAFFICLOG_NOW": "2030-01-01"})
    assert set_clock.code == 2
    allowed = await trafficlog(
        "retention", "plan", "--json", "--at", "2199-01-01", dsn=database, env=TIME_TRAVEL
    )
    assert allowed.json["at"] == "2199-01-01T00:00:00Z"


def test_accounts_and_keys(database):
    """Made, shown, set, listed, closed; what is not there is exit code 1."""

    def run(*arguments: str):
        return invoke(*arguments, "--json", dsn=database)

    made = (run("account", "create", "acme", "--history-days", "30")).json
    assert made["history"] == {"enabled": True, "days": 30}
    again, nobody, key = (
        run("account", "create", "acme"),
        run("account", "show", "nobody"),
        run("key", "create", "--scope", "customer", "--account", "acme"),
    )
    assert (again.code, nobody.code) == (1, 1)
    assert "nobody" in nobody.err
    assert set(key.json) == {"id", "scope", "account", "key"}
    assert (key.json["scope"], key.json["account"]) == ("customer", "acme")
    described = run(
        *("account", "set", "acme", "--no-monthly-reports", "--dontlog", "to,message"),
        *("--currency", "SEK", "--display-name", "Acme Örebro AB"),
    ).json
    assert (described["monthly_reports"], described["dontlog"]) == (False, ["message", "to"])
    assert (described["currency"], described["display_name"]) == ("SEK", "Acme Örebro AB")
    assert described["history"] == {"enabled": True, "days": 30}
    # The name may be a person's: what it was is not kept.
    assert "Örebro" not in str(described["changes"])
    bare = run("account", "set", "acme", "--dontlog", "none", "--display-name", "").json
    assert (bare["dontlog"], bare["display_name"], bare["currency"]) == ([], None, "SEK")
    assert len(bare["changes"]) == 3
    people = invoke("account", "show", "acme", dsn=database).out
    assert "dontlog none to message to" in " ".join(people.split())
    run("account", "set", "acme", "--display-name", "Acme")
    changed = (run("account", "set", "acme", "--history-off")).json
    assert changed["history"] == {"enabled": False, "days": None}
    assert changed["applying_since"]
    assert changed["changes"][-1]["from"]["history_days"] == 30
    listed, keys, policies = (run("account", "list"), run("key", "list"), run("policy", "show"))
    assert [a["account"] for a in listed.json["accounts"]] == ["acme"]
    assert [k["id"] for k in keys.json["keys"]] == [key.json["id"]]
    assert key.json["key"] not in keys.out
    assert {p["data_class"] for p in policies.json["policies"]} >= {"traffic_record"}
    assert all(p["legal_basis"] for p in policies.json["policies"])
    closed, gone = (run("account", "close", "acme"), run("key", "revoke", "nothing"))
    assert closed.json["closed_at"]
    # The name may be a person's; the currency is needed to read the reports.
    assert (closed.json["display_name"], closed.json["currency"]) == (None, "SEK")
    again = run("account", "set", "acme", "--display-name", "Acme")
    assert (again.code, "closed" in again.err) == (1, True)
    assert gone.code == 1


def test_holds(database):
    """Placed, listed, shown, extended, released; a second release is exit code 1."""

    def run(*arguments: str):
        return invoke(*arguments, "--json", dsn=database, env=TIME_TRAVEL)

    unknown = run(*HOLD, "--until", "2027-01-01")
    assert unknown.code == 1
    run("account", "create", "acme")
    placed = (run(*HOLD, "--until", "2027-01-01")).json
    assert placed["account"] == "acme"
    assert placed["active"]
    listed, shown, extended = (
        run("hold", "list"),
        run("hold", "show", placed["id"]),
        run("hold", "extend", placed["id"], "--until", "2027-02-01"),
    )
    assert [h["id"] for h in listed.json["holds"]] == [placed["id"]]
    assert shown.json["held"] == {}
    assert extended.json["until"] == "2027-02-01T00:00:00Z"
    released = run("hold", "release", placed["id"])
    assert released.json["released_at"]
    assert not released.json["active"]
    assert (run("hold", "release", placed["id"])).code == 1


def test_tables_show_what_is_there(database):
    """Brackets are no styles, colons no pictures, and control characters reach no terminal."""

    def run(*arguments: str):
        return invoke(*arguments, dsn=database, env=TIME_TRAVEL)

    for number, reason in (("+1", "[/red] a [case] :cat:"), ("+2", "a\x1b[31mb\x07\x9b")):
        done = run(
            *("hold", "place", "--number", number, "--until", "2027-01-01"),
            *("--reason", reason, "--case-ref", "[bold]1"),
        )
        assert done.code == 0, done.err
    listed = run("hold", "list").out
    assert "[/red] a [case] :cat:" in listed
    assert listed.count("[bold]1") == 2
    assert r"a\x1b[31mb\x07\x9b" in listed


def test_retention_and_ledger_answer_for_programs_and_for_people(database):
    """The keys that others script against; and tables without JSON."""

    def run(*arguments: str):
        return invoke(*arguments, dsn=database)

    plan = (run("retention", "plan", "--json")).json
    assert set(plan) >= {"at", "created", "dropped"}
    assert set(plan["created"][0]) >= {"table", "lower", "upper"}
    done = (run("retention", "run", "--json")).json
    assert len(done["created"]) == len(plan["created"])
    assert (done["dropped"], done["failures"]) == ([], [])
    verified, ledger, exported, table = (
        run("retention", "verify", "--json"),
        run("ledger", "verify", "--json"),
        run("ledger", "export", "--json"),
        run("retention", "plan"),
    )
    assert (verified.code, verified.json["ok"], verified.json["findings"]) == (0, True, [])
    assert (ledger.code, ledger.json["ok"], ledger.json["entries"]) == (0, True, 0)
    assert exported.json == {"entries": []}
    assert table.out.startswith("nothing is due")
    schema = run("migrate", "--json")
    assert schema.json["applied"] == []


async def test_what_could_not_be_done_or_is_wrong_is_exit_code_1(database):
    """A run with a failure, and a verification with a finding; both say what."""
    connection = await asyncpg.connect(database)
    try:
        env = TIME_TRAVEL | {
            "TRAFFICLOG_HEADROOM_DAYS": "1",
            "TRAFFICLOG_HEADROOM_HOURS": "1",
            "TRAFFICLOG_DETACH_SECONDS_MAX": "1",
            "TRAFFICLOG_DROP_ATTEMPTS_MAX": "1",
        }
        await trafficlog("retention", "run", dsn=database, env=env)
        async with connection.transaction():
            await connection.execute("LOCK TABLE trafficlog.debug_log")
            arguments = ("retention", "run", "--json", "--at", "2030-01-01")
            failed = await trafficlog(*arguments, dsn=database, env=env)
        assert failed.code == 1
        assert failed.json["failures"]
        assert "debug_log" in failed.err
        name = await connection.fetchval(
            "SELECT name FROM trafficlog.partition_catalogue"
            " WHERE table_name = 'traffic_record' LIMIT 1"
        )
        await connection.execute(f"DROP TABLE trafficlog.{name}")
        wrong = await trafficlog("retention", "verify", "--json", dsn=database)
        assert (wrong.code, wrong.json["ok"]) == (1, False)
        assert any(name in finding for finding in wrong.json["findings"])
        await connection.execute(
            "SET session_replication_role = replica; UPDATE trafficlog.purge_ledger SET rows = 9"
        )
        assert (await trafficlog("ledger", "verify", dsn=database)).code == 1
    finally:
        await connection.close()


async def test_a_clock_that_jumped_is_refused_until_it_is_accepted(database):
    """Exit code 1 with what to do about it, then the run is done."""
    await trafficlog("retention", "run", dsn=database)
    connection = await asyncpg.connect(database)
    await connection.execute(
        "UPDATE trafficlog.retention_state SET last_reference_at = now() + interval '1 day'"
    )
    await connection.close()
    refused = await trafficlog("retention", "run", dsn=database)
    assert refused.code == 1
    assert "--accept-clock" in refused.err
    assert (await trafficlog("retention", "run", "--accept-clock", dsn=database)).code == 0
    assert (await trafficlog("retention", "run", dsn=database)).code == 0
