"""What a run found: a table on the terminal, the same as Markdown, and a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from rich.table import Table

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Above this, in cores, other processes took part in the result.
OTHERS_CORES_MAX = 0.1

WHAT = (
    "Written by `python benchmarks/ingest.py`; its opening comment says what is compared with "
    "what. All roads write into the same tables of the same server in the same run, in turns, and "
    "every answer counted was durable."
)
WORDS = (
    "In a road's name x 8 means 8 connections. Spread is (best - worst) by median. µs are "
    "microseconds of processor time for one record, of the service, of PostgreSQL with all its "
    "processes, and of the load generator. All figures but best and spread are medians. Latency is "
    "that of a request, or of a transaction with COPY."
)


@dataclass(frozen=True)
class Round:
    """One round of one road; times of processors are microseconds a record."""

    rate: float
    service_us: float
    postgres_us: float
    generator_us: float
    latencies_ms: list[float]
    others_cores: float


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
        values = sorted(each for r in self.rounds for each in r.latencies_ms)
        return values[min(len(values) - 1, int(share * len(values)))]

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
            f"{self.latency_ms(0.5):,.0f}",
            f"{self.latency_ms(0.99):,.0f}",
        ]


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


def as_tables(ratios: Sequence[Ratio], roads: Sequence[Road]) -> list[Table]:
    """Tables for people at a terminal, ratios first."""
    tables = []
    for headings, rows, words in (
        (RATIO_HEADINGS, [r.cells() for r in ratios], {"of", "aim", "ratio"}),
        (ROAD_HEADINGS, [r.cells() for r in roads], {"road"}),
    ):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, justify="left" if heading in words else "right")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def caution(roads: Sequence[Road]) -> str | None:
    """A sentence for when other processes disturbed the run."""
    others = median(r.others_cores for road in roads for r in road.rounds)
    if others <= OTHERS_CORES_MAX:
        return None
    return (
        f"Other processes used {others:.1f} cores meanwhile (median of the rounds): go by the "
        "ratios and by the processor time, not by the records a second."
    )


def write_markdown(
    path: Path,
    facts: dict[str, str],
    ratios: Sequence[Ratio],
    roads: Sequence[Road],
    plot: str,
) -> None:
    """The report as a page."""
    parts = [
        "# Ingest, measured",
        WHAT,
        _markdown_table(RATIO_HEADINGS, [r.cells() for r in ratios]),
        _markdown_table(ROAD_HEADINGS, [r.cells() for r in roads]),
        WORDS,
        *filter(None, [caution(roads)]),
        f"![Records a second and processor time of each road]({plot})",
        _markdown_table(("", ""), [list(fact) for fact in facts.items()]),
    ]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_plot(path: Path, roads: Sequence[Road]) -> None:
    """Records a second (a point for each round, a bar for the median) and processor time."""
    mpl.rcParams |= {"svg.hashsalt": "trafficlog", "font.size": 9, "svg.fonttype": "none"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="tight")
    places = range(len(roads))
    left.barh(places, [r.rate / 1000 for r in roads], color="#9ecae1", height=0.6)
    for place, road in zip(places, roads, strict=True):
        rates = [r.rate / 1000 for r in road.rounds]
        left.plot(rates, [place] * len(rates), "o", color="#08519c", markersize=4, alpha=0.7)
    left.set_yticks(places, [r.title for r in roads])
    left.invert_yaxis()
    left.set_xlabel("thousand records a second (bar: median)")
    start = [0.0] * len(roads)
    for title, color, what in (
        ("PostgreSQL", "#3182bd", lambda r: r.postgres_us),
        ("service", "#e6550d", lambda r: r.service_us),
        ("load generator", "#bdbdbd", lambda r: r.generator_us),
    ):
        widths = [road.median(what) for road in roads]
        right.barh(places, widths, left=start, color=color, height=0.6, label=title)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    right.set_xlabel("processor µs a record (median)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
