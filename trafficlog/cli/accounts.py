"""``trafficlog account`` and ``trafficlog key``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import click
import orjson

from trafficlog.cli.common import actor, database_command, table_of
from trafficlog.errors import InvalidValueError
from trafficlog.records import WITHHELD_BITS, withheld_names
from trafficlog.retention import HistoryDays, HistoryOff, HistorySetting, check_history_days
from trafficlog.store.accounts import Accounts
from trafficlog.store.keys import SCOPES, Keys
from trafficlog.values import NAME_PATTERN, check_currency, check_text

if TYPE_CHECKING:
    from rich.table import Table

    from trafficlog.cli.common import Target
    from trafficlog.records import WithheldField
    from trafficlog.store.accounts import Account
    from trafficlog.store.database import Database

DISPLAY_NAME_CHARS_MAX: Final = 100
HISTORY_DAYS = click.option(
    "--history-days", metavar="N", help="Keep the account's history for N days, 1 to 1095."
)
HISTORY_OFF = click.option("--history-off", is_flag=True, help="Keep no history of the account.")


@click.group()
def account() -> None:
    """Make, show, set and close accounts."""


@account.command("create")
@click.argument("account_id", metavar="ACCOUNT")
@HISTORY_DAYS
@HISTORY_OFF
@database_command
def account_create(
    target: Target, account_id: str, history_days: str | None, *, history_off: bool
) -> None:
    """Make an account; one that is not made is made by its first record."""
    _check_name(account_id)
    setting = _setting(history_days, off=history_off)

    async def work(database: Database) -> tuple[Account, list[Any]]:
        accounts = Accounts(database)
        key = await accounts.create(account_id, target.clock.now(), setting)
        return await accounts.get(key), []

    _show(target, *target.with_database(work))


@account.command("show")
@click.argument("account_id", metavar="ACCOUNT")
@database_command
def account_show(target: Target, account_id: str) -> None:
    """Show an account with its settings and every change of them."""

    async def work(database: Database) -> tuple[Account, list[Any]]:
        accounts = Accounts(database)
        key = await accounts.key_of(account_id)
        return await accounts.get(key), await accounts.changes(key)

    _show(target, *target.with_database(work))


@account.command("set")
@click.argument("account_id", metavar="ACCOUNT")
@HISTORY_DAYS
@HISTORY_OFF
@click.option(
    "--monthly-reports/--no-monthly-reports",
    default=None,
    help="Whether monthly reports are to be made.",
)
@click.option(
    "--dontlog",
    metavar="FIELDS",
    help="What history omits of every new record: message, from, to, with commas between; or none.",
)
@click.option("--currency", metavar="CODE", help="What costs are in, such as SEK; '' for unknown.")
@click.option("--display-name", metavar="NAME", help="What reports call the account; '' for none.")
@database_command
def account_set(
    target: Target,
    account_id: str,
    history_days: str | None,
    *,
    history_off: bool,
    monthly_reports: bool | None,
    dontlog: str | None,
    currency: str | None,
    display_name: str | None,
) -> None:
    """Change an account's settings. A shorter period hides what is older at once."""
    setting = _setting(history_days, off=history_off)
    withheld = None if dontlog is None else _withheld(dontlog)
    changes = any(each is not None for each in (setting, monthly_reports, withheld))
    describes = any(each is not None for each in (currency, display_name))
    if not changes and not describes:
        raise click.UsageError("say what to set: --history-days N, --history-off, …")
    if currency:
        check_currency(currency)
    if display_name:
        check_text("--display-name", display_name, 1, DISPLAY_NAME_CHARS_MAX)

    async def work(database: Database) -> tuple[Account, list[Any]]:
        accounts, now, by = Accounts(database), target.clock.now(), actor()
        key = await accounts.key_of(account_id)
        if changes:
            await accounts.change(
                key,
                setting,
                monthly_reports=monthly_reports,
                withheld=withheld,
                now=now,
                by=by,
            )
        if describes:
            await accounts.describe(key, name=display_name, currency=currency, now=now, by=by)
        return await accounts.get(key), await accounts.changes(key)

    _show(target, *target.with_database(work))


@account.command("close")
@click.argument("account_id", metavar="ACCOUNT")
@database_command
def account_close(target: Target, account_id: str) -> None:
    """Close an account: its history and name go, its keys stop; the legal record stays its time."""

    async def work(database: Database) -> tuple[Account, list[Any]]:
        accounts = Accounts(database)
        key = await accounts.key_of(account_id)
        closed = await accounts.close(key, target.clock.now(), actor())
        return closed, await accounts.changes(key)

    _show(target, *target.with_database(work))


@account.command("list")
@database_command
def account_list(target: Target) -> None:
    """List all accounts."""
    found = target.with_database(lambda database: Accounts(database).all())
    target.answer(
        {
            "accounts": [
                {
                    "account": r["account_id"],
                    "created_at": r["created_at"],
                    "history": _history(r["history_days"]),
                    "monthly_reports": r["monthly_reports"],
                    "closed_at": r["closed_at"],
                    "applying_since": r["moving_since"],
                }
                for r in found
            ]
        },
        lambda: table_of(
            ["account", "history days", "created", "closed"],
            [
                [r["account_id"], r["history_days"] or "off", r["created_at"], r["closed_at"]]
                for r in found
            ],
            "there are no accounts yet",
        ),
    )


@click.group()
def key() -> None:
    """Make, list and revoke API keys."""


@key.command("create")
@click.option("--scope", required=True, type=click.Choice(SCOPES), help="What the key opens.")
@click.option("--account", metavar="A", help="The account of a customer's key.")
@database_command
def key_create(target: Target, scope: str, account: str | None) -> None:
    """Make a key. It is shown this once; what is kept opens nothing."""
    if account is not None:
        _check_name(account)

    async def work(database: Database) -> Any:
        return await Keys(database).create(scope, account, target.clock.now())

    made = target.with_database(work)
    data = {"id": made.id, "scope": made.scope, "account": made.account, "key": made.secret}
    target.answer(data, lambda: f"{made.secret}\n(key {made.id}, scope {made.scope})")


@key.command("list")
@database_command
def key_list(target: Target) -> None:
    """List all keys by their ids."""
    found = target.with_database(lambda database: Keys(database).all())
    target.answer(
        {
            "keys": [
                {
                    "id": r["key_id"],
                    "scope": r["scope"],
                    "account": r["account_id"],
                    "created_at": r["created_at"],
                    "revoked_at": r["revoked_at"],
                }
                for r in found
            ]
        },
        lambda: table_of(
            ["id", "scope", "account", "created", "revoked"],
            [
                [r["key_id"], r["scope"], r["account_id"], r["created_at"], r["revoked_at"]]
                for r in found
            ],
            "there are no keys yet",
        ),
    )


@key.command("revoke")
@click.argument("key_id", metavar="ID")
@database_command
def key_revoke(target: Target, key_id: str) -> None:
    """Revoke a key; it stops within TRAFFICLOG_KEY_CACHE_SECONDS."""

    async def work(database: Database) -> None:
        await Keys(database).revoke(key_id, target.clock.now())

    target.with_database(work)
    target.answer({"id": key_id, "revoked": True}, lambda: f"key {key_id} is revoked")


def _setting(days: str | None, *, off: bool) -> HistorySetting | None:
    if off and days is not None:
        raise click.UsageError("--history-days and --history-off exclude each other")
    if off:
        return HistoryOff()
    if days is None:
        return None
    try:
        number = int(days)
    except ValueError:
        raise InvalidValueError(
            "--history-days", days, "must be a whole number of days", reason_code="wrong_type"
        ) from None
    return HistoryDays(check_history_days(number, "--history-days"))


def _withheld(text: str) -> int:
    """The fields that ``--dontlog`` names, as bits."""
    bits = 0
    for name in () if text == "none" else text.split(","):
        bit = WITHHELD_BITS.get(cast("WithheldField", name.strip()))
        if bit is None:
            raise InvalidValueError(
                "--dontlog", name, f"must be of {', '.join(WITHHELD_BITS)}, or none"
            )
        bits |= bit
    return bits


def _check_name(text: str) -> None:
    if not re.match(NAME_PATTERN, text):
        raise InvalidValueError(
            "ACCOUNT", text, "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -"
        )


def _history(days: int | None) -> dict[str, Any]:
    return {"enabled": days is not None, "days": days}


def _change(change: Any) -> str:
    """When a change of settings was made, and what it changed, for people."""
    old, new = orjson.loads(change["old"]), orjson.loads(change["new"])
    words = [
        f"{name.replace('_', ' ')} {_word(name, old[name])} to {_word(name, value)}"
        for name, value in new.items()
        if old[name] != value
    ]
    return f"{change['changed_at']:%Y-%m-%d %H:%M:%SZ}: {', '.join(words)}"


def _word(setting: str, value: bool | int | list[str] | str | None) -> str:  # noqa: FBT001 - a setting's value
    if value is None:
        return "unknown" if setting == "currency" else "off"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(value) or "none"
    return str(value)


def _show(target: Target, found: Account, changes: list[Any]) -> None:
    days = found.setting.days if isinstance(found.setting, HistoryDays) else None
    data = {
        "account": found.id,
        "display_name": found.display_name,
        "currency": found.currency,
        "created_at": found.created_at,
        "history": _history(days),
        "monthly_reports": found.monthly_reports,
        "dontlog": withheld_names(found.withheld),
        "closed_at": found.closed_at,
        "applying_since": found.moving_since,
        "changes": [
            {
                "at": c["changed_at"],
                "by": c["changed_by"],
                "from": orjson.loads(c["old"]),
                "to": orjson.loads(c["new"]),
            }
            for c in changes
        ],
    }

    def table() -> Table | str:
        return table_of(
            ["setting", "value"],
            [
                ["account", found.id],
                ["history days", days or "off"],
                ["monthly reports", "yes" if found.monthly_reports else "no"],
                ["history omits", _word("dontlog", [*withheld_names(found.withheld)])],
                ["name", found.display_name],
                ["currency", found.currency],
                ["created", found.created_at],
                ["closed", found.closed_at],
                ["change applying since", found.moving_since],
                *[[f"changed by {c['changed_by']}", _change(c)] for c in changes],
            ],
            "",
        )

    target.answer(data, table)
