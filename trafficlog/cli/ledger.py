"""``trafficlog ledger``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trafficlog.cli.common import ANSWER_IS_NO, database_command, print_json, table_of
from trafficlog.ledger import verify_export
from trafficlog.store.retention import Retention
from trafficlog.store.verify import read_ledger, verify_ledger

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.ledger import LedgerEntry, LedgerReport


@click.group()
def ledger() -> None:
    """Verify and export the ledger of everything destroyed."""


@ledger.command("verify")
@click.option(
    "--file",
    "exported",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check what `ledger export --json` wrote, without a database.",
)
@database_command
def ledger_verify(target: Target, exported: Path | None) -> None:
    """Check the ledger's chain of hashes. Exit code 1 when it is broken."""

    async def work(dsn: str) -> LedgerReport:
        async with Retention(dsn, target.config) as executor:
            return await verify_ledger(executor.connection)

    report = target.run(work) if exported is None else verify_export(exported.read_bytes())
    target.answer(
        {
            "ok": not report.faults,
            "entries": report.entries,
            "head": report.head.hex(),
            "faults": list(report.faults),
        },
        lambda: (
            table_of(["fault"], [[f] for f in report.faults], "")
            if report.faults
            else f"the chain holds: {report.entries} entries, head {report.head.hex()}"
        ),
    )
    if report.faults:
        sys.exit(ANSWER_IS_NO)


@ledger.command("export")
@database_command
def ledger_export(target: Target) -> None:
    """Print the whole ledger: a table, or with --json one object with all entries."""

    async def work(dsn: str) -> list[LedgerEntry]:
        async with Retention(dsn, target.config) as executor:
            return [entry async for entry in read_ledger(executor.connection)]

    entries = target.run(work)
    if target.as_json:
        print_json(
            {
                "entries": [
                    asdict(e) | {"previous": e.previous.hex(), "hash": e.hash.hex()}
                    for e in entries
                ]
            }
        )
        return
    target.answer(
        None,
        lambda: table_of(
            ["seq", "at", "class", "object", "reason", "rows", "held", "hash"],
            [
                [e.seq, e.at, e.data_class, e.object, e.reason, e.rows, e.held, e.hash.hex()[:16]]
                for e in entries
            ],
            "nothing has been destroyed yet",
        ),
    )
