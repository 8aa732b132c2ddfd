"""The rules of retention: when a row must be gone, what a plan says, which clock is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficlog.errors import ClockJumpError, InvalidValueError
from trafficlog.partitions import Bounds, Partition, Width, bounds_between, bounds_of
from trafficlog.retention import (
    CLOCK_SKEW_MAX,
    WIDTHS,
    DataClass,
    HistoryDays,
    HistoryOff,
    HistoryRule,
    PolicyBook,
    RetentionPolicy,
    TableNeed,
    check_clock,
    check_history_days,
    headroom_ahead,
    is_expired,
    plan,
)

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
EVER = datetime(1, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
# Zones whose clocks change on different nights, and one that is off by quarter hours.
ZONES = [
    "Europe/Stockholm",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
]

zones = st.sampled_from([ZoneInfo(z) for z in ZONES] + [UTC, timezone(timedelta(hours=14))])
instants = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2032, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
classes = st.sampled_from(list(DataClass))
periods = st.integers(1, 1095).map(lambda days: timedelta(days=days))


def policy(data_class: DataClass, hours: int, since: datetime = EVER) -> RetentionPolicy:
    """A policy in force since a time."""
    return RetentionPolicy(data_class, since, timedelta(hours=hours), "a statute")


BOOK = PolicyBook([policy(DataClass.TRAFFIC, 60 * 24), policy(DataClass.IN_TRANSIT, 72)])


@given(instants, zones)
def test_expiry_is_the_same_instant_in_every_zone(created, zone):
    """A period is hours, not days of a calendar: no zone's clock change shifts an expiry."""
    expected = created + timedelta(hours=60 * 24)
    assert BOOK.expires_at(DataClass.TRAFFIC, created.astimezone(zone)) == expected
    rule = HistoryRule(HistoryDays(60))
    assert rule.expires_at(created.astimezone(zone), created) == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("night", ["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31"])
def test_a_day_of_history_lasts_24_hours_across_clock_changes(zone, night):
    """Days = 1 keeps a record 24 hours even when its customer's night has 23 or 25."""
    created = datetime.fromisoformat(f"{night}T20:00:00").replace(tzinfo=ZoneInfo(zone))
    expires = HistoryRule(HistoryDays(1)).expires_at(created, created)
    assert expires is not None
    assert expires.astimezone(UTC) - created.astimezone(UTC) == timedelta(hours=24)


def test_expiry_across_a_leap_day_and_a_year_end():
    """29 February is a day like any other, and so is the turn of the year."""
    rule = HistoryRule(HistoryDays(1))
    leap = datetime(2028, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)
    assert rule.expires_at(leap, leap) == datetime(2028, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)
    eve = datetime(2026, 12, 31, 12, tzinfo=UTC)
    assert rule.expires_at(eve, eve) == datetime(2027, 1, 1, 12, tzinfo=UTC)


@given(instants, periods)
def test_a_row_expires_at_its_instant_and_not_a_microsecond_before(created, period):
    """It is there one microsecond before, and gone at the instant and after."""
    expires = created + period
    assert not is_expired(expires, expires - TICK)
    assert is_expired(expires, expires)
    assert is_expired(expires, expires + TICK)


@given(instants, st.integers(1, 1095))
def test_history_is_visible_exactly_until_it_expires(created, days):
    """What is shown and what is kept are one rule, to the microsecond."""
    rule = HistoryRule(HistoryDays(days))
    expires = created + timedelta(days=days)
    for now in (expires - TICK, expires, expires + TICK):
        assert (created > rule.visible_after(now)) is (now < expires)
        assert rule.expires_at(created, now) == (expires if now < expires else None)


def test_history_that_is_off_is_never_written_nor_shown():
    """Off means never written, whatever was there before."""
    rule = HistoryRule(HistoryOff(), NOW)
    assert rule.expires_at(NOW + DAY, NOW) is None
    assert rule.visible_after(NOW) is None


def test_what_was_given_up_stays_given_up():
    """Up to the instant given up nothing is written or shown; a microsecond later it is."""
    rule = HistoryRule(HistoryDays(90), NOW - DAY)
    assert rule.expires_at(NOW - DAY, NOW) is None
    assert rule.expires_at(NOW - DAY + TICK, NOW) == NOW - DAY + TICK + 90 * DAY
    assert rule.visible_after(NOW) == NOW - DAY
    assert HistoryRule(HistoryDays(1), NOW - 5 * DAY).visible_after(NOW) == NOW - DAY


@pytest.mark.parametrize("days", [0, -1, None, 1.5, 99999, 1096, True, "7", float("nan")])
def test_days_that_are_no_days_are_refused(days):
    """No number stands for never or for ever."""
    with pytest.raises(InvalidValueError, match=r"history\.days"):
        check_history_days(days)
    with pytest.raises(InvalidValueError):
        HistoryDays(days)


def test_a_policy_holds_for_records_created_from_its_date_on():
    """A record keeps the period that was in force when it was created."""
    later = policy(DataClass.TRAFFIC, 24, NOW)
    book = PolicyBook([later, policy(DataClass.TRAFFIC, 48)])
    assert book.expires_at(DataClass.TRAFFIC, NOW - TICK) == NOW - TICK + timedelta(hours=48)
    assert book.expires_at(DataClass.TRAFFIC, NOW) == NOW + timedelta(hours=24)
    both = {timedelta(hours=48), timedelta(hours=24)}
    assert book.periods_from(DataClass.TRAFFIC, NOW - DAY) == both
    assert book.periods_from(DataClass.TRAFFIC, NOW) == {timedelta(hours=24)}


def test_a_class_without_a_policy_in_force_has_no_expiry():
    """Nothing is kept on no basis: to ask is an error."""
    with pytest.raises(LookupError):
        PolicyBook([policy(DataClass.TRAFFIC, 24, NOW)]).in_force(DataClass.TRAFFIC, NOW - TICK)


needs = st.lists(
    st.builds(
        TableNeed,
        classes,
        st.frozensets(periods, min_size=1, max_size=4),
        st.integers(0, 240).map(lambda hours: timedelta(hours=hours)),
    ),
    max_size=5,
    unique_by=lambda need: need.data_class,
)


@st.composite
def existing_partitions(draw, now_from=instants):
    """A time, and partitions around it as a run of years may have left them."""
    now = draw(now_from)
    found = {}
    for data_class, offset_hours, pending in draw(
        st.lists(st.tuples(classes, st.integers(-9000, 9000), st.booleans()), max_size=30)
    ):
        bounds = bounds_of(WIDTHS[data_class], now + timedelta(hours=offset_hours))
        # Only one that expired can have a detach that was broken off.
        found[data_class, bounds.lower] = Partition(
            data_class.value,
            f"{data_class}_{bounds.lower:%Y%m%d%H}",
            bounds,
            pending and bounds.upper <= now,
        )
    return now, list(found.values())


def applied(existing, planned):
    """The partitions there are once a plan has been carried out."""
    made = [
        Partition(data_class.value, f"{data_class}_{bounds.lower:%Y%m%d%H}", bounds)
        for data_class, bounds in planned.create
    ]
    return [p for p in existing if p not in planned.drop] + made


@given(existing_partitions(), needs)
def test_a_plan_drops_exactly_what_has_expired(situation, needed):
    """Nothing whose upper bound lies ahead; all else of the tables that are named."""
    now, existing = situation
    named = {need.data_class.value for need in needed}
    dropped = plan(existing, now, needed).drop
    assert all(p.bounds.upper <= now for p in dropped)
    assert set(dropped) == {p for p in existing if p.bounds.upper <= now and p.table in named}
    assert [p.bounds for p in dropped] == sorted(p.bounds for p in dropped)


@given(existing_partitions(), needs, st.data())
def test_a_plan_makes_what_coming_records_need(situation, needed, data):
    """A record of any period in use, created within the headroom, finds its partition."""
    now, existing = situation
    there = applied(existing, plan(existing, now, needed))
    for need in needed:
        period = data.draw(st.sampled_from(sorted(need.periods)))
        ahead = data.draw(st.integers(0, int(need.headroom.total_seconds() * 1e6)))
        expires = now + timedelta(microseconds=ahead) + period
        found = [
            p
            for p in there
            if p.table == need.data_class.value and p.bounds.lower <= expires < p.bounds.upper
        ]
        assert len(found) == 1


@given(existing_partitions(), needs)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(situation, needed):
    """The same moment planned again asks for nothing."""
    now, existing = situation
    again = plan(applied(existing, plan(existing, now, needed)), now, needed)
    assert (again.create, again.drop) == ((), ())


def test_a_partition_is_dropped_at_its_upper_bound_and_not_before():
    """One microsecond before it stays: its last row has not expired."""
    bounds = bounds_of(WIDTHS[DataClass.HISTORY], NOW)
    there = [Partition("history_record", "h", bounds)]
    need = [TableNeed(DataClass.HISTORY, frozenset({90 * DAY}), DAY)]
    assert plan(there, bounds.upper - TICK, need).drop == ()
    assert plan(there, bounds.upper, need).drop == tuple(there)


@given(instants)
def test_a_day_of_history_is_not_dropped_a_day_early(created):
    """With days = 1 the partition goes within two days of the record, never within one."""
    expires = HistoryRule(HistoryDays(1)).expires_at(created, created)
    assert expires is not None
    upper = bounds_of(WIDTHS[DataClass.HISTORY], expires).upper
    assert created + DAY < upper <= created + 2 * DAY


def test_one_far_period_does_not_make_a_thousand_partitions():
    """Only the days that records of the period can reach are made, not those between."""
    need = TableNeed(DataClass.HISTORY, frozenset({DAY, 1095 * DAY}), 7 * DAY)
    assert len(plan([], NOW, [need]).create) == 16


def test_a_partition_whose_detach_is_pending_is_made_anew_and_still_dropped():
    """It takes no rows any more, so it does not count as there."""
    bounds = bounds_of(WIDTHS[DataClass.HISTORY], NOW - DAY)
    pending = Partition("history_record", "h", bounds, detach_pending=True)
    need = TableNeed(DataClass.HISTORY, frozenset({DAY}), timedelta(0))
    planned = plan([pending], NOW, [need])
    assert planned.drop == (pending,)
    assert headroom_ahead([pending], NOW - 2 * DAY, DataClass.HISTORY, DAY) == timedelta(0)


def test_headroom_counts_to_the_first_gap():
    """Partitions beyond a missing one help no record that needs the missing one."""
    start = datetime(2026, 11, 22, tzinfo=UTC)
    days = [start + n * DAY for n in (0, 1, 3)]
    there = [Partition("history_record", f"{d}", Bounds(d, d + DAY)) for d in days]
    at = start + timedelta(hours=6) - 90 * DAY
    assert headroom_ahead(there, at, DataClass.HISTORY, 90 * DAY) == timedelta(hours=42)
    assert headroom_ahead(there, at - DAY, DataClass.HISTORY, 90 * DAY) == timedelta(0)
    assert headroom_ahead(there, at, DataClass.TRAFFIC, 90 * DAY) == timedelta(0)


def test_a_clock_is_believed_within_its_limit_only():
    """Up to the limit, and back by no more than two clocks differ; not a microsecond beyond."""
    limit = timedelta(hours=72)
    check_clock(None, NOW, limit)
    check_clock(NOW, NOW, limit)
    check_clock(NOW, NOW + limit, limit)
    check_clock(NOW, NOW - CLOCK_SKEW_MAX, limit)
    with pytest.raises(ClockJumpError, match="went back"):
        check_clock(NOW, NOW - CLOCK_SKEW_MAX - TICK, limit)
    with pytest.raises(ClockJumpError, match="accept-clock"):
        check_clock(NOW, NOW + limit + TICK, limit)


@given(st.sets(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 72), st.integers(0, 96))
def test_nothing_is_sealed_that_a_record_may_still_go_into(days, late_hours, created_hours_ago):
    """Whoever the record is of, if it is not later than records are, its partition is open."""
    now = datetime(2026, 11, 22, 13, 7, tzinfo=UTC)
    late = timedelta(hours=late_hours)
    periods = frozenset(timedelta(days=d) for d in days)
    there = [
        Partition("history_record", f"{bounds.lower}", bounds)
        for period in periods
        for bounds in bounds_between(Width.DAY, now + period - 5 * DAY, now + period + 5 * DAY)
    ]
    sealed = plan(there, now, [TableNeed(DataClass.HISTORY, periods, DAY, late)]).seal
    created = now - min(late, timedelta(hours=created_hours_ago)) + timedelta(microseconds=1)
    open_ones = {bounds_of(Width.DAY, created + period) for period in periods}
    assert not open_ones & {p.bounds for p in sealed}


def test_a_partition_is_sealed_from_when_its_records_are_all_in():
    """At the instant, not before; and never again once it is."""
    bounds = Bounds(datetime(2027, 2, 20, tzinfo=UTC), datetime(2027, 2, 21, tzinfo=UTC))
    need = TableNeed(DataClass.HISTORY, frozenset({90 * DAY}), DAY, 2 * DAY)
    quiet = bounds.upper - 90 * DAY + 2 * DAY
    there = Partition("history_record", "h", bounds)
    assert plan([there], quiet, [need]).seal == (there,)
    assert plan([there], quiet - timedelta(microseconds=1), [need]).seal == ()
    assert plan([replace(there, sealed=True)], quiet, [need]).seal == ()
