"""Accuracy by length and depth as a picture: a cell for each, of the baseline's scores and of each condition's loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from quantexp.comparison.summary import Comparison, Summary
from quantexp.comparison.wording import format_points, interval_names
from quantexp.report.depths import FILE, SPREAD, Cell, depths_grid, list_cells, name_depth, order_depth
from quantexp.report.labels import GRID, INK, MUTED
from quantexp.report.svg import (
    BAD,
    GOOD,
    LINE,
    SIZE,
    Chart,
    Panel,
    blank,
    render_panel,
    shorten,
    words,
    write_below,
)

_ROW, _LEFT, _BELOW, _ABOVE = 0.36, 0.72, 0.5, 0.06

_DEEPEST = 0.5
"""Share of colour in the fullest cell, so that words on it stay readable."""


@dataclass(frozen=True)
class _Shade:
    """A cell of a panel: its colour and how full that is, from 0 to 1, and its words."""

    colour: str
    share: float
    text: str
    beside: str
    is_bold: bool = False


def depths(summary: Summary) -> Chart | None:
    """Return a panel for the baseline's accuracy and one for what each condition loses; None without long texts."""
    panels: list[Panel] = []
    for model, task in summary.places():
        compared = [each for each in summary.select_comparisons(model, task) if list_cells(each)]
        if not compared:
            continue
        title = summary.make_title(model, task)
        panels.append(_draw_baseline(summary, max(compared, key=lambda each: each.difference.n), title))
        panels += [_draw_losses(each, title) for each in compared]
    if not panels:
        return None
    about = (
        f"Score of {summary.baseline} in points by the length of the text, in tokens, and by how deep in it lies what "
        "is asked for; then what each condition loses there, in points on the same items: + is worse. "
        f"Small: the number of items. Bold: the {interval_names(summary)} interval of the difference leaves 0. "
        "Exploratory: nothing here is corrected for the number of cells, and none is a verdict. "
        f"{SPREAD.capitalize()}: what is asked for lies in several places."
    )
    return Chart("depths", "Accuracy by length and depth", about, tuple(panels), depths_grid(summary), file=FILE)


def _draw_baseline(summary: Summary, comparison: Comparison, title: str) -> Panel:
    cells = {
        cell: _Shade(
            LINE,
            part.difference.baseline_mean,
            f"{100 * part.difference.baseline_mean:.0f}",
            f"n={part.difference.n}",
        )
        for cell, part in list_cells(comparison).items()
    }
    return _draw(cells, comparison.model, title, f"{summary.baseline}: score", "Score in points")


def _draw_losses(comparison: Comparison, title: str) -> Panel:
    cells = {}
    for cell, part in list_cells(comparison).items():
        d = part.difference
        leaves = d.low > 0 or d.high < 0
        colour = BAD if d.difference > 0 else GOOD
        cells[cell] = _Shade(colour, abs(d.difference), format_points(d.difference), f"n={d.n}", leaves)
    return _draw(
        cells, comparison.model, title, f"{comparison.quant}: loss", f"Baseline minus {comparison.quant} in points"
    )


def _draw(cells: Mapping[Cell, _Shade], model: str, title: str, beside: str, what: str) -> Panel:
    """Draw lengths from left to right and depths from the top down."""
    lengths = list(dict.fromkeys(length for length, _ in cells))
    rows = sorted({depth for _, depth in cells}, key=order_depth)
    figure, axes = blank(_ABOVE + _ROW * len(rows) + _BELOW, _LEFT, _BELOW, 0.1, _ABOVE)
    axes.set_xlim(0, len(lengths))
    axes.set_ylim(len(rows), 0)
    axes.set_xticks([place + 0.5 for place in range(len(lengths))], [f"{length:,}" for length in lengths])
    axes.set_yticks([place + 0.5 for place in range(len(rows))], [name_depth(depth) for depth in rows])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    for (length, depth), shade in cells.items():
        _fill(axes, lengths.index(length), rows.index(depth), shade)
    write_below(axes, "tokens of prompt and answer; depth from the top")
    told = "; ".join(
        f"{length} tokens, {name_depth(depth)}: {shade.text} ({shade.beside})"
        for (length, depth), shade in cells.items()
    )
    return render_panel(figure, model, title, f"{what} by length and depth, {title}: {told}.", shorten(beside, 40))


def _fill(axes: Axes, column: int, row: int, shade: _Shade) -> None:
    axes.add_patch(
        Rectangle((column, row), 1, 1, facecolor=shade.colour, alpha=_DEEPEST * min(1.0, shade.share), edgecolor="none")
    )
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=GRID, linewidth=0.7))
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    weight = "bold" if shade.is_bold else "normal"
    words(axes, column + 0.5, row + 0.36, shade.text, fontsize=SIZE, color=INK, weight=weight, **style)
    words(axes, column + 0.5, row + 0.76, shade.beside, fontsize=6.5, color=MUTED, **style)
