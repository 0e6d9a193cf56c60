"""Paired differences with their intervals, one below the other, and the margin; what was lost and gained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from quantexp.comparison.summary import DIFFERENCES, Comparison, Summary
from quantexp.comparison.wording import difference_text, has_verdicts, interval_names, reading
from quantexp.report.labels import GRID, INK, MUTED, measure_width
from quantexp.report.svg import (
    BAD,
    GOOD,
    SHADES,
    SIZE,
    Chart,
    Panel,
    blank,
    draw_mark,
    list_signs,
    render_panel,
    shorten,
    words,
    write_below,
)
from quantexp.stats import Decision, PairedComparison

_ROW, _BELOW, _ABOVE, _RIGHT = 0.22, 0.5, 0.06, 0.1


@dataclass(frozen=True)
class Row:
    """A difference with its name; without a difference it is a heading of those that follow."""

    name: str
    difference: PairedComparison | None = None
    decision: Decision | None = None


def forest(summary: Summary) -> Chart:
    """Every comparison, a panel for each task."""
    margins = [c.decision.margin for c in summary.comparisons if c.decision is not None]
    limits = span([c.difference for c in summary.comparisons], margins)
    panels = []
    for compared in _by_task(summary):
        rows = [Row(c.quant, c.difference, c.decision) for c in compared]
        told = "; ".join(f"{c.quant} {' '.join(difference_text(c.difference))}, {reading(c)}" for c in compared)
        title = summary.section(compared[0])
        alternative = f"Baseline minus quant in points, {title}: {told}."
        panels.append(draw_forest(rows, limits, compared[0].model, title, alternative))
    about = (
        f"Each line is the {interval_names(summary)} interval of baseline ({summary.baseline}) minus quant, in "
        "points: to the right of 0 the quant is worse."
    )
    if has_verdicts(summary):
        about += (
            " Dashed: the margin. The short bar on a line is the one-sided bound; left of the margin it puts the quant "
            f"within it, if the baseline is shown to score more than that. Signs: {list_signs(summary)}."
        )
    file = "" if summary.has_bits else DIFFERENCES
    return Chart(DIFFERENCES, "Paired differences", about, tuple(panels), file=file)


def _by_task(summary: Summary) -> Iterator[list[Comparison]]:
    """Yield the comparisons of each model's tasks that have any."""
    yield from filter(None, (summary.select_comparisons(*place) for place in summary.places()))


def span(differences: Sequence[PairedComparison], also: Sequence[float] = ()) -> tuple[float, float]:
    """Limits of an axis that holds all the intervals, 0 and some other values, with room on both sides."""
    low = min([0.0, *(d.low for d in differences), *also])
    high = max([0.0, *(d.high for d in differences), *also])
    room = 0.06 * max(high - low, 0.02)
    return low - room, high + room


def draw_forest(rows: Sequence[Row], limits: tuple[float, float], model: str, title: str, alternative: str) -> Panel:
    """Draw rows from the top down, and the margin of their verdicts, if it is one."""
    found = {row.decision.margin for row in rows if row.decision is not None}
    figure, axes = blank_rows(rows)
    scale_losses(axes, limits)
    if len(found) == 1:
        [margin] = found
        axes.axvline(margin, color=BAD, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes.axvspan(margin, limits[1], color=BAD, alpha=0.07, linewidth=0, zorder=0)
    for place, row in enumerate(rows):
        if row.difference is not None:
            draw_interval(axes, place, row.difference, row.decision)
    return render_panel(figure, model, title, alternative)


def scale_losses(axes: Axes, limits: tuple[float, float]) -> None:
    """Set the axis of baseline minus quant, in points."""
    axes.set_xlim(*limits)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+g}" if abs(x) > 1e-9 else "0"))
    write_below(axes, "← better", 0.0, "left", 0.04)
    write_below(axes, "worse →", 1.0, "right", 0.04)


def blank_rows(rows: Sequence[Row]) -> tuple[Figure, Axes]:
    """Return an empty panel with a row for each name, from the top down."""
    names = [shorten(row.name) for row in rows]
    left = 0.12 + max(
        measure_width(name, SIZE) for name, row in zip(names, rows, strict=True) if row.difference is not None
    )
    figure, axes = blank(_ABOVE + _ROW * len(rows) + _BELOW, left, _BELOW, _RIGHT, _ABOVE)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    edge = blended_transform_factory(figure.transFigure, axes.transData)
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        weight = "bold" if row.difference is None else "normal"
        words(axes, 0.0, place, name, transform=edge, fontsize=SIZE, weight=weight, va="center_baseline")
    return figure, axes


def draw_interval(axes: Axes, place: int, difference: PairedComparison, decision: Decision | None) -> None:
    """Draw a difference with its interval in a row."""
    verdict = None if decision is None else decision.verdict
    colour, _ = SHADES[verdict]
    axes.plot([difference.low, difference.high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
    if decision is not None:
        axes.plot([difference.upper], [place], marker="|", markersize=6, markeredgewidth=1.6, color=colour)
    draw_mark(axes, difference.difference, place, verdict)


def changes(summary: Summary) -> Chart:
    """Draw the numbers of items lost and gained, a panel for each task."""
    most = max([1, *(max(c.difference.lost, c.difference.gained) for c in summary.comparisons)])
    return Chart(
        "flips",
        "Flips: lost and gained",
        f"{summary.unit.capitalize()}s on which the score fell (to the right) and rose (to the left). Where many are "
        "lost and as many gained, the mean hides that answers changed.",
        tuple(_draw_changes(summary, compared, most) for compared in _by_task(summary)),
    )


def _draw_changes(summary: Summary, compared: Sequence[Comparison], most: int) -> Panel:
    figure, axes = blank_rows([Row(c.quant, c.difference) for c in compared])
    axes.set_xlim(-1.22 * most, 1.22 * most)
    for place, each in enumerate(compared):
        lost, gained = each.difference.lost, each.difference.gained
        axes.barh([place], [lost], height=0.62, color=BAD, linewidth=0)
        axes.barh([place], [-gained], height=0.62, facecolor="none", edgecolor=GOOD, linewidth=1.3)
        beside: dict[str, Any] = {"fontsize": SIZE, "va": "center_baseline", "color": INK}
        words(axes, lost + 0.03 * most, place, str(lost), ha="left", **beside)
        words(axes, -gained - 0.03 * most, place, str(gained), ha="right", **beside)
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    write_below(axes, "← gained (outlined)", 0.47, "right", 0.2)
    write_below(axes, "lost (filled) →", 0.53, "left", 0.2)
    told = "; ".join(f"{c.quant} lost {c.difference.lost}, gained {c.difference.gained}" for c in compared)
    title = summary.section(compared[0])
    alternative = f"{summary.unit.capitalize()}s lost and gained of {compared[0].difference.n}, {title}: {told}."
    return render_panel(figure, compared[0].model, title, alternative)
