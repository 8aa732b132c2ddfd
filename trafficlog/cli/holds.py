"""``trafficlog hold``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trafficlog.api.operate import hold_shown
from trafficlog.api.query import parse_selector
from trafficlog.cli.common import actor, database_command, table_of
from trafficlog.clock import parse_instant
from trafficlog.store.holds import Holds

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.holds import AbuseHold
    from trafficlog.store.database import Database

UNTIL = click.option(
    "--until", required=True, metavar="TIME", help="When the hold ends; it may be extended."
)


@click.group()
def hold() -> None:
    """Keep what is under an abuse case from destruction."""


@hold.command("place")
@click.option("--account", metavar="A", help="Everything of an account.")
@click.option("--number", metavar="N", help="Records from or to a number.")
@click.option("--ip", metavar="I", help="Traffic data initiated from an IP address.")
@click.option("--record", metavar="A/ID", help="One record of an account.")
@click.option("--created-from", metavar="TIME", help="Only what was created from this time on.")
@click.option("--created-to", metavar="TIME", help="Only what was created before this time.")
@click.option("--reason", required=True, metavar="T", help="Why.")
@click.option("--case-ref", required=True, metavar="T", help="In which case.")
@UNTIL
@database_command
def place(target: Target, reason: str, case_ref: str, until: str, **selector: str | None) -> None:
    """Place a hold; from then on nothing it covers is destroyed."""
    chosen = parse_selector(selector)
    ends_at = parse_instant(until, "--until")

    async def work(database: Database) -> AbuseHold:
        return await Holds(database).place(
            chosen,
            reason=reason,
            case_ref=case_ref,
            ends_at=ends_at,
            by=actor(),
            now=target.clock.now(),
        )

    _answer(target, target.with_database(work))


@hold.command("extend")
@click.argument("hold_id", metavar="ID")
@UNTIL
@database_command
def extend(target: Target, hold_id: str, until: str) -> None:
    """Let a hold end at another time."""
    ends_at = parse_instant(until, "--until")

    async def work(database: Database) -> AbuseHold:
        return await Holds(database).extend(hold_id, ends_at, by=actor(), now=target.clock.now())

    _answer(target, target.with_database(work))


@hold.command("release")
@click.argument("hold_id", metavar="ID")
@database_command
def release(target: Target, hold_id: str) -> None:
    """End a hold now; what only it kept is destroyed by the next retention run."""

    async def work(database: Database) -> AbuseHold:
        return await Holds(database).release(hold_id, by=actor(), now=target.clock.now())

    _answer(target, target.with_database(work))


@hold.command("show")
@click.argument("hold_id", metavar="ID")
@database_command
def show(target: Target, hold_id: str) -> None:
    """Show a hold, and how many copies it covers by class."""
    found, held = target.with_database(lambda database: Holds(database).get(hold_id))
    _answer(target, found, held)


@hold.command("list")
@database_command
def list_holds(target: Target) -> None:
    """List all holds, newest first."""
    found = target.with_database(lambda database: Holds(database).all())
    now = target.clock.now()
    target.answer(
        {"holds": [hold_shown(h, now) for h in found]},
        lambda: table_of(
            ["id", "covers", "case", "reason", "placed by", "until", "state"],
            [
                [
                    *(h.id, _covers(h), h.case_ref, h.reason, h.placed_by, h.ends_at),
                    _state(h, active=h.is_active(now)),
                ]
                for h in found
            ],
            "there are no holds",
        ),
    )


def _answer(target: Target, found: AbuseHold, held: dict[str, int] | None = None) -> None:
    now = target.clock.now()
    data: dict[str, Any] = hold_shown(found, now)
    if held is not None:
        data["held"] = held
    rows: list[list[object]] = [
        ["id", found.id],
        ["covers", _covers(found)],
        ["reason", found.reason],
        ["case", found.case_ref],
        ["placed", f"{found.placed_at:%Y-%m-%d %H:%M:%SZ} by {found.placed_by}"],
        ["until", found.ends_at],
        ["state", _state(found, active=found.is_active(now))],
        *[[f"held of {name}", count] for name, count in (held or {}).items()],
    ]
    target.answer(data, lambda: table_of(["hold", ""], rows, ""))


def _covers(found: AbuseHold) -> str:
    selector = found.selector
    text = (
        f"record {selector.account}/{selector.record}"
        if selector.record
        else f"account {selector.account}"
        if selector.account
        else f"number {selector.number}"
        if selector.number
        else f"IP {selector.ip}"
    )
    if selector.created_from or selector.created_to:
        text += f", created {selector.created_from or '…'} to {selector.created_to or '…'}"
    return text


def _state(found: AbuseHold, *, active: bool) -> str:
    if active:
        return "active"
    return "released" if found.released_at else "ended"
