"""One worker of ``trafficlog serve --workers N``, started by its parent (``cli.workers``).

Standard input brings one line that says what to do, and after that nothing: when it ends, the
parent is gone, and so is the worker, in good order. Standard output takes one line back when
requests are served. SIGTERM stops it as it stops the whole service. SIGHUP does so while
others serve: what is idle may still come with a last request.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import structlog
import uvloop

from trafficlog import metrics
from trafficlog.api.listening import Standing
from trafficlog.cli.common import exit_codes
from trafficlog.cli.composition import Where, service
from trafficlog.cli.logs import configure_logs
from trafficlog.cli.sharing import Leaving, Shared
from trafficlog.clock import Clock
from trafficlog.config import Config

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a parent tells its worker.

    ``files`` are the numbers of the listening sockets, ``place`` the worker's own among
    ``places``, ``clock_offset_seconds`` what its parent's clock is ahead of the system's.
    """

    where: Where
    files: tuple[int, ...]
    directory: str
    place: int
    places: int
    clock_offset_seconds: float

    def line(self) -> bytes:
        """The line that says it."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, text: str) -> Order:
        """The order that a line says."""
        told = json.loads(text)
        return cls(
            **told | {"where": Where(**told["where"]), "files": tuple(told["files"])},
        )


async def _work(order: Order) -> None:
    config = Config.from_environment()
    leaving = Leaving(asyncio.Event())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def leave() -> None:
        leaving.idle_seconds = config.drain_seconds_max
        stop.set()

    def halt() -> None:
        leaving.hurry.set()
        stop.set()

    def parent_said() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin.fileno())
            log.warning("parent_gone")
            halt()

    loop.add_signal_handler(signal.SIGTERM, halt)
    loop.add_signal_handler(signal.SIGHUP, leave)
    loop.add_reader(sys.stdin.fileno(), parent_said)
    directory = Path(order.directory)
    shared = Shared(
        tuple(socket.socket(fileno=number) for number in order.files),
        Standing(directory / "connections", order.places, order.place),
        directory / "jobs.lock",
    )
    clock = Clock(timedelta(seconds=order.clock_offset_seconds))
    async with service(order.where, config, clock, shared=shared, leaving=leaving) as (_, first):
        key = None if first is None else first.secret
        sys.stdout.write(json.dumps({"operator_key": key}) + "\n")
        sys.stdout.flush()
        gc.freeze()  # as a service of one process does, and for its reason
        await stop.wait()


def main() -> None:
    """Serves until told otherwise."""
    with exit_codes():
        configure_logs(logging.INFO)
        order = Order.read(os.fsdecode(_line()))
        metrics.share(Path(order.directory), str(order.place))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(order))


def _line() -> bytes:
    """The first line of standard input, and no byte more of it."""
    text = b""
    while not text.endswith(b"\n"):
        more = os.read(sys.stdin.fileno(), 4096)
        if not more:
            sys.exit(0)
        text += more
    return text


if __name__ == "__main__":
    main()
