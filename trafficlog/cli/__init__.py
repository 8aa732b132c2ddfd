"""The command line: where everything is put together."""

from __future__ import annotations

import click

from trafficlog import __version__
from trafficlog.cli.accounts import account, key
from trafficlog.cli.disclose import disclose
from trafficlog.cli.explain import explain
from trafficlog.cli.holds import hold
from trafficlog.cli.ledger import ledger
from trafficlog.cli.openapi import openapi
from trafficlog.cli.policies import policy
from trafficlog.cli.retention import retention
from trafficlog.cli.serve import migrate, serve
from trafficlog.cli.ship import ship
from trafficlog.cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="trafficlog")
def main() -> None:
    """A telecom traffic-log store with legal retention, on PostgreSQL.

    Commands reach their database by --database-url; without it they use the embedded
    PostgreSQL in --data-dir, and start it when it is not running.
    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 the database cannot be reached.
    """


for _command in (
    serve,
    migrate,
    retention,
    hold,
    account,
    key,
    policy,
    ship,
    simulate,
    ledger,
    explain,
    disclose,
    openapi,
):
    main.add_command(_command)
