"""``trafficlog serve`` and ``trafficlog migrate``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog
import uvloop

from trafficlog import metrics as sharing
from trafficlog import postgres
from trafficlog.api.listening import bind
from trafficlog.cli.common import ANSWER_IS_NO, database_command, print_json
from trafficlog.cli.composition import Where, service, url_of
from trafficlog.cli.logs import configure_logs
from trafficlog.cli.signing import key_file_of, signing_options
from trafficlog.errors import InvalidValueError
from trafficlog.metrics import Metrics
from trafficlog.migrate import migrate as bring_up_to_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trafficlog.cli.common import Target

log = structlog.get_logger()

PORT_MAX = 65_535
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKERS_MAX = 64
# Database connections of the commands that are used while the service runs.
CONNECTIONS_BESIDE = 30
CONNECTIONS_MIN = 100


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
        # What was made until now stays: looked over again and again, it would make others wait
        # (measured: the slowest hundredth of small requests took twice as long).
        gc.freeze()
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
    url = url_of(where.host, sockets[0].getsockname()[1])
    try:
        await workers.run(lambda first_key: _announce(target, url, first_key))
    except WorkerFailedError as error:
        # It has said why.
        return error.exit_code if error.exit_code > 0 else ANSWER_IS_NO
    log.info("stopped")
    return 0


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
