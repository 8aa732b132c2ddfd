"""What a month is, when its report is final, and what the page to print makes of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from trafficlog.errors import InvalidValueError
from trafficlog.report_page import ReportPage
from trafficlog.report_texts import ENGLISH, LANGUAGES, TEXTS
from trafficlog.reports import (
    MonthlyReport,
    ReportDay,
    ReportLine,
    Totals,
    final_from,
    month_after,
    month_of,
    parse_month,
)
from trafficlog.retention import DataClass, PolicyBook, RetentionPolicy

OCTOBER = date(2026, 10, 1)
EVER = datetime.min.replace(tzinfo=UTC)
DAY = timedelta(days=1)


def book(*periods):
    """Policies of the legal record: (from when on, days)."""
    return PolicyBook(
        RetentionPolicy(DataClass.TRAFFIC, begins, timedelta(days=days), "law")
        for begins, days in periods
    )


def october(day, hour=0):
    """A time in October."""
    return datetime(2026, 10, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policies", "last_expiry"),
    [
        ([(EVER, 60)], datetime(2026, 12, 31, tzinfo=UTC)),
        ([(EVER, 1)], datetime(2026, 11, 2, tzinfo=UTC)),
        # The longer period ended within the month: its last record outlives the month's last.
        ([(EVER, 60), (october(20), 10)], october(20) + 60 * DAY),
        ([(EVER, 60), (october(20), 59)], datetime(2026, 12, 30, tzinfo=UTC)),
        ([(EVER, 10), (october(20), 60)], datetime(2026, 12, 31, tzinfo=UTC)),
        # Policies of before and of after do not matter to it.
        ([(EVER, 900), (october(1), 60)], datetime(2026, 12, 31, tzinfo=UTC)),
        (
            [(EVER, 60), (datetime(2026, 11, 1, tzinfo=UTC), 900)],
            datetime(2026, 12, 31, tzinfo=UTC),
        ),
    ],
)
def test_a_report_is_final_a_day_after_the_last_record_that_can_come(policies, last_expiry):
    """Whichever policy a record of the month is created under."""
    assert final_from(OCTOBER, book(*policies)) == last_expiry + DAY


def test_months_are_of_the_calendar_in_utc():
    """A month ends with its last microsecond in UTC, whatever zone an instant is given in."""
    edge = datetime(2026, 11, 1, 0, 30, tzinfo=UTC)
    assert month_of(edge) == date(2026, 11, 1)
    assert month_of(edge - timedelta(minutes=30, microseconds=1)) == OCTOBER
    assert month_of(edge.astimezone()) == date(2026, 11, 1)
    assert [month_after(date(y, m, 1)) for y, m in ((2026, 12), (2027, 1), (2028, 2))] == [
        date(2027, 1, 1),
        date(2027, 2, 1),
        date(2028, 3, 1),
    ]


def test_a_month_is_read_as_it_is_written():
    """And in no other way."""
    assert parse_month("2026-10") == OCTOBER
    for text in (
        "2026-1",
        "2026-13",
        "2026-00",
        "0000-01",
        "26-10",
        "2026-10-01",
        "\uff12\uff10\uff12\uff16-10",
        "",
    ):
        with pytest.raises(InvalidValueError):
            parse_month(text)


def page(cost=0, language="en", **changes):
    """The page of a report of one line."""
    used = Totals(1, 1, 3661, cost)
    values = {
        "account": "acme",
        "display_name": None,
        "month": OCTOBER,
        "made_at": datetime(2026, 11, 1, tzinfo=UTC),
        "final": False,
        "final_from": datetime(2027, 1, 1, tzinfo=UTC),
        "currency": "SEK",
        "lines": [ReportLine("call", "outgoing", None, used)],
        "days": [ReportDay(OCTOBER, used)],
    }
    return ReportPage().html(MonthlyReport(**(values | changes)), language)


@pytest.mark.parametrize(
    ("cost", "language", "shown"),
    [
        (0, "en", ">0.00<"),
        (3500, "en", ">0.35<"),
        (12_345_600, "en", ">1\u202f234.56<"),
        (12_345_600, "sv", ">1\u202f234,56<"),
        (3501, "en", ">0.3501<"),
        (-3500, "en", ">-0.35<"),
    ],
)
def test_money_is_shown_in_the_currency(cost, language, shown):
    """To the cent, and finer where a cent would hide something."""
    assert shown in page(cost, language)


def test_the_page_says_whether_it_is_final_and_escapes_what_it_is_given():
    """A name is text and nothing else; an empty month and an unknown currency are said."""
    assert "provisional" in page()
    assert "it does not change any more" in page(final=True)
    assert "1:01:01" in page()
    named = page(display_name="<script>alert(1)</script>")
    assert "<script" not in named
    empty = page(lines=[], days=[], currency=None)
    assert "Nothing was used" in empty
    assert "not known" in empty


def test_every_text_is_there_in_each_language():
    """And says something."""
    for language in LANGUAGES:
        assert TEXTS[language].keys() == ENGLISH.keys()
        assert all(TEXTS[language].values())
