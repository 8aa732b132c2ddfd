"""What new records add to the usage statistics."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any

from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trafficlog.records import AccountKey, Report

# The arguments of the query ``count_usage``: a column for each.
Columns = dict[str, list[Any]]


def usage_of(reports: Iterable[Report], keys: Mapping[str, AccountKey]) -> Columns:
    """What these records count for, by account, day of creation (UTC), kind, direction, status.

    ``keys`` are those of the accounts.
    """
    # All that counts as one tuple: most records are alike, and what is left to add up are few
    # (measured: 0.7 us a record of 20,000 and 2 of 10, by Arrow's group_by 0.8 and 30).
    alike = Counter(
        [
            (
                r.account,
                r.created.toordinal(),
                r.kind,
                r.direction,
                r.status,
                r.parts,
                r.duration,
                r.cost,
            )
            for r in reports
        ]
    )
    summed: dict[tuple[str, int, str, str, str | None], list[int]] = {}
    for (account, day, kind, direction, status, parts, seconds, cost), count in alike.items():
        counts = summed.setdefault((account, day, kind, direction, status), [0, 0, 0, 0])
        counts[0] += count
        counts[1] += count * (parts or 0)
        counts[2] += count * (seconds or 0)
        counts[3] += count * (cost or 0)
    groups, totals = summed.keys(), summed.values()
    return {
        "account_keys": [keys[account] for account, *_ in groups],
        "days": [date.fromordinal(day) for _, day, *_ in groups],
        "kinds": [KIND_CODES[kind] for _, _, kind, *_ in groups],
        "directions": [DIRECTION_CODES[direction] for *_, direction, _ in groups],
        "statuses": [status and STATUS_CODES[status] for *_, status in groups],
        "records": [records for records, *_ in totals],
        "parts": [parts for _, parts, _, _ in totals],
        "seconds": [seconds for _, _, seconds, _ in totals],
        "costs": [cost for *_, cost in totals],
    }
