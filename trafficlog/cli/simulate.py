"""``trafficlog simulate``."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from trafficlog.cli.common import ANSWER_IS_NO, exit_codes, print_json, printable, table_of
from trafficlog.clock import Clock
from trafficlog.simulate import (
    Mix,
    SimulateOptions,
    SimulationFailedError,
    SimulationSummary,
    simulate_until_signal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trafficlog.client import Retry
    from trafficlog.simulate import SimulationState

_MIX = Mix()


def _share(name: str, what: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{name}",
        type=click.FloatRange(0, 1),
        default=getattr(_MIX, name),
        show_default=True,
        metavar="SHARE",
        help=what,
    )


@click.command()
@click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="Where the service is."
)
@click.option(
    "--key",
    required=True,
    envvar="TRAFFICLOG_KEY",
    help="A key of scope ingest. [env: TRAFFICLOG_KEY]",
)
@click.option(
    "--rate", type=float, default=50.0, show_default=True, metavar="N", help="Reports a second."
)
@click.option(
    "--accounts",
    type=int,
    default=200,
    show_default=True,
    metavar="N",
    help="Customers; a few of them make half of the traffic.",
)
@click.option(
    "--seconds", type=float, default=60.0, show_default=True, metavar="N", help="For how long."
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Makes the same traffic again, but for the time; without it a new one each time.",
)
@_share("calls", "Of the communications, those that are calls.")
@_share("incoming", "Of the communications, those that come in.")
@_share("reports", "Of the messages sent, those with delivery reports.")
@_share("duplicates", "Of all reports, those that were sent before.")
@_share("late", "Of all reports, first ones of messages up to a day old.")
@_share("bad", "Of all reports, those that the service must refuse.")
@click.option(
    "--spool",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Keep here what the service does not take, until it does.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON on standard output.")
def simulate(
    url: str,
    key: str,
    rate: float,
    accounts: int,
    seconds: float,
    seed: int | None,
    spool: Path | None,
    *,
    as_json: bool,
    **shares: float,
) -> None:
    """Send lifelike traffic to a service that runs, at a chosen rate.

    SMS with delivery reports, calls with durations, incoming messages and replies, of many
    customers; duplicates, late and bad records among them. The rate is kept however slowly
    the service answers. Ctrl-C ends it with its summary. Exit code 1 when a record was
    not answered. Use it on a store of its own: records are kept as long as real ones.
    """
    with exit_codes():
        options = SimulateOptions(
            url=url,
            key=key,
            rate=rate,
            accounts=accounts,
            seconds=seconds,
            seed=secrets.randbelow(2**32) if seed is None else seed,
            mix=Mix(**shares),
            spool=spool,
        )
        start = Clock.from_environment().now()
        failure = None
        progress = _Panel() if sys.stderr.isatty() else _Lines()
        with progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                summary = runner.run(simulate_until_signal(options, start, progress))
            except SimulationFailedError as error:
                summary, failure = error.summary, error
        _answer(summary, as_json=as_json)
        if failure is not None:
            raise failure
    if summary.unanswered:
        sys.exit(ANSWER_IS_NO)


def _answer(summary: SimulationSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary.as_dict())
        return
    rows: list[tuple[str, object]] = []
    for name, value in summary.as_dict().items():
        if isinstance(value, dict):
            rows += [(f"  {each}", count) for each, count in sorted(value.items())]
        elif not isinstance(value, bool):
            rows.append((name.replace("_", " "), value))
    Console().print(table_of(["", "figure"], rows, ""), highlight=False)


class _Lines:
    """A line every few seconds on standard error, for what is no terminal."""

    seconds = 5.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def moved(self, state: SimulationState) -> None:
        figures = (f"{name} {value}" for name, value in _figures(state))
        click.echo(f"{state.seconds:.0f} s: {', '.join(figures)}", err=True)

    def retrying(self, retry: Retry) -> None:
        if retry.attempt == 0:
            click.echo(f"waiting for the service: {retry.reason}", err=True)


class _Panel:
    """A small table that is kept up to date on a terminal."""

    seconds = 0.5

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def moved(self, state: SimulationState) -> None:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("time", f"{state.seconds:.0f} of {state.seconds_total:.0f} s")
        for row in _figures(state):
            table.add_row(*row)
        self._live.update(table, refresh=True)

    def retrying(self, retry: Retry) -> None:
        if retry.attempt == 0:
            self._live.console.print(printable(f"waiting for the service: {retry.reason}"))


def _figures(state: SimulationState) -> list[tuple[str, str]]:
    """The live figures by their names."""
    figures = [
        ("sent", f"{state.sent} ({state.sent_a_second:.0f}/s)"),
        ("acknowledged", f"{state.acknowledged} ({state.acknowledged_a_second:.0f}/s)"),
        ("p50", _ms(state.p50_ms)),
        ("p99", _ms(state.p99_ms)),
        ("refused", str(state.refused)),
        ("waiting", str(state.waiting)),
    ]
    if state.spool_bytes:
        figures.append(("spooled", f"{state.spool_bytes} bytes"))
    if state.unanswered:
        figures.append(("unanswered", str(state.unanswered)))
    return figures


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
