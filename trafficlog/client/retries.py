"""How patiently requests are sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long, and how often, a request is tried again.

    The n-th pause is random between nothing and ``first_seconds`` times 2 to the
    n, at most ``pause_seconds_max``, so that many clients do not come back
    together. A ``Retry-After`` is waited for in full, up to
    ``retry_after_seconds_max``. ``give_up_after_seconds`` runs from the first
    try of each request, and no try begins after it; ``None`` tries for ever.
    """

    first_seconds: float = 0.25
    pause_seconds_max: float = 15.0
    retry_after_seconds_max: float = 300.0
    give_up_after_seconds: float | None = 900.0

    def pause_seconds(self, attempt: int, asked_seconds: float | None) -> float:
        """The pause after try number ``attempt`` (from 0), given what the service asked for."""
        ceiling = min(self.pause_seconds_max, self.first_seconds * 2 ** min(attempt, 30))
        # Spreads load and guards nothing.
        jitter = random.uniform(0.0, ceiling)  # noqa: S311
        if asked_seconds is None:
            return jitter
        return min(asked_seconds, self.retry_after_seconds_max) + jitter


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is about to be sent again, and why."""

    attempt: int
    reason: str
    pause_seconds: float
