"""Several reports of one record made into one: the newest wins, nothing stated is lost.

The same rules stand in the schema (``is_later``, ``prefer``) for reports that meet a
stored record; here they fold the reports of one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.records import STATUS_CODES, WITHHELD_BITS, Report, withheld_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


class Folded(msgspec.Struct):
    """Reports of one record made into one, with what became of each of them.

    ``reports`` are in the order they arrived; ``told[i]`` says whether the i-th told something
    that those before it had not. Of a record that is stored already it is to be found out there.
    """

    merged: Report
    reports: list[Report]
    told: list[bool]


def is_later(old: Report, new: Report) -> bool:
    """Whether ``new`` supersedes ``old``: the same rule as ``is_later`` in the schema."""
    if new.updated is None:
        return False
    if old.updated is None or new.updated > old.updated:
        return True
    if new.updated < old.updated:
        return False
    return STATUS_CODES.get(new.status or "", 0) > STATUS_CODES.get(old.status or "", 0)


_MERGED_FIELDS: Final = (
    "status",
    "delivered",
    "duration",
    "parts",
    "cost",
    "owner",
    "tags",
    "message",
)


def fold(reports: Iterable[Report], omitted: Mapping[str, int]) -> list[Folded]:
    """Makes one report of all those of the same identity and kind, in order of first arrival.

    The newest wins field by field; a field that a report does not state is kept;
    what one report withheld stays withheld. ``omitted`` is what each account withholds, as bits.
    """
    folded: dict[tuple[tuple[str, datetime, str], str], Folded] = {}
    for report in reports:
        known = folded.get((report.identity, report.kind))
        if known is None:
            folded[report.identity, report.kind] = Folded(report, [report], [True])
        else:
            before = known.merged
            known.merged = merge(before, report)
            known.reports.append(report)
            bits = omitted[report.account]
            known.told.append(_shown(known.merged, bits) != _shown(before, bits))
    return list(folded.values())


def _shown(report: Report, omitted: int) -> Report:
    """Without a message that is not kept: to bring it tells nothing."""
    if (report.withheld | omitted) & WITHHELD_BITS["message"]:
        return msgspec.structs.replace(report, message=None)
    return report


def merge(old: Report, new: Report) -> Report:
    """What two reports of one record say together."""
    later = is_later(old, new)
    first, second = (new, old) if later else (old, new)
    merged = msgspec.structs.replace(old)
    for name in _MERGED_FIELDS:
        value = getattr(first, name)
        setattr(merged, name, getattr(second, name) if value is None else value)
    if old.updated == new.updated:
        # The legal record has no status to go by: of two for one instant the longer stands.
        merged.duration = max(
            (d for d in (old.duration, new.duration) if d is not None), default=None
        )
    merged.updated = max((t for t in (old.updated, new.updated) if t), default=None)
    merged.ip = new.ip if old.ip is None else old.ip
    merged.user_agent = new.user_agent if old.user_agent is None else old.user_agent
    bits = old.withheld | new.withheld
    if bits != old.withheld:
        merged.dontlog = withheld_names(bits)
    return merged
