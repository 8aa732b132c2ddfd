"""Partitions as arithmetic: whose bounds lie where."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficlog.partitions import Bounds, Width, bounds_between, bounds_of

TICK = timedelta(microseconds=1)
widths = st.sampled_from(list(Width))
instants = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from(
        [UTC, ZoneInfo("Europe/Stockholm"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/Havana")]
    ),
)


def utc(text: str) -> datetime:
    """An instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("width", "at", "lower", "upper"),
    [
        (Width.HOUR, "2026-03-29T01:30", "2026-03-29T01:00", "2026-03-29T02:00"),
        (Width.HOUR, "2026-12-31T23:59:59.999999", "2026-12-31T23:00", "2027-01-01T00:00"),
        (Width.DAY, "2026-11-22T00:00", "2026-11-22T00:00", "2026-11-23T00:00"),
        (Width.DAY, "2028-02-29T12:00", "2028-02-29T00:00", "2028-03-01T00:00"),
        (Width.DAY, "2026-12-31T23:59:59.999999", "2026-12-31T00:00", "2027-01-01T00:00"),
        (Width.MONTH, "2026-01-31T12:00", "2026-01-01T00:00", "2026-02-01T00:00"),
        (Width.MONTH, "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        (Width.MONTH, "2026-12-31T23:59:59.999999", "2026-12-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_bounds_lie_on_whole_hours_days_and_months(width, at, lower, upper):
    """The last microsecond belongs to the partition, the next one to the next."""
    assert bounds_of(width, utc(at)) == Bounds(utc(lower), utc(upper))


@given(widths, instants)
def test_an_instant_lies_in_its_partition_whatever_its_zone(width, at):
    """Bounds are UTC and half-open; at a bound, one before and one after, they agree."""
    bounds = bounds_of(width, at)
    assert bounds.lower <= at < bounds.upper
    assert bounds.lower.utcoffset() == bounds.upper.utcoffset() == timedelta(0)
    assert bounds_of(width, at.astimezone(UTC)) == bounds
    assert bounds_of(width, bounds.lower) == bounds
    assert bounds_of(width, bounds.upper - TICK) == bounds
    assert bounds_of(width, bounds.upper).lower == bounds.upper


@pytest.mark.parametrize("zone", ["Europe/Stockholm", "America/New_York", "Pacific/Apia"])
def test_a_night_of_23_or_25_hours_is_one_utc_day_of_24(zone):
    """A customer's clock change makes no partition shorter or longer."""
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    bounds = [bounds_of(Width.DAY, start + timedelta(days=n)) for n in range(365)]
    assert {b.upper - b.lower for b in bounds} == {timedelta(hours=24)}
    assert all(b.lower.hour == 0 for b in bounds)


@given(widths, instants, st.integers(0, 60 * 24 * 40))
def test_partitions_between_two_instants_leave_no_gap(width, start, minutes):
    """They follow on one another, the first holds the start and the last the end."""
    end = start.astimezone(UTC) + timedelta(minutes=minutes)
    found = list(bounds_between(width, start, end))
    assert found[0] == bounds_of(width, start)
    assert found[-1] == bounds_of(width, end)
    for before, after in itertools.pairwise(found):
        assert before.upper == after.lower


def test_naive_times_and_empty_partitions_are_refused():
    """A time without a zone is no instant, and a partition holds something."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what is to be refused
    aware = utc("2026-01-01")
    with pytest.raises(ValueError, match="aware"):
        bounds_of(Width.DAY, naive)
    with pytest.raises(ValueError, match="aware"):
        Bounds(naive, aware)
    with pytest.raises(ValueError, match="empty"):
        Bounds(aware, aware)
