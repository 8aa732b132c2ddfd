"""What a run of ``ingest.py`` found: tables for the terminal and as a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest_latency import BATCH, PACED_HEADINGS, Latency
from ingest_peers import GUARANTEE_HEADINGS, GUARANTEES, Peers
from report import RATIO_HEADINGS, ROAD_HEADINGS, Ratio, caution
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest_roads import Roads
    from ingest_stock import AtSize
    from report import Road

MIB = 2**20
WHAT = (
    "Written by `python benchmarks/ingest.py`; its opening comment says what is compared with "
    "what. All on one server in one run, in turns; every answer counted was durable. The aim of R1 "
    "is stated against COPY in a single stream, which is also what PostgreSQL's processor time is "
    "compared with; two streams are the most that these cores take in this way."
)
ROAD_WORDS = (
    "In a road's name x 8 means 8 connections. Spread is (best - worst) by median. µs are "
    "microseconds of processor time for one record, of the service, of PostgreSQL with all its "
    "processes, and of the load generator. All figures but best and spread are medians. Latency is "
    "that of a request, or of a transaction with COPY. With rsyslog the clock runs until all rows "
    "are there, and rsyslog is the service."
)
GUARANTEE_WORDS = (
    "Each peer is set up as well as its kind allows. The plain services write the same rows into "
    "the same tables; rsyslog writes one row of JSON with one key into a table of its own."
)
LATENCY_WORDS = (
    "{batch} records a request. Capacity is what the service took of such requests just before, "
    "the next one sent when the last was answered: {capacity:,.0f} records a second. Then requests "
    "fall due by themselves, at random (a Poisson process), whether those before them are answered "
    "or not, and latency counts from when a request was due."
)
DISK_WORDS = (
    "Bytes for one record of {line:.0f} bytes of NDJSON, after VACUUM; of {kept:.0%} of the records"
    " a history row is kept. When a day of legal records is sealed it gets look-up indexes, of "
    "{look_ups:.0f} bytes for each record."
)


@dataclass(frozen=True)
class Table:
    """A heading, a sentence, and cells; the columns in ``words`` are read, not compared."""

    title: str
    words: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[str]

    def for_terminal(self) -> RichTable:
        """For people at a terminal."""
        table = RichTable(
            title=self.title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for heading in self.headings:
            table.add_column(heading, justify="left" if heading in self.text else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """The same for a page."""
        marks = ["---" if heading in self.text else "---:" for heading in self.headings]
        cells = "\n".join(f"| {' | '.join(line)} |" for line in (self.headings, marks, *self.rows))
        return "\n\n".join(filter(None, [f"## {self.title}", cells, self.words]))


@dataclass
class Report:
    """Everything that was measured."""

    roads: Roads
    latency: Latency
    at_size: AtSize
    peers: Peers
    memory_at_rest: int
    faults: list[str] = field(default_factory=list)

    def ratios(self) -> list[Ratio]:
        """What the run is for, with aims first."""
        ratios = [*self.roads.ratios(), *self.at_size.ratios()]
        # Those with a number first, peers last.
        return sorted(ratios, key=lambda r: (r.name == "Peer", not r.name.startswith("R")))

    def all_roads(self) -> list[Road]:
        """Every road, in the order of the tables."""
        there = self.at_size
        at_size = (there.stocked, there.empty, there.between, there.updates)
        return [*self.roads.roads.values(), *at_size]

    def caution(self) -> str | None:
        """A sentence for when other processes disturbed the run."""
        rounds = [r.others_cores for road in self.all_roads() for r in road.rounds]
        return caution([*rounds, *self.latency.others_cores])

    def tables(self) -> list[Table]:
        """All tables, ratios first."""
        return [
            Table(
                "Ratios",
                "",
                RATIO_HEADINGS,
                [r.cells() for r in self.ratios()],
                frozenset({"ratio", "of", "aim"}),
            ),
            Table(
                "Roads",
                ROAD_WORDS,
                ROAD_HEADINGS,
                [road.cells() for road in self.all_roads()],
                frozenset({"road"}),
            ),
            Table(
                "Latency under load",
                LATENCY_WORDS.format(batch=BATCH, capacity=self.latency.capacity),
                PACED_HEADINGS,
                [each.cells() for each in self.latency.paced],
                frozenset(),
            ),
            self._memory(),
            self._disk(),
            Table(
                "What each of them guarantees",
                f"{GUARANTEE_WORDS} {self.peers.words()}",
                GUARANTEE_HEADINGS,
                [cells for name, cells in GUARANTEES.items() if name not in self.peers.absent],
                frozenset(GUARANTEE_HEADINGS),
            ),
        ]

    def _memory(self) -> Table:
        http = self.roads.roads["http"]
        found = {
            "at rest, before the first record": self.memory_at_rest,
            "at full load, 1,000 a request x 8": max(r.memory_bytes for r in http.rounds),
            **self.latency.memory,
        }
        return Table(
            "Resident memory of the service",
            "Under load it is the most that was seen.",
            ("", "MiB"),
            [[words, f"{size / MIB:.0f}"] for words, size in found.items()],
            frozenset({""}),
        )

    def _disk(self) -> Table:
        disk = self.at_size.disk
        total = sum(disk.parts.values())
        rows = [
            [words, f"{size:.0f}", f"{size / disk.line:.2f}"]
            for words, size in [*disk.parts.items(), ("together", total)]
        ]
        words = DISK_WORDS.format(line=disk.line, kept=disk.kept_in_history, look_ups=disk.look_ups)
        return Table("On disk", words, ("", "bytes", "÷ NDJSON"), rows, frozenset({""}))


def write_markdown(path: Path, facts: dict[str, str], report: Report, plot: str) -> None:
    """The report as a page."""
    first, *rest = [table.as_markdown() for table in report.tables()]
    machine = "\n".join(f"| {name} | {words} |" for name, words in facts.items())
    parts = [
        "# Ingest, measured",
        WHAT,
        *filter(None, [report.caution()]),
        first,
        f"![Ratios, records a second, processor time and latency]({plot})",
        *rest,
        f"## The run\n\n|  |  |\n| --- | --- |\n{machine}",
    ]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")
