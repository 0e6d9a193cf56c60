"""Divergence in pictures: against measured bits per weight, and where answers leave the baseline's."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from quantexp.comparison.summary import Divergence, Summary
from quantexp.report.chart import MARKERS, PALETTE, own_style
from quantexp.report.labels import GRID, INK, MUTED, spread
from quantexp.stats import Interval

_DPI = 160
_SIZE = 8.5
_BINS = 12
"""Of a histogram, at most."""


def divergence_chart(summary: Summary, model: str) -> Figure | None:
    """Mean divergence from the baseline against measured bits per weight, a line a task, on a logarithmic axis.

    Bars are the intervals over items. A mean of 0 has no logarithm: beside others it is left out. None where nothing
    was measured.
    """
    lines = [
        (task, [(bits, quant, each.summary.mean) for bits, quant, each in found])
        for task in summary.tasks(model)
        if (found := list_points(summary, model, task))
    ]
    if not lines:
        return None
    with own_style():
        figure = Figure(figsize=(7.6, 4.6), dpi=_DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        for number, (task, points) in enumerate(lines):
            bits = np.array([point[0] for point in points])
            means = np.array([[each.value, each.low, each.high] for _, _, each in points])
            # The log axis has no place for an end at 0 or below, nor for one that nobody knows.
            lows = np.where(means[:, 1] > 0, means[:, 1], means[:, 0])
            highs = np.where(np.isfinite(means[:, 2]), means[:, 2], means[:, 0])
            # Side by side, where files have the same size on every task.
            shift = 0.012 * np.ptp([point[0] for _, each in lines for point in each]) * (number - (len(lines) - 1) / 2)
            axes.errorbar(
                bits + shift,
                means[:, 0],
                yerr=[means[:, 0] - lows, highs - means[:, 0]],
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=7,
                markeredgecolor="white",
                linewidth=1.4,
                elinewidth=1.6,
                capsize=3,
                label=task,
            )
        logarithmic = scale(axes, [mean for _, points in lines for *_, mean in points])
        axes.set_xlabel("measured bits per weight", fontsize=9.5, color=INK)
        unit = "nats (log)" if logarithmic else "nats"
        axes.set_ylabel(f"mean divergence from {summary.baseline}, {unit}", fontsize=9.5, color=INK)
        _plain(axes)
        names = {point[:2] for _, each in lines for point in each}
        for place in {
            each.bits_per_weight for each in summary.conditions if (each.model, each.quant) == (model, summary.baseline)
        }:
            axes.axvline(place, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5, label="baseline")
            names.add((place, summary.baseline))
        _quant_names(axes, sorted(names))
        figure.legend(frameon=False, fontsize=_SIZE, loc="outside right center")
        figure.suptitle(
            f"{model}: how far each quant's distributions are from {summary.baseline}'s", fontsize=11, color=INK
        )
    return figure


def draw_partings(summary: Summary, model: str) -> Figure | None:
    """Histograms of the first token at which a quant's answer leaves the baseline's: a row a task, a column a quant.

    The last bar counts the answers that are the same to the end. None where no answers were compared.
    """
    rows: dict[str, dict[str, Divergence]] = {}
    for task in summary.tasks(model):
        if own := {quant: each for _, quant, each in reversed(list_points(summary, model, task)) if each.answers}:
            rows[task] = own
    if not rows:
        return None
    quants = list(dict.fromkeys(quant for row in rows.values() for quant in row))
    with own_style():
        size = 1.0 + 1.75 * len(quants), 0.9 + 1.5 * len(rows)
        figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
        grid = figure.subplots(len(rows), len(quants), sharey="row", squeeze=False)
        for number, (task, row) in enumerate(rows.items()):
            edges = bins([place for divergence in row.values() for place in divergence.parted])
            for column, quant in enumerate(quants):
                axes = grid[number, column]
                if quant not in row:
                    axes.set_axis_off()
                    continue
                _histogram(axes, row[quant], edges, PALETTE[number % len(PALETTE)])
                if number == 0:
                    axes.set_title(quant, fontsize=9.5, color=INK)
                if column == 0:
                    axes.set_ylabel(f"{task}\nanswers", fontsize=_SIZE, color=INK)
        figure.supxlabel(f"token at which an answer first differs from {summary.baseline}'s", fontsize=9, color=INK)
    return figure


DIVERGENCE_CHARTS = {"divergence_vs_bits": divergence_chart, "first_divergence": draw_partings}
"""What is drawn of a model, by the kind of chart; see `Summary.chart_stems`."""


def list_points(summary: Summary, model: str, task: str) -> list[tuple[float, str, Divergence]]:
    """Bits per weight, quant and divergence of each quant that has one, from few bits to many."""
    found = []
    for condition in summary.ladder(model, task):
        comparison = summary.comparison(condition)
        if comparison is not None and comparison.divergence is not None:
            found.append((condition.bits_per_weight, condition.quant, comparison.divergence))
    return sorted(found, key=lambda each: each[:2])


def scale(axes: Axes, means: Sequence[Interval]) -> bool:
    """Set the axis of divergences: logarithmic, and whether it is. Where all are 0 there is nothing to take it of."""
    logarithmic = any(mean.value > 0 for mean in means)
    if logarithmic:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    return logarithmic


def bins(places: Sequence[int]) -> list[int]:
    """Edges of bins of one width that hold the places, at most twelve."""
    last = max(places, default=0) + 1
    width = max(1, -(-last // _BINS))
    return list(range(0, last + width, width))


def _histogram(axes: Axes, divergence: Divergence, edges: Sequence[int], color: str) -> None:
    counts, _ = np.histogram(divergence.parted, edges)
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], counts, width, align="edge", color=color, edgecolor="white", linewidth=0.6)
    same = divergence.answers - len(divergence.parted)
    place = edges[-1] + 1.5 * width
    axes.bar([place], [same], 1.5 * width, align="edge", color="white", edgecolor=color, hatch="////", linewidth=1)
    ticks = [tick for tick in MaxNLocator(3, integer=True).tick_values(0, edges[-1]) if 0 <= tick < edges[-1]]
    axes.set_xticks([*ticks, place + 0.75 * width], [*(f"{tick:g}" for tick in ticks), "none"])
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(colors=MUTED, labelsize=_SIZE, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def _quant_names(axes: Axes, points: Sequence[tuple[float, str]]) -> None:
    """Upright above the plot, moved apart where files have nearly the same size."""
    low, high = axes.get_xlim()
    wanted = [(bits - low) / (high - low) for bits, _ in points]
    for (_, quant), place in zip(points, spread(wanted, [0.03] * len(points), 0.0, 1.0), strict=True):
        axes.text(place, 1.01, quant, transform=axes.transAxes, rotation=90, ha="center", va="bottom", fontsize=_SIZE)
