"""Memory against the loss: what a condition takes with one conversation, and how much worse it is than the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from quantexp.comparison.pick import Memory
from quantexp.comparison.summary import Condition, Summary
from quantexp.comparison.wording import difference_text, has_verdicts, interval_names
from quantexp.models.footprint import find_footprint
from quantexp.report.coordinates import Coordinates, Curve, Place
from quantexp.report.forest import span
from quantexp.report.labels import GRID, MUTED
from quantexp.report.svg import (
    BAD,
    LINE,
    PAPER,
    SHADES,
    Chart,
    Panel,
    blank_over,
    draw_mark,
    list_signs,
    render_panel,
)

Memories = Mapping[tuple[str, str], Memory]
"""By model and condition, as far as they are known."""

_FAR = 1.5
"""A budget that is so many times the largest memory, or more, is not on the axis: it would push the marks together."""


def recorded_memories(summary: Summary) -> Memories:
    """Return the memory of the conditions at the context that they were run with, as far as their runs recorded it."""
    found = {}
    for each in summary.conditions:
        if each.file_bytes is not None and each.context is not None and not each.is_placebo:
            footprint = find_footprint(each.footprints, each.context)
            if footprint is not None:
                found[each.model, each.quant] = Memory(each.file_bytes, footprint, is_measured=False)
    return found


def memory_chart(summary: Summary, memories: Memories, budget: int | None = None, file: str = "") -> Chart | None:
    """Draw a panel for each task; None if it has nothing to show.

    Args:
        summary: What to show.
        memories: Of the conditions; those of others are left out, and the chart says so.
        budget: Bytes that there are; None if there is no limit to draw.
        file: Name of the chart's files; empty if it is on the page only.
    """
    panels = []
    for place in summary.places():
        known = [each for each in summary.ladder(*place) if _is_shown(summary, memories, each)]
        if len(known) > 1:
            panels.append(_panel(summary, known, memories, budget))
    if not panels:
        return None
    contexts = sorted({each.footprint.context for each in memories.values()})
    about = (
        "Memory of the file, of the KV cache of one conversation "
        f"({' or '.join(f'{context:,}' for context in contexts)} tokens of context) and of llama.cpp's buffers, "
        f"against baseline ({summary.baseline}) minus {summary.noun} in points: upwards it is worse. Lines: "
        f"{interval_names(summary)} intervals."
    )
    if has_verdicts(summary):
        about += f" Dashed, level: the margin. Signs: {list_signs(summary)}."
    if budget is not None:
        about += " Dashed, upright: the memory that there is."
    unknown = dict.fromkeys(
        each.quant for each in summary.conditions if (each.model, each.quant) not in memories and not each.is_placebo
    )
    missing = (f"The memory is not known, and so left out: {', '.join(unknown)}.",) if unknown else ()
    return Chart("memory", "Memory against the loss", about, tuple(panels), missing=missing, file=file)


def _is_shown(summary: Summary, memories: Memories, condition: Condition) -> bool:
    is_placed = condition.quant == summary.baseline or summary.comparison(condition) is not None
    return is_placed and not condition.is_placebo and (condition.model, condition.quant) in memories


def _panel(summary: Summary, known: Sequence[Condition], memories: Memories, budget: int | None) -> Panel:
    totals = [memories[each.model, each.quant].total for each in known]
    unit, size = ("GB", 1e9) if max(totals) >= 1e9 else ("MB", 1e6)
    places = [Place(each, total / size, each.quant) for each, total in zip(known, totals, strict=True)]
    is_near = budget is not None and min(totals) / _FAR < budget < max(totals) * _FAR
    limit = None if budget is None or not is_near else budget / size
    coordinates = Coordinates(
        f"memory, {unit}", unit, summary.baseline, (Curve("", tuple(sorted(places, key=lambda place: place.x))),)
    )
    figure, axes = blank_over(coordinates, also=[] if limit is None else [limit])
    compared = [found for each in known if (found := summary.comparison(each)) is not None]
    margins = {each.decision.margin for each in compared if each.decision is not None}
    limits = span([each.difference for each in compared], list(margins))
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:+g}" if abs(y) > 1e-9 else "0"))
    axes.axhline(0.0, color=MUTED, linewidth=1.0, zorder=1)
    dashes: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (4, 3)), "zorder": 1}
    if len(margins) == 1:
        [margin] = margins
        axes.axhline(margin, color=BAD, **dashes)
        axes.axhspan(margin, limits[1], color=BAD, alpha=0.07, linewidth=0, zorder=0)
    if limit is not None:
        axes.axvline(limit, color=LINE, **dashes)
        axes.axvspan(limit, axes.get_xlim()[1], color=GRID, alpha=0.5, linewidth=0, zorder=0)
    for place in coordinates.places:
        _mark(axes, summary, place)
    told = "; ".join(_describe(summary, place, unit) for place in coordinates.places)
    title = summary.make_title(known[0].model, known[0].task)
    far = "" if budget is None or is_near else f"{budget / size:,.3g} {unit}, what there is, is off the axis"
    alternative = f"Baseline minus {summary.noun} in points against memory, {title}: {told}."
    return render_panel(figure, known[0].model, title, alternative, far)


def _mark(axes: Axes, summary: Summary, place: Place) -> None:
    """Draw an interval and its mark, or the baseline's on the line of no loss."""
    comparison = summary.comparison(place.condition)
    if comparison is None:
        mark: dict[str, Any] = {"clip_on": False, "markeredgecolor": PAPER, "markeredgewidth": 0.8}
        axes.plot([place.x], [0.0], marker="o", markersize=7, color=MUTED, zorder=3, **mark)
        return
    difference = comparison.difference
    verdict = None if comparison.decision is None else comparison.decision.verdict
    colour, _ = SHADES[verdict]
    axes.plot([place.x] * 2, [difference.low, difference.high], color=colour, linewidth=1.6, zorder=2)
    draw_mark(axes, place.x, difference.difference, verdict)


def _describe(summary: Summary, place: Place, unit: str) -> str:
    comparison = summary.comparison(place.condition)
    loss = "the baseline" if comparison is None else " ".join(difference_text(comparison.difference))
    return f"{place.condition.quant} at {place.x:,.3g} {unit} {loss}"
