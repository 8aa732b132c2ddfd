"""How often something may happen under a name: token buckets, in memory that is bounded.

A bucket holds ``burst`` tokens and is filled again by ``per_second``. It is kept as one number,
the instant at which it is full again, so a bucket that is full need not be kept at all.
"""

from __future__ import annotations

import math

from trafficlog.errors import TooManyRequestsError


class Buckets:
    """Token buckets by name; instants are seconds of a clock that never goes back.

    Args:
        per_second: tokens that come back in a second, more than none.
        burst: tokens that a bucket holds.
        names_max: how many buckets are kept; past that the one used longest ago is full again.
    """

    def __init__(self, per_second: float, burst: int, names_max: int) -> None:
        self.burst = burst
        self._refill_seconds = 1 / per_second
        self._capacity_seconds = burst / per_second
        self._names_max = names_max
        # In the order of their last use.
        self._full_at: dict[str, float] = {}

    def take(self, name: str, now: float) -> int:
        """Takes a token; gives how many are left.

        Raises:
            TooManyRequestsError: there is none; ``retry_seconds`` says when there is one.
        """
        full_at = max(self._full_at.get(name, now), now) + self._refill_seconds
        room = now + self._capacity_seconds - full_at
        # A rounding error is no token.
        if room < -1e-9:  # noqa: PLR2004
            raise TooManyRequestsError(retry_seconds=max(1, math.ceil(-room)))
        self._full_at.pop(name, None)
        if len(self._full_at) >= self._names_max:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[name] = full_at
        return int(room / self._refill_seconds + 1e-6)

    def give_back(self, name: str) -> None:
        """Puts a token back that was taken for what turned out not to count."""
        if name in self._full_at:
            self._full_at[name] -= self._refill_seconds

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._full_at)
