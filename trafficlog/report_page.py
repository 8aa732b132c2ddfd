"""A monthly report as a page to print: one HTML file that needs no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.print_page import PrintPage, number
from trafficlog.report_texts import MONTHS, TEXTS
from trafficlog.reports import month_after

if TYPE_CHECKING:
    from datetime import date, datetime

    from trafficlog.reports import MonthlyReport

# Costs are in 1/10000 of the currency.
UNIT: Final = 10_000
CENT: Final = UNIT // 100
CHART_HEIGHT: Final = 120
COLUMN_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class Column:
    """A day in the chart: how high its column is, and how many records that stands for."""

    day: date
    height: float
    records: int


class ReportPage:
    """Makes pages of reports."""

    def __init__(self) -> None:
        self._page = PrintPage("report.html", second=_second, clock=_clock)

    @property
    def content_security_policy(self) -> str:
        """Under which the page may be served."""
        return self._page.content_security_policy

    def html(self, report: MonthlyReport, language: str) -> str:
        """The page of a report, in one of ``trafficlog.report_texts.LANGUAGES``."""
        texts = TEXTS[language]
        costs = [line.used.cost for line in report.lines] + [day.used.cost for day in report.days]
        is_fine = any(cost % CENT for cost in costs)
        month = MONTHS[language][report.month.month - 1]
        return self._page.render(
            report=report,
            language=language,
            texts=texts,
            month=f"{month} {report.month.year}",
            columns=_columns(report),
            chart_height=CHART_HEIGHT,
            column_width=COLUMN_WIDTH,
            money=lambda cost: _money(cost, texts["point"], is_fine=is_fine),
        )


def _columns(report: MonthlyReport) -> list[Column]:
    """One for each day of the month; the highest as high as the chart."""
    records = {day.day: day.used.records for day in report.days}
    most = max(records.values(), default=0)
    days = (month_after(report.month) - report.month).days
    return [
        Column(day, round(CHART_HEIGHT * max(0, count) / most, 1) if most > 0 else 0, count)
        for day in (report.month + timedelta(days=n) for n in range(days))
        for count in (records.get(day, 0),)
    ]


def _money(cost: int, point: str, *, is_fine: bool) -> str:
    """In the currency itself: with two decimals, or four where some amount of the page needs it."""
    whole, rest = divmod(abs(cost), UNIT)
    decimals = f"{rest:04}" if is_fine else f"{rest // CENT:02}"
    return f"{'-' if cost < 0 else ''}{number(whole)}{point}{decimals}"


def _second(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _clock(seconds: int) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{'-' if seconds < 0 else ''}{hours}:{minutes:02}:{rest:02}"
