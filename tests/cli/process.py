"""The real command as a process of its own: run to its end, or serving."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from click.testing import CliRunner

from trafficlog.cli import main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMAND = str(Path(sys.executable).with_name("trafficlog"))
TIME_TRAVEL = {"TRAFFICLOG_TIME_TRAVEL": "1", "TRAFFICLOG_NOW": "2026-11-22T00:00:00Z"}


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: nothing of trafficlog's but what is given."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("TRAFFICLOG_")}
    return bare | (extra or {})


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its answer; no stack trace is ever part of it."""
        assert "Traceback" not in self.err, self.err
        return json.loads(self.out)


async def trafficlog(*arguments: str, dsn: str | None = None, env=None, seconds=60) -> Done:
    """Runs a command to its end."""
    if dsn is not None:
        env = {"TRAFFICLOG_DATABASE_URL": dsn} | (env or {})
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        env=environment(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@dataclass
class Server:
    """A serving process, where it is, and the key it told."""

    process: asyncio.subprocess.Process
    url: str
    operator_key: str | None

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        """Its exit code once it has stopped on a signal."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


def invoke(*arguments: str, dsn: str, env: dict[str, str] | None = None) -> Done:
    """Runs a command in this process, which is quicker; not within a running event loop."""
    unset = dict.fromkeys((k for k in os.environ if k.startswith("TRAFFICLOG_")), None)
    given = {**unset, "TRAFFICLOG_DATABASE_URL": dsn, **(env or {})}
    try:
        result = CliRunner().invoke(main, arguments, env=given)
    finally:
        # The command's log went to the runner's standard error, which is gone.
        structlog.reset_defaults()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


async def start_server(
    *arguments: str, env=None, seconds: float = 60, log: Path | None = None
) -> Server:
    """Starts ``trafficlog serve``, with its log in a file, and waits until it says where it is."""
    with (log or Path(os.devnull)).open("wb") as kept:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "serve",
            "--json",
            *arguments,
            env=environment(env),
            stdout=asyncio.subprocess.PIPE,
            stderr=kept,
            start_new_session=True,
        )
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(seconds):
        while line := await process.stdout.readline():
            text += line.decode()
            with suppress(json.JSONDecodeError):
                told = json.loads(text)
                return Server(process, told["url"], told["operator_key"])
    raise AssertionError(f"serve ended with {await process.wait()}: {text}")


@asynccontextmanager
async def server(*arguments: str, env=None) -> AsyncIterator[Server]:
    """A serving process that is gone afterwards."""
    running = await start_server(*arguments, env=env)
    try:
        yield running
    finally:
        if running.process.returncode is None:
            await running.stop()
