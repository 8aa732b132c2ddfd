"""What a run of ``retention.py`` found: tables for the terminal and as Markdown, and a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from rich.table import Table as RichTable

mpl.use("svg")

from matplotlib import pyplot as plt
from report import OTHERS_CORES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MIB = 2**20
WHAT = (
    "Written by `python benchmarks/retention.py`; its opening comment says what is compared with "
    "what. All on one server in one run, in turns."
)


@dataclass
class Night:
    """One size: for each night seconds and bytes given back, ours, bare and by DELETE."""

    rows: int
    rows_expired: list[int] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    dropping: list[float] = field(default_factory=list)
    making: list[float] = field(default_factory=list)
    ours_bytes: list[int] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    delete: list[float] = field(default_factory=list)
    partman: list[float] = field(default_factory=list)
    delete_bytes: list[int] = field(default_factory=list)
    vacuum: float = 0
    vacuum_bytes: int = 0


@dataclass
class Span:
    """A scenario: how long its work took each time, and the batches that were due meanwhile."""

    title: str
    seconds: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def within_ms(self, share: float) -> float:
        """The latency within which this share of the batches was answered."""
        values = sorted(self.latencies_ms)
        return values[min(len(values) - 1, int(share * len(values)))]

    def cells(self, quiet: Span) -> list[str]:
        """One row of a table, beside the undisturbed span."""
        return [
            self.title,
            f"{median(self.seconds):.2f}" if any(self.seconds) else "",
            f"{self.within_ms(0.5):,.0f}",
            f"{self.within_ms(0.99):,.0f}",
            f"{self.within_ms(1):,.0f}",
            f"{self.within_ms(0.99) / quiet.within_ms(0.99):.2f}",
            f"{len(self.latencies_ms)}",
        ]


@dataclass(frozen=True)
class Table:
    """A heading, a sentence, and cells; the first column is words."""

    title: str
    words: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def for_terminal(self) -> RichTable:
        """For people at a terminal."""
        table = RichTable(
            title=self.title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """The same for a page."""
        marks = ["---", *["---:"] * (len(self.headings) - 1)]
        lines = [self.headings, marks, *self.rows]
        cells = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n\n{self.words}\n\n{cells}"


@dataclass
class Report:
    """Everything that was measured."""

    partition_rows: int
    partition_bytes: int = 0
    nights: list[Night] = field(default_factory=list)
    settings: list[tuple[int, int, int, list[float]]] = field(default_factory=list)
    drops: list[Span] = field(default_factory=list)
    shortening: list[Span] = field(default_factory=list)
    hidden_ms: float = 0
    moved: int = 0
    destroyed: int = 0
    placings_ms: list[float] = field(default_factory=list)
    placings_in_drop_ms: list[float] = field(default_factory=list)
    hold_drops: dict[str, list[float]] = field(default_factory=dict)
    others_cores: float = 0
    version: str = ""
    durable: str = ""

    def caution(self) -> str | None:
        """A sentence for when other processes disturbed the run."""
        if self.others_cores <= OTHERS_CORES_MAX:
            return None
        return (
            f"Other processes used {self.others_cores:.1f} cores over the whole run: go by the "
            "ratios, and by worst latencies with care."
        )

    def tables(self) -> list[Table]:
        """All tables, what the run is for first."""
        return [
            self._night_table(),
            self._bytes_table(),
            self._settings_table(),
            self._drop_table(),
            self._shortening_table(),
            self._holds_table(),
        ]

    def _night_table(self) -> Table:
        columns: dict[str, Callable[[Night], str]] = {
            "rows of history": lambda n: f"{n.rows:,}",
            "expired": lambda n: f"{median(n.rows_expired):,.0f}",
            "run": lambda n: _range_ms(n.ours),
            "drop": lambda n: _range_ms(n.dropping),
            "making": lambda n: f"{median(n.making) * 1000:,.0f}",
            "nothing due": lambda n: f"{median(n.idle) * 1000:,.0f}",
            "bare": lambda n: _range_ms(n.bare),
            "DELETE": lambda n: f"{median(n.delete) * 1000:,.0f}",
            "drop ÷ bare": lambda n: f"{median(n.dropping) / median(n.bare):.1f}",
            "run ÷ bare": lambda n: f"{median(n.ours) / median(n.bare):.1f}",
            "DELETE ÷ drop": lambda n: f"{median(n.delete) / median(n.dropping):,.0f}",
            "DELETE ÷ run": lambda n: f"{median(n.delete) / median(n.ours):,.0f}",
        }
        if all(n.partman for n in self.nights):
            columns["pg_partman"] = lambda n: _range_ms(n.partman)
            columns["pg_partman ÷ run"] = lambda n: f"{median(n.partman) / median(n.ours):.1f}"
        return Table(
            "One night's expiry",
            "Milliseconds, medians over the nights (least to most). *Run* is the whole retention "
            "run at midnight; of it *drop* is the history partition's (detached, held rows copied, "
            "counted, dropped, written to the ledger) and *making* the partitions of the coming "
            "day; *nothing due* is the same run once more. *Bare* is DETACH CONCURRENTLY and DROP "
            "TABLE of the same rows; *pg_partman*, where the server has it, its run_maintenance() "
            "with one period for all. Aims: ÷ bare ≤ 1.5, DELETE ≥ 100 times as dear.",
            tuple(columns),
            [[cell(n) for cell in columns.values()] for n in self.nights],
        )

    def _bytes_table(self) -> Table:
        return Table(
            "Space given back to the operating system",
            "MiB by which the database's files became smaller in a night (medians). VACUUM of the "
            "table that rows were deleted from is by night as well; it finds room for later rows, "
            "and gives back what happens to lie at a file's end.",
            ("rows of history", "trafficlog", "DELETE", "its VACUUM", "VACUUM seconds"),
            [
                [
                    f"{n.rows:,}",
                    f"{median(n.ours_bytes) / MIB:,.1f}",
                    f"{median(n.delete_bytes) / MIB:,.1f}",
                    f"{n.vacuum_bytes / MIB / len(n.ours):,.1f}",
                    f"{n.vacuum:.2f}",
                ]
                for n in self.nights
            ],
        )

    def _settings_table(self) -> Table:
        return Table(
            "A night with few and with many distinct settings",
            "The same number of rows of history. With one setting all of a day's rows expire "
            "together; with 365 most accounts keep longer than there is history.",
            ("settings", "partitions", "expired a night", "run, ms", "least", "most"),
            [
                [
                    f"{settings}",
                    f"{partitions}",
                    f"{expired:,}",
                    *(f"{f(spans) * 1000:,.0f}" for f in (median, min, max)),
                ]
                for settings, partitions, expired, spans in self.settings
            ],
        )

    def _drop_table(self) -> Table:
        return Table(
            f"Ingest while a partition of {self.partition_rows:,} rows goes",
            f"({self.partition_bytes / MIB:,.0f} MiB.) Three writers, 500 records a batch, 9,000 "
            "records a second in all, into all open partitions; latency in milliseconds counts "
            "from when a batch was due. Aims: p99 ÷ undisturbed ≤ 1.5, worst ≤ 250.",
            ("meanwhile", "its seconds", "p50", "p99", "worst", "p99 ÷ undisturbed", "batches"),
            [s.cells(self.drops[0]) for s in self.drops],
        )

    def _shortening_table(self) -> Table:
        seconds = median(self.shortening[1].seconds)
        handled = self.moved + self.destroyed
        return Table(
            "An account's history shortened from 90 to 7 days",
            f"The rows were hidden after {self.hidden_ms:.0f} ms. Then {self.moved:,} rows were "
            f"moved and {self.destroyed:,} destroyed in {seconds:.1f} s, "
            f"{handled / seconds:,.0f} rows a second, under the same ingest:",
            ("meanwhile", "its seconds", "p50", "p99", "worst", "p99 ÷ undisturbed", "batches"),
            [s.cells(self.shortening[0]) for s in self.shortening],
        )

    def _holds_table(self) -> Table:
        first = median(next(iter(self.hold_drops.values())))
        placed = sorted(self.placings_ms)
        during = sorted(self.placings_in_drop_ms)
        return Table(
            f"Holds and the drop of a partition of {self.partition_rows:,} rows",
            f"Placing a hold took {median(placed):.1f} ms (worst of {len(placed)}: "
            f"{placed[-1]:.1f}); while such a partition was dropped with holds by number in force "
            f"{median(during):.1f} ms (worst of {len(during)}: {during[-1]:.1f}).",
            ("in force", "drop, ms", "÷ no hold"),
            [
                [title, f"{median(spans) * 1000:,.0f}", f"{median(spans) / first:.2f}"]
                for title, spans in self.hold_drops.items()
            ],
        )


def _range_ms(seconds: Sequence[float]) -> str:
    low, middle, high = (f(seconds) * 1000 for f in (min, median, max))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def write_markdown(path: Path, facts: dict[str, str], report: Report, plot: str) -> None:
    """The report as a page."""
    first, *rest = [table.as_markdown() for table in report.tables()]
    parts = [
        "# Retention, measured",
        WHAT,
        *filter(None, [report.caution()]),
        first,
        f"![Cost of a night against rows of history]({plot})",
        *rest,
        "## The machine and the run",
        "|  |  |\n| --- | --- |\n" + "\n".join(f"| {k} | {v} |" for k, v in facts.items()),
    ]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def write_plot(path: Path, report: Report) -> None:
    """Cost against rows, and ingest latency meanwhile."""
    mpl.rcParams |= {"svg.hashsalt": "trafficlog", "font.size": 9, "svg.fonttype": "none"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="tight")
    rows = [n.rows for n in report.nights]
    for title, color, values in (
        ("DELETE by account and age", "#e6550d", [n.delete for n in report.nights]),
        ("trafficlog, the whole run", "#08519c", [n.ours for n in report.nights]),
        ("trafficlog, the drop of it", "#6baed6", [n.dropping for n in report.nights]),
        ("bare DETACH and DROP", "#969696", [n.bare for n in report.nights]),
        ("pg_partman, one period for all", "#31a354", [n.partman for n in report.nights]),
    ):
        if not all(values):
            continue
        left.plot(rows, [median(v) for v in values], "-", color=color, label=title)
        for size, each in zip(rows, values, strict=True):
            left.plot([size] * len(each), each, "o", color=color, markersize=3, alpha=0.6)
    left.set(xscale="log", yscale="log", xlabel="rows of history", ylabel="seconds of a night")
    left.set_xticks(rows, [f"{r:,}" for r in rows])
    left.minorticks_off()
    left.legend(frameon=False)
    places = range(len(report.drops))
    for share, color, title in (
        (1, "#fdae6b", "worst"),
        (0.99, "#3182bd", "p99"),
        (0.5, "#9ecae1", "p50"),
    ):
        widths = [s.within_ms(share) for s in report.drops]
        right.barh(places, widths, height=0.6, color=color, label=title)
    right.set_yticks(places, [s.title for s in report.drops])
    right.invert_yaxis()
    right.set(xscale="log", xlabel="ingest latency, ms, of a batch of 500")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
