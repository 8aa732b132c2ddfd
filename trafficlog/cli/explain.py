"""``trafficlog explain``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trafficlog.cli.common import ANSWER_IS_NO, actor, database_command, instant_option, table_of
from trafficlog.store.access_log import note_access
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.explain import explain as explain_record
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.store.explain import Explanation


@click.command()
@click.argument("record", metavar="RECORD_ID")
@click.option("--account", metavar="A", help="Look at this account only; or write A/ID.")
@click.option(
    "--created", metavar="TIME", help="When it was created, to explain what is gone altogether."
)
@database_command
def explain(target: Target, record: str, account: str | None, created: str | None) -> None:
    """Say why a record is still here, or why it is gone.

    Shows class, expiry, settings, holds and ledger entries, never what the record says; the
    access log notes it. Days that still get records are read through, which takes its time
    in a large store. Exit code 1 when nothing is stored under the id.
    """
    if "/" in record and account is None:
        account, _, record = record.partition("/")
    at = instant_option(created, "--created")
    now = target.clock.now()

    async def work(dsn: str) -> list[Explanation]:
        key = None
        async with Database(dsn, target.config) as database:
            if account is not None:
                key = await Accounts(database).key_of(account)
            async with Retention(dsn, target.config) as executor:
                found = await explain_record(executor.connection, record, key, at, now)
            async with database.operator() as connection, connection.transaction():
                subject = ", ".join(f"{e.account}/{e.record}" for e in found) or record
                stored = sum(len(e.stored) for e in found)
                await note_access(
                    connection, now, actor(), "explain", subject, "why it is kept or gone", stored
                )
        return found

    found = target.run(work)
    target.answer(
        {"record": record, "explanations": [asdict(e) for e in found]},
        lambda: table_of(
            ["account", "why"],
            [[e.account, sentence] for e in found for sentence in e.sentences],
            f"nothing is stored under {record!r}; --account and --created tell more",
        ),
    )
    if not any(e.stored for e in found):
        sys.exit(ANSWER_IS_NO)
