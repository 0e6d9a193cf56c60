"""Paired differences with their intervals, one below the other, and the margin; what was lost and gained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from quantexp.comparison.summary import (
    Comparison,
    Summary,
    difference_text,
    has_verdicts,
    interval_names,
    reading,
)
from quantexp.report.chart import SIGNS
from quantexp.report.labels import GRID, INK, MUTED
from quantexp.report.svg import BAD, GOOD, LINE, PAPER, SHADES, SIZE, Chart, Panel, blank, render_panel, shorten, words
from quantexp.stats import Decision, PairedComparison

_WIDTH, _ROW, _BELOW, _ABOVE, _RIGHT = 3.6, 0.22, 0.5, 0.06, 0.1


@dataclass(frozen=True)
class Row:
    """A difference with its name; without a difference it is a heading of those that follow."""

    name: str
    difference: PairedComparison | None = None
    decision: Decision | None = None


def forest(summary: Summary) -> Chart:
    """Every comparison, a panel for each task."""
    limits = span([c.difference for c in summary.comparisons], margins(summary))
    panels: list[Panel] = []
    for model in summary.models():
        for task in summary.tasks(model):
            compared = summary.select_comparisons(model, task)
            if compared:
                rows = [Row(c.quant, c.difference, c.decision) for c in compared]
                told = "; ".join(f"{c.quant} {' '.join(difference_text(c.difference))}, {reading(c)}" for c in compared)
                title = summary.section(compared[0])
                alternative = f"Baseline minus quant in points, {title}: {told}."
                panels.append(forest_panel(rows, limits, title, f"forest-{len(panels)}", alternative))
    about = (
        f"Each line is the {interval_names(summary)} interval of baseline ({summary.baseline}) minus quant, in "
        "points: to the right of 0 the quant is worse."
    )
    if has_verdicts(summary):
        about += (
            " Dashed: the margin. The short bar on a line is the one-sided bound; left of the margin it puts the quant "
            f"within it, if the baseline is shown to score more than that. Signs: {signs(summary)}."
        )
    return Chart("differences", "Paired differences", about, tuple(panels))


def signs(summary: Summary) -> str:
    """Return the signs of the verdicts that there are, and what each means."""
    shown = {c.decision.verdict for c in summary.comparisons if c.decision is not None}
    return ", ".join(f"{sign} {verdict.value}" for verdict, sign in SIGNS.items() if verdict in shown)


def margins(summary: Summary) -> list[float]:
    """Return the margins that verdicts were reached at."""
    return [c.decision.margin for c in summary.comparisons if c.decision is not None]


def span(differences: Sequence[PairedComparison], also: Sequence[float] = ()) -> tuple[float, float]:
    """Limits of an axis that holds all the intervals, 0 and some other values, with room on both sides."""
    low = min([0.0, *(d.low for d in differences), *also])
    high = max([0.0, *(d.high for d in differences), *also])
    room = 0.06 * max(high - low, 0.02)
    return low - room, high + room


def forest_panel(
    rows: Sequence[Row],
    limits: tuple[float, float],
    title: str,
    key: str,
    alternative: str,
    margin: float | None = None,
) -> Panel:
    """Rows from the top down; the margin is that of the rows' verdicts unless it is given."""
    found = {row.decision.margin for row in rows if row.decision is not None}
    margin = next(iter(found)) if len(found) == 1 else margin
    names = [shorten(row.name) for row in rows]
    height = _ABOVE + _ROW * len(rows) + _BELOW
    _, _, pen = blank(1, 1, (0.1, 0.1, 0.1, 0.1))
    left = 0.12 + max(
        pen.width(name, SIZE) for name, row in zip(names, rows, strict=True) if row.difference is not None
    )
    figure, axes, _ = blank(_WIDTH, height, (left, _BELOW, _RIGHT, _ABOVE))
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1)
    if margin is not None:
        axes.axvline(margin, color=BAD, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes.axvspan(margin, limits[1], color=BAD, alpha=0.07, linewidth=0, zorder=0)
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        heading = row.difference is None
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": SIZE, "va": "center_baseline"}
        words(axes, -left / (_WIDTH - left - _RIGHT), place, name, weight="bold" if heading else "normal", **beside)
        if row.difference is not None:
            _interval(axes, place, row.difference, row.decision)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+g}" if abs(x) > 1e-9 else "0"))
    under: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE, "color": MUTED, "va": "bottom"}
    y = -(_BELOW - 0.04) / (height - _BELOW - _ABOVE)
    words(axes, 0.0, y, "← better", ha="left", **under)
    words(axes, 1.0, y, "worse →", ha="right", **under)
    return render_panel(figure, title, key, alternative)


def _interval(axes: Axes, place: int, difference: PairedComparison, decision: Decision | None) -> None:
    colour, shape = (LINE, "o") if decision is None else SHADES[decision.verdict]
    axes.plot([difference.low, difference.high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
    if decision is not None:
        axes.plot([difference.upper], [place], marker="|", markersize=6, markeredgewidth=1.6, color=colour)
    small = decision is None
    axes.plot(
        [difference.difference],
        [place],
        marker=shape,
        markersize=5.5 if small else 9.5,
        color=colour,
        markeredgecolor=PAPER,
        markeredgewidth=0.8,
        clip_on=False,
        zorder=4,
    )
    if decision is not None:
        sign = {"fontsize": 6.5, "weight": "bold", "color": PAPER, "ha": "center", "va": "center_baseline"}
        words(axes, difference.difference, place, SIGNS[decision.verdict], zorder=5, **sign)


def changes(summary: Summary) -> Chart:
    """Draw the numbers of items lost and gained, a panel for each task."""
    most = max([1, *(max(c.difference.lost, c.difference.gained) for c in summary.comparisons)])
    panels: list[Panel] = []
    for model in summary.models():
        for task in summary.tasks(model):
            compared = summary.select_comparisons(model, task)
            if compared:
                panels.append(_changes(summary, compared, most, f"flips-{len(panels)}"))
    return Chart(
        "flips",
        "Flips: lost and gained",
        f"{summary.unit.capitalize()}s on which the score fell (to the right) and rose (to the left). Where many are "
        "lost and as many gained, the mean hides that answers changed.",
        tuple(panels),
    )


def _changes(summary: Summary, compared: Sequence[Comparison], most: int, key: str) -> Panel:
    names = [shorten(c.quant) for c in compared]
    height = _ABOVE + _ROW * len(compared) + _BELOW
    _, _, pen = blank(1, 1, (0.1, 0.1, 0.1, 0.1))
    left = 0.12 + max(pen.width(name, SIZE) for name in names)
    figure, axes, _ = blank(_WIDTH, height, (left, _BELOW, _RIGHT, _ABOVE))
    axes.set_xlim(-1.22 * most, 1.22 * most)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    for place, (each, name) in enumerate(zip(compared, names, strict=True)):
        lost, gained = each.difference.lost, each.difference.gained
        axes.barh([place], [lost], height=0.62, color=BAD, linewidth=0)
        axes.barh([place], [-gained], height=0.62, facecolor="none", edgecolor=GOOD, linewidth=1.3)
        beside: dict[str, Any] = {"fontsize": SIZE, "va": "center_baseline", "color": INK}
        words(axes, lost + 0.03 * most, place, str(lost), ha="left", **beside)
        words(axes, -gained - 0.03 * most, place, str(gained), ha="right", **beside)
        beside["transform"] = axes.get_yaxis_transform()
        words(axes, -left / (_WIDTH - left - _RIGHT), place, name, **beside)
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    under: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE, "color": MUTED, "va": "bottom"}
    y = -(_BELOW - 0.2) / (height - _BELOW - _ABOVE)
    words(axes, 0.47, y, "← gained (outlined)", ha="right", **under)
    words(axes, 0.53, y, "lost (filled) →", ha="left", **under)
    told = "; ".join(f"{c.quant} lost {c.difference.lost}, gained {c.difference.gained}" for c in compared)
    title = summary.section(compared[0])
    n = compared[0].difference.n
    return render_panel(figure, title, key, f"{summary.unit.capitalize()}s lost and gained of {n}, {title}: {told}.")
