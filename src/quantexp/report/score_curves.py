"""Scores against measured bits per weight, a panel for each task."""

from typing import Any

from matplotlib.axes import Axes

from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import has_verdicts, interval_names, margin_text, score_text
from quantexp.report.coordinates import Curve, Place, find_coordinates
from quantexp.report.svg import (
    LINE,
    STROKES,
    Chart,
    Panel,
    blank_over,
    draw_mark,
    list_signs,
    name_curves,
    render_panel,
    scale_scores,
)
from quantexp.report.tables import range_text


def ladders(summary: Summary) -> Chart:
    """Every score of every task."""
    panels = [_panel(summary, *place) for place in summary.places()]
    methods = " or ".join(sorted({c.estimate.interval_method for c in summary.conditions}))
    about = (
        f"Score in points; bands: {interval_names(summary)} interval of each score over {summary.unit}s ({methods}). "
        "Bands that overlap do not show that quants are equal: see the paired differences. Dashed: the baseline."
    )
    if any(len(each.levels) > 1 for each in summary.conditions):
        about += " The band is that of the conditions with the baseline's other levels."
    if any(c.estimate.zero_width for c in summary.conditions):
        about += " Hollow marks: all items scored the same, so the bootstrap has no interval to show."
    if has_verdicts(summary):
        about += f" Signs, at a margin of {margin_text(summary)}: {list_signs(summary)}."
    return Chart("scores", "Score against bits per weight", about, tuple(panels), file="score_vs_bits")


def _panel(summary: Summary, model: str, task: str) -> Panel:
    coordinates = find_coordinates(summary.ladder(model, task), summary.baseline)
    places = coordinates.places
    points = [place.condition for place in places]
    figure, axes = blank_over(coordinates)
    low, high = [c.estimate.low for c in points], [c.estimate.high for c in points]
    limits = scale_scores(axes, min(low), max(high))
    for number, curve in enumerate(coordinates.curves):
        _draw_curve(axes, curve, STROKES[number % len(STROKES)], has_band=number == 0)
    name_curves(axes, coordinates)
    for place in places:
        _mark(axes, summary, place)
    told = "; ".join(
        f"{place.condition.quant} at {place.x:.2f} {coordinates.unit} {' '.join(score_text(place.condition.estimate))}"
        for place in places
    )
    title = summary.make_title(model, task)
    beside = f"n = {range_text((c.estimate.n for c in points), '–')} {summary.unit}s"
    if limits != (0.0, 1.0):
        beside += f", axis from {100 * limits[0]:.0f} to {100 * limits[1]:.0f}, not 0 to 100"
    about = coordinates.axis.removeprefix("measured ")
    return render_panel(figure, model, title, f"Score in points against {about}, {title}: {told}.", beside)


def _draw_curve(axes: Axes, curve: Curve, stroke: str, *, has_band: bool) -> None:
    """Draw a line through scores; the band of the first curve alone, where bands would hide each other."""
    xs = [place.x for place in curve.places]
    estimates = [place.condition.estimate for place in curve.places]
    low, high = [each.low for each in estimates], [each.high for each in estimates]
    if len(xs) == 1:
        axes.plot(xs * 2, [low[0], high[0]], color=LINE, linewidth=2, alpha=0.5)
    if has_band:
        axes.fill_between(xs, low, high, color=LINE, alpha=0.15, linewidth=0)
    line: dict[str, Any] = {"color": LINE, "linewidth": 1.8, "zorder": 2, "linestyle": stroke}
    axes.plot(xs, [each.mean for each in estimates], label=curve.name or None, **line)


def _mark(axes: Axes, summary: Summary, place: Place) -> None:
    """Mark a score, with its verdict if there is one."""
    condition = place.condition
    comparison = summary.comparison(condition)
    verdict = comparison.decision.verdict if comparison and comparison.decision else None
    estimate = condition.estimate
    draw_mark(axes, place.x, estimate.mean, verdict, size=7.0, is_hollow=estimate.zero_width)
