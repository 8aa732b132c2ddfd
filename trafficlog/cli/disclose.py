"""``trafficlog disclose``."""

from __future__ import annotations

import csv
from dataclasses import fields
from datetime import datetime
from typing import IO, TYPE_CHECKING

import click

from trafficlog.api.disclosures import record_shown
from trafficlog.api.query import parse_selector
from trafficlog.cli.common import actor, database_command, table_of
from trafficlog.store.disclosures import DisclosureRequest, Disclosures, TrafficRecord

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.store.database import Database

# As the API names them.
COLUMNS = [{"sender": "from", "recipient": "to"}.get(f.name, f.name) for f in fields(TrafficRecord)]


@click.command()
@click.option("--account", metavar="A", help="Records of an account.")
@click.option("--number", metavar="N", help="Records from or to a number.")
@click.option("--ip", metavar="I", help="Records initiated from an IP address.")
@click.option("--record", metavar="A/ID", help="One record of an account.")
@click.option(
    "--from",
    "created_from",
    required=True,
    metavar="TIME",
    help="What was created from this time on.",
)
@click.option(
    "--to", "created_to", required=True, metavar="TIME", help="What was created before this time."
)
@click.option("--reason", required=True, metavar="T", help="Why: the authority and its order.")
@click.option("--case-ref", required=True, metavar="T", help="In which case.")
@click.option(
    "--csv",
    "csv_file",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write the records to a file as CSV; - is standard output.",
)
@database_command
def disclose(
    target: Target, reason: str, case_ref: str, csv_file: IO[str] | None, **selector: str | None
) -> None:
    """Give the legal record to an authority that lawfully asks for it.

    Shows rows that are under retention, oldest first. Each page that is read, and an answer
    without rows, leaves in the access log who asked for what, why and in which case.
    """
    asked = DisclosureRequest(parse_selector(selector), reason, case_ref)

    async def work(database: Database) -> list[TrafficRecord]:
        found: list[TrafficRecord] = []
        page = None
        while page is None or page.next is not None:
            page = await Disclosures(database).page(
                asked,
                by=actor(),
                now=target.clock.now(),
                limit=target.config.page_records_max,
                start=None if page is None else page.next,
            )
            found += page.records
        return found

    shown = [record_shown(record) for record in target.with_database(work)]
    if csv_file is not None:
        writer = csv.DictWriter(csv_file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in r.items()} for r in shown)
        click.echo(f"{len(shown)} records", err=True)
        return
    target.answer(
        {"records": shown},
        lambda: table_of(
            COLUMNS, [[record.get(name) for name in COLUMNS] for record in shown], "no records"
        ),
    )


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
