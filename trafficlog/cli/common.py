"""What the commands share: the database they reach, how they answer, how they fail."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import getpass
import logging
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trafficlog import postgres
from trafficlog.cli.logs import configure_logs
from trafficlog.clock import Clock, parse_instant, time_travel_allowed
from trafficlog.config import Config
from trafficlog.errors import (
    DatabaseUnavailableError,
    EmbeddedPostgresError,
    InvalidValueError,
    TimeTravelRefusedError,
    TrafficlogError,
)
from trafficlog.migrate import check, migrate
from trafficlog.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

ANSWER_IS_NO: Final = 1
WRONG_USAGE: Final = 2
DATABASE_AWAY: Final = 3
PIPE_COLUMNS: Final = 1_000
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """The database a command works on, and how it answers."""

    database_url: str | None
    data_dir: Path
    as_json: bool
    config: Config
    clock: Clock

    @contextlib.contextmanager
    def dsn(self) -> Iterator[str]:
        """Where the database is; an embedded one runs at least as long as this."""
        if self.database_url is not None:
            yield self.database_url
            return
        with postgres.running(self.data_dir) as server:
            yield server.dsn

    def run(self, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """Runs ``work`` on the database; an embedded one has the present schema."""
        with self.dsn() as dsn:
            return asyncio.run(self._run(dsn, work))

    async def _run(self, dsn: str, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        if self.database_url is None:
            await migrate(dsn)
        else:
            await check(dsn)
        return await work(dsn)

    def with_database(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        """Runs ``work`` with the database's pools."""

        async def run(dsn: str) -> T:
            async with Database(dsn, self.config) as database:
                return await work(database)

        return self.run(run)

    def answer(self, data: object, table: Callable[[], Table | str]) -> None:
        """Prints the answer: JSON for programs, a table or a sentence for people."""
        if self.as_json:
            print_json(data)
        else:
            # In a pipe nothing is folded: a line of the table is a line of the output.
            width = None if sys.stdout.isatty() else PIPE_COLUMNS
            answer = table()
            Console(width=width).print(
                printable(answer) if isinstance(answer, str) else answer,
                soft_wrap=width is not None,
            )


def print_json(data: object) -> None:
    """``data`` as JSON on standard output."""
    text = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    sys.stdout.write(text.decode() + "\n")
    sys.stdout.flush()


def database_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command its database options, ``--json``, and its exit codes."""

    @click.option(
        "--database-url",
        envvar="TRAFFICLOG_DATABASE_URL",
        metavar="URL",
        help="PostgreSQL 15 or newer to use. [env: TRAFFICLOG_DATABASE_URL]",
    )
    @click.option(
        "--data-dir",
        envvar="TRAFFICLOG_DATA_DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("./var"),
        show_default=True,
        help="Where the embedded PostgreSQL keeps its data. [env: TRAFFICLOG_DATA_DIR]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON on standard output.")
    @functools.wraps(function)
    def command(
        *args: Any, database_url: str | None, data_dir: Path, as_json: bool, **options: Any
    ) -> Any:
        with exit_codes():
            configure_logs(logging.WARNING)
            target = Target(
                database_url or None,
                data_dir.absolute(),
                as_json,
                Config.from_environment(),
                Clock.from_environment(),
            )
            return function(*args, target, **options)

    return command


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Says what went wrong in a sentence, and leaves with the code for it."""
    try:
        yield
    except TrafficlogError as error:
        click.echo(f"trafficlog: {error.detail}", err=True)
        sys.exit(exit_code_of(error))


def exit_code_of(error: TrafficlogError) -> int:
    """The exit code that an error leaves with."""
    match error:
        case DatabaseUnavailableError() | EmbeddedPostgresError():
            return DATABASE_AWAY
        case InvalidValueError() | TimeTravelRefusedError():
            return WRONG_USAGE
        case _:
            return ANSWER_IS_NO


def instant_option(text: str | None, field: str) -> datetime | None:
    """An option that is a time."""
    return None if text is None else parse_instant(text, field)


def reference_time(at: str | None, clock: Clock) -> datetime:
    """The time a command goes by: ``--at``, or the clock's.

    Raises:
        TimeTravelRefusedError: it lies in the future, and that is not allowed here.
    """
    now = clock.now()
    if at is None:
        return now
    wanted = parse_instant(at, "--at")
    if wanted > now and not time_travel_allowed():
        raise TimeTravelRefusedError(
            f"--at {at} is later than the clock: what is dropped too early is lost. Set "
            "TRAFFICLOG_TIME_TRAVEL=1 in a demonstration or a test"
        )
    return wanted


def table_of(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> Table | str:
    """A table for people, or a sentence when there is nothing in it."""
    if not rows:
        return empty
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    return table


def actor() -> str:
    """Who runs this command, as the records of changes name it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def printable(text: str) -> Text:
    """The text as it is, for a terminal: brackets are no styles, control characters no commands."""
    return Text(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text))


def _cell(value: object) -> Text:
    if value is None:
        return Text("-")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%SZ}")
    return printable(str(value))
