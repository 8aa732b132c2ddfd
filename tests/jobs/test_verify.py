"""Verification proves both sides: nothing overdue is there, nothing legal went early."""

from __future__ import annotations

import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, HOUR, START, TICK, TRAFFIC_GONE, config, report
from trafficlog.retention import CLOCK_SKEW_MAX
from trafficlog.selector import Selector
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify_ledger

FORGED_ENTRY = (
    "INSERT INTO purge_ledger SELECT seq + 1, at, data_class, object, reason, lower, upper,"
    " rows, held, hash, hash FROM purge_ledger ORDER BY seq DESC LIMIT 1"
)


async def test_what_is_overdue_is_found_after_one_job_interval(stock):
    """A partition may outlive its bound by one interval, and no longer."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    upper = (START + 61 * DAY).replace(hour=0)
    assert (await stock.verify(upper + HOUR)).is_right
    findings = (await stock.verify(upper + HOUR + TICK)).findings
    assert [(f.startswith("overdue"), name in f) for f in findings] == [(True, True)]


async def test_a_move_that_does_not_come_is_overdue(stock):
    """History to be moved is moved within a day and an interval."""
    await stock.write(report("m1"))
    await stock.set_days(30, START)
    assert (await stock.verify(START + DAY + HOUR)).is_right
    assert not (await stock.verify(START + DAY + HOUR + TICK)).is_right


async def test_held_copies_that_no_hold_keeps_are_overdue(stock):
    """One interval after the hold's end they must be gone."""
    await stock.write(report("m1"))
    hold = await stock.hold(Selector(account="acme"), days=100)
    await stock.run(TRAFFIC_GONE)
    await stock.run(hold.ends_at - TICK)
    assert (await stock.verify(hold.ends_at + HOUR - TICK)).is_right
    findings = (await stock.verify(hold.ends_at + HOUR + TICK)).findings
    assert len(findings) == 1
    assert "2 held copies" in findings[0]


async def test_an_unknown_partition_is_found(stock):
    """What trafficlog did not make is named."""
    await stock.admin.execute(
        "CREATE TABLE mine PARTITION OF traffic_record"
        " FOR VALUES FROM ('2030-01-01 00:00Z') TO ('2030-01-02 00:00Z')"
    )
    assert [f.split()[:2] for f in (await stock.verify(START)).findings] == [["unknown:", "mine"]]


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE purge_ledger SET rows = rows + 1 WHERE seq = 2",
        "UPDATE purge_ledger SET at = at + interval '1 microsecond' WHERE seq = 1",
        "UPDATE purge_ledger SET hash = sha256('x') WHERE seq = 2",
        "DELETE FROM purge_ledger WHERE seq = 2",
        "DELETE FROM purge_ledger WHERE seq = (SELECT max(seq) FROM purge_ledger)",
        "TRUNCATE purge_ledger",
        FORGED_ENTRY,
    ],
)
async def test_a_ledger_that_was_tampered_with_is_found(stock, tampering):
    """Even a superuser, with the trigger off, cannot change it unseen."""
    await stock.write(report("m1"))
    await stock.run(HISTORY_GONE)
    async with Retention(stock.dsn, config()) as retention:
        assert (await verify_ledger(retention.connection)).faults == ()
        with pytest.raises(Exception, match="only ever added"):
            await stock.admin.execute("DELETE FROM purge_ledger")
        await stock.admin.execute(
            f"SET session_replication_role = replica; {tampering};"
            " SET session_replication_role = origin"
        )
        assert (await verify_ledger(retention.connection)).faults
    assert any(f.startswith("ledger:") for f in (await stock.verify(HISTORY_GONE)).findings)


async def test_an_early_drop_in_the_ledger_is_found(stock):
    """The ledger itself tells of a partition that went before its time."""
    await stock.admin.execute(
        f"SELECT ledger_append('{START}', 'traffic_record', 'traffic_record_x', 'expired',"
        f" '{START}', '{START + DAY}', 1, 0)"
    )
    findings = (await stock.verify(START)).findings
    assert [f.split(":")[0] for f in findings] == ["early"]


@pytest.mark.parametrize("entry", ["a later entry", "the clock"])
async def test_a_drop_by_a_clock_that_was_ahead_is_found(stock, entry):
    """Its own time says nothing: whatever is read afterwards tells that it went early."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    await stock.run(TRAFFIC_GONE)
    assert (await stock.verify(TRAFFIC_GONE)).is_right
    upper = (START + 61 * DAY).replace(hour=0)
    at = START + DAY
    if entry == "a later entry":
        await stock.admin.execute(
            f"SELECT ledger_append('{at}', 'history_record', 'record', 'erased', NULL, NULL, 1, 0)"
        )
        at = upper + 300 * DAY
    findings = (await stock.verify(at)).findings
    told = [f for f in findings if name in f]
    assert [f.split(",")[0] for f in told] == [f"early: {name}"]


async def test_two_clocks_that_differ_a_little_make_no_early_drop(stock):
    """An entry by an instance whose clock is up to a minute behind proves nothing."""
    await stock.write(report("m1"))
    upper = (START + 61 * DAY).replace(hour=0)
    await stock.run(upper)
    for behind, is_right in ((CLOCK_SKEW_MAX, True), (CLOCK_SKEW_MAX + TICK, False)):
        assert (await stock.verify(upper - behind)).is_right == is_right
        await stock.admin.execute(
            f"SELECT ledger_append('{upper - behind}', 'history_record', 'record', 'erased',"
            " NULL, NULL, 1, 0)"
        )
        assert (await stock.verify(upper)).is_right == is_right


async def test_no_partition_is_dropped_before_its_time_even_when_asked(stock):
    """The database refuses the first step of a drop whose bound lies ahead."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    with pytest.raises(Exception, match="not expired"):
        await stock.admin.execute(
            f"SELECT begin_drop('traffic_record', '{name}', '{START + 60 * DAY}')"
        )


async def test_a_drop_under_way_is_not_yet_a_finding(stock):
    """Verification beside a run does not take its work for a fault."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    upper = (START + 61 * DAY).replace(hour=0)
    await stock.admin.execute(f"SELECT begin_drop('traffic_record', '{name}', '{upper}')")
    assert (await stock.verify(upper + TICK)).findings == []
    assert not (await stock.verify(upper + 2 * HOUR)).is_right
