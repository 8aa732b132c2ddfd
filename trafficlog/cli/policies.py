"""``trafficlog policy``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from trafficlog.cli.common import actor, database_command, table_of
from trafficlog.clock import parse_instant
from trafficlog.errors import InvalidValueError
from trafficlog.retention import DataClass, RetentionPolicy
from trafficlog.store.accounts import Accounts

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.store.database import Database


@click.group()
def policy() -> None:
    """Show and set the retention policies."""


@policy.command("show")
@database_command
def policy_show(target: Target) -> None:
    """Show how long each class of data is kept, from when on, and on what legal basis."""
    book = target.with_database(lambda database: Accounts(database).policies())
    policies = list(book)
    target.answer(
        {
            "policies": [
                asdict(p) | {"retention_period": p.retention_period.total_seconds() / 3600}
                for p in policies
            ]
        },
        lambda: table_of(
            ["class", "from", "days", "legal basis"],
            [
                [
                    p.data_class.value,
                    None if p.effective_from.year == 1 else p.effective_from,
                    f"{p.retention_period.total_seconds() / 86400:g}",
                    p.legal_basis,
                ]
                for p in policies
            ],
            "there are no policies",
        ),
    )


@policy.command("set")
@click.argument("data_class", metavar="CLASS", type=click.Choice([c.value for c in DataClass]))
@click.option("--days", type=int, metavar="N", help="Keep it for N days of 24 hours.")
@click.option("--hours", type=int, metavar="N", help="Keep it for N hours.")
@click.option("--legal-basis", required=True, metavar="T", help="Why it is kept this long.")
@click.option(
    "--from",
    "effective_from",
    required=True,
    metavar="TIME",
    help="For records created from this time on; it lies ahead.",
)
@database_command
def policy_set(
    target: Target,
    data_class: str,
    days: int | None,
    hours: int | None,
    legal_basis: str,
    effective_from: str,
) -> None:
    """Set how long a class is kept, for records created from a date on.

    What was created before keeps the period it was created under. For history_record it
    is the default of accounts made from then on.
    """
    if (days is None) == (hours is None):
        raise click.UsageError("give the period as --days N or --hours N")
    try:
        period = timedelta(days=days or 0, hours=hours or 0)
    except OverflowError:
        raise InvalidValueError("period", days or hours, "is too long") from None
    wanted = RetentionPolicy(
        DataClass(data_class), parse_instant(effective_from, "--from"), period, legal_basis
    )

    async def work(database: Database) -> None:
        await Accounts(database).set_policy(wanted, target.clock.now(), actor())

    target.with_database(work)
    target.answer(
        asdict(wanted) | {"retention_period": period.total_seconds() / 3600},
        lambda: (
            f"{data_class} created from {wanted.effective_from:%Y-%m-%d %H:%M:%SZ} on is kept for "
            f"{period.total_seconds() / 86400:g} days: {legal_basis}"
        ),
    )
