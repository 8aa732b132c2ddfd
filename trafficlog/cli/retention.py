"""``trafficlog retention``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from trafficlog.cli.common import (
    ANSWER_IS_NO,
    database_command,
    reference_time,
    table_of,
)
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trafficlog.cli.common import Target
    from trafficlog.partitions import Bounds
    from trafficlog.retention import DataClass, Plan
    from trafficlog.store.drops import Dropped
    from trafficlog.store.retention import RunResult
    from trafficlog.store.verify import Verification

AT = click.option(
    "--at",
    metavar="TIME",
    help="Go by this time instead of the clock's. Later than the clock only with "
    "TRAFFICLOG_TIME_TRAVEL=1.",
)


@click.group()
def retention() -> None:
    """Plan, run and verify retention."""


@retention.command("plan")
@AT
@database_command
def plan_command(target: Target, at: str | None) -> None:
    """Show which partitions a run would make and drop; change nothing."""
    now = reference_time(at, target.clock)

    async def work(dsn: str) -> tuple[Plan, list[Dropped]]:
        async with Retention(dsn, target.config) as executor:
            plan = await executor.plan(now)
            return plan, await executor.weigh(plan.drop, now)

    plan, weighed = target.run(work)
    dropped = [asdict(d) for d in weighed]
    created = [_created(data_class, bounds) for data_class, bounds in plan.create]
    target.answer(
        {
            "at": now,
            "created": created,
            "dropped": dropped,
            "sealed": [p.name for p in plan.seal],
        },
        lambda: _plan_table(now, created, dropped, "make", "drop"),
    )


@retention.command("run")
@AT
@click.option(
    "--accept-clock", is_flag=True, help="Confirm that the clock is right although it jumped."
)
@database_command
def run_command(target: Target, at: str | None, *, accept_clock: bool) -> None:
    """Make and drop partitions, move history, destroy what no hold keeps any more.

    Exit code 1 when something of it could not be done.
    """
    now = reference_time(at, target.clock)

    async def work(dsn: str) -> RunResult:
        async with Retention(dsn, target.config) as executor:
            await executor.wait_for_lead()
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("retention", total=None)
                return await executor.run(
                    now,
                    guard_clock=at is None and not target.clock.offset,
                    accept_clock=accept_clock,
                    progress=lambda what, done, total: bar.update(
                        task, description=what, completed=done, total=total
                    ),
                )

    result = target.run(work)
    created = [_created(data_class, bounds) for data_class, bounds in result.created]
    dropped = [asdict(d) for d in result.dropped]
    target.answer(
        {
            "at": now,
            "created": created,
            "dropped": dropped,
            "sealed": result.sealed,
            "rows_moved": result.rows_moved,
            "rows_destroyed": result.rows_destroyed,
            "held_destroyed": result.held_destroyed,
            "left_over": result.left_over,
            "failures": result.failures,
        },
        lambda: _plan_table(now, created, dropped, "made", "dropped", _other_work(result)),
    )
    for failure in result.failures:
        click.echo(f"trafficlog: failed: {failure}", err=True)
    if result.failures:
        sys.exit(ANSWER_IS_NO)


@retention.command("verify")
@AT
@click.option(
    "--deep",
    is_flag=True,
    help="Also look at every row: whether it expires when policy or its account's setting says, "
    "and whether history has its legal record.",
)
@database_command
def verify_command(target: Target, at: str | None, *, deep: bool) -> None:
    """Prove that nothing overdue is there and nothing went early.

    Exit code 1 when something is wrong.
    """
    now = reference_time(at, target.clock)

    async def work(dsn: str) -> Verification:
        async with Retention(dsn, target.config) as executor:
            with Progress(console=Console(stderr=True), transient=True, disable=not deep) as bar:
                task = bar.add_task("looking at rows", total=None)
                return await verify(
                    executor.connection,
                    now,
                    target.config,
                    clock=target.clock.now(),
                    deep=deep,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )

    result = target.run(work)
    target.answer(
        {
            "at": now,
            "ok": result.is_right,
            "partitions": result.partitions,
            "ledger_entries": result.ledger_entries,
            "rows": result.rows,
            "findings": result.findings,
        },
        lambda: (
            f"right at {now:%Y-%m-%d %H:%M:%SZ}: {result.partitions} partitions, "
            f"{result.ledger_entries} ledger entries, "
            + ("" if result.rows is None else f"{result.rows} rows, ")
            + "nothing overdue, nothing early"
            if result.is_right
            else table_of(["finding"], [[f] for f in result.findings], "")
        ),
    )
    if not result.is_right:
        sys.exit(ANSWER_IS_NO)


def _created(data_class: DataClass, bounds: Bounds) -> dict[str, Any]:
    return {"table": data_class.value, "lower": bounds.lower, "upper": bounds.upper}


def _other_work(result: RunResult) -> list[list[object]]:
    """What a run did to rows rather than to partitions, and what it left, as lines of its table."""
    counts = (
        ("moved", "history_record, setting changed", result.rows_moved),
        ("destroyed", "history_record, setting changed", result.rows_destroyed),
        ("destroyed", "held_record, no longer held", result.held_destroyed),
    )
    lines: list[list[object]] = [[what, of, None, None, n, None] for what, of, n in counts if n]
    if result.sealed:
        lines.append([f"sealed {len(result.sealed)}", "frozen for good", *[None] * 4])
    if result.left_over:
        left = f"left {result.left_over}"
        lines.append([left, "partitions for the next run", None, None, None, None])
    return lines


def _plan_table(
    now: datetime,
    created: list[dict[str, Any]],
    dropped: list[dict[str, Any]],
    make: str,
    drop: str,
    other: Sequence[list[object]] = (),
) -> Any:
    rows: list[list[object]] = [
        [drop, d["name"], d["lower"], d["upper"], d["rows"], d["held"]]
        for d in dropped
        if d["rows"]
    ]
    # Many a partition is empty, the hourly ones above all: a line for each table does.
    for what, kind, group in (
        (drop, ", empty", [d for d in dropped if not d["rows"]]),
        (make, "", created),
    ):
        for table in sorted({p["table"] for p in group}):
            bounds = [p for p in group if p["table"] == table]
            lower, upper = min(p["lower"] for p in bounds), max(p["upper"] for p in bounds)
            rows.append([f"{what} {len(bounds)}", table + kind, lower, upper, None, None])
    return table_of(
        ["what", "partition", "from", "to", "rows", "held"],
        [*rows, *other],
        f"nothing is due at {now:%Y-%m-%d %H:%M:%SZ}",
    )
