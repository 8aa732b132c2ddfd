"""Latencies counted in little memory."""

from __future__ import annotations

import math
from typing import Final

_FIRST_SECONDS: Final = 1e-4
_STEP: Final = math.log(1.05)
_BUCKETS: Final = 350  # up to about 45 minutes


class Latencies:
    """A histogram whose bounds grow by 5 %, so that a quantile is right within that."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.max_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        place = math.ceil(math.log(max(seconds, _FIRST_SECONDS) / _FIRST_SECONDS) / _STEP)
        self._counts[min(place, _BUCKETS - 1)] += 1
        self.count += 1
        self.max_seconds = max(self.max_seconds, seconds)

    def quantile_ms(self, share: float) -> float | None:
        """The latency in milliseconds that this share does not pass; None: there are none."""
        if not self.count:
            return None
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                seconds = _FIRST_SECONDS * math.exp(place * _STEP)
                return round(1000 * min(seconds, self.max_seconds), 3)
        raise AssertionError("the buckets hold fewer than were counted")
