"""The operating-system user that the embedded PostgreSQL runs as, and what it may reach.

An ordinary user runs the server as themselves. PostgreSQL refuses to run as root: started by root,
it runs as the owner of the cluster that is there, else as ``trafficlog-postgres``, which is made
when missing. It is never ``nobody``, an account that other programs share, because whoever runs
the server can read everything in it.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trafficlog.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from pathlib import Path

SERVER_USER_NAME = "trafficlog-postgres"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OsUser:
    """A user and its group, by number: a container need not have a name for either."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """What people call it; the number where the system has no name for it."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def process_options(self) -> dict[str, Any]:
        """What ``subprocess`` is told, so that a program runs as this user."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, file: int | Path) -> None:
        """Hand over a file just made: only root makes one for another."""
        if os.geteuid() == 0:
            os.chown(file, self.uid, self.gid)

    def own_tree(self, top: Path) -> None:
        """Hand over all of ``top``; a link is handed over, never what it points to."""
        for parent, directories, files in os.walk(top):
            for name in (".", *directories, *files):
                os.chown(os.path.join(parent, name), self.uid, self.gid, follow_symlinks=False)  # noqa: PTH118

    def let_pass(self, directory: Path) -> None:
        """Let this user go through ``directory`` and those above it, without reading them."""
        for step in (directory, *directory.parents):
            status = step.stat()
            if status.st_uid != self.uid and not status.st_mode & stat.S_IXOTH:
                step.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
                _logger.warning("let %s pass through %s (chmod o+x)", self.name, step)


def current_user() -> OsUser:
    """Who this process acts as."""
    return OsUser(os.geteuid(), os.getegid())


def server_user(cluster: Path) -> OsUser:
    """Who runs the server of ``cluster``, which need not exist yet.

    Raises EmbeddedPostgresError when it belongs to somebody else, or when there is nobody.
    """
    status = cluster.stat() if cluster.exists() else None
    owner = OsUser(status.st_uid, status.st_gid) if status else None
    if os.geteuid() != 0:
        if owner and owner.uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{cluster} belongs to {owner.name}: do this as that user or as root"
            )
        return current_user()
    if owner and owner.uid != 0:
        return owner
    return _find() or _make()


def make_readable(directory: Path) -> None:
    """Let everybody read and run what is below ``directory``, as published software may be."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
    _logger.warning("made %s readable (chmod -R o+rX)", directory)


def _find() -> OsUser | None:
    try:
        entry = pwd.getpwnam(SERVER_USER_NAME)
    except KeyError:
        return None
    return OsUser(entry.pw_uid, entry.pw_gid)


def _make() -> OsUser:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and there is no useradd to make the user "
            f"{SERVER_USER_NAME}: make it, or do this as an ordinary user"
        )
    options = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
    command = [useradd, *options, SERVER_USER_NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    made = _find()  # whatever useradd says: another start may have made it at the same moment
    if made is None:
        raise EmbeddedPostgresError(f"no user {SERVER_USER_NAME}: {done.stderr.strip()}")
    _logger.warning("made the system user %s to run PostgreSQL", SERVER_USER_NAME)
    return made
