"""The customer's monthly reports: listed, read as JSON, CSV or a page to print, and deleted."""

from __future__ import annotations

import csv
import io
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from trafficlog.api.customer_schemas import DeletedReport, ReportList
from trafficlog.api.customer_schemas import MonthlyReport as ShownReport
from trafficlog.api.history import account_of
from trafficlog.api.negotiation import preferred
from trafficlog.api.parameters import ChoiceParameter
from trafficlog.api.problems import json_response
from trafficlog.api.routes import JSON, Answer, Route, scopes
from trafficlog.errors import NotFoundError
from trafficlog.report_page import ReportPage
from trafficlog.report_texts import LANGUAGES
from trafficlog.reports import month_name, parse_month

if TYPE_CHECKING:
    from trafficlog.api.services import Services
    from trafficlog.reports import MonthlyReport

CSV: Final = "text/csv"
HTML: Final = "text/html"
FORMATS: Final = {"json": JSON, "csv": CSV, "html": HTML}
FORMAT: Final = ChoiceParameter(
    "format", "The form of it; without it what `Accept` says, or JSON.", known=tuple(FORMATS)
)
LANGUAGE: Final = ChoiceParameter(
    "lang", "The language of the page to print.", known=LANGUAGES, default="en"
)
PAGE: Final = ReportPage()
HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}
COLUMNS: Final = (
    *("month", "kind", "direction", "status", "records", "parts", "seconds", "cost"),
    *("currency", "made_at", "final"),
)


async def get_reports(request: web.Request, services: Services) -> web.Response:
    """The account's monthly reports, the newest month first."""
    key = await account_of(request, services)
    found = await services.reports.list(key)
    return json_response({"data": [summary_of(report) for report in found]})


async def get_report(request: web.Request, services: Services) -> web.Response:
    """The report of a month."""
    month = parse_month(request.match_info["month"])
    chosen, language = FORMAT.read(request.query), LANGUAGE.demand(request.query)
    key = await account_of(request, services)
    report = await services.reports.read(key, month)
    accept = request.headers.get("Accept", "")
    media_type = FORMATS[chosen] if chosen else preferred(accept, tuple(FORMATS.values()))
    if media_type == HTML:
        return page_of(report, language)
    if media_type == CSV:
        name = f"report-{month_name(month)}.csv"
        return web.Response(
            text=csv_of(report),
            content_type=CSV,
            charset="utf-8",
            headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
        )
    return json_response(report_of(report), headers=HEADERS)


async def delete_report(request: web.Request, services: Services) -> web.Response:
    """Deletes the report of a month, for good."""
    month = parse_month(request.match_info["month"])
    key = await account_of(request, services)
    now = services.clock.now()
    await services.reports.delete(key, month, now)
    return json_response(
        {
            "receipt": secrets.token_hex(8),
            "month": month_name(month),
            "erased_at": now,
            "erased": [{"data_class": "monthly_report", "rows": 1}],
            "remains": [
                {
                    "data_class": "usage_statistic",
                    "why": "the totals by day that it was made from, which have no personal data",
                }
            ],
        }
    )


def page_of(report: MonthlyReport, language: str) -> web.Response:
    """A report as a page to print, in ``en`` or ``sv``."""
    return web.Response(
        text=PAGE.html(report, language),
        content_type=HTML,
        charset="utf-8",
        headers={**HEADERS, "Content-Security-Policy": PAGE.content_security_policy},
    )


def summary_of(report: MonthlyReport) -> dict[str, Any]:
    """What a report says in all, and until when it holds what."""
    return {
        "month": month_name(report.month),
        "made_at": report.made_at,
        "covers": f"records stored until {report.made_at.isoformat().replace('+00:00', 'Z')}",
        "final": report.final,
        "final_from": report.final_from,
        "currency": report.currency,
        "total": asdict(report.total),
    }


def report_of(report: MonthlyReport) -> dict[str, Any]:
    """A report as it is shown: costs in 1/10000 of the currency, days in UTC."""
    return {
        "account": report.account,
        "display_name": report.display_name,
        **summary_of(report),
        "lines": [
            {
                "kind": line.kind,
                "direction": line.direction,
                "status": line.status,
                **asdict(line.used),
            }
            for line in report.lines
        ],
        "days": [{"day": each.day, **asdict(each.used)} for each in report.days],
    }


def csv_of(report: MonthlyReport) -> str:
    """A report as CSV (RFC 4180): a line for each kind, direction and status."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    made_at = report.made_at.isoformat().replace("+00:00", "Z")
    for line in report.lines:
        used = line.used
        writer.writerow(
            [
                *(month_name(report.month), line.kind, line.direction, line.status or ""),
                *(used.records, used.parts, used.seconds, used.cost),
                *(report.currency or "", made_at, str(report.final).lower()),
            ]
        )
    return text.getvalue()


_LIST: Final = "/v1/accounts/{account}/reports"
_ONE: Final = _LIST + "/{month}"
ROUTES: Final = (
    Route(
        "GET",
        _LIST,
        get_reports,
        scopes("customer", "operator"),
        group="Usage",
        text="One is made of each month with usage as soon as it has ended (UTC). Late records and "
        "later states are counted, and the report is made anew, until no record of the month can "
        "come any more, because the law's period has passed for all of them: then it is final.",
        answers=(Answer.json("The reports.", ReportList),),
    ),
    Route(
        "GET",
        _ONE,
        get_report,
        scopes("customer", "operator"),
        (FORMAT, LANGUAGE),
        group="Usage",
        answers=(
            Answer(
                "The report.",
                {JSON: (ShownReport,), CSV: (), HTML: ()},
                headers={"Vary": "Accept"},
            ),
        ),
        errors=(NotFoundError,),
    ),
    Route(
        "DELETE",
        _ONE,
        delete_report,
        scopes("customer"),
        group="Usage",
        text="It does not come back, not by late records either. What it was made from stays: the "
        "usage statistics, which have no personal data.",
        answers=(Answer.json("It is deleted.", DeletedReport),),
        errors=(NotFoundError,),
    ),
)
