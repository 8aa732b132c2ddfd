"""Connections that come in faster than they are accepted wait in a queue, which is bounded."""

import contextlib
import select
import socket

import pytest

from trafficlog.api.door import Door
from trafficlog.api.listening import Listener, Standing, bind
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
