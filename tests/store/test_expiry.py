"""Expiries by the column are those that the rules give each record."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.store.helpers import NOW, report
from trafficlog.records import AccountKey
from trafficlog.retention import (
    DataClass,
    HistoryDays,
    HistoryOff,
    HistoryRule,
    PolicyBook,
    RetentionPolicy,
)
from trafficlog.store.columns import Sheet, history_batch
from trafficlog.store.expiry import (
    DAY,
    DAY_HOURS,
    NOT_KEPT,
    day_ranges,
    history_expiry,
    hours_of,
    instant,
    micros,
    per_account,
    traffic_expiry,
)
from trafficlog.store.kept import Terms
from trafficlog.store.settings import KnownAccount
from trafficlog.table import ReportTable

START = datetime.min.replace(tzinfo=UTC)
TICK = timedelta(microseconds=1)
instants = st.one_of(
    st.timedeltas(timedelta(days=-59), timedelta(minutes=10)),
    # The edges at which something changes below.
    st.sampled_from([timedelta(days=-n) + t for n in (7, 30) for t in (-TICK, 0 * TICK, TICK)]),
).map(lambda offset: NOW + offset)
settings = st.one_of(st.just(HistoryOff()), st.sampled_from([1, 7, 30, 1095]).map(HistoryDays))
rules = st.builds(HistoryRule, settings, st.none() | instants)
books = st.lists(
    st.tuples(instants, st.integers(1, 90 * 24)), max_size=3, unique_by=lambda each: each[0]
).map(
    lambda changes: PolicyBook(
        RetentionPolicy(DataClass.TRAFFIC, since, timedelta(hours=hours), "law")
        for since, hours in [(START, 60 * 24), *changes]
    )
)


@given(st.lists(st.tuples(instants, st.integers(0, 3)), min_size=1), st.tuples(*[rules] * 4), books)
def test_a_columns_expiries_are_those_of_its_records(created_by, rules, policies):
    """Whatever the settings, what was given up and the policies: to the microsecond, and None."""
    reports = [
        report(f"m{n}", account=f"a{account}", created=created)
        for n, (created, account) in enumerate(created_by)
    ]
    sheet = Sheet.of(ReportTable.of(reports))
    known = {
        f"a{n}": KnownAccount(AccountKey(n), rule, 3 * n, 5 * n) for n, rule in enumerate(rules)
    }
    accounts = [known[name] for name in sheet.account_ids]

    def column(values):
        return [None if each == NOT_KEPT else instant(each) for each in values.tolist()]

    gone_at = traffic_expiry(sheet.created, policies)
    assert column(gone_at) == [policies.expires_at(DataClass.TRAFFIC, r.created) for r in reports]
    kept_until = history_expiry(sheet, accounts, NOW)
    expected = [known[r.account].rule.expires_at(r.created, NOW) for r in reports]
    assert column(kept_until) == expected
    assert hours_of(kept_until) == {
        each.replace(minute=0, second=0, microsecond=0) for each in expected if each
    }
    # Told one by one they are the same.
    terms = Terms.of(reports, known, policies, NOW)
    for data_class, found, hours in (
        (DataClass.TRAFFIC, gone_at, terms.traffic_hours),
        (DataClass.HISTORY, kept_until, terms.history_hours),
    ):
        assert column(found) == [
            None if kept is None else r.created + timedelta(hours=kept)
            for r, kept in zip(reports, hours, strict=True)
        ]
        assert terms.partitions()[data_class] == hours_of(found)
    kept = history_batch(sheet, per_account(sheet, [a.key for a in accounts]), kept_until)
    stored = [each for each in expected if each]
    assert kept.column("expires_at").to_pylist() == sorted(stored)
    assert sorted(kept.column("id").to_pylist()) == sorted(
        r.id for r, each in zip(reports, expected, strict=True) if each
    )


@given(
    st.lists(st.tuples(st.integers(20_000, 21_200), st.integers(0, 400)), min_size=1, max_size=60),
    st.integers(1, 24),
)
def test_ranges_of_days_have_all_days_and_few_others(days, ranges_max):
    """Each day from a first to its last lies in one; what is left open are the widest gaps."""
    noon = timedelta(hours=12)
    began = [micros(instant((day - 50) * DAY) + noon) for day, _ in days]
    least = [50 * DAY_HOURS] * len(days)
    most = [(50 + more) * DAY_HOURS for _, more in days]
    begins, ends = day_ranges(began, least, most, ranges_max)
    assert 1 <= len(begins) == len(ends) <= ranges_max
    edges = [(micros(b), micros(e) + 1) for b, e in zip(begins, ends, strict=True)]
    assert all(edge % DAY == 0 for pair in edges for edge in pair)
    covered = [day for begin, end in edges for day in range(begin // DAY, end // DAY)]
    meant = {n for day, more in days for n in range(day, day + more + 1)}
    assert len(covered) == len(set(covered))
    assert meant <= set(covered)
    gaps = sorted((b - a - 1 for a, b in pairwise(sorted(meant))), reverse=True)
    assert len(covered) - len(meant) == sum(gaps[ranges_max - 1 :])
