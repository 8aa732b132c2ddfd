"""How much processor time processes use, from the operating system's own accounts."""

from __future__ import annotations

import mmap
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping


TOUCHED_BYTES_MAX = 3 * 2**30


def touch_memory() -> None:
    """Has the machine's host give back memory that it took because nobody used it.

    It is no more than a quarter of what is free, and handed on at once to whoever asks next.
    """
    size = min(TOUCHED_BYTES_MAX, psutil.virtual_memory().available // 4)
    pages = size // mmap.PAGESIZE
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory, memoryview(memory) as view:
        view[:: mmap.PAGESIZE] = bytes(pages)


def cpu_seconds(root: psutil.Process) -> float:
    """What a process and all below it have used; that of those that ended is in their parent's."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


@dataclass(frozen=True)
class Usage:
    """Processor seconds over a span of time: of the processes watched, and of all others."""

    watched: dict[str, float]
    others: float
    seconds: float


class Watch:
    """Starts to watch processes when it is made."""

    def __init__(self, roots: Mapping[str, psutil.Process]) -> None:
        self._roots = roots
        self._before = self._now()
        self._busy_before = _busy_seconds()
        self._began = time.perf_counter()

    def stop(self) -> Usage:
        """What was used since."""
        seconds = time.perf_counter() - self._began
        busy = _busy_seconds() - self._busy_before
        now = self._now()
        watched = {name: now[name] - before for name, before in self._before.items()}
        return Usage(watched, max(0.0, busy - sum(watched.values())), seconds)

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(root) for name, root in self._roots.items()}


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def machine_facts() -> dict[str, str]:
    """What a reader must know of the machine, and nothing that names it."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "Cores": f"{psutil.cpu_count()} ({platform.machine()}), shared by all processes below",
        "Memory": f"{memory:.0f} GiB",
        "System": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
    }
