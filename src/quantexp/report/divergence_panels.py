"""Divergence on the HTML page: against bits per weight, and where answers leave the baseline's; a panel a task."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from quantexp.comparison.summary import Divergence, Summary, interval_names
from quantexp.report.csv_tables import Grid
from quantexp.report.divergence import interval_text
from quantexp.report.divergence_charts import bins, list_points, scale
from quantexp.report.labels import GRID, INK, MUTED, QuantNames
from quantexp.report.svg import LINE, PAPER, SIZE, Chart, Panel, blank, render_panel, words

_WIDTH, _PLOT, _ROW = 3.6, 1.75, 0.72
_LEFT, _BELOW, _RIGHT = 0.62, 0.45, 0.3


def divergences(summary: Summary) -> Chart | None:
    """Mean divergence against bits per weight; None where it was not measured."""
    panels: list[Panel] = []
    for model in summary.models():
        for task in summary.tasks(model):
            if found := list_points(summary, model, task):
                panels.append(_ladder(summary, summary.make_title(model, task), found, f"divergence-{len(panels)}"))
    about = (
        f"Mean divergence of each quant's distributions from {summary.baseline}'s, in nats (logarithmic axis). Bars: "
        f"{interval_names(summary)} interval over items. It ranks quants: whether one is worse, the scores say."
    )
    return Chart("divergences", "Divergence against bits per weight", about, tuple(panels)) if panels else None


def select_partings(summary: Summary) -> Chart | None:
    """Return the token at which answers first differ; None where no answers were compared."""
    panels: list[Panel] = []
    rows: list[tuple[str, ...]] = []
    for model in summary.models():
        for task in summary.tasks(model):
            found = [(quant, each) for _, quant, each in list_points(summary, model, task) if each.answers]
            if found:
                title = summary.make_title(model, task)
                panels.append(_histograms(summary, title, found[::-1], f"partings-{len(panels)}"))
                rows += [_numbers(title, quant, each) for quant, each in found[::-1]]
    about = (
        f"Answers by the token at which they first differ from {summary.baseline}'s; open bar: the same to the end. An "
        "answer that parts early is another answer; one that parts late is the same with another end."
    )
    header = ("task", "quant", "answers", "the same", "median token")
    numbers = Grid(header, "llrrr", tuple(rows))
    return Chart("partings", "Where answers part", about, tuple(panels), numbers) if panels else None


def _numbers(title: str, quant: str, each: Divergence) -> tuple[str, ...]:
    place = f"{median(each.parted):g}" if each.parted else "-"
    return title, quant, str(each.answers), str(each.answers - len(each.parted)), place


def _ladder(summary: Summary, title: str, found: Sequence[tuple[float, str, Divergence]], key: str) -> Panel:
    width = _WIDTH - _LEFT - _RIGHT
    _, _, pen = blank(1, 1, (0.1, 0.1, 0.1, 0.1))
    named = QuantNames([(bits, quant) for bits, quant, _ in found], summary.baseline, pen, (width, _PLOT))
    above = named.height + 0.05
    figure, axes, _ = blank(_WIDTH, _BELOW + _PLOT + above, (_LEFT, _BELOW, _RIGHT, above))
    bits = [each[0] for each in found]
    means = [each.summary.mean for *_, each in found]
    room = max(0.08 * (max(bits) - min(bits)), 0.3)
    axes.set_xlim(min(bits) - room, max(bits) + room)
    scale(axes, means)
    axes.tick_params(which="minor", length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    for place, mean in zip(bits, means, strict=True):
        if np.isfinite(mean.low) and mean.low > 0:
            axes.plot([place, place], [mean.low, mean.high], color=LINE, linewidth=2, alpha=0.5)
    line: dict[str, Any] = {"color": LINE, "linewidth": 1.8, "markersize": 7, "markeredgecolor": PAPER}
    axes.plot(bits, [mean.value for mean in means], marker="o", **line)
    named.draw(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    under: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE, "color": MUTED, "va": "bottom"}
    words(axes, 0.5, -(_BELOW - 0.02) / _PLOT, "measured bits per weight", ha="center", **under)
    told = "; ".join(
        f"{quant} at {place:.2f} bits {interval_text(mean, 4)}"
        for (place, quant, _), mean in zip(found, means, strict=True)
    )
    return render_panel(figure, title, key, f"Mean divergence in nats against bits per weight, {title}: {told}.")


def _histograms(summary: Summary, title: str, found: Sequence[tuple[str, Divergence]], key: str) -> Panel:
    height = _BELOW + _ROW * len(found) + 0.08
    figure, axes, _ = blank(_WIDTH, height, (_LEFT + 0.15, _BELOW, 0.1, 0.08))
    edges = bins([place for _, each in found for place in each.parted])
    width, end = edges[1] - edges[0], edges[-1]
    most = max(each.answers for _, each in found)
    for number, (quant, each) in enumerate(reversed(found)):
        counts, _ = np.histogram(each.parted, edges)
        shape: dict[str, Any] = {"align": "edge", "bottom": number, "linewidth": 0.8}
        axes.bar(edges[:-1], 0.85 * counts / most, width, color=LINE, edgecolor=PAPER, **shape)
        same = 0.85 * (each.answers - len(each.parted)) / most
        axes.bar([end + width], [same], 1.5 * width, color=PAPER, edgecolor=LINE, **shape)
        axes.axhline(number, color=GRID, linewidth=0.7)
        words(
            axes, -0.02, number + 0.1, quant, ha="right", fontsize=SIZE, color=INK, transform=axes.get_yaxis_transform()
        )
        tallest = int(counts.argmax())
        label: dict[str, Any] = {"fontsize": 7.0, "color": MUTED, "ha": "center", "va": "bottom"}
        if counts[tallest]:
            top = number + 0.85 * counts[tallest] / most
            words(axes, edges[tallest] + width / 2, top, f"{counts[tallest]}", **label)
        words(axes, end + 1.75 * width, number + same, f"{each.answers - len(each.parted)}", **label)
    axes.set_ylim(0, len(found) + 0.1)
    axes.set_xlim(0, end + 2.7 * width)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    ticks = [tick for tick in MaxNLocator(4, integer=True).tick_values(0, end) if 0 <= tick <= end]
    axes.set_xticks([*ticks, end + 1.75 * width], [*(f"{tick:g}" for tick in ticks), "none"])
    under: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE, "color": MUTED, "va": "bottom"}
    below = -(_BELOW - 0.02) / (_ROW * len(found))
    words(axes, 0.5, below, "first token that differs", ha="center", **under)
    told = "; ".join(f"{quant} {len(each.parted)} of {each.answers} answers part" for quant, each in found)
    return render_panel(
        figure, title, key, f"First token that differs from {summary.baseline}'s answer, {title}: {told}."
    )
