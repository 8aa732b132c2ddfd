"""Proof of both sides: nothing that had to go is still there, and nothing went early."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from trafficlog.ledger import GENESIS, Chain, LedgerEntry, LedgerReport
from trafficlog.partitions import Bounds, Partition
from trafficlog.queries import queries, rows
from trafficlog.retention import CLOCK_SKEW_MAX
from trafficlog.store.database import availability
from trafficlog.store.verify_rows import verify_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from trafficlog.config import Config

# Few enough that requests on the same loop do not feel a page being read.
LEDGER_PAGE = 2_000


@dataclass(slots=True)
class Verification:
    """What was looked at, and every finding; no findings, nothing wrong."""

    at: datetime
    partitions: int = 0
    ledger_entries: int = 0
    ledger_head: bytes = GENESIS
    ledger_holds: bool = True
    # None: rows were not looked at.
    rows: int | None = None
    findings: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.findings


async def read_ledger(connection: asyncpg.Connection) -> AsyncIterator[LedgerEntry]:
    """The whole ledger in order."""
    async for page in _ledger_pages(connection):
        for row in page:
            yield LedgerEntry(**dict(row))


async def _ledger_pages(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    after = 0
    while page := await rows(queries.ledger(connection, after=after, limit=LEDGER_PAGE)):
        yield page
        after = page[-1]["seq"]


async def verify_ledger(
    connection: asyncpg.Connection, watch: Callable[[LedgerEntry], None] = lambda _: None
) -> LedgerReport:
    """Checks the chain, and that its end is where the head says it is.

    ``watch`` is shown each entry as it is read.
    """
    chain = Chain()

    def take(page: list[asyncpg.Record]) -> None:
        for row in page:
            entry = LedgerEntry(**dict(row))
            chain.add(entry)
            watch(entry)

    with availability():
        # One snapshot, or an entry added meanwhile would look like a fault.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for page in _ledger_pages(connection):
                # In a thread, because so many hashes would be felt by them.
                await asyncio.to_thread(take, page)
            head = await queries.ledger_head(connection)
    report = chain.report()
    faults = list(report.faults)
    if (report.entries, report.head) != (head["seq"], head["hash"]):
        faults.append(f"the ledger ends at entry {report.entries}, but {head['seq']} were written")
    return LedgerReport(report.entries, report.head, tuple(faults))


async def verify(
    connection: asyncpg.Connection,
    now: datetime,
    config: Config,
    *,
    clock: datetime | None = None,
    deep: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    watch: Callable[[LedgerEntry], None] = lambda _: None,
) -> Verification:
    """Verifies retention at ``now`` from the catalogue, the data and the ledger.

    A partition may outlive its upper bound by one job interval; whatever is there
    longer is overdue. One went early when its bound had not passed by the time of its own
    ledger entry, of any later entry, or of the clock: whoever destroys by a clock that is
    ahead writes a wrong time into the ledger, too.

    Args:
        connection: of the retention role.
        now: the time to go by.
        config: the job interval, and how much is read at once.
        clock: what the clock reads, when ``now`` lies before it.
        deep: look at each row as well; see ``verify_rows``.
        progress: told how many blocks of rows are done, and of how many.
        watch: shown each entry of the ledger as it is read.
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
        for row in await rows(queries.partitions_unbounded(connection)):
            result.findings.append(
                f"unbounded: {row['name']} ({row['bounds']}) takes rows that nothing ever drops"
            )
        moves = [row["changed_at"] for row in await rows(queries.moves(connection))]
        # Whose history it is, nobody learns from a finding: it may go into a certificate.
        if late := [at for at in moves if at + timedelta(hours=24) + grace < now]:
            result.findings.append(
                f"overdue: the history of {len(late)} accounts was to be moved, of the first since "
                f"{min(late):%Y-%m-%dT%H:%MZ}"
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
        for row in await rows(
            queries.ledger_early(connection, clock=max(now, clock or now), skew=CLOCK_SKEW_MAX)
        ):
            result.findings.append(
                f"early: {row['object']}, to be kept until {row['upper']:%Y-%m-%dT%H:%MZ}, "
                f"was dropped when it was {row['known_at']:%Y-%m-%dT%H:%M:%SZ} at the latest "
                f"(entry {row['seq']} says {row['at']:%Y-%m-%dT%H:%M:%SZ})"
            )
        if deep:
            there = [
                Partition(row["table_name"], row["name"], Bounds(row["lower"], row["upper"]))
                for row in partitions
                # One whose detach is pending is on its way out and not to be read.
                if not row["detach_pending"]
            ]
            looked = await verify_rows(connection, there, now, config, progress)
            result.rows = looked.rows
            result.findings += looked.findings
    report = await verify_ledger(connection, watch)
    result.ledger_entries, result.ledger_head = report.entries, report.head
    result.ledger_holds = not report.faults
    result.findings += [f"ledger: {fault}" for fault in report.faults]
    return result
