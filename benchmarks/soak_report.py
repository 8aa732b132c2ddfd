"""What a run of ``soak.py`` found: verdicts, a table of windows, a page and a plot."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import linear_regression, mean
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from ingest_report import Table
from matplotlib import pyplot as plt
from report import caution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from soak_sender import Span

MIB, GIB = 2**20, 2**30
LIGHT, DARK, ORANGE = "#9ecae1", "#08519c", "#e6550d"
# This share of the windows, the first ones, is not judged: caches fill, tables begin.
SETTLING = 0.2
# Growth below so many standard errors is chance.
ERRORS = 2
WHAT = (
    "Written by `python benchmarks/soak.py`; its opening comment says what is done and what flat "
    "means."
)


@dataclass(frozen=True)
class Rest:
    """What the service holds at an instant."""

    memory_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Window:
    """One window: what was answered in it, and the most that was seen; cores are means."""

    at_seconds: float
    span: Span
    memory_bytes: int
    descriptors: int
    threads: int
    postgres_bytes: int
    backends: int
    store_bytes: int
    service_cores: float
    postgres_cores: float
    generator_cores: float
    others_cores: float

    def cells(self) -> list[str]:
        """One row of the table."""
        span = self.span
        return [
            f"{self.at_seconds:.0f}",
            f"{span.stored / span.seconds:,.0f}",
            f"{span.p50_ms:.1f}",
            f"{span.p99_ms:.0f}",
            f"{span.worst_ms:.0f}",
            f"{self.memory_bytes / MIB:.0f}",
            f"{self.descriptors}",
            f"{self.threads}",
            f"{self.service_cores:.2f}",
            f"{self.postgres_cores:.2f}",
            f"{self.generator_cores:.2f}",
            f"{self.others_cores:.2f}",
            f"{self.postgres_bytes / MIB:.0f}",
            f"{self.backends}",
            f"{self.store_bytes / GIB:.2f}",
        ]


WINDOW_HEADINGS = (
    *("s", "records/s", "p50 ms", "p99 ms", "worst ms", "RSS MiB", "descriptors", "threads"),
    *("cores: service", "PostgreSQL", "generator", "others"),
    *("PostgreSQL MiB", "connections", "store GiB"),
)


@dataclass(frozen=True)
class Trend:
    """The straight line through a series, from its first window to its last."""

    name: str
    unit: str
    first: float
    last: float
    error: float
    allowed: float

    @classmethod
    def of(
        cls,
        name: str,
        unit: str,
        windows: Sequence[Window],
        what: Callable[[Window], float],
        *,
        allowed_share: float = 0,
        allowed: float = 0,
    ) -> Trend:
        """By least squares; allowed is a share of the mean, or so much, whichever is more."""
        at = [w.at_seconds for w in windows]
        values = [what(w) for w in windows]
        slope, start = linear_regression(at, values)
        rest = sum((y - start - slope * x) ** 2 for x, y in zip(at, values, strict=True))
        spread = sum((x - mean(at)) ** 2 for x in at)
        span = at[-1] - at[0]
        error = math.sqrt(rest / max(1, len(at) - 2) / spread) * span
        limit = max(allowed, allowed_share * mean(values))
        return cls(name, unit, start + slope * at[0], start + slope * at[-1], error, limit)

    @property
    def growth(self) -> float:
        """By how much it grew; below zero, shrank."""
        return self.last - self.first

    @property
    def is_flat(self) -> bool:
        """Whether it grew by no more than is allowed, or than chance makes it vary."""
        return self.growth <= max(self.allowed, ERRORS * self.error)

    def cells(self) -> list[str]:
        """One row of the table."""
        return [
            self.name,
            f"{self.first:,.1f} {self.unit}",
            f"{self.last:,.1f} {self.unit}",
            f"{self.growth:+,.1f} ± {ERRORS * self.error:,.1f}",
            f"{self.allowed:,.1f}",
            "flat" if self.is_flat else "GROWS",
        ]


TREND_HEADINGS = ("of the service", "line begins at", "ends at", "growth", "allowed", "verdict")


@dataclass(frozen=True)
class Soak:
    """The whole run; ``capacity`` is in requests a second."""

    share: float
    batch: int
    capacity: float
    windows: list[Window]
    before: Rest
    after: Rest
    acknowledged: int
    stored: int
    server_version: str

    @property
    def settled(self) -> list[Window]:
        """The windows that are judged."""
        return self.windows[math.ceil(SETTLING * len(self.windows)) :]

    def trends(self) -> list[Trend]:
        """What must be flat."""
        windows = self.settled
        return [
            Trend.of(
                *("resident memory", "MiB", windows, lambda w: w.memory_bytes / MIB),
                allowed_share=0.1,
            ),
            Trend.of("file descriptors", "", windows, lambda w: w.descriptors, allowed=1),
            Trend.of("threads", "", windows, lambda w: w.threads, allowed=1),
            Trend.of("p50", "ms", windows, lambda w: w.span.p50_ms, allowed_share=0.25),
            Trend.of("p99", "ms", windows, lambda w: w.span.p99_ms, allowed_share=0.25),
        ]

    @property
    def others(self) -> Counter[int]:
        """Answers other than 200, by status."""
        found: Counter[int] = Counter()
        for window in self.windows:
            found.update(window.span.other_statuses)
        return found

    @property
    def is_good(self) -> bool:
        """Whether everything was flat, answered and stored, and nothing was left open."""
        return (
            all(trend.is_flat for trend in self.trends())
            and not self.others
            and self.acknowledged == self.stored
            and self.descriptors_left <= 0
        )

    @property
    def descriptors_left(self) -> int:
        """How many more are open at rest than before, but for those to the database.

        These stay open for the next one who asks, at most as many as there were under load.
        """
        most = max(w.backends for w in self.windows)
        return self.after.descriptors - self.before.descriptors - most

    def words(self) -> str:
        """What was sent, in a sentence."""
        minutes = self.windows[-1].at_seconds / 60
        return (
            f"{self.batch} records a request, half new and half later reports, with a duplicate "
            f"and now and then a bad one. Full speed was {self.capacity * self.batch:,.0f} records "
            f"a second; {self.share:.0%} of that was held for {minutes:.1f} minutes. "
            f"{caution([w.others_cores for w in self.windows]) or ''}"
        ).strip()

    def totals(self) -> dict[str, str]:
        """What came of it, in the windows and at rest."""
        spans = [w.span for w in self.windows]
        stored = sum(span.stored for span in spans)
        seconds = sum(span.seconds for span in spans)
        rows = "as many" if self.acknowledged == self.stored else f"{self.stored:,}"
        others = ", ".join(
            f"{count:,} of {status}" for status, count in sorted(self.others.items())
        )
        before, after = self.before, self.after
        return {
            "records stored": f"{stored:,}, {stored / seconds:,.0f} a second",
            "of which later reports": f"{sum(span.updated for span in spans):,}",
            "sent before, and stored once": f"{sum(span.duplicates for span in spans):,}",
            "bad, and refused one by one": f"{sum(span.refused for span in spans):,}",
            "requests": f"{sum(span.requests for span in spans):,}",
            "answers other than 200": others or "none",
            "acknowledged as new since the start": f"{self.acknowledged:,}",
            "rows of the legal record": rows,
            "resident memory at rest, before and after": f"{before.memory_bytes / MIB:.0f} and "
            f"{after.memory_bytes / MIB:.0f} MiB",
            "file descriptors at rest": f"{before.descriptors} and {after.descriptors}",
            "threads at rest": f"{before.threads} and {after.threads}",
        }

    def tables(self) -> list[Table]:
        """Verdicts first."""
        skipped = len(self.windows) - len(self.settled)
        return [
            Table(
                "Verdicts",
                f"The line through all windows but the first {skipped}; ± is {ERRORS} standard "
                "errors of its growth.",
                TREND_HEADINGS,
                [trend.cells() for trend in self.trends()],
                frozenset({"of the service", "verdict"}),
            ),
            Table(
                "In all",
                "",
                ("", " "),
                [[name, words] for name, words in self.totals().items()],
                frozenset({""}),
            ),
            Table(
                "Windows",
                "At the end of each window. Latency is that of a request, from when it was due. "
                "PostgreSQL's memory is that of all its processes, what they share counted once.",
                WINDOW_HEADINGS,
                [window.cells() for window in self.windows],
                frozenset(),
            ),
        ]


def write_markdown(path: Path, facts: dict[str, str], soak: Soak, plot: str) -> None:
    """The report as a page."""
    verdicts, totals, windows = (table.as_markdown() for table in soak.tables())
    machine = "\n".join(f"| {name} | {words} |" for name, words in facts.items())
    parts = [
        "# Soak, measured",
        f"{WHAT} {soak.words()}",
        verdicts,
        f"![Latency, memory, descriptors and the store over time]({plot})",
        totals,
        windows,
        f"## The run\n\n|  |  |\n| --- | --- |\n{machine}",
    ]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def write_plot(path: Path, soak: Soak) -> None:
    """Latency, memory, what is open and the store, by time."""
    mpl.rcParams |= {"svg.hashsalt": "trafficlog", "font.size": 9, "svg.fonttype": "none"}
    figure, places = plt.subplots(2, 2, figsize=(12, 6.4), layout="tight", sharex=True)
    (latency, memory), (open_, store) = places
    at = [w.at_seconds / 60 for w in soak.windows]
    for name, color in (("p99", DARK), ("p50", LIGHT)):
        values = [getattr(w.span, f"{name}_ms") for w in soak.windows]
        latency.plot(at, values, "o-", color=color, markersize=4, label=f"{name}, ms")
    _lined(latency)
    sizes = [w.memory_bytes / MIB for w in soak.windows]
    memory.plot(
        at, sizes, "o-", color=DARK, markersize=4, label="resident memory of the service, MiB"
    )
    _lined(memory)
    for name, color in (("descriptors", DARK), ("threads", LIGHT), ("backends", ORANGE)):
        label = {
            "descriptors": "file descriptors of the service",
            "threads": "its threads",
            "backends": "its connections to PostgreSQL",
        }[name]
        values = [getattr(w, name) for w in soak.windows]
        open_.plot(at, values, "o-", color=color, markersize=4, label=label)
    _lined(open_)
    values = [w.store_bytes / GIB for w in soak.windows]
    store.plot(at, values, "o-", color=DARK, markersize=4, label="tables and indexes, GiB")
    values = [w.postgres_bytes / GIB for w in soak.windows]
    store.plot(at, values, "o-", color=ORANGE, markersize=4, label="memory of PostgreSQL, GiB")
    _lined(store)
    for axes in (open_, store):
        axes.set_xlabel("minutes")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _lined(axes: Any) -> None:
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#eeeeee")
    axes.legend(frameon=False)
