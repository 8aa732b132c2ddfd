"""The whole service put together: what ``trafficlog serve`` runs, once or in each worker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from trafficlog.api.app import make_app
from trafficlog.api.body import BodyReader
from trafficlog.api.cursor import Cursors
from trafficlog.api.door import Door
from trafficlog.api.express import Express
from trafficlog.api.listening import Listener, bind
from trafficlog.api.rates import KeyRates, wrong_keys
from trafficlog.api.services import Services
from trafficlog.auth import Authenticator
from trafficlog.cli.sharing import on_duty, tell_waiting
from trafficlog.compat46elks.site import add_compat46elks
from trafficlog.dashboard.site import add_dashboard
from trafficlog.ingest import IngestBuffer
from trafficlog.jobs import Jobs
from trafficlog.metrics import Metrics
from trafficlog.migrate import migrate
from trafficlog.operator_page.site import add_operator_page
from trafficlog.queries import queries
from trafficlog.store.access_log import AccessLog
from trafficlog.store.accounts import Accounts
from trafficlog.store.certificates import Certificates
from trafficlog.store.database import Database
from trafficlog.store.debug_log import DebugLog
from trafficlog.store.disclosures import Disclosures
from trafficlog.store.durability import DurabilityWatch
from trafficlog.store.erasures import Erasures
from trafficlog.store.export import Exports
from trafficlog.store.history import History
from trafficlog.store.holds import Holds
from trafficlog.store.ingest import Batch, Outcome, RecordWriter
from trafficlog.store.keys import Keys, NewKey
from trafficlog.store.reports import Reports
from trafficlog.store.retention import Retention
from trafficlog.store.transit import Transit
from trafficlog.store.usage import Statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from trafficlog.cli.sharing import Leaving, Shared
    from trafficlog.clock import Clock
    from trafficlog.config import Config

log = structlog.get_logger()

# How long stopping waits for the writing of what nobody waits for any more.
REST_SECONDS: Final = 2


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


def url_of(host: str, port: int) -> str:
    """The root of a service that listens there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


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
        await migrate(dsn)
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
            answer_seconds_max=config.answer_seconds_max,
            on_flush=metrics.ingest_flush_seconds.observe,
        )
        buffer.start()
        stack.push_async_callback(_write_rest, buffer, database)
        door = Door(config, metrics)
        services = await _services(
            database, config, clock, metrics, writer, buffer, door, certificates
        )
        stack.callback(services.exports.close)
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
        add_compat46elks(app, services)
        add_dashboard(app, services)
        add_operator_page(app, services)
        # It waits so long for an answer, and as long again once it has stopped reading.
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=config.shutdown_seconds_max / 2
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("the web application was not set up")
        door.serve(runner.server, Express(services))
        listener = Listener(sockets, door, None if shared is None else shared.standing)
        url = url_of(where.host, sockets[0].getsockname()[1])
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


async def _write_rest(buffer: IngestBuffer[Batch, Outcome], database: Database) -> None:
    """Writes what nobody waits for any more, if the database takes it soon.

    All that was acknowledged is on disk by now: what is left was answered 503, or its client
    is gone. A database that hangs is not waited for on its account.
    """
    writing = asyncio.create_task(buffer.close())
    done, _ = await asyncio.wait({writing}, timeout=REST_SECONDS)
    if not done:
        log.warning("records_left_unacknowledged")
        database.break_off()
        writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


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
        authenticator=Authenticator(
            Keys(database),
            config.key_cache_seconds,
            config.answer_seconds_max,
            wrong_keys(config),
        ),
        key_rates=KeyRates(config),
        cursors=Cursors(secret),
        accounts=Accounts(database),
        history=History(database),
        erasures=Erasures(database, secret),
        exports=Exports(database, config),
        statistics=Statistics(database),
        reports=Reports(database),
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
