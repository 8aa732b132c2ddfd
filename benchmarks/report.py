"""What was measured of a way to write records, and how two of them compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Above this, in cores, other processes took part in the result.
OTHERS_CORES_MAX = 0.1


@dataclass(frozen=True)
class Round:
    """One round of one road; times of processors are microseconds a record.

    ``memory_bytes`` is the most that the service had resident meanwhile.
    """

    rate: float
    service_us: float
    postgres_us: float
    generator_us: float
    latencies_ms: list[float]
    others_cores: float
    memory_bytes: int = 0


@dataclass
class Road:
    """All rounds of one way to write records."""

    title: str
    rounds: list[Round] = field(default_factory=list)

    def median(self, what: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return median(map(what, self.rounds))

    @property
    def rate(self) -> float:
        """The median of records a second."""
        return self.median(lambda r: r.rate)

    def latency_ms(self, share: float) -> float:
        """The latency within which this share of the requests of all rounds was answered."""
        return share_of(sorted(each for r in self.rounds for each in r.latencies_ms), share)

    def cells(self) -> list[str]:
        """One row of the table."""
        rates = [r.rate for r in self.rounds]
        return [
            self.title,
            f"{self.rate:,.0f}",
            f"{max(rates):,.0f}",
            f"{(max(rates) - min(rates)) / self.rate:.0%}",
            f"{self.median(lambda r: r.service_us):.1f}",
            f"{self.median(lambda r: r.postgres_us):.1f}",
            f"{self.median(lambda r: r.generator_us):.1f}",
            *(self._latency_cell(share) for share in (0.5, 0.99)),
        ]

    def _latency_cell(self, share: float) -> str:
        return f"{self.latency_ms(share):,.0f}" if any(r.latencies_ms for r in self.rounds) else ""


def share_of(ordered: Sequence[float], share: float) -> float:
    """The value that this share of ordered values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


ROAD_HEADINGS = (
    "road",
    "records/s",
    "best",
    "spread",
    "service µs",
    "PostgreSQL µs",
    "generator µs",
    "p50 ms",
    "p99 ms",
)


@dataclass(frozen=True)
class Ratio:
    """Two roads compared round by round."""

    name: str
    meaning: str
    aim: str
    value: float
    lowest: float
    highest: float

    @classmethod
    def of(
        cls,
        name: str,
        meaning: str,
        aim: str,
        over: Road,
        under: Road,
        what: Callable[[Round], float] = lambda r: r.rate,
    ) -> Ratio:
        """The median of ``over`` by that of ``under``, and the range of the rounds' own ratios."""
        each = [what(a) / what(b) for a, b in zip(over.rounds, under.rounds, strict=True)]
        return cls(name, meaning, aim, over.median(what) / under.median(what), min(each), max(each))

    def cells(self) -> list[str]:
        """One row of the table."""
        return [
            self.name,
            self.meaning,
            f"{self.value:.2f}",
            f"{self.lowest:.2f} to {self.highest:.2f}",
            self.aim,
        ]


RATIO_HEADINGS = ("ratio", "of", "medians", "single rounds", "aim")


def caution(others_cores: Sequence[float]) -> str | None:
    """A sentence for when other processes disturbed the run.

    ``others_cores`` are the cores that they used in each round.
    """
    others = median(others_cores)
    if others <= OTHERS_CORES_MAX:
        return None
    return (
        f"Other processes used {others:.1f} cores meanwhile (median of the rounds): go by the "
        "ratios and by the processor time, not by the records a second."
    )
