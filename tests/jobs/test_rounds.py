"""The jobs' rounds beside the service: first at once, then at intervals, and what they tell."""

from __future__ import annotations

import asyncio

import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, START, config, report, until
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.jobs import Jobs
from trafficlog.metrics import Metrics
from trafficlog.selector import Selector
from trafficlog.store.retention import Retention


class Rounds:
    """Jobs on a store, at a time that a test sets."""

    def __init__(self, stock, at=START, **changes) -> None:
        self.at = at
        self.metrics = Metrics()
        self.config = config(**changes)
        self.jobs = Jobs(
            lambda: Retention(stock.dsn, self.config),
            lambda: self.at,
            self.config,
            self.metrics,
            guard_clock=True,
        )

    def value(self, name: str, **labels: str) -> float | None:
        """What a metric says."""
        return self.metrics.registry.get_sample_value(f"trafficlog_{name}", labels)


async def test_the_first_run_is_at_once_and_its_gauges_tell_of_it(stock):
    """Not one interval later: partitions are there, and success, headroom and holds are told."""
    await stock.write(report("m1"))
    await stock.hold(Selector(account="acme"))
    rounds = Rounds(stock)
    async with Retention(stock.dsn, rounds.config) as retention:
        await rounds.jobs.run_round(retention)
    for job in ("retention", "usage", "reports"):
        assert rounds.value("job_last_success_timestamp_seconds", job=job) == START.timestamp()
        assert rounds.value("job_failures_total", job=job) == 0
    assert rounds.value("holds_active") == 1
    for table in ("traffic_record", "history_record", "debug_log", "in_transit", "access_log"):
        assert rounds.value("partition_overdue_seconds", table=table) == 0
        assert rounds.value("partition_headroom_seconds", table=table) >= 3600


async def test_between_intervals_only_moves_are_looked_for(stock):
    """A changed setting is carried out soon; the drop waits for the interval."""
    await stock.write(report("m1"))
    rounds = Rounds(stock, at=START)
    async with Retention(stock.dsn, rounds.config) as retention:
        await rounds.jobs.run_round(retention)
        await stock.set_days(30, START)
        rounds.at = START + 2 * DAY
        await rounds.jobs.run_round(retention)
    assert rounds.value("job_last_success_timestamp_seconds", job="moves") == rounds.at.timestamp()
    assert await stock.admin.fetchval("SELECT count(*) FROM history_move") == 0
    assert await stock.ledger() == []
    overdue = rounds.value("partition_overdue_seconds", table="in_transit")
    assert overdue == 0


async def test_a_failed_part_counts_and_tells_how_long_it_is_overdue(stock):
    """A locked partition: failure counted, no success noted, the gauge shows its age."""
    await stock.write(report("m1"))
    name = await stock.partition("traffic_record", START, 60)
    rounds = Rounds(stock, at=HISTORY_GONE, detach_seconds_max=1, drop_attempts_max=1)
    async with (
        stock.transaction(f"LOCK TABLE {name}"),
        Retention(stock.dsn, rounds.config) as retention,
    ):
        await rounds.jobs.run_round(retention)
    assert rounds.value("job_failures_total", job="retention") == 1
    assert rounds.value("job_last_success_timestamp_seconds", job="retention") is None
    upper = (START + 61 * DAY).replace(hour=0)
    expected = (HISTORY_GONE - upper).total_seconds()
    assert rounds.value("partition_overdue_seconds", table="traffic_record") == expected
    assert rounds.value("partition_overdue_seconds", table="history_record") == 0
    assert rounds.value("partitions_dropped_total", table="history_record") == 1


async def test_a_clock_that_jumped_is_counted_as_a_failure(stock):
    """The run is refused and seen in the metric; the service goes on."""
    await stock.write(report("m1"))
    rounds = Rounds(stock)
    async with Retention(stock.dsn, rounds.config) as retention:
        await retention.run(START, guard_clock=True)
        rounds.at = HISTORY_GONE
        await rounds.jobs.run_round(retention)
    assert rounds.value("job_failures_total", job="retention") == 1
    assert await stock.ledger() == []


async def test_while_another_instance_leads_nothing_is_changed_but_all_is_seen(stock):
    """The gauges are set; the run is left to the leader and comes once it let go."""
    rounds = Rounds(stock)
    async with (
        Retention(stock.dsn, rounds.config) as leader,
        Retention(stock.dsn, rounds.config) as retention,
    ):
        assert await leader.lead()
        await rounds.jobs.run_round(retention)
        assert rounds.value("job_last_success_timestamp_seconds", job="retention") is None
        assert rounds.value("partition_headroom_seconds", table="traffic_record") == 0
        await leader.step_down()
        await rounds.jobs.run_round(retention)
        assert rounds.value("job_last_success_timestamp_seconds", job="retention") is not None
        assert await leader.lead()


async def test_a_run_cut_off_by_the_database_is_made_up_for_at_once(stock):
    """It does not wait for the next interval: the first that succeeds counts."""
    rounds = Rounds(stock)
    async with Retention(stock.dsn, rounds.config) as retention:
        pid = await retention.connection.fetchval("SELECT pg_backend_pid()")
        async with stock.transaction("LOCK TABLE retention_policy"):
            running = asyncio.create_task(rounds.jobs.run_due(retention))
            await until(
                lambda: stock.admin.fetchval(
                    "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", pid
                )
            )
            await stock.admin.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(DatabaseUnavailableError):
                await running
    async with Retention(stock.dsn, rounds.config) as retention:
        await rounds.jobs.run_round(retention)
    assert rounds.value("job_last_success_timestamp_seconds", job="retention") == START.timestamp()


async def test_the_jobs_come_back_when_their_connection_is_killed(stock):
    """A round fails and is counted; the next one has a new connection."""
    rounds = Rounds(stock, move_interval_seconds=1)
    task = asyncio.create_task(rounds.jobs.run_for_ever())

    async def ran() -> bool:
        return rounds.value("job_last_success_timestamp_seconds", job="retention") is not None

    await until(ran)
    await stock.set_days(30, START, await _account(stock))
    killed = await stock.admin.fetchval(
        "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'trafficlog_retention' AND datname = current_database()"
    )
    assert killed

    async def moved() -> bool:
        return await stock.admin.fetchval("SELECT count(*) = 0 FROM history_move")

    await until(moved)
    assert rounds.value("job_failures_total", job="retention") >= 1
    task.cancel()
    await asyncio.wait([task])


async def _account(stock) -> str:
    await stock.write(report("m1"))
    return "acme"


async def test_each_round_sums_up_what_was_used(stock):
    """However many rows there are, so many a transaction; the gauge tells of it."""
    await stock.write(report("m1"), report("m2", account="other"), report("m3", START - DAY))
    rounds = Rounds(stock, usage_rows_max=1)
    async with Retention(stock.dsn, rounds.config) as retention:
        await rounds.jobs.run_round(retention)
    assert await stock.admin.fetchval("SELECT count(*) FROM usage_delta") == 0
    assert await stock.admin.fetchval("SELECT sum(records)::int FROM usage_statistic") == 3
    transactions = "SELECT count(DISTINCT xmin::text) FROM usage_statistic"
    assert await stock.admin.fetchval(transactions) == 3
    assert rounds.value("job_last_success_timestamp_seconds", job="usage") == START.timestamp()


async def test_usage_that_cannot_be_summed_up_is_told_and_stops_nothing(stock):
    """The counter rises, the gauges are set all the same, and the next round makes up for it."""
    await stock.write(report("m1"))
    rounds = Rounds(stock)
    await stock.admin.execute("ALTER TABLE usage_statistic RENAME TO elsewhere")
    async with Retention(stock.dsn, rounds.config) as retention:
        await rounds.jobs.run_round(retention)
        assert rounds.value("job_failures_total", job="usage") == 1
        assert rounds.value("holds_active") == 0
        await stock.admin.execute("ALTER TABLE elsewhere RENAME TO usage_statistic")
        await rounds.jobs.run_round(retention)
    assert await stock.admin.fetchval("SELECT sum(records)::int FROM usage_statistic") == 1
