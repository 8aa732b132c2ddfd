"""Verification row by row: each expires when policy or its account's setting says."""

from __future__ import annotations

import pytest

from tests.cli.process import TIME_TRAVEL, trafficlog
from tests.jobs.stock import DAY, START, TICK, config, report
from trafficlog.queries import queries
from trafficlog.retention import DataClass, RetentionPolicy
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.retention import Retention
from trafficlog.store.transit import Transit
from trafficlog.store.verify import Verification, verify


async def deep(stock, at=START, **changes) -> Verification:
    """What verification of every row finds, a block at a time if not told otherwise."""
    settings = config(**{"verify_blocks_max": 1, **changes})
    async with Retention(stock.dsn, settings) as retention:
        return await verify(retention.connection, at, settings, deep=True)


async def filled(stock, count: int = 300) -> None:
    """Rows of every class; of records so many that they fill several blocks."""
    await stock.write(*[report(f"m{n}", START + n * TICK) for n in range(count)])
    await stock.write(*[report(f"b{n}", account="b") for n in range(5)])
    await stock.write_line("a line", "acme")
    await Transit(stock.database, stock.writer).put("t1", b"callback", "acme", START + TICK)
    await stock.hold(Selector(account="b"))


@pytest.mark.parametrize("blocks", [1, 3, 10_000])
async def test_every_row_is_looked_at_once(stock, blocks):
    """However many blocks a statement reads; the progress ends where it should."""
    await filled(stock)
    told = []
    settings = config(verify_blocks_max=blocks)
    async with Retention(stock.dsn, settings) as retention:
        result = await verify(
            retention.connection, START, settings, deep=True, progress=lambda *p: told.append(p)
        )
    # Two rows of each record, a debug line, one in transit, and the placement's access.
    assert (result.findings, result.rows) == ([], 2 * 305 + 3)
    done, total = told[-1]
    assert done == total > 10
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    if blocks == 1:
        assert {d for d, _ in told} == set(range(total + 1))


async def test_rows_are_looked_at_only_when_that_is_asked_for(stock):
    """Without it verification stays as quick as the catalogue."""
    await filled(stock)
    assert (await stock.verify(START)).rows is None


@pytest.mark.parametrize("table", list(DataClass))
@pytest.mark.parametrize(("by", "kind"), [("-1", "early"), ("1", "late")])
async def test_a_row_that_is_off_by_a_microsecond_is_found(stock, table, by, kind):
    """In each class, early or late, with the partition and the number of rows."""
    await filled(stock, 3)
    await stock.admin.execute(
        f"UPDATE {table} SET expires_at = expires_at + {by} * interval '1 microsecond'"
    )
    findings = (await deep(stock)).findings
    rows = await stock.admin.fetchval(f"SELECT count(*) FROM {table}")
    # The legal record is also missed by the history that stands beside it.
    own = [f for f in findings if f" of {table}_" in f]
    assert [f.split(" rows of ")[0] for f in own] == [f"{kind}: {rows}"]
    others = [f for f in findings if f not in own]
    assert all(table == "traffic_record" and f.startswith("missing: 8 rows") for f in others)


async def test_history_follows_the_present_setting_once_a_move_is_over(stock):
    """While it is pending every period since is right, afterwards the new one alone."""
    await filled(stock, 3)
    await stock.set_days(30, START)
    assert (await deep(stock)).findings == []
    await stock.run(START)
    assert (await deep(stock)).findings == []
    for days, found in ((60, "early"), (20, "late")):
        await stock.set_days(days, START)
        assert (await deep(stock)).findings == []
        # As if the move had forgotten them.
        await stock.admin.execute("DELETE FROM history_move")
        findings = (await deep(stock)).findings
        assert [f.split(" of ")[0] for f in findings] == [f"{found}: 3 rows"]


async def test_history_that_was_given_up_is_found(stock):
    """Off means that nothing is there, once its destruction is over."""
    await filled(stock, 3)
    await stock.set_days(None, START)
    assert (await deep(stock)).findings == []
    await stock.admin.execute("DELETE FROM history_move")
    findings = (await deep(stock)).findings
    assert [f.split(" of ")[0] for f in findings] == ["unwanted: 3 rows"]


async def test_history_without_its_legal_record_is_found_while_that_is_to_be_kept(stock):
    """A legal record deleted by hand is missed until its own time is over."""
    await filled(stock, 3)
    await stock.admin.execute("DELETE FROM traffic_record WHERE id IN ('m1', 'b1')")
    over = START + 60 * DAY
    for at, missed in ((START, "2"), (over - TICK, "2"), (over + 2 * TICK, None)):
        findings = (await deep(stock, at)).findings
        assert [f.split(" of ")[0] for f in findings if f.startswith("missing")] == (
            [f"missing: {missed} rows"] if missed else []
        )


async def test_each_row_follows_the_policy_in_force_when_it_was_created(stock):
    """A change of policy makes no older row wrong, to the microsecond."""
    start = START + DAY
    for data_class in (DataClass.TRAFFIC, DataClass.DEBUG, DataClass.IN_TRANSIT):
        policy = RetentionPolicy(data_class, start, 7 * DAY, "a statute")
        await Accounts(stock.database).set_policy(policy, START, "test")
    for at in (start - TICK, start, start + TICK):
        await stock.write(report("m1", at), now=at)
        await stock.write_line("a line", "acme", at)
        await Transit(stock.database, stock.writer).put(f"t{at}", b"", None, at)
    result = await deep(stock, start + TICK)
    assert (result.findings, result.rows) == ([], 12)
    await stock.admin.execute(
        "UPDATE retention_policy SET effective_from = effective_from + interval '1 microsecond'"
        " WHERE effective_from > '-infinity'"
    )
    findings = (await deep(stock, start + TICK)).findings
    told = {f.split(" of ")[0] + " of " + f.split(" of ")[1].rsplit("_", 1)[0] for f in findings}
    assert told == {
        "early: 1 rows of traffic_record",
        "early: 1 rows of debug_log",
        "late: 1 rows of in_transit",
        "missing: 1 rows of history_record",
    }


async def test_the_command_tells_how_many_rows_it_looked_at(stock):
    """With --deep: exit code 0 and a number while all is right, 1 and the finding when not."""
    await filled(stock, 3)
    arguments = ("retention", "verify", "--deep", "--at", START.isoformat())
    told = await trafficlog(*arguments, dsn=stock.dsn, env=TIME_TRAVEL)
    assert (told.code, " 19 rows, nothing overdue" in told.out) == (0, True)
    await stock.admin.execute("UPDATE debug_log SET expires_at = expires_at + interval '1 second'")
    told = await trafficlog(*arguments, "--json", dsn=stock.dsn, env=TIME_TRAVEL)
    assert (told.code, told.json["rows"], told.json["ok"]) == (1, 19, False)
    [finding] = told.json["findings"]
    assert finding.startswith("late: 1 rows of debug_log_")
    # Neither who nor what: a finding may be shown to anybody.
    assert "acme" not in finding


async def test_the_statement_reads_its_blocks_and_no_more(stock):
    """By place in one partition: the plan has no scan of anything else of the class."""
    await filled(stock)
    for name, first in (("verify_policy_rows", "'traffic_record', "), ("verify_history_rows", "")):
        text = getattr(queries, name).sql.rstrip().rstrip(";")
        day = (START + (90 if "history" in name else 60) * DAY).replace(hour=0)
        at = f"'{START}', " if "history" in name else ""
        types = ("timestamptz, " if at else "text, ") + "timestamptz, timestamptz, tid, tid"
        await stock.admin.execute(f"PREPARE q_{name} ({types}) AS {text}")
        plan = await stock.admin.fetch(
            f"EXPLAIN (COSTS OFF) EXECUTE q_{name}({at}{first}'{day}', '{day + DAY}',"
            " '(0,0)', '(1,0)')"
        )
        lines = [row[0].strip() for row in plan]
        scans = [line for line in lines if "Tid Range Scan" in line]
        assert len(scans) == 1, lines
        assert not [line for line in lines if "Seq Scan on" in line and "record_" in line], lines
