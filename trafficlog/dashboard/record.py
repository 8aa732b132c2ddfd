"""One record: all that is stored of it, and its life from its creation to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import duration, text, until
from trafficlog.errors import NotFoundError
from trafficlog.records import RecordId

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.store.history_list import HistoryRecord

PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of a record's life: ``key`` of its name, and how long after the creation it came.

    ``status`` is what was reported then, where that is known; ``ahead`` says that it is to come.
    """

    key: str
    at: datetime
    after: str | None = None
    status: str | None = None
    ahead: bool = False


async def get_record(visit: Visit, dashboard: Dashboard) -> web.Response:
    """One record with its life; or all that carry its id."""
    now = dashboard.services.clock.now()
    records = await records_of(visit, dashboard, now)
    return dashboard.renderer.page(
        "record.html",
        visit=visit,
        records=records,
        life=lambda record: life_of(record, now),
        spent=lambda record: spent_percent(record, now),
        until=lambda at: until(at - now),
    )


async def records_of(visit: Visit, dashboard: Dashboard, now: datetime) -> list[HistoryRecord]:
    """The records of the id in the address.

    Raises:
        NotFoundError: there is none, or none any more.
    """
    try:
        return await dashboard.services.history.all_of_id(visit.account_key, record_id(visit), now)
    except NotFoundError:
        raise not_there() from None


def record_id(visit: Visit) -> RecordId:
    """The id in the address; one that no record can have is not looked for."""
    record = visit.request.match_info["id"]
    if "\0" in record:
        raise not_there()
    return RecordId(record)


def not_there() -> NotFoundError:
    """The error that says so in words of the page."""
    return NotFoundError(text("error.404.record"))


def life_of(record: HistoryRecord, now: datetime) -> list[Moment]:
    """What happened to a record and will, in the order of its times."""
    moments = [Moment("record.created", record.created)]
    if record.delivered is not None:
        after = _after(record.delivered - record.created)
        moments.append(Moment("record.delivered", record.delivered, after))
    if record.updated is not None:
        after = _after(record.updated - record.created)
        moments.append(Moment("record.updated", record.updated, after, record.status))
    moments.append(Moment("record.expires", record.expires, ahead=record.expires > now))
    return sorted(moments, key=lambda moment: moment.at)


def spent_percent(record: HistoryRecord, now: datetime) -> int:
    """How much of the time that a record is kept is over."""
    kept = record.expires - record.created
    return max(0, min(PERCENT, PERCENT * (now - record.created) // kept))


def _after(period: timedelta) -> str | None:
    """How long after its creation something came; None for what states an earlier time."""
    seconds = round(period.total_seconds())
    return duration(seconds) if seconds >= 0 else None


PAGES: Final[tuple[Page, ...]] = (SessionPage("GET", "/history/{id}", get_record),)
