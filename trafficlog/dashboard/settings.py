"""The account's settings: what they are, what a change would hide, and the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trafficlog.api.settings import rows_hidden
from trafficlog.dashboard.render import see_other
from trafficlog.dashboard.routes import SessionPage
from trafficlog.dashboard.texts import text
from trafficlog.errors import InvalidValueError
from trafficlog.records import WITHHELD_BITS, withheld_names
from trafficlog.retention import (
    HISTORY_DAYS_MAX,
    HistoryDays,
    HistoryOff,
    HistorySetting,
    check_history_days,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.dashboard.routes import Dashboard, Page, Visit
    from trafficlog.records import WithheldField
    from trafficlog.store.accounts import Account

DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a customer can set; ``withheld`` are bits as in ``withheld_names``."""

    history: HistorySetting
    monthly_reports: bool
    withheld: int

    @property
    def days(self) -> int | None:
        """How many days history is kept; None when it is off."""
        return self.history.days if isinstance(self.history, HistoryDays) else None

    @property
    def dontlog(self) -> list[WithheldField]:
        """The fields that are never stored."""
        return withheld_names(self.withheld)


async def get_settings(visit: Visit, dashboard: Dashboard) -> web.Response:
    """The form, filled in with the settings in force."""
    account = await dashboard.services.accounts.get(visit.account_key)
    notice = "changed" if "changed" in visit.request.query else None
    return _form(dashboard, visit, account, _form_of(_of(account)), notice=notice)


async def post_settings(visit: Visit, dashboard: Dashboard) -> web.Response:
    """Says first what the change would hide; changes when that was confirmed."""
    services = dashboard.services
    account = await services.accounts.get(visit.account_key)
    before = _of(account)
    try:
        after = _wanted(visit.form)
    except InvalidValueError as error:
        return _form(dashboard, visit, account, visit.form, wrong=error)
    now = services.clock.now()
    if after == before:
        return _form(dashboard, visit, account, _form_of(before), notice="same")
    if visit.form.get("step") != "confirm":
        hidden = 0
        if after.history != before.history:
            hidden = await rows_hidden(services, account, after.history, now)
        return dashboard.renderer.page(
            "settings_preview.html",
            visit=visit,
            before=before,
            after=after,
            form=_form_of(after),
            hidden=hidden,
        )
    await services.accounts.change(
        visit.account_key,
        after.history,
        monthly_reports=after.monthly_reports,
        withheld=after.withheld,
        now=now,
        by=visit.principal.actor,
    )
    return see_other("/settings?changed=yes")


def _of(account: Account) -> Settings:
    return Settings(account.setting, account.monthly_reports, account.withheld)


def _wanted(form: Mapping[str, str]) -> Settings:
    """What a form asks for.

    Raises:
        InvalidValueError: a field is missing, or no number of days.
    """
    reports = form.get("monthly_reports") == "yes"
    withheld = 0
    for name, bit in WITHHELD_BITS.items():
        if form.get(f"dontlog_{name}") == "yes":
            withheld |= bit
    choice, days = form.get("history", ""), form.get("days", "").strip()
    if choice == "off":
        return Settings(HistoryOff(), reports, withheld)
    if choice != "on":
        raise InvalidValueError("history", choice, "must be on or off")
    if not (days.isascii() and days.removeprefix("-").isdigit()):
        raise InvalidValueError("history.days", days, "must be a number", reason_code="wrong_type")
    # So long a number is out of bounds whatever follows, and is not converted whole.
    kept = HistoryDays(check_history_days(int(days[:DIGITS_MAX])))
    return Settings(kept, reports, withheld)


def _form_of(settings: Settings) -> dict[str, str]:
    """The fields of the form that ask for these settings."""
    return {
        "history": "off" if settings.days is None else "on",
        "days": "" if settings.days is None else str(settings.days),
        **({"monthly_reports": "yes"} if settings.monthly_reports else {}),
        **{f"dontlog_{name}": "yes" for name in settings.dontlog},
    }


def _in_words(error: InvalidValueError) -> str:
    """What is wrong, under the name that the field has on the page."""
    if error.field == "history":
        return text("settings.choice.wrong")
    if error.reason_code == "out_of_range":
        reason = text("settings.range.wrong", most=HISTORY_DAYS_MAX)
    else:
        reason = text("settings.number.wrong")
    return text("settings.wrong", field=text("settings.days"), reason=reason)


def _form(
    dashboard: Dashboard,
    visit: Visit,
    account: Account,
    form: Mapping[str, str],
    *,
    notice: str | None = None,
    wrong: InvalidValueError | None = None,
) -> web.Response:
    return dashboard.renderer.page(
        "settings.html",
        visit=visit,
        status=200 if wrong is None else 400,
        account=account,
        form=form,
        days_max=HISTORY_DAYS_MAX,
        fields=tuple(WITHHELD_BITS),
        notice=notice,
        wrong=None if wrong is None else _in_words(wrong),
    )


PAGES: Final[tuple[Page, ...]] = (
    SessionPage("GET", "/settings", get_settings),
    SessionPage("POST", "/settings", post_settings),
)
