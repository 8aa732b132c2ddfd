"""Reports as a table: what the fields of all of them say, for which they are looked over.

Texts are columns of Arrow, which is what they are encoded from as well; what is of a closed set is
one byte for each report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from trafficlog.records import KIND_CODES, STATUS_CODES_OR_NONE
from trafficlog.text_columns import TextColumn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trafficlog.records import Report


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Reports and fields of theirs, each a column in the order of ``reports``.

    ``kind`` and ``status`` are codes, of which 0 stands for none.
    """

    reports: Sequence[Report]
    id: TextColumn
    account: TextColumn
    kind: bytes
    sender: TextColumn
    recipient: TextColumn
    created: list[datetime]
    updated: list[datetime | None]
    status: bytes
    delivered: list[datetime | None]
    ip: TextColumn
    user_agent: TextColumn
    message: TextColumn
    owner: TextColumn
    tags: list[list[str] | None]

    @classmethod
    def of(cls, reports: Sequence[Report]) -> Self:
        """The table of these reports."""
        # To take all fields out of each report and turn the rows round takes longer (measured: 0.6
        # us a report, and 0.3 to 0.5 so).
        return cls(
            reports,
            TextColumn.of([r.id for r in reports]),
            TextColumn.of([r.account for r in reports]),
            bytes([KIND_CODES[r.kind] for r in reports]),
            TextColumn.of([r.sender for r in reports]),
            TextColumn.of([r.recipient for r in reports]),
            [r.created for r in reports],
            [r.updated for r in reports],
            bytes([STATUS_CODES_OR_NONE[r.status] for r in reports]),
            [r.delivered for r in reports],
            TextColumn.of([r.ip for r in reports]),
            TextColumn.of([r.user_agent for r in reports]),
            TextColumn.of([r.message for r in reports]),
            TextColumn.of([r.owner for r in reports]),
            [r.tags for r in reports],
        )

    def __len__(self) -> int:
        return len(self.reports)
