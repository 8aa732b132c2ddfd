"""The rules of retention, as pure functions: no database, no clock.

One rule serves every class and account: a row carries the instant ``expires_at``,
fixed when it is written, and a partition is dropped when its upper bound has
passed. Here is how that instant comes about, which partitions ought to exist at a
given time, which must go, and when a clock is not to be believed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from trafficlog.errors import ClockJumpError, InvalidValueError
from trafficlog.partitions import Bounds, Partition, Width, bounds_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HISTORY_DAYS_MAX = 1095
POLICY_HOURS_MAX = 10 * 365 * 24
LEGAL_BASIS_CHARS_MAX = 500
# A record may be created this much ahead of the clock: gateways' clocks differ.
AHEAD_MAX = timedelta(minutes=10)


class DataClass(StrEnum):
    """A class of data that is kept for a period; the value is its table."""

    TRAFFIC = "traffic_record"
    HISTORY = "history_record"
    DEBUG = "debug_log"
    IN_TRANSIT = "in_transit"
    ACCESS = "access_log"

    # What tables of classes are looked up by for each record: an enumeration's own is not quick.
    __hash__ = str.__hash__


WIDTHS: Mapping[DataClass, Width] = {
    DataClass.TRAFFIC: Width.DAY,
    DataClass.HISTORY: Width.DAY,
    DataClass.DEBUG: Width.DAY,
    DataClass.IN_TRANSIT: Width.HOUR,
    DataClass.ACCESS: Width.MONTH,
}


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long a class is kept, from when on, and on what legal basis."""

    data_class: DataClass
    effective_from: datetime
    retention_period: timedelta
    legal_basis: str


class PolicyBook:
    """All policies, so that the one in force when a record was created can be found.

    A policy applies to records created from its effective date on, which keeps
    ``expires_at`` a pure function of the class and the time of creation.
    """

    def __init__(self, policies: Iterable[RetentionPolicy]) -> None:
        self._by_class: dict[DataClass, list[RetentionPolicy]] = {}
        for policy in sorted(policies, key=lambda p: p.effective_from):
            self._by_class.setdefault(policy.data_class, []).append(policy)
        self._periods = {
            data_class: [policy.retention_period for policy in policies]
            for data_class, policies in self._by_class.items()
        }

    def in_force(self, data_class: DataClass, created_at: datetime) -> RetentionPolicy:
        """The policy for a record of this class created at ``created_at``."""
        policies = self._by_class.get(data_class, [])
        index = bisect_right(policies, created_at, key=lambda p: p.effective_from)
        if index == 0:
            raise LookupError(f"no policy for {data_class} at {created_at}")
        return policies[index - 1]

    def expires_at(self, data_class: DataClass, created_at: datetime) -> datetime:
        """The instant at which a record of this class must be gone."""
        return later_by(created_at, self.in_force(data_class, created_at).retention_period)

    def created_after(self, data_class: DataClass, now: datetime) -> datetime:
        """Whatever was created up to this instant has expired under every policy.

        After a period was changed some of what was created later may have, too:
        ``expires_at`` decides.
        """
        return now - max(self._periods[data_class])

    def surely_kept_after(self, data_class: DataClass, now: datetime) -> datetime:
        """Whatever was created later than this has expired under no policy."""
        return now - min(self._periods[data_class])

    def has_changed(self, data_class: DataClass) -> bool:
        """Whether there ever was, or will be, another policy than the present one."""
        return len(self._by_class[data_class]) > 1

    def periods_from(self, data_class: DataClass, now: datetime) -> frozenset[timedelta]:
        """The periods that records created now or later can get."""
        current = self.in_force(data_class, now)
        coming = [p for p in self._by_class[data_class] if p.effective_from > now]
        return frozenset(p.retention_period for p in [current, *coming])

    def of(self, data_class: DataClass) -> Sequence[RetentionPolicy]:
        """The policies of a class, by when they begin."""
        return tuple(self._by_class.get(data_class, ()))

    def __iter__(self) -> Iterator[RetentionPolicy]:
        return iter([p for policies in self._by_class.values() for p in policies])


def check_policy(policy: RetentionPolicy, now: datetime) -> None:
    """A policy that may be set at ``now``.

    It starts later than any record can have been created by then, so that no stored
    row's expiry changes; its period is one that the class's partitions can hold.

    Raises:
        InvalidValueError: naming what is not acceptable.
    """
    earliest = now + AHEAD_MAX
    if policy.effective_from <= earliest:
        raise InvalidValueError(
            "--from",
            policy.effective_from.isoformat(),
            f"must be later than {earliest.isoformat()}: records created until then may be "
            "stored already, under the policy they were created under",
            reason_code="too_early",
        )
    hours, rest = divmod(policy.retention_period, timedelta(hours=1))
    if rest or not 1 <= hours <= POLICY_HOURS_MAX:
        raise InvalidValueError(
            "period",
            str(policy.retention_period),
            f"must be whole hours from 1 to {POLICY_HOURS_MAX}",
            reason_code="out_of_range",
        )
    if policy.data_class is DataClass.HISTORY:
        days, rest = divmod(policy.retention_period, timedelta(days=1))
        if rest:
            raise InvalidValueError("period", f"{hours} hours", "must be whole days for history")
        check_history_days(days, "period")
    if not policy.legal_basis.strip() or len(policy.legal_basis) > LEGAL_BASIS_CHARS_MAX:
        raise InvalidValueError(
            "--legal-basis",
            policy.legal_basis,
            f"must be a text of 1 to {LEGAL_BASIS_CHARS_MAX} characters",
        )


@dataclass(frozen=True, slots=True)
class HistoryOff:
    """The customer keeps no history: none is ever written."""


@dataclass(frozen=True, slots=True)
class HistoryDays:
    """The customer keeps its history for this many days."""

    days: int

    def __post_init__(self) -> None:
        check_history_days(self.days)

    @property
    def retention_period(self) -> timedelta:
        """The days as a duration of 24 hours each: no calendar, no zone."""
        return _whole_days(self.days)


# Asked of every record; there are few of them.
@lru_cache(maxsize=HISTORY_DAYS_MAX)
def _whole_days(days: int) -> timedelta:
    return timedelta(days=days)


HistorySetting = HistoryOff | HistoryDays


def check_history_days(days: object, field_name: str = "history.days") -> int:
    """``days`` when it is a whole number of days that can be kept.

    Raises:
        InvalidValueError: it is not an integer from 1 to 1095. Nothing stands for
            "for ever" or "never": history is turned off by saying so.
    """
    if isinstance(days, bool) or not isinstance(days, int):
        raise InvalidValueError(
            field_name, days, "must be a whole number of days", reason_code="wrong_type"
        )
    if not 1 <= days <= HISTORY_DAYS_MAX:
        raise InvalidValueError(
            field_name,
            days,
            f"must be from 1 to {HISTORY_DAYS_MAX}; to keep no history turn it off",
            reason_code="out_of_range",
        )
    return days


@dataclass(frozen=True, slots=True)
class HistoryRule:
    """What of an account's history exists: its setting, and what is gone for good.

    Records created at ``gone_up_to`` or before are neither written nor shown,
    whatever the setting becomes later; None when nothing has been given up yet.
    """

    setting: HistorySetting
    gone_up_to: datetime | None = None

    def expires_at(self, created_at: datetime, now: datetime) -> datetime | None:
        """When a record's history row must be gone; None when there is to be none."""
        if isinstance(self.setting, HistoryOff):
            return None
        if self.gone_up_to is not None and created_at <= self.gone_up_to:
            return None
        expiry = later_by(created_at, self.setting.retention_period)
        return None if is_expired(expiry, now) else expiry

    def visible_after(self, now: datetime) -> datetime | None:
        """Rows created after this instant are visible at ``now``; None: no row is."""
        if isinstance(self.setting, HistoryOff):
            return None
        cutoff = now - self.setting.retention_period
        return cutoff if self.gone_up_to is None else max(cutoff, self.gone_up_to)


def later_by(instant: datetime, period: timedelta) -> datetime:
    """The instant ``period`` after an aware one, in UTC.

    Adding to a local time would follow the wall clock, an hour off across a clock change.
    """
    return (instant if instant.tzinfo is UTC else instant.astimezone(UTC)) + period


def is_expired(expires_at: datetime, now: datetime) -> bool:
    """True from the instant ``expires_at`` on."""
    return expires_at <= now


@dataclass(frozen=True, slots=True)
class TableNeed:
    """What one table needs: its records get one of the periods; partitions are made ahead.

    Records come in up to ``late`` after they were created, so far as sealing goes by it;
    None: the table's partitions are not worth sealing.
    """

    data_class: DataClass
    periods: frozenset[timedelta]
    headroom: timedelta
    late: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retention run does: partitions to make, to drop and to seal, oldest first."""

    create: tuple[tuple[DataClass, Bounds], ...] = ()
    drop: tuple[Partition, ...] = ()
    seal: tuple[Partition, ...] = ()


def plan(existing: Sequence[Partition], now: datetime, needs: Sequence[TableNeed]) -> Plan:
    """What must change for the partitions to be right at ``now``.

    Makes each partition that a record created between now and the headroom's end
    would need, for each period in use; drops exactly those whose upper bound has
    passed. Seals those that get no more records: under every period in use, what belongs
    there was created longer ago than records are late. Partitions of tables that no need
    names are left alone.
    """
    have = {(p.table, p.bounds.lower) for p in existing if not p.detach_pending}
    create: list[tuple[DataClass, Bounds]] = []
    for need in needs:
        wanted = {
            bounds
            for period in need.periods
            for bounds in bounds_between(
                WIDTHS[need.data_class], now + period, now + period + need.headroom
            )
        }
        create += [
            (need.data_class, bounds)
            for bounds in sorted(wanted)
            if (need.data_class.value, bounds.lower) not in have
        ]
    named = {need.data_class.value for need in needs}
    drop = [p for p in existing if p.table in named and is_expired(p.bounds.upper, now)]
    quiet_before = {
        need.data_class.value: now - need.late + min(need.periods)
        for need in needs
        if need.late is not None
    }
    seal = [
        p
        for p in existing
        if not p.sealed
        and not is_expired(p.bounds.upper, now)
        and p.table in quiet_before
        and p.bounds.upper <= quiet_before[p.table]
    ]
    return Plan(tuple(create), _oldest_first(drop), _oldest_first(seal))


def _oldest_first(partitions: list[Partition]) -> tuple[Partition, ...]:
    return tuple(sorted(partitions, key=lambda p: (p.bounds, p.table)))


def headroom_ahead(
    existing: Sequence[Partition], now: datetime, data_class: DataClass, period: timedelta
) -> timedelta:
    """For how long from now on records of this period find their partition made."""
    start = now + period
    covered = start
    bounds = sorted(p.bounds for p in existing if p.table == data_class and not p.detach_pending)
    for each in bounds:
        if each.lower <= covered < each.upper:
            covered = each.upper
    return covered - start


# Two instances' clocks differ by a little without either having jumped.
CLOCK_SKEW_MAX = timedelta(seconds=60)


def check_clock(last: datetime | None, now: datetime, forward_max: timedelta) -> None:
    """Refuses a reference time that cannot be trusted.

    Raises:
        ClockJumpError: ``now`` lies before the last run's, or so far after it that a
            wrong clock is more likely than a long stop.
    """
    if last is None:
        return
    if now < last - CLOCK_SKEW_MAX:
        raise ClockJumpError(
            f"the clock went back: it reads {now:%Y-%m-%dT%H:%M:%SZ}, the last run's read "
            f"{last:%Y-%m-%dT%H:%M:%SZ}. Nothing is dropped until the clock has passed it, or "
            "`trafficlog retention run --accept-clock` confirms the clock",
            last=last,
            now=now,
        )
    if now - last > forward_max:
        raise ClockJumpError(
            f"the clock jumped ahead: it reads {now:%Y-%m-%dT%H:%M:%SZ}, {now - last} after the "
            f"last run; the limit is {forward_max}. If the service really stood still that long, "
            "`trafficlog retention run --accept-clock` confirms it",
            last=last,
            now=now,
        )
