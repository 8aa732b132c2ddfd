"""The embedded PostgreSQL through everything that happens to a server on somebody's machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from trafficlog import osuser, postgres
from trafficlog.cluster import Cluster, command_line, programs
from trafficlog.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
PACKAGES = Path(next(iter(asyncpg.__path__))).parent
ORDINARY_USER = f"trafficlog-test-{os.getpid()}"

# Says "ready" when the server runs, and stops it when standard input ends.
HOLDER = """
import signal
import sys
from pathlib import Path
from trafficlog import postgres
# Whoever runs the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with postgres.running(Path(sys.argv[1])) as server:
    print("ready", server.dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory to be; whatever runs there afterwards is killed."""
    parent = Path(tempfile.mkdtemp(prefix="trafficlog-tests-")).resolve()
    yield parent / "var"
    for pid_file in parent.rglob("postgres/postmaster.pid"):
        pid = postmaster_pid(pid_file.parent.parent)
        if pid and os.fsencode(pid_file.parent) in (command_line(pid) or []):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def hold(data_dir: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that uses the server and answers when it runs."""
    holders: list[subprocess.Popen[str]] = []

    def hold_server(first: str = "", *, wait: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", first + HOLDER, str(data_dir)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        pipe = subprocess.PIPE
        holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        holders.append(holder)
        if wait:
            assert holder.stdout.readline().startswith("ready")
        return holder

    yield hold_server
    for holder in holders:
        holder.kill()
        with holder:  # closes its pipes and waits
            pass


@pytest.fixture
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    """A user of the system without any rights, for as long as the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a second user")
    if shutil.which("useradd") is None or shutil.which("userdel") is None:
        pytest.skip("there is no useradd to make a second user with")
    subprocess.run(["useradd", "--create-home", ORDINARY_USER], check=True, capture_output=True)
    try:
        yield pwd.getpwnam(ORDINARY_USER)
    finally:
        subprocess.run(["userdel", "--remove", ORDINARY_USER], check=False, capture_output=True)


def query(dsn: str, sql: str, **options: object) -> str:
    """What ``psql`` answers, which takes the dsn as any client of libpq does."""
    command = [programs() / "psql", "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(
        [*command, "-c", sql, dsn], capture_output=True, text=True, check=False, **options
    )
    return (done.stdout or done.stderr).strip()


def postmaster_pid(data_dir: Path) -> int | None:
    """The process that ``postmaster.pid`` names, alive or not; none where nothing is in it yet."""
    try:
        lines = (data_dir / "postgres" / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return None
    return int(lines[0]) if len(lines) > 1 else None


def said_by_start(data_dir: Path) -> str:
    """What the server said when it was started last; a start begins without the file."""
    try:
        return (data_dir / "postgres.log").read_text()
    except FileNotFoundError:
        return ""


def is_running(data_dir: Path) -> bool:
    """Whether a live server is there."""
    return Cluster.of(data_dir.resolve()).postmaster() is not None


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Fail when ``condition`` has not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_new_cluster_is_durable_private_and_the_same_everywhere(data_dir: Path) -> None:
    """UTF-8, one collation on every platform, checksums, UTC, PostgreSQL's durability, no TCP."""
    with postgres.running(data_dir) as server:
        assert server.started_here
        settings = {
            "server_encoding": "UTF8",
            "data_checksums": "on",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        for name, value in settings.items():
            assert query(server.dsn, f"SHOW {name}") == value, name
        assert query(server.dsn, "SELECT current_database()") == postgres.DATABASE
        locale = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'trafficlog'"
        assert query(server.dsn, locale) == "b|C.UTF-8"
        methods = "SELECT string_agg(type || ' ' || auth_method, ',') FROM pg_hba_file_rules"
        assert query(server.dsn, methods) == "local peer"
        assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700
        assert (data_dir / "postgres.log").stat().st_mode & 0o777 == 0o600
    assert not is_running(data_dir)


def test_a_second_start_finds_the_data_of_the_first(data_dir: Path) -> None:
    """A cluster that is there is started as it is, and settings are those of the present start."""
    with postgres.running(data_dir) as server:
        query(server.dsn, "CREATE TABLE kept AS SELECT 1 AS n")
    with postgres.running(data_dir, settings={"work_mem": "7MB"}) as server:
        assert query(server.dsn, "SELECT n FROM kept") == "1"
        assert query(server.dsn, "SHOW work_mem") == "7MB"


def test_the_service_may_take_any_database_role(data_dir: Path) -> None:
    """Who may connect at all may connect as each of the narrow roles."""
    with postgres.running(data_dir) as server:
        query(server.dsn, "CREATE ROLE trafficlog_customer LOGIN")
        as_customer = server.dsn.replace("postgres@", "trafficlog_customer@")
        assert query(as_customer, "SELECT current_user") == "trafficlog_customer"


def test_the_last_to_leave_stops_the_server(data_dir: Path) -> None:
    """Who started it makes no difference: nobody stops a server beneath another."""
    first = postgres.start(data_dir)
    second = postgres.start(data_dir)
    assert (first.started_here, second.started_here) == (True, False)
    postgres.stop(first)
    assert query(second.dsn, "SELECT 1") == "1"
    postgres.stop(first)
    assert query(second.dsn, "SELECT 1") == "1"
    postgres.stop(second)
    assert not is_running(data_dir)
    postgres.stop(second)


def test_a_server_whose_user_was_killed_is_found_and_then_stopped(data_dir: Path, hold) -> None:
    """A ``kill -9`` of the service leaves the server up; the next to use it is then the last."""
    holder = hold()
    holder.kill()
    holder.wait()
    with postgres.running(data_dir) as server:
        assert not server.started_here
        assert query(server.dsn, "SELECT 1") == "1"
    assert not is_running(data_dir)


def test_a_killed_server_recovers_what_was_committed(data_dir: Path) -> None:
    """After ``kill -9`` of the server, with a client at work, the next start has the commits."""
    server = postgres.start(data_dir)
    query(server.dsn, "CREATE TABLE kept (n int)")
    query(server.dsn, "INSERT INTO kept SELECT generate_series(1, 1000)")
    busy = "SELECT count(*) FROM generate_series(1, 3000000) AS a WHERE md5(a::text) = ''"
    client = threading.Thread(target=query, args=(server.dsn, busy))
    client.start()
    at_work = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%md5%a::%'"
    wait_until(lambda: query(server.dsn, f"{at_work} AND pid <> pg_backend_pid()"))
    os.kill(postmaster_pid(data_dir), signal.SIGKILL)
    with postgres.running(data_dir) as again:
        assert again.started_here
        assert query(again.dsn, "SELECT count(*) FROM kept") == "1000"
    client.join()
    postgres.stop(server)


def test_a_watched_server_that_dies_is_started_again(data_dir: Path) -> None:
    """Killed, or stopped by somebody else, it is back with its data and the settings it had.

    Each time after a longer pause, up to the longest there may be.
    """
    restarts: list[None] = []
    settings = {"work_mem": "7MB"}
    with (
        capture_logs() as said,
        postgres.running(data_dir, settings=settings) as server,
        postgres.watched(
            server,
            settings=settings,
            pause_seconds_max=0.75,
            on_restart=lambda: restarts.append(None),
        ),
    ):
        query(server.dsn, "CREATE TABLE kept AS SELECT 1 AS n")
        for number, sent in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGQUIT), start=1):
            pid = postmaster_pid(data_dir)
            os.kill(pid, sent)
            wait_until(lambda number=number: len(restarts) == number)
            assert postmaster_pid(data_dir) != pid
            assert query(server.dsn, "SELECT n FROM kept") == "1"
            assert query(server.dsn, "SHOW work_mem") == "7MB"
    assert not is_running(data_dir)
    assert len(restarts) == 3
    pauses = [each["pause_seconds"] for each in said if each["event"] == "postgres_died"]
    assert pauses == [0, postgres.PAUSE_SECONDS, 0.75]


def test_a_watched_server_that_cannot_start_is_left_when_the_service_stops(data_dir: Path) -> None:
    """While it cannot be started it is tried again and again, and to stop does not wait for it."""
    with postgres.running(data_dir) as server, postgres.watched(server, pause_seconds_max=1):
        version = data_dir / "postgres" / "PG_VERSION"
        whole = version.read_text()
        version.write_text("9.1\n")
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: "incompatible with server" in said_by_start(data_dir))
        version.write_text(whole)
        wait_until(lambda: query(server.dsn, "SELECT 1") == "1")
        version.write_text("9.1\n")
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: not is_running(data_dir))
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_a_killed_server_that_nobody_reaped_is_dead(data_dir: Path, hold) -> None:
    """A zombie still has its number, which PostgreSQL itself takes for life."""
    holder = hold()
    os.kill(postmaster_pid(data_dir), signal.SIGKILL)
    with postgres.running(data_dir) as server:
        assert server.started_here
        assert query(server.dsn, "SELECT 1") == "1"
    assert holder.poll() is None


def test_a_process_number_that_was_given_away_is_not_a_server(data_dir: Path) -> None:
    """``postmaster.pid`` of a crash may name a live process of the same user by now."""
    server = postgres.start(data_dir)
    user = osuser.server_user(data_dir / "postgres")
    pid = postmaster_pid(data_dir)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(data_dir))
    with subprocess.Popen(["sleep", "60"], **user.process_options) as other:
        pid_file = data_dir / "postgres" / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(pid), str(other.pid), 1))
        with postgres.running(data_dir) as again:
            assert again.started_here
            assert query(again.dsn, "SELECT 1") == "1"
        assert other.poll() is None
        other.kill()
    postgres.stop(server)


@pytest.mark.parametrize(
    "name",
    ["x" * 150, 'with space, comma\'s and 100% of "$HOME" + \\ü', "sp ace'q\"uote%41"],
    ids=["long", "comma", "quotes"],
)
async def test_any_path_will_do(data_dir: Path, name: str) -> None:
    """A path too long for a socket, or full of what shells, lists and URLs use, works alike."""
    with postgres.running(data_dir / name) as server:
        assert query(server.dsn, "SELECT 1") == "1"
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT 2") == 2
        await connection.close()
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        with postgres.running(data_dir / name) as same:
            assert (same.dsn, same.started_here) == (server.dsn, False)
    outside = server.socket_dir != data_dir / name / "postgres"
    assert outside == (len(name) > 100 or "," in name)
    assert not outside or not server.socket_dir.exists()


def test_a_socket_directory_that_somebody_else_made_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in wait in the temporary directory under our name is never used."""
    trap = data_dir.parent / "t"
    trap.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(trap))
    long = data_dir / ("x" * 150)
    cluster = Cluster.of(long.resolve())
    directory = cluster._socket_dir()
    directory.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="not a private directory"):
        postgres.start(long)
    directory.rmdir()
    directory.symlink_to(data_dir.parent)
    with pytest.raises(EmbeddedPostgresError, match="not a private directory"):
        postgres.start(long)


def test_many_starts_at_once_make_one_server(data_dir: Path, hold) -> None:
    """Processes that start together on an empty directory share one cluster and one server."""
    holders = [hold(wait=False) for _ in range(4)]
    ready = {holder.stdout.readline() for holder in holders}
    assert len(ready) == 1
    assert ready.pop().startswith("ready")
    pid = postmaster_pid(data_dir)
    for holder in holders[:-1]:
        holder.communicate()
        assert holder.returncode == 0
    assert postmaster_pid(data_dir) == pid
    holders[-1].communicate()
    assert holders[-1].returncode == 0
    assert not is_running(data_dir)


def test_users_who_leave_together_leave_no_server(data_dir: Path, hold) -> None:
    """However their stops meet, one of them is the last."""
    for _ in range(5):
        holders = [hold() for _ in range(3)]
        for holder in holders:
            holder.stdin.close()
        assert [holder.wait() for holder in holders] == [0, 0, 0]
        assert not is_running(data_dir)


def test_an_interrupted_initdb_does_not_stand_in_the_way(data_dir: Path, hold) -> None:
    """A start killed while the cluster was being made leaves nothing that a later one trips on."""
    holder = hold(wait=False)
    wait_until(lambda: list(data_dir.glob("postgres.new-*/base")))
    holder.kill()
    holder.wait()
    assert not (data_dir / "postgres").exists()
    with postgres.running(data_dir) as server:
        assert query(server.dsn, "SELECT 1") == "1"
    with postgres.running(data_dir):
        pass
    assert (data_dir / "postgres" / "PG_VERSION").exists()


def test_a_start_killed_before_the_database_was_made_is_completed(data_dir: Path) -> None:
    """The database is looked for at each start, not only at the first."""
    with postgres.running(data_dir) as server:
        query(server.dsn.replace("/trafficlog", "/postgres"), "DROP DATABASE trafficlog")
    with postgres.running(data_dir) as server:
        assert query(server.dsn, "SELECT 1") == "1"


def test_ctrl_c_does_not_reach_the_server(data_dir: Path) -> None:
    """The server has a session of its own, so a terminal's interrupt is the service's alone."""
    with postgres.running(data_dir):
        assert os.getsid(postmaster_pid(data_dir)) != os.getsid(0)
        assert os.getpgid(postmaster_pid(data_dir)) != os.getpgid(0)


def test_an_interrupted_start_takes_its_server_down(data_dir: Path, hold) -> None:
    """Ctrl-C while the server is starting leaves none behind."""
    with postgres.running(data_dir):
        pass
    holder = hold(wait=False)
    wait_until(lambda: postmaster_pid(data_dir))
    holder.send_signal(signal.SIGINT)
    holder.wait(timeout=60)
    wait_until(lambda: not is_running(data_dir))


# Ctrl-C in two moments that hardly ever are met: the new process is there and nobody has heard of
# it; and the server is ready, but not its database.
BORN = """
import os, signal, subprocess
execute = subprocess.Popen._execute_child
def interrupted(self, args, *others):
    execute(self, args, *others)
    if str(args[0]).endswith("bin/postgres"):
        os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen._execute_child = interrupted
"""
READY = """
import os, signal
from trafficlog.cluster import Cluster
ensure = Cluster.ensure_database
def interrupted(self, socket_dir):
    os.kill(os.getpid(), signal.SIGINT)
    ensure(self, socket_dir)
Cluster.ensure_database = interrupted
"""


@pytest.mark.parametrize("moment", [BORN, READY], ids=["born", "ready"])
def test_whenever_a_start_is_interrupted_no_server_is_left(data_dir: Path, hold, moment) -> None:
    """Interrupted where it would be forgotten."""
    with postgres.running(data_dir):
        pass
    holder = hold(moment, wait=False)
    assert holder.wait(timeout=60) != 0
    time.sleep(0.5)  # longer than a server that was just born needs to write down that it is there
    wait_until(lambda: not is_running(data_dir))


def test_why_it_did_not_start_is_said(data_dir: Path) -> None:
    """The error carries the server's own words, and nothing is left running."""
    with pytest.raises(EmbeddedPostgresError, match="max_connections") as caught:
        postgres.start(data_dir, settings={"max_connections": "none"})
    assert caught.value.code == "embedded_postgres"
    assert not is_running(data_dir)
    with postgres.running(data_dir) as server:
        assert query(server.dsn, "SELECT 1") == "1"


def test_a_start_that_takes_too_long_is_given_up(data_dir: Path) -> None:
    """The time-out is kept, and what had been started goes."""
    with postgres.running(data_dir):
        pass
    with pytest.raises(EmbeddedPostgresError, match="in time"):
        postgres.start(data_dir, start_timeout_seconds=0)
    wait_until(lambda: not is_running(data_dir))


def test_the_callers_environment_leads_nowhere_else(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of libpq, a foreign time zone and locale change nothing."""
    for name, value in {
        "PGHOST": "db.invalid",
        "PGPORT": "6000",
        "PGUSER": "nobody",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGDATA": "/nowhere",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "tr_TR.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    with postgres.running(data_dir) as server:
        for name in ("PGPORT", "PGOPTIONS"):
            monkeypatch.delenv(name)
        assert query(server.dsn, "SHOW timezone") == "UTC"


def test_the_log_keeps_no_peoples_data(data_dir: Path) -> None:
    """A refused statement leaves neither itself nor the values of its rows in the server's log."""
    with postgres.running(data_dir) as server:
        query(server.dsn, "CREATE TABLE sent (number text PRIMARY KEY)")
        for _ in range(2):
            answer = query(server.dsn, "INSERT INTO sent VALUES ('+46700000000')")
        assert "+46700000000" in answer
    logs = [data_dir / "postgres.log", *(data_dir / "postgres" / "log").iterdir()]
    text = "".join(log.read_text() for log in logs)
    assert "sent_pkey" in text
    assert "+46700000000" not in text


def test_logs_of_past_weeks_go(data_dir: Path) -> None:
    """A weekday's log that was not overwritten, as nothing ran that day, goes at a start."""
    with postgres.running(data_dir):
        pass
    old = data_dir / "postgres" / "log" / "postgres-Xyz.log"
    old.write_text("old")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    with postgres.running(data_dir):
        assert not old.exists()


def test_as_root_the_server_runs_as_a_user_of_its_own(data_dir: Path) -> None:
    """Root's server belongs to the system user, who may pass through the data directory only."""
    if os.geteuid() != 0:
        pytest.skip("only root starts a server as somebody else")
    with postgres.running(data_dir):
        uid = pwd.getpwnam(osuser.SERVER_USER_NAME).pw_uid
        assert Path(f"/proc/{postmaster_pid(data_dir)}").stat().st_uid == uid
        assert data_dir.stat().st_uid == 0
        assert data_dir.stat().st_mode & 0o777 == 0o701
    subprocess.run(["chown", "-R", "root:root", data_dir], check=True)
    with postgres.running(data_dir) as server:
        assert query(server.dsn, "SELECT 1") == "1"


def test_other_users_are_kept_out(data_dir: Path, ordinary_user: pwd.struct_passwd) -> None:
    """Neither the directory nor, were it open, the server lets another local user in."""
    as_other = {"user": ordinary_user.pw_uid, "group": ordinary_user.pw_gid, "extra_groups": []}
    with postgres.running(data_dir) as server:
        assert "Permission denied" in query(server.dsn, "SELECT 1", cwd="/", **as_other)
        server.socket_dir.chmod(0o711)
        (server.socket_dir / ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in query(server.dsn, "SELECT 1", cwd="/", **as_other)


def test_an_ordinary_user_runs_it_and_root_can_join(ordinary_user: pwd.struct_passwd) -> None:
    """Without root the server is the user's own, and theirs it stays when root uses or starts it.

    The other way round, an ordinary user is told whose it is.
    """
    user = {"user": ordinary_user.pw_uid, "group": ordinary_user.pw_gid, "extra_groups": []}
    user |= {"cwd": "/", "env": {"PYTHONPATH": f"{REPOSITORY}:{PACKAGES}", "HOME": "/nowhere"}}
    data_dir = Path(ordinary_user.pw_dir) / "var"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        probe = [python, "-c", "import sys; assert sys.version_info >= (3, 11); import trafficlog"]
        try:
            if subprocess.run(probe, check=False, capture_output=True, **user).returncode == 0:
                break
        except OSError:
            continue
    else:
        pytest.skip("an ordinary user cannot run any Python >= 3.11 here, or not read this code")
    pipe = subprocess.PIPE
    command = [python, "-c", HOLDER, str(data_dir)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **user) as holder:
        assert holder.stdout.readline().startswith("ready")
        uid = Path(f"/proc/{postmaster_pid(data_dir)}").stat().st_uid
        assert uid == ordinary_user.pw_uid
        with postgres.running(data_dir) as server:
            assert not server.started_here
            assert query(server.dsn, "SELECT 1") == "1"
        assert is_running(data_dir)
        holder.communicate()
    assert not is_running(data_dir)
    with postgres.running(data_dir) as server:
        assert server.started_here
        assert Path(f"/proc/{postmaster_pid(data_dir)}").stat().st_uid == ordinary_user.pw_uid
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True, **user)
    assert done.stdout.startswith("ready")
    subprocess.run(["chown", "-R", "nobody", data_dir / "postgres"], check=True)
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, **user)
    assert "belongs to nobody" in done.stderr


def test_programs_installed_under_a_strict_umask_are_opened(data_dir: Path) -> None:
    """Installed by root for root alone, the programs still run as the server's user.

    The directories on the way are opened for passing through, and no further.
    """
    if os.geteuid() != 0:
        pytest.skip("only root starts a server as somebody else")
    packages = data_dir.parent / "private" / "packages"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (PACKAGES / name).exists():
            shutil.copytree(PACKAGES / name, packages / name, symlinks=True)
    subprocess.run(["chmod", "-R", "go=", packages.parent], check=True)
    command = [sys.executable, "-c", HOLDER, str(data_dir)]
    environment = os.environ | {"PYTHONPATH": f"{packages}:{REPOSITORY}"}
    done = subprocess.run(
        command, input="", capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.startswith("ready"), done.stderr
    assert packages.stat().st_mode & 0o777 == 0o701
    assert (packages / "embedded_postgres" / "__init__.py").stat().st_mode & 0o077 == 0
