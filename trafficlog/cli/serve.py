"""``trafficlog serve`` and ``trafficlog migrate``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog
import uvloop
from aiohttp import web

from trafficlog import metrics as sharing
from trafficlog import postgres
from trafficlog.api.app import make_app
from trafficlog.api.body import BodyReader
from trafficlog.api.connections import Door
from trafficlog.api.cursor import Cursors
from trafficlog.api.listening import Listener, bind
from trafficlog.api.services import Services
from trafficlog.auth import Authenticator
from trafficlog.cli.common import ANSWER_IS_NO, configure_logs, database_command, print_json
from trafficlog.cli.sharing import on_duty, tell_waiting
from trafficlog.cli.signing import key_file_of, signing_options
from trafficlog.dashboard.site import add_dashboard
from trafficlog.errors import InvalidValueError
from trafficlog.ingest import IngestBuffer
from trafficlog.jobs import Jobs
from trafficlog.metrics import Metrics
from trafficlog.migrate import migrate as bring_up_to_date
from trafficlog.queries import queries
from trafficlog.store.access_log import AccessLog
from trafficlog.store.accounts import Accounts
from trafficlog.store.certificates import Certificates
from trafficlog.store.database import Database
from trafficlog.store.disclosures import Disclosures
from trafficlog.store.durability import DurabilityWatch
from trafficlog.store.history import History
from trafficlog.store.holds import Holds
from trafficlog.store.ingest import Batch, Outcome, RecordWriter
from trafficlog.store.keys import Keys, NewKey
from trafficlog.store.retention import Retention
from trafficlog.store.transit import DebugLog, Transit
from trafficlog.store.usage import Statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from trafficlog.cli.common import Target
    from trafficlog.cli.sharing import Leaving, Shared
    from trafficlog.clock import Clock
    from trafficlog.config import Config

log = structlog.get_logger()

PORT_MAX = 65_535
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKERS_MAX = 64
# Database connections of the commands that are used while the service runs.
CONNECTIONS_BESIDE = 30
CONNECTIONS_MIN = 100


@dataclass(frozen=True, slots=True)
class Where:
    """Which database a service stands on, where it listens, and what it signs with."""

    dsn: str
    host: str = "127.0.0.1"
    port: int = 0
    pooler_url: str | None = None
    signing_key_file: str | None = None
    issuer: str | None = None

    def certificates(self, config: Config) -> Certificates:
        """What issues certificates here."""
        key_file = None if self.signing_key_file is None else Path(self.signing_key_file)
        return Certificates(self.dsn, config, key_file, self.issuer)


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
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    envvar="TRAFFICLOG_WORKERS",
    metavar="N",
    help="How many processes serve. With more than one, SIGHUP replaces them one after another "
    "without a failed request. [env: TRAFFICLOG_WORKERS]",
)
@click.option(
    "--pooler-url",
    envvar="TRAFFICLOG_POOLER_URL",
    metavar="URL",
    help="A pooler in transaction mode, such as PgBouncer, to reach the same database through; "
    "the jobs and migrations go on using --database-url. [env: TRAFFICLOG_POOLER_URL]",
)
@signing_options
def serve(
    target: Target,
    listen: str,
    workers: int,
    pooler_url: str | None,
    signing_key_file: Path | None,
    issuer: str | None,
) -> None:
    """Serve the API, the page and the metrics, and run the jobs.

    Without a database URL an embedded PostgreSQL is started in the data directory, and
    started again should it die. The schema is brought up to date and the partitions are
    made first. The first start prints an operator key, once. SIGTERM and Ctrl-C let
    requests in flight finish.
    """
    host, port = parse_listen(listen)
    configure_logs(logging.INFO)
    for number in STOP_SIGNALS:
        # Until the loop runs, stopping is leaving: PostgreSQL is stopped on the way out.
        signal.signal(number, lambda *_: sys.exit(0))
    key_file = key_file_of(target, signing_key_file)
    with contextlib.ExitStack() as stack:
        directory = None
        if workers > 1:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trafficlog-")))
            sharing.share(directory, "parent")
        metrics = Metrics()
        dsn = stack.enter_context(_database(target, metrics, workers))
        where = Where(dsn, host, port, pooler_url, str(key_file) if key_file else None, issuer)
        where.certificates(target.config)  # which says what is wrong with the issuer's name
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if directory is None:
                runner.run(_serve(target, where, metrics))
                return
            code = runner.run(_serve_with_workers(target, where, metrics, workers, directory))
    sys.exit(code)


@contextlib.contextmanager
def _database(target: Target, metrics: Metrics, workers: int) -> Iterator[str]:
    """Where the database is; an embedded one is kept running until the end."""
    if target.database_url is not None:
        yield target.database_url
        return
    # While one worker is replaced there is one more.
    wanted = (workers + 1) * target.config.database_connections + CONNECTIONS_BESIDE
    settings = {"max_connections": str(max(CONNECTIONS_MIN, wanted))}
    with (
        postgres.running(target.data_dir, settings=settings) as server,
        postgres.watched(
            server,
            settings=settings,
            pause_seconds_max=target.config.restart_seconds_max,
            on_restart=metrics.postgres_restarts.inc,
        ),
    ):
        yield server.dsn


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


async def _serve(target: Target, where: Where, metrics: Metrics) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with service(where, target.config, target.clock, metrics=metrics) as (url, first_key):
        _announce(target, url, None if first_key is None else first_key.secret)
        await stop.wait()
        log.info("stopping")
    log.info("stopped")


async def _serve_with_workers(
    target: Target, where: Where, metrics: Metrics, count: int, directory: Path
) -> int:
    """Serves until a signal; the code to leave with, that of a worker which did not start."""
    from trafficlog.cli.workers import WorkerFailedError, Workers, start_again_by_hangup

    config = target.config
    sockets = bind(where.host, where.port)
    workers = Workers(where, count, sockets, directory, config, target.clock, metrics)
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, workers.stop)
    if start_again_by_hangup():
        loop.add_signal_handler(signal.SIGHUP, workers.replace)
    url = _url(where.host, sockets[0].getsockname()[1])
    try:
        await workers.run(lambda first_key: _announce(target, url, first_key))
    except WorkerFailedError as error:
        # It has said why.
        return error.exit_code if error.exit_code > 0 else ANSWER_IS_NO
    log.info("stopped")
    return 0


@contextlib.asynccontextmanager
async def service(
    where: Where,
    config: Config,
    clock: Clock,
    *,
    metrics: Metrics | None = None,
    shared: Shared | None = None,
    leaving: Leaving | None = None,
) -> AsyncIterator[tuple[str, NewKey | None]]:
    """The whole service, running: its URL, and the operator key if this is its first start.

    A worker is told what it shares. On leaving, requests in flight are answered, what waits
    is written, and the jobs end; ``leaving`` says whether that is to be at once.
    """
    dsn = where.dsn
    certificates = where.certificates(config)
    metrics = metrics or Metrics()
    async with contextlib.AsyncExitStack() as stack:
        # A port that is taken is told before anything is begun.
        sockets = bind(where.host, where.port) if shared is None else list(shared.sockets)
        for each in sockets:
            stack.callback(each.close)
        await bring_up_to_date(dsn)
        database = await stack.enter_async_context(Database(dsn, config, where.pooler_url))
        async with Retention(dsn, config) as retention:
            # Before the first record arrives, and whoever runs the jobs.
            await retention.make_partitions(clock.now())
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
        door = Door(config, metrics)
        services = await _services(
            database, config, clock, metrics, writer, buffer, door, certificates
        )
        jobs = Jobs(
            lambda: Retention(dsn, config),
            clock.now,
            config,
            metrics,
            # A clock that was set on purpose has not jumped.
            guard_clock=not clock.offset,
        )
        run_jobs = jobs.run_for_ever
        tasks: list[Coroutine[Any, Any, None]] = [
            DurabilityWatch(database, config, metrics).run_for_ever(),
            run_jobs() if shared is None else on_duty(shared.duty_file, run_jobs),
        ]
        if shared is not None:
            tasks.append(tell_waiting(buffer, metrics))
        for work in tasks:
            stack.push_async_callback(_cancelled(asyncio.create_task(work)))
        keys = Keys(database)
        first = None
        if not await keys.any():
            first = await keys.create("operator", None, clock.now())
        app = make_app(services)
        add_dashboard(app, services)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=config.shutdown_seconds_max)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("the web application was not set up")
        door.serve(runner.server)
        listener = Listener(sockets, door, None if shared is None else shared.standing)
        url = _url(where.host, sockets[0].getsockname()[1])
        await listener.start()
        stack.push_async_callback(_close, listener, services, leaving)
        yield url, first


async def _close(listener: Listener, services: Services, leaving: Leaving | None) -> None:
    """Takes no new connection, and lets those that are there finish what they began."""
    config = services.config
    services.door.closing = True
    await listener.stop()
    if leaving is not None and leaving.idle_seconds:
        emptied = asyncio.create_task(services.door.emptied(leaving.idle_seconds))
        hurry = asyncio.create_task(leaving.hurry.wait())
        await asyncio.wait({emptied, hurry}, return_when=asyncio.FIRST_COMPLETED)
        emptied.cancel()
        hurry.cancel()
    seconds = min(config.shutdown_body_seconds_max, config.shutdown_seconds_max)
    services.bodies.close(seconds)
    # A moment more, for the answers to those that were late.
    await services.door.bodies_come(seconds + 1)


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _services(
    database: Database,
    config: Config,
    clock: Clock,
    metrics: Metrics,
    writer: RecordWriter,
    buffer: IngestBuffer[Batch, Outcome],
    door: Door,
    certificates: Certificates,
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
        door=door,
        authenticator=Authenticator(Keys(database), config.key_cache_seconds),
        cursors=Cursors(secret),
        accounts=Accounts(database),
        history=History(database),
        statistics=Statistics(database),
        holds=Holds(database),
        disclosures=Disclosures(database),
        access_log=AccessLog(database),
        transit=Transit(database, writer),
        debug_log=DebugLog(database),
        certificates=certificates,
        secret=secret,
    )


def _cancelled(task: asyncio.Task[None]) -> Callable[[], Awaitable[None]]:
    async def cancel() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return cancel


def _announce(target: Target, url: str, first_key: str | None) -> None:
    """Says where the service is; on the first start also the key, and what to try."""
    if target.as_json:
        print_json({"url": url, "operator_key": first_key})
        return
    click.echo(f"trafficlog serves {url}  (Ctrl-C stops it)")
    if first_key is None:
        return
    command = shlex.quote(os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else "trafficlog")
    where = "--database-url …" if target.database_url is not None else "--data-dir "
    if target.database_url is None:
        where += shlex.quote(str(target.data_dir))
    click.echo(f"""
Operator key, shown this once: {first_key}

Four things to try:
  1. A key for the gateway, then a record:
     {command} key create --scope ingest {where}
     curl {url}/v1/records -H 'Authorization: Bearer KEY' \\
       -H 'Content-Type: application/json' -d '[{{"id":"m1","account":"acme","kind":"sms",
       "direction":"outgoing","from":"Acme","to":"+46701234567","message":"Hello",
       "created":"{target.clock.now():%Y-%m-%dT%H:%M:%SZ}"}}]'
  2. A key for the customer, then its history; or sign in with it at {url}/
     {command} key create --scope customer --account acme {where}
     curl {url}/v1/accounts/acme/history -H 'Authorization: Bearer KEY'
  3. Sample traffic, with the gateway's key, from many customers:
     {command} simulate --url {url} --key KEY --rate 50 --seconds 60
  4. How retention stands:
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
