"""The debug log: lines that explain a record's fate, written beside records, read by operators."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trafficlog.queries import queries, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import asyncpg

    from trafficlog.records import AccountKey
    from trafficlog.refusals import Refusal
    from trafficlog.store.database import Database

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LEVEL_NAMES: Final = {code: name for name, code in LEVELS.items()}
_COLUMNS: Final = (
    "created_at",
    "line_id",
    "expires_at",
    "account_key",
    "level",
    "record_id",
    "source",
    "line",
)


@dataclass(frozen=True, slots=True)
class DebugLine:
    """One line of the debug log; ``account`` and ``record_id`` where they are known."""

    at: datetime
    level: str
    source: str
    line: str
    account: str | None = None
    record_id: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A refused record, whose line is made when it is known what its account omits.

    ``account`` is the one it names, which need not exist; ``line`` makes the line without the
    fields that bits stand for.
    """

    account: str | None
    line: Callable[[int], DebugLine]


@dataclass(frozen=True, slots=True)
class StoredDebugLine:
    """A debug line as it is read back."""

    at: datetime
    level: str
    source: str
    line: str
    account: str | None
    record: str | None


def refusal_line(refusal: Refusal, at: datetime, chars_max: int) -> DebugLine:
    """The debug line that keeps a refused record and its reason, within a bound."""
    raw = refusal.raw[:chars_max].replace("\0", "\ufffd")
    reason = refusal.detail.replace("\0", "\ufffd")
    return DebugLine(at, "warning", "ingest", f"refused ({refusal.code}) {reason} | {raw}")


def row_of(
    line: DebugLine, account_key: AccountKey | None, expires_at: datetime
) -> tuple[Any, ...]:
    """A line as ``copy_lines`` takes it."""
    return (
        line.at,
        secrets.randbits(63),
        expires_at,
        account_key,
        LEVELS[line.level],
        line.record_id,
        line.source,
        line.line,
    )


async def copy_lines(connection: asyncpg.Connection, lines: Sequence[tuple[Any, ...]]) -> None:
    """Stores lines, within the connection's transaction."""
    await connection.copy_records_to_table("debug_log", records=lines, columns=_COLUMNS)


class DebugLog:
    """Reads debug lines; they are written through the ingest buffer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lines(
        self,
        now: datetime,
        *,
        account: str | None,
        record: str | None,
        after: datetime,
        before: datetime,
        limit: int,
    ) -> list[StoredDebugLine]:
        """Lines of a time window that are not expired, newest first."""
        async with self._database.operator() as connection:
            key = None
            if account is not None:
                key = await queries.account_key_of(connection, account_id=account)
                if key is None:
                    return []
            found = await rows(
                queries.debug_lines(
                    connection,
                    account_key=key,
                    record_id=record,
                    lower=after,
                    upper=before,
                    now=now,
                    limit=limit,
                )
            )
        return [
            StoredDebugLine(
                row["created_at"],
                _LEVEL_NAMES[row["level"]],
                row["source"],
                row["line"],
                row["account_id"],
                row["record_id"],
            )
            for row in found
        ]
