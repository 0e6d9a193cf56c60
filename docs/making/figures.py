"""The figures of docs/explanation/pictures.md, drawn from what quantexp.stats computes; no number in them is typed in.

Each stands on a ground of its own, so that it can be read on a light page and on a dark one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from frequencies import compare_counts, percentile_coverage, tango_coverage, wald_coverage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from published import CELLS

from quantexp.stats import (
    Decision,
    PairedComparison,
    decide,
    required_items,
    required_items_within,
    tango_interval,
    wilson_interval,
)

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
"""They stay apart under the common colour vision deficiencies: Okabe and Ito (2008), "Color Universal Design"."""

INK, MUTED, GRID, GROUND = "#222222", "#5f5f5f", "#dddddd", "#ffffff"
WIDTH = 6.0  # inches; text of 10 points is still read where a telephone shows the figure at four fifths of its size

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": GROUND,
    "svg.hashsalt": "quantexp",  # the same figure, the same file
}

ON_GROUND = {"facecolor": GROUND, "edgecolor": "none", "pad": 1}
"""Of text that lies across a line."""

EXAMPLE = {"n": 200, "both": 120, "lost": 16, "gained": 6}
"""Items of the first figure: right under both, under the baseline alone, under the quant alone."""

VERDICTS = ((22, 20), (60, 20), (22, 7), (36, 20))
"""Items lost and gained by four quants, of `VERDICT_ITEMS`, one for each verdict."""

VERDICT_ITEMS, MARGIN = 1319, 0.02


def independent_interval(right: Sequence[int], n: int) -> tuple[float, float]:
    """95% interval of the difference of two shares, each of n items of its own, from their Wilson intervals.

    Newcombe (1998), "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17(8), method 10.
    """
    first, second = (count / n for count in right)
    (low, high), (other_low, other_high) = (wilson_interval(count, n) for count in right)
    below = math.hypot(first - low, other_high - second)
    above = math.hypot(high - first, second - other_low)
    return first - second - below, first - second + above


def pairing() -> Figure:
    """Draw a paired difference, and why pairing narrows its interval."""
    n, both, lost, gained = (EXAMPLE[key] for key in ("n", "both", "lost", "gained"))
    wrong = n - both - lost - gained
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    strips, intervals = figure.subplots(2, 1, height_ratios=(1.15, 1.1))
    left = 0
    for count, above, under in ((both, True, True), (lost, True, False), (gained, False, True), (wrong, False, False)):
        for row, filled, color in ((1, above, BLUE), (0, under, ORANGE)):
            strips.barh(row, count, left=left, height=0.62, color=color if filled else "#eeeeee", edgecolor=GROUND)
        left += count
    places = {"right under both": (both / 2, both), "lost": (both + lost / 2, lost)}
    places |= {"gained": (both + lost + gained / 2, gained), "wrong under both": (n - wrong / 2, wrong)}
    for name, (place, count) in places.items():
        lift = 0.75 if name == "gained" else 0  # it is narrower than its name
        strips.text(place, 1.45 + lift, f"{name}\n{count}", ha="center", va="bottom")
        if lift:
            strips.plot([place, place], [0.75, 1.4 + lift], color=MUTED, linewidth=0.8)
    strips.set(yticks=[1, 0], yticklabels=["baseline", "quant"], xlim=(0, n), ylim=(-0.45, 3.0), xticks=[])
    strips.set_xlabel(f"{n} items, in colour where the answer is right")
    _bare(strips)
    right = (both + lost, both + gained)
    drop = 100 * (lost - gained) / n
    rows = (
        ("as two separate samples", independent_interval(right, n), MUTED),
        ("paired, item by item", tango_interval(lost, gained, n), GREEN),
    )
    for place, (name, (low, high), color) in zip((1, 0), rows, strict=True):
        intervals.plot([100 * low, 100 * high], [place, place], color=color, linewidth=4, solid_capstyle="butt")
        intervals.plot([drop], [place], "o", color=color, markersize=9)
        intervals.text(
            drop,
            place + 0.22,
            f"{name}: {100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−"),
            ha="center",
            bbox=ON_GROUND,
        )
    intervals.axvline(0, color=INK, linewidth=1)
    intervals.set(ylim=(-0.4, 1.7), yticks=[], xlabel="baseline − quant, points, with 95% interval")
    _bare(intervals, bottom=True)
    return figure


def verdict_cases() -> tuple[tuple[PairedComparison, ...], tuple[Decision, ...]]:
    """Four comparisons, one for each verdict, judged as a family at a margin of two points."""
    cases = tuple(compare_counts(lost, gained, VERDICT_ITEMS) for lost, gained in VERDICTS)
    return cases, decide(cases, MARGIN)


def verdicts() -> Figure:
    """Draw the four verdicts as a forest plot."""
    cases, decisions = verdict_cases()
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-10, 100 * MARGIN, color=GREEN, alpha=0.1, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(100 * MARGIN, color=GREEN, linewidth=1.5, linestyle="--")
    colors = (GREEN, ORANGE, PINK, MUTED)
    for row, (case, decision, color) in enumerate(zip(cases, decisions, colors, strict=True)):
        place = len(cases) - 1 - row
        axes.plot([100 * case.low, 100 * case.high], [place, place], color=color, linewidth=2)
        axes.plot([100 * case.difference], [place], "o", color=color, markersize=9)
        axes.plot([100 * case.upper], [place], "|", color=color, markersize=16, markeredgewidth=3)
        note = f"{decision.verdict.value} (p {_p(decision.p_adjusted)})"
        axes.text(2.12, place + 0.22, note, bbox=ON_GROUND)
    axes.text(100 * MARGIN + 0.06, len(cases) - 0.35, "margin", color=INK, va="bottom")
    axes.text(0.06, len(cases) - 0.35, "no loss", color=INK, va="bottom")
    axes.set(xlim=(-1.6, 5.2), ylim=(-0.5, len(cases)), yticks=[])
    axes.set_xlabel("baseline − quant, points: 95% interval; the upright bar is the one-sided 95% bound")
    _bare(axes, bottom=True)
    return figure


def items() -> Figure:
    """How many items it takes, against the share that changes."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    shares = np.array([0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15])
    for points, color in ((1, BLUE), (2, ORANGE), (3, GREEN)):
        find = [(share, required_items(points / 100, share)) for share in shares if share >= points / 100]
        show = [(share, required_items_within(points / 100, share)) for share in shares]
        for found, style, fill in ((find, "-", color), (show, "--", GROUND)):
            x, y = zip(*found, strict=True)
            axes.plot(100 * np.array(x), y, style, color=color, marker="o", markersize=4, markerfacecolor=fill)
        axes.text(15.3, (find[-1][1] * show[-1][1]) ** 0.5, f"{points} point{'s' if points > 1 else ''}", va="center")
    axes.plot([0, 15], [1319, 1319], color=MUTED, linewidth=1, linestyle=":")
    axes.text(10.9, 1319 * 1.03, "all of GSM8K's test", color=MUTED, va="bottom")
    axes.plot([], [], "-", color=INK, marker="o", markersize=4, label="to find a drop of so much")
    axes.plot([], [], "--", color=INK, marker="o", markersize=4, markerfacecolor=GROUND)
    axes.lines[-1].set_label("to show that none is as large")
    axes.legend(frameon=False, loc="lower right")
    axes.set(yscale="log", xlim=(0, 17.5), ylim=(60, 20000), xlabel="share of items that change, %")
    axes.set_ylabel("items for 80% power")
    axes.set_yticks([100, 300, 1000, 3000, 10000], ["100", "300", "1,000", "3,000", "10,000"])
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


@cache
def coverages() -> Mapping[str, tuple[tuple[float, float], ...]]:
    """Coverage of nominal 95% intervals with 200 items of which 2% change, by method: (drop, coverage), exact."""
    drops = [round(0.001 * step, 4) for step in range(21)]
    methods = {"Tango": tango_coverage, "percentile bootstrap": percentile_coverage, "Wald": wald_coverage}
    return {name: tuple((drop, method(200, 0.02, drop)) for drop in drops) for name, method in methods.items()}


def coverage() -> Figure:
    """How often "95%" intervals hold the true difference."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.axhline(95, color=INK, linewidth=1)
    styles = {"Tango": (GREEN, "-", "o"), "percentile bootstrap": (ORANGE, "--", "s"), "Wald": (BLUE, ":", "^")}
    for name, points in coverages().items():
        color, line, marker = styles[name]
        drop, covered = (100 * np.array(each) for each in zip(*points, strict=True))
        axes.plot(drop, covered, line, color=color, marker=marker, markersize=5, linewidth=2, label=name)
    axes.set(ylim=(80, 98), xlim=(-0.08, 2.2), xlabel="true drop, points (200 items, 2% of them change)")
    axes.set_ylabel("intervals that hold it, %")
    axes.text(2.06, 95, "95%", va="center", backgroundcolor=GROUND)
    axes.legend(frameon=False, loc="lower center", ncols=3)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def churn() -> Figure:
    """Draw what a net difference hides: items lost and gained in the published experiment."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots()
    names = []
    for row, cell in enumerate(reversed(CELLS)):
        names.append(f"{cell.task}\n{cell.quant}")
        axes.barh(row, cell.b, color=ORANGE, height=0.6)
        axes.barh(row, -cell.c, color=BLUE, height=0.6)
        axes.text(cell.b + 0.7, row, str(cell.b), va="center")
        axes.text(-cell.c - 0.7, row, str(cell.c), va="center", ha="right")
        axes.plot([cell.b - cell.c], [row], "D", color=INK, markersize=7, markeredgecolor=GROUND)
    axes.axvline(0, color=INK, linewidth=1)
    top = len(CELLS) - 0.45
    axes.text(-1, top, "◂ gained", ha="right", va="bottom")
    axes.text(1, top, "lost ▸", va="bottom")
    axes.set(yticks=range(len(CELLS)), yticklabels=names, ylim=(-0.5, len(CELLS) + 0.1), xlim=(-26, 43))
    axes.set_xticks([-20, 0, 20, 40], ["20", "0", "20", "40"])
    axes.set_xlabel("of 600 answers; the diamond is the net loss")
    _bare(axes, bottom=True)
    axes.tick_params(axis="y", length=0)
    return figure


FIGURES: Mapping[str, Callable[[], Figure]] = {
    "pairing": pairing,
    "verdicts": verdicts,
    "items": items,
    "coverage": coverage,
    "churn": churn,
}
"""What is drawn, by the file's name without its ending."""


def draw_all(folder: Path) -> list[Path]:
    """Draw every figure as SVG into a folder, which is made if need be; what was drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            drawn.append(folder / f"{name}.svg")
            draw().savefig(drawn[-1], format="svg", metadata={"Date": None})
    return drawn


def _bare(axes: Axes, *, bottom: bool = False) -> None:
    """Take away the axes' lines that say nothing."""
    for side, spine in axes.spines.items():
        spine.set_visible(bottom and side == "bottom")
    axes.tick_params(axis="y", length=0)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"
