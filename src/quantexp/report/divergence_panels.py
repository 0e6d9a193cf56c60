"""Divergence in pictures: against bits per weight, and where answers leave the baseline's; a panel a task."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from quantexp.comparison.summary import Divergence, Summary
from quantexp.comparison.wording import interval_names
from quantexp.report.coordinates import find_coordinates
from quantexp.report.divergence import Measured, interval_text, list_measured
from quantexp.report.labels import GRID, INK, MUTED
from quantexp.report.svg import (
    LINE,
    PAPER,
    SIZE,
    STROKES,
    Chart,
    Panel,
    blank,
    blank_over,
    name_curves,
    render_panel,
    words,
    write_below,
)
from quantexp.stats import Interval

_ROW, _LEFT, _BELOW = 0.72, 0.62, 0.45

_BINS = 12
"""Of a histogram, at most."""


def divergences(summary: Summary) -> Chart | None:
    """Mean divergence against bits per weight; None where it was not measured."""
    panels = [_ladder(summary, model, task, found) for model, task, found in _measured(summary)]
    about = (
        f"Mean divergence of each quant's distributions from {summary.divergence_base}'s, in nats (logarithmic axis). "
        f"Bars: {interval_names(summary)} interval over items. It ranks quants: whether one is worse, the scores say. "
        "Dashed: the baseline."
    )
    title = "Divergence against bits per weight"
    return Chart("divergences", title, about, tuple(panels), file="divergence_vs_bits") if panels else None


def select_partings(summary: Summary) -> Chart | None:
    """Return the token at which answers first differ; None where no answers were compared."""
    panels: list[Panel] = []
    for model, task, points in _measured(summary):
        if found := [(each.quant, of) for each, of in reversed(points) if of.answers]:
            title = summary.make_title(model, task)
            panels.append(_histograms(summary, model, title, found))
    about = (
        f"Answers by the token at which they first differ from {summary.baseline}'s; open bar: the same to the end. An "
        "answer that parts early is another answer; one that parts late is the same with another end."
    )
    return Chart("partings", "Where answers part", about, tuple(panels), file="first_divergence") if panels else None


def _measured(summary: Summary) -> Iterator[tuple[str, str, list[Measured]]]:
    """Yield each model and task with the quants that have a divergence, from few bits to many."""
    measured = groupby(list_measured(summary), lambda each: (each.condition.model, each.condition.task))
    for (model, task), found in measured:
        yield model, task, sorted(found, key=lambda each: (each.condition.bits_per_weight, each.condition.quant))


def _ladder(summary: Summary, model: str, task: str, found: Sequence[Measured]) -> Panel:
    measured = {each.quant: of.summary.mean for each, of in found}
    shown = [c for c in summary.ladder(model, task) if c.quant in measured or c.quant == summary.baseline]
    coordinates = find_coordinates(shown, summary.baseline)
    figure, axes = blank_over(coordinates, _LEFT)
    _scale(axes, [*measured.values()])
    axes.tick_params(which="minor", length=0)
    told = []
    for number, curve in enumerate(coordinates.curves):
        points = [
            (place, measured[place.condition.quant]) for place in curve.places if place.condition.quant in measured
        ]
        for place, mean in points:
            if np.isfinite(mean.high):  # no end of an interval is at 0 or below on a logarithmic axis
                low = mean.low if mean.low > 0 else mean.value
                axes.plot([place.x, place.x], [low, mean.high], color=LINE, linewidth=2, alpha=0.5)
            told.append(
                (place.x, f"{place.condition.quant} at {place.x:.2f} {coordinates.unit} {interval_text(mean, 4)}")
            )
        line: dict[str, Any] = {"color": LINE, "linewidth": 1.8, "markersize": 7, "markeredgecolor": PAPER}
        line |= {"linestyle": STROKES[number % len(STROKES)], "label": curve.name or None}
        if points:
            axes.plot([place.x for place, _ in points], [mean.value for _, mean in points], marker="o", **line)
    name_curves(axes, coordinates)
    title = summary.make_title(model, task)
    words_of_points = "; ".join(text for _, text in sorted(told))
    about = coordinates.axis.removeprefix("measured ")
    return render_panel(figure, model, title, f"Mean divergence in nats against {about}, {title}: {words_of_points}.")


def _scale(axes: Axes, means: Sequence[Interval]) -> None:
    """Set the axis of divergences: logarithmic, unless all are 0 and there is nothing to take the logarithm of."""
    if any(mean.value > 0 for mean in means):
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _bins(places: Sequence[int]) -> list[int]:
    """Edges of bins of one width that hold the places, at most twelve."""
    last = max(places, default=0) + 1
    width = max(1, -(-last // _BINS))
    return list(range(0, last + width, width))


def _histograms(summary: Summary, model: str, title: str, found: Sequence[tuple[str, Divergence]]) -> Panel:
    figure, axes = blank(_BELOW + _ROW * len(found) + 0.08, _LEFT + 0.15, _BELOW, 0.1, 0.08)
    edges = _bins([place for _, each in found for place in each.parted])
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
    write_below(axes, "first token that differs")
    told = "; ".join(f"{quant} {len(each.parted)} of {each.answers} answers part" for quant, each in found)
    return render_panel(
        figure, model, title, f"First token that differs from {summary.baseline}'s answer, {title}: {told}."
    )
