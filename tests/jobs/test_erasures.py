"""Erasures by filter or of everything, carried out by the jobs."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal

import asyncpg
import pytest

from tests.cli.process import start_server
from tests.jobs.stock import DAY, HOUR, START, TICK, config, report, until
from trafficlog.errors import ClockJumpError, DatabaseUnavailableError
from trafficlog.queries import queries
from trafficlog.selector import Selector
from trafficlog.store.erasures import Erasures, Wanted
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.reports import Reports
from trafficlog.store.retention import Retention

NOW = START + 10 * DAY
SMS = Wanted(HistoryFilter(kind="sms"))
EVERYTHING = Wanted(None)
# Whether a step waits for a lock of another session.
WAITING = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
    " AND query LIKE '%erase_step%' AND wait_event_type = 'Lock'"
)

WAITING_FOR_ROW = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
    " AND query LIKE '%erase_%' AND wait_event_type = 'Lock'"
)


async def fill(stock, days: int = 10, each: int = 4, account: str = "acme") -> list[str]:
    """Some records of each of some days, by turns a message with pictures; the ids of the sms."""
    reports = [
        report(
            f"d{day}-{n}",
            START + day * DAY + n * HOUR,
            account,
            kind="mms" if n % 2 else "sms",
        )
        for day, n in itertools.product(range(days), range(each))
    ]
    for day in range(days):
        await stock.write(*reports[day * each : (day + 1) * each], now=START + day * DAY + DAY / 2)
    return [r.id for r in reports if r.kind == "sms"]


def erasures(stock) -> Erasures:
    """The customers' side."""
    return Erasures(stock.database, b"secret" * 6)


async def start(stock, wanted: Wanted, now=NOW, account: str = "acme"):
    """An erasure that was accepted."""
    return await erasures(stock).start(await stock.account_key(account), wanted, now)


async def get(stock, erasure, account: str = "acme"):
    """How an erasure stands."""
    return await erasures(stock).get(await stock.account_key(account), erasure.id)


async def work(stock, now=NOW, **settings: int):
    """A round of erasures, as the leader."""
    async with Retention(stock.dsn, config(**settings)) as retention:
        await until(retention.lead)
        return await retention.erase(now, guard_clock=False)


async def step(stock, retention, erasure, rows_max: int = 3, now=NOW):
    """One step of an erasure."""
    return await queries.erase_step(
        retention.connection, erasure_id=erasure.id, at=now, rows_max=rows_max, width=100 * DAY
    )


async def test_what_matches_goes_and_nothing_else(stock):
    """Other kinds, other accounts and the legal record stay; each batch has a ledger row."""
    sms = await fill(stock)
    await fill(stock, 2, account="b")
    erasure = await start(stock, SMS)
    result = await work(stock, erasure_rows_max=7)
    assert (result.rows_erased, result.finished, result.failures) == (20, 1, [])
    assert not set(await stock.visible(NOW)) & set(sms)
    assert len(await stock.visible(NOW)) == 20
    assert len(await stock.visible(NOW, "b")) == 8
    assert len(await stock.ids("traffic_record")) == 48
    ledger = await stock.ledger("erased")
    assert len(ledger) > 2
    assert sum(entry["rows"] for entry in ledger) == 20
    assert {entry["object"] for entry in ledger} == {"erasure"}
    done = await get(stock, erasure)
    assert (done.state, done.found, done.erased, done.remaining) == ("done", 20, 20, 0)
    assert dict(done.kinds) == {"sms": 20}
    assert (await stock.verify(NOW)).is_right


@pytest.mark.parametrize("rows_max", [1, 2, 3, 1000])
async def test_ties_in_creation_are_all_erased(stock, rows_max):
    """However many rows a step reads, none of one instant is left out."""
    await stock.write(*(report(f"m{n}") for n in range(5)), *(report(f"x{n}") for n in range(2)))
    await start(stock, EVERYTHING)
    assert (await work(stock, erasure_rows_max=rows_max)).rows_erased == 7
    assert await stock.ids("history_record") == []


async def test_the_acceptance_is_the_limit_to_the_microsecond(stock):
    """Created at the acceptance it goes, a microsecond later it stays, whatever the job's hour."""
    await stock.write(*(report(f"m{n}", NOW + n * TICK) for n in (-1, 0, 1)), now=NOW)
    erasure = await start(stock, SMS)
    assert erasure.found == 2
    await stock.write(report("later", NOW + HOUR), now=NOW + HOUR)
    await work(stock, NOW + 2 * HOUR)
    assert await stock.ids("history_record") == ["later", "m1"]


async def test_what_comes_in_late_before_the_end_goes_as_well(stock):
    """Created before the acceptance, stored behind the place that the work has reached."""
    await fill(stock)
    erasure = await start(stock, SMS)
    async with Retention(stock.dsn, config()) as retention:
        assert await retention.lead()
        assert (await step(stock, retention, erasure, 39))["state"] == "running"
        await stock.write(report("late", START + TICK), report("late-mms", kind="mms"), now=NOW)
        await retention.erase(NOW, guard_clock=False)
        await retention.step_down()
    assert "late" not in await stock.visible(NOW)
    assert "late-mms" in await stock.visible(NOW)
    done = await get(stock, erasure)
    assert (done.state, done.found, done.erased, done.remaining) == ("done", 20, 21, 0)
    await stock.write(report("after", START + 2 * TICK), now=NOW)
    await work(stock)
    assert "after" in await stock.visible(NOW)


@pytest.mark.parametrize("steps", [0, 1, 4])
async def test_an_erasure_killed_between_and_in_steps_is_resumed_exactly(stock, steps):
    """Nothing lost, nothing counted twice: what a step did and how far it came commit at once."""
    await fill(stock)
    erasure = await start(stock, SMS)
    async with Retention(stock.dsn, config()) as retention:
        for _ in range(steps):
            await step(stock, retention, erasure)
        erased = (await get(stock, erasure)).erased
        transaction = retention.connection.transaction()
        await transaction.start()
        assert (await step(stock, retention, erasure))["rows_erased"] > 0
        retention.connection.terminate()
    between = await get(stock, erasure)
    assert between.erased == erased
    assert len(await stock.visible(NOW)) == 40 - erased
    await work(stock, erasure_rows_max=3)
    done = await get(stock, erasure)
    assert (done.state, done.erased, len(await stock.visible(NOW))) == ("done", 20, 20)
    assert sum(entry["rows"] for entry in await stock.ledger("erased")) == 20
    assert (await stock.verify(NOW)).is_right


async def test_a_service_that_is_killed_in_a_step_is_made_up_for_by_another(stock):
    """Kill -9 of a serving process while the server works at the step; the next one goes on."""
    await fill(stock)
    erasure = await start(stock, SMS)
    env = {
        "TRAFFICLOG_TIME_TRAVEL": "1",
        "TRAFFICLOG_NOW": NOW.isoformat(),
        "TRAFFICLOG_DATABASE_URL": stock.dsn,
        "TRAFFICLOG_LOCK_TIMEOUT_MS": "20000",
        "TRAFFICLOG_ERASURE_ROWS_MAX": "5",
        "TRAFFICLOG_HEADROOM_DAYS": "1",
        "TRAFFICLOG_HEADROOM_HOURS": "1",
    }
    async with stock.transaction("SELECT FROM purge_ledger_head FOR UPDATE"):
        service = await start_server("--listen", "127.0.0.1:0", env=env)
        await until(lambda: stock.admin.fetchval(WAITING))
        assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
        assert len(await stock.visible(NOW)) == 40
    await work(stock)
    done = await get(stock, erasure)
    assert (done.state, done.erased, len(await stock.visible(NOW))) == ("done", 20, 20)
    assert sum(entry["rows"] for entry in await stock.ledger("erased")) == 20
    assert (await stock.verify(NOW)).is_right


async def test_a_session_that_is_terminated_says_that_the_database_was_away(stock):
    """It counts as no failure of the erasure, which goes on in the next round."""
    await fill(stock, 1)
    erasure = await start(stock, SMS)
    async with Retention(stock.dsn, config()) as retention:
        await stock.admin.execute(
            "SELECT pg_terminate_backend($1)", retention.connection.get_server_pid()
        )
        with pytest.raises(DatabaseUnavailableError):
            await retention.erase(NOW, guard_clock=False)
    await work(stock)
    assert (await get(stock, erasure)).state == "done"


async def test_cancelled_between_steps_nothing_more_goes(stock):
    """What is erased stays erased, the rest stays; the cancelled one is never taken up again."""
    await fill(stock)
    erasure = await start(stock, SMS)
    async with Retention(stock.dsn, config()) as retention:
        await step(stock, retention, erasure, rows_max=8)
        key = await stock.account_key()
        cancelled = await erasures(stock).cancel(key, erasure.id, NOW)
        assert (cancelled.state, cancelled.erased, cancelled.remaining) == ("cancelled", 4, 16)
        assert (await step(stock, retention, erasure))["state"] == "cancelled"
    assert (await work(stock)).rows_erased == 0
    assert len(await stock.visible(NOW)) == 36
    assert sum(entry["rows"] for entry in await stock.ledger("erased")) == 4


async def test_cancelled_while_a_step_reads_nothing_of_the_step_goes(stock):
    """A cancellation that commits after the step has read its rows still comes before it erases."""
    await fill(stock)
    erasure = await start(stock, SMS)
    key = await stock.account_key()
    async with (
        Retention(stock.dsn, config(lock_timeout_ms=20_000)) as retention,
        # Holding the lock of a hold's placement: the step has read, and waits.
        stock.transaction("SELECT pg_advisory_xact_lock(7102, 1)") as other,
    ):
        running = asyncio.create_task(step(stock, retention, erasure))
        await until(lambda: stock.admin.fetchval(WAITING))
        await erasures(stock).cancel(key, erasure.id, NOW)
        await other.execute("COMMIT")
        row = await running
    assert (row["rows_erased"], row["state"]) == (0, "cancelled")
    assert len(await stock.visible(NOW)) == 40


async def test_a_finished_erasure_keeps_nothing_personal(stock):
    """Of the filter only its fields' names are left, in whatever way it ended."""
    await fill(stock, 2)
    secret = "+46709998877"
    await stock.write(report("m1", recipient=secret, tags=["kund-4711"]), now=START)
    wanted = Wanted(HistoryFilter(recipient=secret, tag="kund-4711", before=NOW))
    key = await stock.account_key()
    first, second, third = [await start(stock, wanted) for _ in range(3)]
    await erasures(stock).cancel(key, first.id, NOW)
    await queries.fail_erasure(stock.admin, erasure_id=second.id, at=NOW, attempts_max=1)
    await work(stock)
    states = [(await get(stock, e)).state for e in (first, second, third)]
    assert states == ["cancelled", "failed", "done"]
    for row in await stock.admin.fetch("SELECT * FROM erasure"):
        text = json.dumps(dict(row), default=str)
        assert secret not in text
        assert "kund" not in text
        assert "m1" not in text
        assert row["fields"] == ["to", "tag", "before"]
    with pytest.raises(asyncpg.CheckViolationError):
        await stock.admin.execute("UPDATE erasure SET filter = '{}'")


@pytest.mark.parametrize("selector", ["account", "number", "record"])
async def test_what_a_hold_protects_stays_as_a_copy(stock, selector):
    """Copied before it goes; the customer is told the same as without a hold."""
    await fill(stock, 3)
    told = []
    for account in ("b", "acme"):
        if account == "b":
            await fill(stock, 3, account="b")
        else:
            chosen = {
                "account": Selector(account="acme"),
                "number": Selector(number="+46701234567"),
                "record": Selector(account="acme", record="d1-2"),
            }
            await stock.hold(chosen[selector], NOW)
        erasure = await start(stock, SMS, account=account)
        await work(stock, erasure_rows_max=3)
        done = await get(stock, erasure, account)
        key = await stock.account_key(account)
        receipt = await erasures(stock).receipt(key, erasure.id)
        assert receipt.pop("receipt") == done.id
        told.append((receipt, done.found, done.erased, done.remaining, done.state))
    assert told[0] == told[1]
    held = {("history_record", "d1-2")}
    if selector != "record":
        held = {("history_record", f"d{day}-{n}") for day in range(3) for n in (0, 2)}
    assert await stock.held() == held
    assert sum(entry["held"] for entry in await stock.ledger("erased")) == len(held)
    assert await stock.ids("history_record") == sorted(
        2 * [f"d{day}-{n}" for day in range(3) for n in (1, 3)]
    )


async def test_a_hold_placed_while_a_step_reads_is_not_defeated(stock):
    """Acknowledged before the step erases: what it covers is copied all the same."""
    await fill(stock)
    erasure = await start(stock, SMS)
    async with (
        Retention(stock.dsn, config(lock_timeout_ms=20_000)) as retention,
        stock.transaction(
            "SELECT place_hold('h1', 1, NULL, NULL, NULL, NULL, NULL, 'fraud', 'case 1', 'test',"
            f" '{NOW}', '{NOW + DAY}')"
        ) as placing,
    ):
        running = asyncio.create_task(step(stock, retention, erasure, rows_max=8))
        await until(lambda: stock.admin.fetchval(WAITING))
        await placing.execute("COMMIT")
        assert (await running)["rows_erased"] == 4
    assert len(await stock.held()) == 4


async def test_a_late_retry_brings_no_history_back(stock):
    """The legal table decides what is new: whatever is sent again after the erasure is known."""
    await fill(stock, 2)
    await start(stock, EVERYTHING)
    await work(stock)
    retried = await stock.write(
        *(report(f"d0-{n}", START + n * HOUR, kind="mms" if n % 2 else "sms") for n in range(4)),
        now=NOW,
    )
    assert (retried.accepted, retried.duplicates) == (0, 4)
    later = report("d1-1", START + DAY + HOUR, kind="mms", status="delivered")
    later.updated = NOW
    await stock.write(later, now=NOW)
    assert await stock.visible(NOW) == []
    assert await stock.ids("history_record") == []


@pytest.mark.parametrize("days", [30, 200, 5])
async def test_a_setting_that_changes_meanwhile_leaves_none_behind(stock, days):
    """Rows that were moved to another partition between two steps are found there."""
    sms = await fill(stock)
    erasure = await start(stock, SMS)
    async with Retention(stock.dsn, config()) as retention:
        await step(stock, retention, erasure, rows_max=9)
    await stock.set_days(days, NOW)
    await stock.run(NOW, move_rows_max=4)
    await work(stock, erasure_rows_max=3)
    assert not set(await stock.ids("history_record")) & set(sms)
    done = await get(stock, erasure)
    assert done.state == "done"
    destroyed = sum(e["rows"] for e in await stock.ledger("setting"))
    assert (done.erased == 20) is (destroyed == 0)
    assert (await stock.verify(NOW)).is_right


async def test_a_receipt_tells_of_the_traces_that_moved_rows_left(stock):
    """A row that stood under a longer setting left its bytes in that partition."""
    await stock.write(report("m1", START), now=START)
    await stock.set_days(365, START + DAY)
    await stock.run(START + DAY)
    await stock.set_days(20, START + 2 * DAY)
    await stock.run(START + 2 * DAY)
    erasure = await start(stock, EVERYTHING)
    await work(stock)
    receipt = await erasures(stock).receipt(await stock.account_key(), erasure.id)
    day_after = (START + 366 * DAY).replace(hour=0)
    assert receipt["last_trace_gone_by"] == day_after + HOUR
    assert receipt["backups_gone_by"] == day_after + HOUR + 30 * DAY


async def test_history_turned_off_ends_an_erasure(stock):
    """Nothing is to be seen any more; the job finds its end all the same."""
    await fill(stock, 2)
    erasure = await start(stock, SMS)
    await stock.set_days(None, NOW)
    await stock.run(NOW)
    await work(stock)
    assert (await get(stock, erasure)).state == "done"
    nothing = await start(stock, EVERYTHING)
    assert nothing.found == 0
    await work(stock)
    assert (await get(stock, nothing)).state == "done"


async def test_rounds_are_shared_and_bounded(stock):
    """Each erasure has a step in turn; what a round has no time for is left over for the next."""
    await fill(stock)
    await fill(stock, account="b")
    first, second = await start(stock, EVERYTHING), await start(stock, EVERYTHING, account="b")
    result = await work(stock, erasure_rows_max=1, erasure_seconds_max=0)
    assert (result.left_over, result.rows_erased, result.oldest) == (2, 0, NOW)
    while (await work(stock, erasure_rows_max=1)).left_over:
        pass
    for erasure, account in ((first, "acme"), (second, "b")):
        assert (await get(stock, erasure, account)).erased == 40


async def test_one_that_fails_leaves_the_others_their_turn_and_is_given_up(stock):
    """After so many failures in a row it says failed, and its receipt what went before."""
    await fill(stock, 2)
    await fill(stock, 2, account="b")
    await stock.admin.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.account_key = 1 AND OLD.id = 'd1-0' THEN RAISE EXCEPTION 'no'; END IF;"
        " RETURN OLD; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON history_record"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    bad, good = await start(stock, SMS), await start(stock, SMS, account="b")
    for attempt in range(3):
        result = await work(stock, erasure_rows_max=3, erasure_attempts_max=3)
        assert len(result.failures) == 1, attempt
    assert (await get(stock, good, "b")).state == "done"
    failed = await get(stock, bad)
    assert (failed.state, failed.erased, failed.remaining) == ("failed", 2, 2)
    receipt = await erasures(stock).receipt(await stock.account_key(), bad.id)
    assert "given up" in receipt["statements"][0]
    assert (await work(stock)).failures == []


async def test_what_is_in_the_way_counts_as_no_failure(stock):
    """A row that another transaction holds is waited for in the next round, however often."""
    await fill(stock, 1)
    erasure = await start(stock, SMS)
    async with stock.transaction("SELECT FROM history_record FOR UPDATE"):
        result = await work(stock, erasure_attempts_max=1)
        assert len(result.failures) == 1
    assert not (await get(stock, erasure)).is_finished
    await work(stock)
    assert (await get(stock, erasure)).erased == 2


async def test_monthly_reports_go_when_asked(stock):
    """With everything and reports; the statistics stay, and the ledger says how many went."""
    await fill(stock, 2)
    key = await stock.account_key()
    await stock.admin.execute(
        "INSERT INTO monthly_report (account_key, month, made_at, final_from, final, content)"
        " VALUES ($1, '2026-10-01', $2, $2, true, '{}'), ($1, '2026-11-01', $2, $2, true, '{}')",
        key,
        NOW,
    )
    kept = await start(stock, EVERYTHING)
    await work(stock)
    assert (await get(stock, kept)).reports_erased == 0
    wanted = Wanted(None, reports=True)
    assert (await erasures(stock).preview(key, wanted, NOW)).reports == 2
    erasure = await start(stock, wanted)
    await work(stock)
    done = await get(stock, erasure)
    assert (done.reports_erased, done.state) == (2, "done")
    assert await stock.admin.fetchval("SELECT count(content) FROM monthly_report") == 0
    ledger = [tuple(e)[2:6:1] for e in await stock.ledger("erased")]
    assert ("monthly_report", "erasure", "erased", None) in ledger
    assert await stock.admin.fetchval("SELECT sum(records) FROM usage_delta") == 8


async def test_receipts_are_kept_for_a_time_and_repeats_for_a_shorter_one(stock):
    """A request's key is forgotten first, and the erasure with its receipt at last."""
    await fill(stock, 1)
    key = await stock.account_key()
    done = await erasures(stock).start(key, SMS, NOW, repeat_key="k1")
    await work(stock)
    running = await start(stock, SMS)
    seen = "SELECT erasure_id, repeat_key IS NULL AS forgotten FROM erasure"

    async def rows_at(at, **settings):
        async with Retention(stock.dsn, config(**settings)) as retention:
            await retention.erasing.forget(at)
        return {r["erasure_id"]: r["forgotten"] for r in await stock.admin.fetch(seen)}

    hours = {"erasure_repeat_hours": 12}
    assert await rows_at(NOW + 12 * HOUR - TICK, **hours) == {done.id: False, running.id: True}
    assert await rows_at(NOW + 12 * HOUR, **hours) == {done.id: True, running.id: True}
    await stock.admin.execute("UPDATE erasure SET repeat_key = 'k1' WHERE erasure_id = $1", done.id)
    assert await rows_at(NOW + 24 * HOUR - TICK) == {done.id: False, running.id: True}
    assert await rows_at(NOW + 24 * HOUR) == {done.id: True, running.id: True}
    assert await rows_at(NOW + 1095 * DAY - TICK) == {done.id: True, running.id: True}
    days = {"erasure_receipt_days": 2000}
    assert await rows_at(NOW + 2000 * DAY - TICK, **days) == {done.id: True, running.id: True}
    assert await rows_at(NOW + 1095 * DAY) == {running.id: True}


def scans(plan):
    """The partitions that a plan reads, and by what."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan["Relation Name"], plan.get("Index Name", plan["Node Type"])
    for below in plan.get("Plans", ()):
        yield from scans(below)


async def test_a_step_reads_and_deletes_by_the_key_of_few_partitions(stock):
    """Its cost is in proportion to the rows that it reads, however long the history is."""
    reports = [report(f"m{n}", START + n * HOUR / 10) for n in range(2400)]
    await stock.write(*reports, *(report(f"b{n}", r.created, "b") for n, r in enumerate(reports)))
    await stock.admin.execute("ANALYZE history_record")
    erasure = await start(stock, Wanted(HistoryFilter(after=START + 5 * DAY, sender="Acme")))
    plans = []
    stock.admin.add_log_listener(lambda _, message: plans.append(message.message))
    await stock.admin.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
        "SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = json;"
        "SET auto_explain.log_level = notice"
    )
    await queries.erase_step(stock.admin, erasure_id=erasure.id, at=NOW, rows_max=100, width=DAY)
    read = []
    for text in plans:
        found = json.loads(text.partition("plan:\n")[2])
        if "history_record" in found["Query Text"]:
            read += [s for s in scans(found["Plan"]) if s[0].startswith("history_record")]
    assert read
    assert {index for _, index in read} == {f"{name}_pkey" for name, _ in read}
    assert len({name for name, _ in read}) <= 2


async def test_a_clock_that_jumped_erases_nothing(stock):
    """By a clock that is months ahead a hold would be over, and what it keeps be gone."""
    await fill(stock, 1)
    await stock.hold(Selector(account="acme"), NOW, 20)
    erasure = await start(stock, EVERYTHING)
    async with Retention(stock.dsn, config()) as retention:
        await until(retention.lead)
        await retention.run(NOW, guard_clock=True)
        with pytest.raises(ClockJumpError):
            await retention.erase(NOW + 60 * DAY, guard_clock=True)
        assert (await get(stock, erasure)).erased == 0
        assert (await retention.erase(NOW, guard_clock=True)).rows_erased == 4
    assert len(await stock.held()) == 4


@pytest.mark.parametrize("how", ["filter", "record"])
async def test_what_a_hold_keeps_of_an_erasure_is_the_last_state(stock, how):
    """A report that is being merged when its record is erased is in the copy."""
    await stock.write(report("m1", status="sent"))
    await stock.hold(Selector(account="acme"))
    key = await stock.account_key()
    erasure = await start(stock, SMS) if how == "filter" else None
    async with stock.transaction("UPDATE history_record SET message = 'later'") as merge:
        if erasure:
            erasing = asyncio.create_task(work(stock, lock_timeout_ms=10_000))
        else:
            erasing = asyncio.create_task(History(stock.database).erase(key, "m1", NOW))
        await until(lambda: stock.admin.fetchval(WAITING_FOR_ROW))
        await merge.execute("COMMIT")
        await erasing
    assert await stock.visible(NOW) == []
    content = await stock.admin.fetchval("SELECT content ->> 'message' FROM held_record")
    assert content == "later"


async def test_a_report_that_was_not_made_yet_goes_with_everything(stock):
    """Of a month that ended before the acceptance no report comes afterwards."""
    for number, created in enumerate((START - 30 * DAY, START, NOW - DAY)):
        await stock.write(report(f"m{number}", created))
    erasure = await start(stock, Wanted(None, reports=True))
    async with Retention(stock.dsn, config()) as retention:
        await until(retention.lead)
        await retention.erase(NOW, guard_clock=False)
        await retention.roll_up_usage()
        await retention.make_reports(NOW + 40 * DAY, guard_clock=False)
    assert (await get(stock, erasure)).reports_erased == 0
    months = await Reports(stock.database).list(await stock.account_key())
    assert [str(r.month) for r in months] == ["2026-12-01"]


async def test_a_filter_that_is_not_understood_erases_nothing(stock):
    """A field or a name that the database does not know must not pass for anything."""
    await fill(stock, 1)
    for unknown in ('{"kind": "fax"}', '{"to": "Acme", "owner": "x"}'):
        erasure = await start(stock, SMS)
        await stock.admin.execute(
            "UPDATE erasure SET filter = $2::jsonb WHERE erasure_id = $1", erasure.id, unknown
        )
        result = await work(stock, erasure_attempts_max=1)
        assert (result.rows_erased, (await get(stock, erasure)).state) == (0, "failed")
