"""The overview: what needs attention, what comes in, retention of each table, and the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.api.query import only
from trafficlog.operator_page.pages import OperatorPage
from trafficlog.operator_page.render import instant
from trafficlog.operator_page.texts import ENGLISH, distance, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from trafficlog.operator_page.pages import Operation, Page, Visit
    from trafficlog.store.oversight import JobState, TableState

HOUR_MINUTES: Final = 60
RATE_MINUTES: Final = 5
CHART_HEIGHT: Final = 100


async def get_overview(visit: Visit, operation: Operation) -> web.Response:
    """How things stand now."""
    only(visit.request.query.keys(), ())
    services, oversight = operation.services, operation.oversight
    now = services.clock.now()
    retention = await oversight.retention(now)
    jobs = await oversight.jobs(now)
    # The present minute is not over, so the mean is of those before it.
    present, *minutes = await oversight.ingest(HOUR_MINUTES + 1)
    [*latest] = await oversight.ledger(None, 1)
    most = max(present, *minutes)
    return operation.renderer.page(
        "overview.html",
        visit=visit,
        at=now,
        wrong=_wrong(retention.tables, jobs),
        rate=_rate(sum(minutes[:RATE_MINUTES]) / (RATE_MINUTES * 60)),
        rate_minutes=RATE_MINUTES,
        hour=sum(minutes),
        most=most,
        bars=[
            round(count / most * CHART_HEIGHT, 1) if most else 0
            for count in reversed((present, *minutes[:-1]))
        ],
        holds=await services.holds.active(now),
        entries=latest[0].seq if latest else 0,
        retention=retention,
        jobs=jobs,
        job_name=job_name,
        distance=lambda then: distance(then - now),
    )


def job_name(job: str) -> str:
    """A job as people know it."""
    key = f"job.{job}"
    return text(key) if key in ENGLISH else job


def _wrong(tables: Sequence[TableState], jobs: Sequence[JobState]) -> list[str]:
    """Everything that needs attention, in sentences."""
    found = []
    for table in tables:
        name = text(f"class.{table.data_class}")
        if table.overdue is not None and table.oldest is not None:
            found.append(text("wrong.overdue", table=name, at=instant(table.oldest.bounds.upper)))
    for job in jobs:
        if job.is_failing:
            found.append(text("wrong.failing", job=job_name(job.name), failure=job.failure))
        if job.is_late:
            found.append(text("wrong.late", job=job_name(job.name), at=instant(job.ran_at)))
    if not jobs:
        found.append(text("wrong.no_jobs"))
    return found


def _rate(per_second: float) -> str:
    """A rate with as many digits as say something."""
    return f"{per_second:,.0f}" if per_second >= 10 or not per_second else f"{per_second:.2g}"  # noqa: PLR2004


PAGES: Final[tuple[Page, ...]] = (OperatorPage("GET", "/operate", get_overview),)
