"""What a run of ``history.py`` found: tables for the terminal and as Markdown, and a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from report import OTHERS_CORES_MAX, share_of
from retention_report import Table

if TYPE_CHECKING:
    from pathlib import Path

WHAT = (
    "Written by `python benchmarks/history.py`; its opening comment says what is compared with "
    "what. All on one server in one run, in turns."
)


@dataclass
class Series:
    """One reading, done many times."""

    milliseconds: list[float] = field(default_factory=list)
    records: int = 0

    def add(self, milliseconds: float, records: int) -> None:
        """Notes one time."""
        self.milliseconds.append(milliseconds)
        self.records += records

    def within_ms(self, share: float) -> float:
        """The time within which this share of them was done."""
        return share_of(sorted(self.milliseconds), share)


# What is compared, with what, at which share, and what it should be at most.
RATIOS = (
    ("first page ÷ ideal", "first page", "ideal", 0.99, "≤ 2"),
    (
        "the same, large account",
        "first page of the large account",
        "ideal of the large account",
        0.99,
        "≤ 2",
    ),
    (
        "page 1,000 ÷ first page",
        "page 1,000",
        "first page of the large account",
        0.5,
        "≤ 1.2",
    ),
)


@dataclass
class Report:
    """Everything that was measured; what is by a flag is so with ingest and without."""

    rows: int
    series: dict[tuple[str, bool], Series] = field(default_factory=dict)
    # For each way out: its name, records a second, bytes a record, and its share of COPY as text.
    exports: dict[bool, list[tuple[str, float, float, float]]] = field(default_factory=dict)
    # Records, seconds until it was accepted, seconds until it was done.
    erasures: dict[bool, tuple[int, float, float]] = field(default_factory=dict)
    others_cores: float = 0
    version: str = ""
    durable: str = ""

    def caution(self) -> str | None:
        """A sentence for when other processes disturbed the run."""
        if self.others_cores <= OTHERS_CORES_MAX:
            return None
        return (
            f"Other processes used {self.others_cores:.1f} cores over the whole run: go by the "
            "ratios, and by p99 with care."
        )

    def tables(self) -> list[Table]:
        """All tables, what the run is for first."""
        found = [self._ratios(), self._readings()]
        if self.exports:
            found.append(self._exports())
        if self.erasures:
            found.append(self._erasures())
        return found

    def _ratios(self) -> Table:
        return Table(
            f"Ratios at {self.rows:,} records",
            "Of p99, or where it says so of p50. *Ideal* is one prepared statement that reads the "
            "same records from one table by one index: no partitions, no row-level security, no "
            "account, on a connection of its own.",
            ("ratio", "of", "quiet", "with ingest", "aim"),
            [
                [
                    title,
                    "p50" if share == 0.5 else "p99",
                    *(
                        f"{self.series[over, ingest].within_ms(share) / self.series[under, ingest].within_ms(share):.2f}"  # noqa: E501
                        for ingest in (False, True)
                    ),
                    aim,
                ]
                for title, over, under, share, aim in RATIOS
            ],
        )

    def _readings(self) -> Table:
        names = list(dict.fromkeys(name for name, _ in self.series))
        return Table(
            f"Readings, of {self.rows:,} records",
            "Milliseconds, one after the other by one client; a page has 100 records. *Over HTTP* "
            "is the whole service in a process of its own, the other readings are those of its "
            "store. A number is reached once a day by one account in all; in the large one it is "
            "sought among as many records as one page looks at.",
            ("reading", "p50", "p99", "p50 with ingest", "p99 with ingest", "records", "times"),
            [
                [
                    name,
                    *(
                        f"{self.series[name, ingest].within_ms(share):.2f}"
                        for ingest in (False, True)
                        for share in (0.5, 0.99)
                    ),
                    f"{self.series[name, False].records / self._times(name):.1f}",
                    f"{self._times(name):,}",
                ]
                for name in names
            ],
        )

    def _times(self, name: str) -> int:
        return len(self.series[name, False].milliseconds)

    def _exports(self) -> Table:
        quiet, busy = (
            {name: (rate, size, share) for name, rate, size, share in self.exports[ingest]}
            for ingest in (False, True)
        )
        return Table(
            f"Export, of {self.rows:,} records",
            "All of the large account over HTTP, beside `COPY … TO STDOUT` of the same rows in the "
            "customer's role; ratios are to COPY as text.",
            (
                *("way out", "records/s", "÷ COPY text", "bytes a record"),
                *("records/s with ingest", "÷ COPY text with ingest"),
            ),
            [
                [
                    name,
                    f"{rate:,.0f}",
                    f"{share:.2f}",
                    f"{size:,.0f}",
                    f"{busy[name][0]:,.0f}",
                    f"{busy[name][2]:.2f}",
                ]
                for name, (rate, size, share) in quiet.items()
            ],
        )

    def _erasures(self) -> Table:
        return Table(
            f"Erasure by a filter, beside {self.rows:,} records",
            "All records of an account, of one kind, over 90 days: until it is accepted with its "
            "preview, and then until the last of them is gone.",
            ("meanwhile", "records", "accepted, ms", "erased, s", "records/s"),
            [
                [
                    _meanwhile(ingest),
                    f"{rows:,}",
                    f"{accepted * 1000:,.0f}",
                    f"{seconds:.2f}",
                    f"{rows / seconds:,.0f}",
                ]
                for ingest, (rows, accepted, seconds) in self.erasures.items()
            ],
        )


def _meanwhile(ingest: bool) -> str:  # noqa: FBT001
    return "9,000 records a second come in" if ingest else "nothing"


def write_markdown(path: Path, facts: dict[str, str], reports: list[Report], plot: str) -> None:
    """All sizes on one page, the ratios of each first."""
    tables = [report.tables() for report in reports]
    parts = [
        "# History, measured",
        WHAT,
        *filter(None, (report.caution() for report in reports)),
        *(first.as_markdown() for first, *_ in tables),
        f"![Latency of each reading, quiet and with ingest]({plot})",
        *(table.as_markdown() for _, *rest in tables for table in rest),
        "## The machine and the run",
        "|  |  |\n| --- | --- |\n" + "\n".join(f"| {k} | {v} |" for k, v in facts.items()),
    ]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def write_plot(path: Path, reports: list[Report]) -> None:
    """Each reading from p50 to p99, quiet and with ingest; a plot for each size."""
    mpl.rcParams |= {"svg.hashsalt": "trafficlog", "font.size": 9, "svg.fonttype": "none"}
    figure, plots = plt.subplots(
        1,
        len(reports),
        figsize=(3.5 + 4 * len(reports), 4),
        layout="tight",
        sharey=True,
        squeeze=False,
    )
    names = list(dict.fromkeys(name for name, _ in reports[0].series))
    for report, axes in zip(reports, plots[0], strict=True):
        for ingest, color, shift in ((False, "#3182bd", -0.15), (True, "#e6550d", 0.15)):
            label = "with ingest" if ingest else "quiet"
            for place, name in enumerate(names):
                low, high = (report.series[name, ingest].within_ms(share) for share in (0.5, 0.99))
                line = [place + shift] * 2
                axes.plot([low, high], line, "-", color=color, linewidth=3, alpha=0.5)
                axes.plot(
                    low, line[0], "o", color=color, markersize=4, label=None if place else label
                )
        axes.set(xscale="log", xlabel="milliseconds, p50 (dot) to p99")
        axes.set_title(f"{report.rows:,} records", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    plots[0][0].set_yticks(range(len(names)), names)
    plots[0][0].invert_yaxis()
    plots[0][-1].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
