"""Proof of both sides: nothing that had to go is still there, and nothing went early."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from trafficlog.ledger import LedgerEntry, LedgerReport, verify_chain
from trafficlog.queries import queries, rows
from trafficlog.store.database import availability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from trafficlog.config import Config

LEDGER_PAGE = 10_000


@dataclass(slots=True)
class Verification:
    """What was looked at, and every finding; no findings, nothing wrong."""

    at: datetime
    partitions: int = 0
    ledger_entries: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.findings


async def read_ledger(connection: asyncpg.Connection) -> AsyncIterator[LedgerEntry]:
    """The whole ledger in order, a page at a time."""
    after = 0
    while page := await rows(queries.ledger(connection, after=after, limit=LEDGER_PAGE)):
        for row in page:
            yield LedgerEntry(**dict(row))
        after = page[-1]["seq"]


async def verify_ledger(connection: asyncpg.Connection) -> LedgerReport:
    """Checks the chain, and that its end is where the head says it is."""
    with availability():
        # One snapshot, or an entry added meanwhile would look like a fault.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            entries = [entry async for entry in read_ledger(connection)]
            head = await queries.ledger_head(connection)
    report = verify_chain(entries)
    faults = list(report.faults)
    if (report.entries, report.head) != (head["seq"], head["hash"]):
        faults.append(f"the ledger ends at entry {report.entries}, but {head['seq']} were written")
    return LedgerReport(report.entries, report.head, tuple(faults))


async def verify(connection: asyncpg.Connection, now: datetime, config: Config) -> Verification:
    """Verifies retention at ``now`` from the catalogue, the data and the ledger.

    A partition may outlive its upper bound by one job interval; whatever is there
    longer is overdue.
    """
    result = Verification(now)
    grace = timedelta(seconds=config.retention_interval_seconds)
    with availability():
        partitions = await rows(queries.partitions(connection))
        result.partitions = len(partitions)
        for row in partitions:
            if row["upper"] + grace < now:
                result.findings.append(
                    f"overdue: {row['name']} should be gone since {row['upper']:%Y-%m-%dT%H:%MZ}"
                )
        for row in await rows(queries.drops_begun(connection)):
            # One that is under way is no fault.
            if row["begun_at"] + grace < now:
                result.findings.append(f"unfinished: the drop of {row['name']} was begun")
        for row in await rows(queries.stray_tables(connection)):
            result.findings.append(f"stray: {row['name']} is a detached table that nothing drops")
        for row in await rows(queries.moves(connection)):
            if row["changed_at"] + timedelta(hours=24) + grace < now:
                result.findings.append(
                    f"overdue: history of account {row['account_id']} was to be moved since "
                    f"{row['changed_at']:%Y-%m-%dT%H:%MZ}"
                )
        if held := await queries.held_overdue(connection, at=now - grace):
            result.findings.append(f"overdue: {held} held copies are under no hold any more")
        for row in await rows(queries.partitions_missing(connection)):
            result.findings.append(
                f"missing: a partition {row['name']} was made and went without the ledger; "
                f"its rows were to be kept until {row['upper']:%Y-%m-%dT%H:%MZ}"
            )
        for row in await rows(queries.partitions_unregistered(connection)):
            result.findings.append(f"unknown: {row['name']} was not made by trafficlog")
        for row in await rows(queries.ledger_early(connection)):
            result.findings.append(
                f"early: {row['object']} was dropped at {row['at']} before {row['upper']}"
            )
    report = await verify_ledger(connection)
    result.ledger_entries = report.entries
    result.findings += [f"ledger: {fault}" for fault in report.faults]
    return result
