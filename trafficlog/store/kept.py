"""How long records are kept and what of them, told one by one.

For a few records that is quicker than by the column, as ``expiry`` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import msgspec

from trafficlog.retention import DataClass, HistoryDays
from trafficlog.store.arrays import array_of_numbers
from trafficlog.store.expiry import DAY_HOURS, HOUR, instant, micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trafficlog.records import Report
    from trafficlog.retention import PolicyBook
    from trafficlog.store.settings import KnownAccount

AN_HOUR: Final = timedelta(hours=1)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What of an account's records goes into history: those created later than ``after``.

    ``hours`` is for how long; ``hours_min`` and ``hours_max`` for how long any may be kept that
    stands there already.
    """

    key: int
    withheld: int
    after: datetime
    hours: int | None
    hours_min: int
    hours_max: int

    @classmethod
    def of(cls, account: KnownAccount, now: datetime) -> Kept:
        """By the account's settings."""
        setting, after = account.rule.setting, account.rule.visible_after(now)
        always = account.days_min * DAY_HOURS, account.days_max * DAY_HOURS
        if not isinstance(setting, HistoryDays) or after is None:
            return cls(account.key, account.withheld, _NEVER, None, *always)
        return cls(account.key, account.withheld, after, setting.days * DAY_HOURS, *always)

    def omitted_of(self, report: Report) -> int:
        """What history omits of a report, as bits."""
        return self.withheld if report.dontlog is None else self.withheld | report.withheld


@dataclass(frozen=True, slots=True)
class Terms:
    """How long each of some reports is kept, and what of it.

    ``created`` is in microseconds since 1970; ``history_hours`` is None where history is to keep
    nothing.
    """

    kept: list[Kept]
    created: list[int]
    traffic_hours: list[int]
    history_hours: list[int | None]
    omitted: list[int]

    @classmethod
    def of(
        cls,
        reports: Sequence[Report],
        accounts: Mapping[str, KnownAccount],
        policies: PolicyBook,
        now: datetime,
    ) -> Self:
        """By the policies and the present settings of the accounts, which are known."""
        of_account = {name: Kept.of(accounts[name], now) for name in {r.account for r in reports}}
        kept = [of_account[r.account] for r in reports]
        pairs = list(zip(kept, reports, strict=True))
        return cls(
            kept,
            [micros(r.created) for r in reports],
            _traffic_hours(reports, policies),
            [k.hours if r.created > k.after else None for k, r in pairs],
            [k.omitted_of(r) for k, r in pairs],
        )

    def arrays(self) -> dict[str, str]:
        """What a statement is told of it."""
        return {
            "account_keys": array_of_numbers([k.key for k in self.kept]),
            "created": array_of_numbers(self.created),
            "traffic_hours": array_of_numbers(self.traffic_hours),
            "history_hours": array_of_numbers(self.history_hours),
            "omitted": array_of_numbers(self.omitted),
        }

    def partitions(self) -> dict[DataClass, set[datetime]]:
        """The hours in which the rows expire, by table."""
        began = [at // HOUR for at in self.created]
        return {
            DataClass.TRAFFIC: _ends(began, self.traffic_hours),
            DataClass.HISTORY: _ends(began, self.history_hours),
        }


def _traffic_hours(reports: Sequence[Report], policies: PolicyBook) -> list[int]:
    """For how long each legal record is kept: by the policy it was created under."""
    if not policies.has_changed(DataClass.TRAFFIC):
        [policy] = policies.of(DataClass.TRAFFIC)
        return [policy.retention_period // AN_HOUR] * len(reports)
    return [
        policies.in_force(DataClass.TRAFFIC, r.created).retention_period // AN_HOUR for r in reports
    ]


def _ends(began: Sequence[int], kept_hours: Sequence[int | None]) -> set[datetime]:
    """In which hours ends what began in one, counted since 1970, and is kept for so many."""
    pairs = zip(began, kept_hours, strict=True)
    return {instant(end * HOUR) for end in {at + hours for at, hours in pairs if hours is not None}}
