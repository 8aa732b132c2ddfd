"""``trafficlog ship``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from trafficlog.cli.common import exit_codes, print_json, printable, table_of
from trafficlog.errors import InvalidValueError
from trafficlog.records import AccountId
from trafficlog.ship import ShipFailedError, ShipOptions, ShipSummary, ship_kannel_until_signal

if TYPE_CHECKING:
    from trafficlog.client import Retry
    from trafficlog.ship import ShipState


@click.group()
def ship() -> None:
    """Post what a gateway has logged to the service."""


@ship.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", required=True, help="Where the service is.")
@click.option(
    "--key",
    required=True,
    envvar="TRAFFICLOG_KEY",
    help="A key of scope ingest. [env: TRAFFICLOG_KEY]",
)
@click.option(
    "--incoming-account", required=True, metavar="A", help="The account of received messages."
)
@click.option("--follow", is_flag=True, help="Go on with a file that grows or is rotated.")
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="The zone of the log's times; Kannel may be set to write local ones.",
)
@click.option(
    "--batch",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many records go into one request.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON on standard output.")
def kannel(
    file: Path,
    url: str,
    key: str,
    incoming_account: str,
    *,
    follow: bool,
    timezone: str,
    batch: int,
    as_json: bool,
) -> None:
    """Post a Kannel bearerbox access log, plain or gzip.

    Shipping the same file again changes nothing, so a shipment that was broken off is
    simply begun again.
    """
    with exit_codes():
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidValueError("--timezone", timezone, "is no known time zone") from None
        options = ShipOptions(
            path=file,
            url=url,
            key=key,
            incoming_account=AccountId(incoming_account),
            follow=follow,
            timezone=zone,
            batch_records_max=batch,
        )
        with _Bar() as bar:
            try:
                summary = asyncio.run(ship_kannel_until_signal(options, bar))
                failure = None
            except ShipFailedError as error:
                summary, failure = error.summary, error
        _answer(summary, as_json=as_json)
        if failure is not None:
            raise failure


def _answer(summary: ShipSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary.as_dict())
        return
    counts = [
        (name, value)
        for name, value in summary.as_dict().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    Console().print(table_of(["", "count"], counts, ""), highlight=False)
    for line in summary.unreadable_lines:
        click.echo(f"line {line.line} is unreadable: {line.reason}")
    for record in summary.rejected_records:
        click.echo(f"line {record.line} was refused: {record.detail or record.code}")


class _Bar:
    """A progress bar on standard error, told by the shipment."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[records]} records, {task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID = self._bar.add_task("shipping", total=None, records=0, rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def moved(self, state: ShipState) -> None:
        self._bar.update(
            self._task,
            completed=state.bytes_read,
            total=state.bytes_total,
            records=state.records_posted,
            rate=state.records_per_second,
        )

    def retrying(self, retry: Retry) -> None:
        text = f"waiting for the service: {retry.reason}; again in {retry.pause_seconds:.1f} s"
        self._bar.console.print(printable(text))
