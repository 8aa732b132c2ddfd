"""The account's settings: what a body asks for, what it would do, and the change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from trafficlog.api.caching import TAG_HEADERS, demand_match, json_tagged, tagged
from trafficlog.api.customer_schemas import Settings, SettingsTrial, WantedHistory, WantedSettings
from trafficlog.api.history import account_of
from trafficlog.api.parameters import FlagParameter
from trafficlog.api.problems import json_response
from trafficlog.api.query import json_object, only
from trafficlog.api.routes import Answer, Body, Route, scopes
from trafficlog.api.schemas import names_of
from trafficlog.api.services import PRINCIPAL
from trafficlog.errors import ConflictError, InvalidValueError, PreconditionFailedError
from trafficlog.records import WITHHELD_BITS, withheld_names
from trafficlog.retention import HistoryDays, HistoryOff, HistorySetting, check_history_days

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.api.services import Services
    from trafficlog.store.accounts import Account

DRY_RUN: Final = FlagParameter("dry_run", "Only say what it would do.")
SETTINGS_BYTES_MAX: Final = 65_536
EVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WantedChange:
    """Settings to be; None leaves one as it is. ``withheld`` is what ``dontlog`` says, as bits."""

    history: HistorySetting | None
    monthly_reports: bool | None
    withheld: int | None


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that a change would do: a stable code, and a sentence for people."""

    code: str
    text: str


async def get_settings(request: web.Request, services: Services) -> web.Response:
    """The account's settings."""
    account = await services.accounts.get(await account_of(request, services))
    return json_tagged(request, settings_of(account))


async def put_settings(request: web.Request, services: Services) -> web.Response:
    """Sets the account's settings, or says what setting them would do."""
    key = await account_of(request, services)
    body = json_object(await services.bodies.read(request, SETTINGS_BYTES_MAX))
    now = services.clock.now()
    before = await services.accounts.get(key)
    wanted = parse_settings(body, before)
    if DRY_RUN.read(request.query):
        return json_response(await _trial(services, before, wanted, now))
    after = await services.accounts.change(
        key,
        wanted.history,
        monthly_reports=wanted.monthly_reports,
        withheld=wanted.withheld,
        now=now,
        by=request[PRINCIPAL].actor,
        check=lambda account: demand_match(request, settings_of(account)),
    )
    return json_tagged(request, settings_of(after))


async def rows_hidden(
    services: Services, account: Account, setting: HistorySetting, now: datetime
) -> int:
    """How many rows that are visible now a setting would hide."""
    created_up_to = EVER if isinstance(setting, HistoryOff) else now - setting.retention_period
    return await services.history.count(account.key, now, created_up_to=created_up_to)


async def _trial(
    services: Services, before: Account, wanted: WantedChange, now: datetime
) -> dict[str, Any]:
    """What a change would do, and to how many rows."""
    hidden = moved = 0
    if wanted.history is not None and wanted.history != before.setting:
        hidden = await rows_hidden(services, before, wanted.history, now)
        moved = await rows_hidden(services, before, HistoryOff(), now) - hidden
    reports = len(await services.reports.list(before.key))
    effects = [
        *_history_effects(before.setting, wanted.history, hidden, moved),
        *_report_effects(before.monthly_reports, wanted.monthly_reports, reports),
        *_dontlog_effects(before.withheld, wanted.withheld),
    ]
    return {
        "dry_run": True,
        "rows_hidden": hidden,
        "rows_moved": moved,
        "effects": [asdict(each) for each in effects],
    }


def _history_effects(
    before: HistorySetting, wanted: HistorySetting | None, hidden: int, moved: int
) -> list[Effect]:
    if wanted is None or wanted == before:
        return []
    effects = []
    if hidden:
        text = f"{hidden} of the records that are there are hidden at once, and gone soon after."
        effects.append(Effect("history_hidden", text))
    if isinstance(wanted, HistoryOff):
        text = "No history is written of records that come from now on."
        return [*effects, Effect("history_off", text)]
    kept = f"{wanted.days} {'day' if wanted.days == 1 else 'days'} from their creation on"
    if moved:
        text = f"{moved} of the records that are there are kept {kept}."
        effects.append(Effect("history_moved", text))
    if isinstance(before, HistoryOff):
        text = f"Records are kept {kept}; those created while history was off do not come back."
        return [*effects, Effect("history_on", text)]
    return [*effects, Effect("history_days", f"Records that come from now on are kept {kept}.")]


def _report_effects(before: bool, wanted: bool | None, reports: int) -> list[Effect]:  # noqa: FBT001 - settings' values
    if wanted is None or wanted == before:
        return []
    if wanted:
        text = "A report is made of each month with usage that ends from now on."
        return [Effect("reports_on", text)]
    kept = f" The {reports} that are there stay until they are deleted." if reports else ""
    return [Effect("reports_off", f"No new reports are made.{kept}")]


def _dontlog_effects(before: int, wanted: int | None) -> list[Effect]:
    effects = []
    if wanted is not None and wanted & ~before:
        names = _quoted(wanted & ~before)
        text = f"History omits {names} of records that come from now on; the others keep theirs."
        effects.append(Effect("dontlog_more", text))
    if wanted is not None and before & ~wanted:
        names = _quoted(before & ~wanted)
        text = f"History has {names} again of records that come from now on, and of no others."
        effects.append(Effect("dontlog_less", text))
    return effects


def _quoted(bits: int) -> str:
    return " and ".join(f"`{name}`" for name in withheld_names(bits))


def parse_settings(wanted: Mapping[str, Any], before: Account) -> WantedChange:
    """The change that a body asks for; what it leaves out stays as it is.

    Raises:
        InvalidValueError: naming the part that is not acceptable.
    """
    only(wanted.keys(), names_of(WantedSettings), "setting")
    reports = None
    if "monthly_reports" in wanted:
        reports = _boolean("monthly_reports", wanted["monthly_reports"])
    return WantedChange(
        parse_history(wanted["history"], before.setting) if "history" in wanted else None,
        reports,
        parse_dontlog(wanted["dontlog"]) if "dontlog" in wanted else None,
    )


def parse_history(wanted: Any, before: HistorySetting) -> HistorySetting:
    """The history setting that a body asks for.

    Raises:
        InvalidValueError: naming the part that is not acceptable.
    """
    if not isinstance(wanted, dict):
        raise InvalidValueError("history", wanted, "must be an object", reason_code="wrong_type")
    only(wanted.keys(), names_of(WantedHistory), "setting of history")
    if not _boolean("history.enabled", wanted.get("enabled", True)):
        if wanted.get("days") is not None:
            check_history_days(wanted["days"])
        return HistoryOff()
    if "days" in wanted:
        return HistoryDays(check_history_days(wanted["days"]))
    if isinstance(before, HistoryDays):
        return before
    raise InvalidValueError(
        "history.days", None, "is required to turn history on", reason_code="missing"
    )


def parse_dontlog(wanted: Any) -> int:
    """The fields that history is to omit, as bits: a list of names, or one name.

    Raises:
        InvalidValueError: it is neither.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    known = f"must be a list of {', '.join(WITHHELD_BITS)}"
    if not isinstance(names, list):
        raise InvalidValueError("dontlog", wanted, known, reason_code="wrong_type")
    bits = 0
    for name in names:
        if not isinstance(name, str) or name not in WITHHELD_BITS:
            raise InvalidValueError("dontlog", name, known, reason_code="not_in_set")
        bits |= WITHHELD_BITS[name]
    return bits


def settings_of(account: Account) -> dict[str, Any]:
    """An account's settings as they are shown."""
    match account.setting:
        case HistoryDays(days):
            history: dict[str, Any] = {"enabled": True, "days": days}
        case HistoryOff():
            history = {"enabled": False, "days": None}
    return {
        "history": history,
        "monthly_reports": account.monthly_reports,
        "dontlog": withheld_names(account.withheld),
        "applying_since": account.moving_since,
    }


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError(name, value, "must be true or false", reason_code="wrong_type")
    return value


_PATH: Final = "/v1/accounts/{account}/settings"
ROUTES: Final = (
    Route(
        "GET",
        _PATH,
        get_settings,
        scopes("customer", "operator"),
        group="Settings",
        answers=tagged("The settings.", Settings),
    ),
    Route(
        "PUT",
        _PATH,
        put_settings,
        scopes("customer", "operator"),
        (DRY_RUN,),
        group="Settings",
        text="What is left out stays as it is. A shorter period hides records at once, and they "
        "are gone soon after. The fields of `dontlog` come into history of no record that is "
        "stored after the answer. With `If-Match` it changes only what is still so.",
        body=Body.json(WantedSettings, bytes_max=SETTINGS_BYTES_MAX),
        answers=(
            Answer.json(
                "The settings as they are now, or what they would do.",
                Settings,
                SettingsTrial,
                headers=TAG_HEADERS,
            ),
        ),
        errors=(ConflictError, PreconditionFailedError),
    ),
)
