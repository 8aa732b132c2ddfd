"""The account's history setting: what it is, what a change would hide, and the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.history import parse_settings, rows_hidden
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import text
from trafficlog.errors import InvalidValueError
from trafficlog.retention import HISTORY_DAYS_MAX, HistoryDays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.retention import HistorySetting
    from trafficlog.store.history import Account

DIGITS_MAX: Final = 9


async def get_settings(visit: Visit, dashboard: Dashboard) -> web.Response:
    """The form, filled in with the setting in force."""
    account = await dashboard.services.accounts.get(visit.account_key)
    notice = "changed" if "changed" in visit.request.query else None
    return _form(dashboard, visit, account, _days_of(account.setting), notice=notice)


async def post_settings(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Says first what the change would hide; changes when that was confirmed."""
    services = dashboard.services
    before = await services.accounts.get(visit.account_key)
    days = visit.form.get("days", "").strip()
    try:
        setting, reports = parse_settings({"history": _wanted(visit.form)}, before)
    except InvalidValueError as error:
        return _form(dashboard, visit, before, days, wrong=_in_words(error))
    now = services.clock.now()
    if setting == before.setting:
        return _form(dashboard, visit, before, _days_of(setting), notice="same")
    if visit.form.get("step") != "confirm":
        return dashboard.renderer.page(
            "settings_preview.html",
            visit=visit,
            before=_days_of(before.setting),
            after=_days_of(setting),
            hidden=await rows_hidden(services, before, setting, now),
        )
    await services.accounts.change(
        visit.account_key, setting, monthly_reports=reports, now=now, by=visit.principal.actor
    )
    return see_other("/settings?changed=yes")


def _wanted(form: Mapping[str, str]) -> dict[str, Any]:
    """The form's fields as the API's setting.

    Raises:
        InvalidValueError: a field is missing, or no number.
    """
    choice, days = form.get("history", ""), form.get("days", "").strip()
    if choice == "off":
        return {"enabled": False}
    if choice != "on":
        raise InvalidValueError("history", choice, text("settings.choice.wrong"))
    if not (days.isascii() and days.removeprefix("-").isdigit()):
        raise InvalidValueError("history.days", days, text("settings.number.wrong"))
    # So long a number is out of bounds whatever follows, and is not converted whole.
    return {"enabled": True, "days": int(days[:DIGITS_MAX])}


def _in_words(error: InvalidValueError) -> str:
    """What is wrong, under the name that the field has on the page."""
    if error.field == "history.days":
        return text("settings.wrong", field=text("settings.days"), reason=error.reason)
    return error.reason


def _days_of(setting: HistorySetting) -> int | None:
    return setting.days if isinstance(setting, HistoryDays) else None


def _form(
    dashboard: Dashboard,
    visit: Visit,
    account: Account,
    days: int | str | None,
    *,
    notice: str | None = None,
    wrong: str | None = None,
) -> web.Response:
    return dashboard.renderer.page(
        "settings.html",
        visit=visit,
        status=200 if wrong is None else 400,
        account=account,
        chosen=visit.form.get("history") or ("off" if days is None else "on"),
        days=days,
        days_max=HISTORY_DAYS_MAX,
        notice=notice,
        wrong=wrong,
    )


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/settings", get_settings),
    SessionPage("POST", "/settings", post_settings),
)
