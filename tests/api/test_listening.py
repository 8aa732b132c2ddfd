"""Which connections are accepted: a bounded queue waits, and workers let each other go first."""

import asyncio
import contextlib
import select
import socket
import time

import pytest

from tests.jobs.stock import until
from trafficlog.api.door import Door
from trafficlog.api.listening import YIELD_SECONDS, YIELDS_MAX, Listener, Standing, bind
from trafficlog.config import Config
from trafficlog.metrics import Metrics

WAITING_MAX = 5


@pytest.mark.parametrize("shared", [False, True], ids=["one process", "a worker"])
async def test_so_many_connections_wait_to_be_accepted(shared, tmp_path):
    """Those beyond are not answered; the system itself lets one more in than it is told."""
    door = Door(Config(connections_waiting_max=WAITING_MAX), Metrics())
    sockets = bind("127.0.0.1", 0)
    where = sockets[0].getsockname()
    listener = Listener(sockets, door, Standing(tmp_path / "counts", 2, 0) if shared else None)
    await listener.start()
    with contextlib.ExitStack() as stack:
        # Nothing is awaited from here on, so nothing is accepted.
        lines = [stack.enter_context(socket.socket()) for _ in range(3 * WAITING_MAX)]
        for each in lines:
            each.settimeout(0)
            each.connect_ex(where)
        _, connected, _ = select.select([], lines, [], 0.3)
        assert len(connected) == WAITING_MAX + 1
    await listener.stop()


class Silent(asyncio.Protocol):
    """A connection that is counted at its door and says nothing."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def connection_made(self, _transport):
        """Counts it."""
        self.door.entered()

    def connection_lost(self, _exc):
        """Counts it no more."""
        self.door.left()


class SilentDoor(Door):
    """A door behind which nothing is served."""

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one new connection."""
        return Silent(self)


@contextlib.asynccontextmanager
async def beside_another(tmp_path):
    """A worker that has one connection, beside one that has none; its door, socket and address."""
    door = SilentDoor(Config(), Metrics())
    sockets = bind("127.0.0.1", 0)
    where = sockets[0].getsockname()
    with sockets[0].dup() as shared, contextlib.ExitStack() as stack:
        Standing(tmp_path / "counts", 2, 1).note(0)
        listener = Listener(sockets, door, Standing(tmp_path / "counts", 2, 0))
        await listener.start()

        def connect():
            stack.enter_context(socket.create_connection(where))

        connect()
        await until_open(door, 1)
        yield door, shared, connect
        await listener.stop()


async def until_open(door, count):
    """Waits until so many connections were accepted."""

    async def accepted():
        return door.open >= count

    await until(accepted)


async def test_a_worker_with_fewer_connections_goes_first(tmp_path):
    """What comes is left to it for many moments, and so is what comes after that."""
    async with beside_another(tmp_path) as (door, shared, connect):
        for _ in range(5):
            connect()
            await asyncio.sleep(YIELD_SECONDS * YIELDS_MAX / 4)
            assert door.open == 1
            shared.accept()[0].close()
            await asyncio.sleep(3 * YIELD_SECONDS)


async def test_a_worker_that_never_takes_its_turn_holds_nobody_up(tmp_path):
    """The other waits for it once, not for every connection that is there."""
    async with beside_another(tmp_path) as (door, _, connect):
        began = time.monotonic()
        connect()
        await until_open(door, 2)
        once = time.monotonic() - began
        assert once >= YIELD_SECONDS * YIELDS_MAX
        began = time.monotonic()
        for _ in range(200):
            connect()
        await until_open(door, 202)
        assert time.monotonic() - began < 50 * once
