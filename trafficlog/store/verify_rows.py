"""Whether each stored row expires when policy, or its account's setting, says.

A partition goes when its bound has passed, so a row goes early or late exactly when its
``expires_at`` is wrong. Rows are read where they lie, so many blocks in one statement: memory
stays small, and no statement lasts so long that a drop would wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trafficlog.queries import queries, rows
from trafficlog.retention import DataClass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.config import Config
    from trafficlog.partitions import Partition

# What is wrong with rows, in the order it is told, and how it is told.
WRONG = {
    "early": "early: {n} rows of {name} expire before their time",
    "late": "late: {n} rows of {name} expire after their time",
    "unwanted": "unwanted: {n} rows of {name} are of history that was given up",
    "without_legal": "missing: {n} rows of {name} have no legal record, "
    "though its time is not over",
}


@dataclass(slots=True)
class RowsVerified:
    """How many rows were looked at, and every finding."""

    rows: int = 0
    findings: list[str] = field(default_factory=list)


async def verify_rows(
    connection: asyncpg.Connection,
    partitions: Sequence[Partition],
    now: datetime,
    config: Config,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> RowsVerified:
    """Looks at every row of these partitions; one that goes meanwhile has no findings.

    ``expires_at`` must be the creation and the period of the policy that was in force then; of
    history the account's present setting, and while a changed setting is still carried out
    one of those it has had since. A row that is updated meanwhile may be looked at twice or not
    at all: no update changes what is looked at.

    Args:
        connection: of the retention role, which alone sees every class.
        partitions: the attached ones.
        now: the legal record of a row of history must be there while its time is not over.
        config: how many blocks are read by one statement.
        progress: told how many blocks are done, and of how many.
    """
    result = RowsVerified()
    blocks_of = {
        row["name"]: row["blocks"] or 0 for row in await rows(queries.partition_blocks(connection))
    }
    sizes = [blocks_of.get(p.name, 0) for p in partitions]
    done, total = 0, sum(sizes)
    for partition, blocks in zip(partitions, sizes, strict=True):
        wrong: dict[str, int] = dict.fromkeys(WRONG, 0)
        first: datetime | None = None
        for block in range(0, blocks, config.verify_blocks_max):
            progress(done + block, total)
            # What was added since ended beyond these blocks.
            end = min(block + config.verify_blocks_max, blocks)
            found = await _page(connection, partition, now, block, end)
            result.rows += found["rows"]
            for what in wrong:
                wrong[what] += found.get(what) or 0
            first = min((t for t in (first, found["first_wrong"]) if t), default=None)
        done += blocks
        result.findings += [
            WRONG[what].format(n=n, name=partition.name)
            + (f", the first of them created {first:%Y-%m-%dT%H:%M:%SZ}" if first else "")
            for what, n in wrong.items()
            if n
        ]
    progress(total, total)
    return result


async def _page(
    connection: asyncpg.Connection, partition: Partition, now: datetime, block: int, end: int
) -> dict[str, Any]:
    """What is found in the blocks from ``block`` up to ``end``."""
    place = {
        "lower": partition.bounds.lower,
        "upper": partition.bounds.upper,
        "first_tid": (block, 0),
        "end_tid": (end, 0),
    }
    if partition.table == DataClass.HISTORY:
        return dict(await queries.verify_history_rows(connection, at=now, **place))
    return dict(await queries.verify_policy_rows(connection, table_name=partition.table, **place))
