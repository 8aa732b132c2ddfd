"""``trafficlog serve`` and ``trafficlog migrate``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import click
import structlog
import uvloop
from aiohttp import web

from trafficlog.api.app import make_app
from trafficlog.api.body import BodyReader
from trafficlog.api.cursor import Cursors
from trafficlog.api.services import Services
from trafficlog.auth import Authenticator
from trafficlog.cli.common import configure_logs, database_command, print_json
from trafficlog.dashboard.site import add_dashboard
from trafficlog.errors import InvalidValueError
from trafficlog.ingest import IngestBuffer
from trafficlog.jobs import Jobs
from trafficlog.metrics import Metrics
from trafficlog.migrate import migrate as bring_up_to_date
from trafficlog.queries import queries
from trafficlog.store.accounts import Accounts
from trafficlog.store.database import Database
from trafficlog.store.history import History
from trafficlog.store.holds import Holds
from trafficlog.store.ingest import Batch, Outcome, RecordWriter
from trafficlog.store.keys import Keys, NewKey
from trafficlog.store.retention import Retention, RunResult
from trafficlog.store.transit import DebugLog, Transit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trafficlog.cli.common import Target
    from trafficlog.clock import Clock
    from trafficlog.config import Config

log = structlog.get_logger()

PORT_MAX = 65_535
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@database_command
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    envvar="TRAFFICLOG_LISTEN",
    metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one. [env: TRAFFICLOG_LISTEN]",
)
def serve(target: Target, listen: str) -> None:
    """Serve the API, the page and the metrics, and run the jobs.

    Without a database URL an embedded PostgreSQL is started in the data directory. The
    schema is brought up to date and the partitions are made first. The first start
    prints an operator key, once. SIGTERM and Ctrl-C let requests in flight finish.
    """
    host, port = parse_listen(listen)
    configure_logs(logging.INFO)
    for number in STOP_SIGNALS:
        # Until the loop runs, stopping is leaving: PostgreSQL is stopped on the way out.
        signal.signal(number, lambda *_: sys.exit(0))
    with target.dsn() as dsn, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(target, dsn, host, port))


@click.command()
@database_command
def migrate(target: Target) -> None:
    """Bring the database's schema up to date."""
    with target.dsn() as dsn:
        result = asyncio.run(bring_up_to_date(dsn))
    target.answer(
        {"before": result.before, "after": result.after, "applied": list(result.applied)},
        lambda: (
            f"schema version {result.after}"
            + (f", applied: {', '.join(result.applied)}" if result.applied else ", nothing to do")
        ),
    )


async def _serve(target: Target, dsn: str, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with service(dsn, target.config, target.clock, host, port) as (url, first_key):
        _announce(target, url, first_key)
        await stop.wait()
        log.info("stopping")
    log.info("stopped")


@contextlib.asynccontextmanager
async def service(
    dsn: str, config: Config, clock: Clock, host: str, port: int
) -> AsyncIterator[tuple[str, NewKey | None]]:
    """The whole service, running: its URL, and the operator key if this is its first start.

    On leaving, requests in flight are answered, what waits is written, and the jobs end.
    """
    await bring_up_to_date(dsn)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(dsn, config))
        async with Retention(dsn, config) as retention:
            # Before the first record arrives, and whoever runs the jobs.
            await retention.make_partitions(clock.now(), RunResult(clock.now()))
        writer = RecordWriter(database, config)
        await writer.start()
        buffer = IngestBuffer(
            writer,
            clock.now,
            waiting_max=config.waiting_records_max,
            group_max=config.flush_records_max,
            writers=config.ingest_connections,
            on_flush=metrics.ingest_flush_seconds.observe,
        )
        buffer.start()
        stack.push_async_callback(buffer.close)
        services = await _services(database, config, clock, metrics, writer, buffer)
        jobs = Jobs(
            lambda: Retention(dsn, config),
            clock.now,
            config,
            metrics,
            # A clock that was set on purpose has not jumped.
            guard_clock=not clock.offset,
        )
        task = asyncio.create_task(jobs.run_for_ever())
        stack.push_async_callback(_cancelled(task))
        keys = Keys(database)
        first = None
        if not await keys.any():
            first = await keys.create("operator", None, clock.now())
        app = make_app(services)
        add_dashboard(app, services)
        runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=config.shutdown_seconds_max,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise InvalidValueError(
                "--listen", f"{host}:{port}", f"cannot be listened on: {error.strerror}"
            ) from error
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}", first


async def _services(
    database: Database,
    config: Config,
    clock: Clock,
    metrics: Metrics,
    writer: RecordWriter,
    buffer: IngestBuffer[Batch, Outcome],
) -> Services:
    async with database.operator() as connection:
        secret = await queries.cursor_secret(connection)
    return Services(
        config=config,
        clock=clock,
        metrics=metrics,
        database=database,
        writer=writer,
        buffer=buffer,
        bodies=BodyReader(config),
        authenticator=Authenticator(Keys(database), config.key_cache_seconds),
        cursors=Cursors(secret),
        accounts=Accounts(database),
        history=History(database),
        holds=Holds(database),
        transit=Transit(database, writer),
        debug_log=DebugLog(database),
        secret=secret,
    )


def _cancelled(task: asyncio.Task[None]) -> Callable[[], Awaitable[None]]:
    async def cancel() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return cancel


def _announce(target: Target, url: str, first_key: NewKey | None) -> None:
    """Says where the service is; on the first start also the key, and what to try."""
    if target.as_json:
        print_json({"url": url, "operator_key": None if first_key is None else first_key.secret})
        return
    click.echo(f"trafficlog serves {url}  (Ctrl-C stops it)")
    if first_key is None:
        return
    command = shlex.quote(os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else "trafficlog")
    where = "--database-url …" if target.database_url is not None else "--data-dir "
    if target.database_url is None:
        where += shlex.quote(str(target.data_dir))
    click.echo(f"""
Operator key, shown this once: {first_key.secret}

Three things to try:
  1. A key for the gateway, then a record:
     {command} key create --scope ingest {where}
     curl {url}/v1/records -H 'Authorization: Bearer KEY' \\
       -H 'Content-Type: application/json' -d '[{{"id":"m1","account":"acme","kind":"sms",
       "direction":"outgoing","from":"Acme","to":"+46701234567","message":"Hello",
       "created":"{target.clock.now():%Y-%m-%dT%H:%M:%SZ}"}}]'
  2. A key for the customer, then its history; or sign in with it at {url}/
     {command} key create --scope customer --account acme {where}
     curl {url}/v1/accounts/acme/history -H 'Authorization: Bearer KEY'
  3. How retention stands:
     {command} retention plan {where}
""")


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        InvalidValueError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > PORT_MAX:
        raise InvalidValueError("--listen", text, "must be HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)
