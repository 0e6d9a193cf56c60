"""Scores against measured bits per weight, a panel for each task."""

from typing import Any

from quantexp.comparison.summary import Summary, has_verdicts, interval_names, margin_text, score_text
from quantexp.report.svg import (
    LINE,
    PAPER,
    SHADES,
    Chart,
    Panel,
    blank_over_bits,
    list_signs,
    render_panel,
    scale_scores,
    write_sign,
)
from quantexp.report.tables import range_text

_LEFT = 0.5


def ladders(summary: Summary) -> Chart:
    """Every score of every task."""
    panels = [_panel(summary, model, task) for model in summary.models() for task in summary.tasks(model)]
    methods = " or ".join(sorted({c.estimate.interval_method for c in summary.conditions}))
    about = (
        f"Score in points; bands: {interval_names(summary)} interval of each score over {summary.unit}s ({methods}). "
        "Bands that overlap do not show that quants are equal: see the paired differences. Dashed: the baseline."
    )
    if any(c.estimate.zero_width for c in summary.conditions):
        about += " Hollow marks: all items scored the same, so the bootstrap has no interval to show."
    if has_verdicts(summary):
        about += f" Signs, at a margin of {margin_text(summary)}: {list_signs(summary)}."
    return Chart("scores", "Score against bits per weight", about, tuple(panels), file="score_vs_bits")


def _panel(summary: Summary, model: str, task: str) -> Panel:
    points = sorted(summary.ladder(model, task), key=lambda c: c.bits_per_weight)
    figure, axes = blank_over_bits([(c.bits_per_weight, c.quant) for c in points], summary.baseline, _LEFT)
    bits, mean = [c.bits_per_weight for c in points], [c.estimate.mean for c in points]
    low, high = [c.estimate.low for c in points], [c.estimate.high for c in points]
    limits = scale_scores(axes, min(low), max(high))
    if len(points) == 1:
        axes.plot(bits * 2, [low[0], high[0]], color=LINE, linewidth=2, alpha=0.5)
    axes.fill_between(bits, low, high, color=LINE, alpha=0.15, linewidth=0)
    axes.plot(bits, mean, color=LINE, linewidth=1.8, zorder=2)
    for condition in points:
        comparison = summary.comparison(condition)
        decision = comparison.decision if comparison else None
        colour, shape = SHADES[decision.verdict] if decision else (LINE, "o")
        place = condition.bits_per_weight, condition.estimate.mean
        hollow = condition.estimate.zero_width
        mark: dict[str, Any] = {"linestyle": "none", "clip_on": False, "markeredgewidth": 0.8, "zorder": 3}
        axes.plot(
            *([place[0]], [place[1]]),
            marker=shape,
            markersize=9.5 if decision else 7.0,
            markerfacecolor=PAPER if hollow else colour,
            markeredgecolor=colour if hollow else PAPER,
            **mark,
        )
        if decision:
            write_sign(axes, *place, decision.verdict, colour if hollow else PAPER)
    told = "; ".join(f"{c.quant} at {c.bits_per_weight:.2f} bits {' '.join(score_text(c.estimate))}" for c in points)
    title = summary.make_title(model, task)
    beside = f"n = {range_text((c.estimate.n for c in points), '–')} {summary.unit}s"
    if limits != (0.0, 1.0):
        beside += f", axis from {100 * limits[0]:.0f} to {100 * limits[1]:.0f}, not 0 to 100"
    return render_panel(figure, model, title, f"Score in points against bits per weight, {title}: {told}.", beside)
