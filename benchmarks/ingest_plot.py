"""What a run of ``ingest.py`` found, as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator, ScalarFormatter
from report import share_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest_latency import Paced
    from ingest_report import Report
    from report import Ratio, Road

LIGHT, DARK = "#9ecae1", "#08519c"
POINTS = 200


def write_plot(path: Path, report: Report) -> None:
    """Ratios beside their aims, latency, records a second and processor time."""
    mpl.rcParams |= {"svg.hashsalt": "trafficlog", "font.size": 9, "svg.fonttype": "none"}
    figure, places = plt.subplots(2, 2, figsize=(12, 7.6), layout="tight", height_ratios=(4, 6))
    (ratios, latency), (rates, processors) = places
    _ratios(ratios, [r for r in report.ratios() if r.aim])
    _latency(latency, report.latency.paced)
    roads = report.all_roads()
    _rates(rates, roads)
    _processors(processors, roads)
    for axes in places.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _ratios(axes: Any, ratios: Sequence[Ratio]) -> None:
    """The median as a bar, the single rounds as a line over it, the aim as a mark."""
    for place, ratio in enumerate(ratios):
        axes.barh(place, ratio.value, color=LIGHT, height=0.6)
        axes.plot([ratio.lowest, ratio.highest], [place, place], color=DARK, linewidth=1.5)
        aim = float(ratio.aim.split()[1])
        axes.plot([aim, aim], [place - 0.38, place + 0.38], color="#e6550d", linewidth=2)
    axes.set_yticks(range(len(ratios)), [f"{r.name}: {r.meaning}" for r in ratios])
    axes.invert_yaxis()
    axes.set_xlabel("ratio (line: single rounds; orange: the aim, a bound above for PostgreSQL µs)")


def _latency(axes: Any, paced: Sequence[Paced]) -> None:
    """How many requests took longer than so many milliseconds."""
    for each, color in zip(paced, (LIGHT, DARK), strict=False):
        values = sorted(each.round.latencies_ms)
        beyond = [10 ** (-3.3 * n / POINTS) for n in range(POINTS + 1)]
        axes.plot(
            [share_of(values, 1 - share) for share in beyond],
            beyond,
            color=color,
            label=f"at {each.share:.0%} of capacity",
        )
    axes.set(xscale="log", yscale="log", xlabel="ms from when a request was due")
    axes.set_yticks([0.5, 0.1, 0.01, 0.001], ["p50", "p90", "p99", "p99.9"])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.grid(visible=True, axis="y", color="#eeeeee")
    axes.legend(frameon=False)


def _rates(axes: Any, roads: Sequence[Road]) -> None:
    """A point for each round, a bar for the median."""
    axes.barh(range(len(roads)), [r.rate / 1000 for r in roads], color=LIGHT, height=0.6)
    for place, road in enumerate(roads):
        values = [r.rate / 1000 for r in road.rounds]
        axes.plot(values, [place] * len(values), "o", color=DARK, markersize=4, alpha=0.7)
    axes.set_yticks(range(len(roads)), [r.title for r in roads])
    axes.invert_yaxis()
    axes.set_xlabel("thousand records a second (bar: median)")


def _processors(axes: Any, roads: Sequence[Road]) -> None:
    """Processor time of a record, stacked."""
    start = [0.0] * len(roads)
    for title, color, what in (
        ("PostgreSQL", "#3182bd", lambda r: r.postgres_us),
        ("service", "#e6550d", lambda r: r.service_us),
        ("load generator", "#bdbdbd", lambda r: r.generator_us),
    ):
        widths = [road.median(what) for road in roads]
        axes.barh(range(len(roads)), widths, left=start, color=color, height=0.6, label=title)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    axes.set_yticks(range(len(roads)), [])
    axes.invert_yaxis()
    axes.set_xlabel("processor µs a record (median), in the order of the left")
    axes.legend(frameon=False)
