"""Scores against measured bits per weight, a panel for each task."""

from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from quantexp.comparison.summary import Summary, has_verdicts, interval_names, score_text
from quantexp.report.chart import SIGNS, score_range
from quantexp.report.forest import signs
from quantexp.report.labels import GRID, MUTED, QuantNames
from quantexp.report.svg import LINE, PAPER, SHADES, SIZE, Chart, Panel, blank, render_panel, words

_WIDTH, _PLOT = 3.6, 1.75
_LEFT, _BELOW, _RIGHT = 0.5, 0.45, 0.3


def ladders(summary: Summary) -> Chart:
    """Every score of every task."""
    panels: list[Panel] = []
    for model in summary.models():
        for task in summary.tasks(model):
            panels.append(_panel(summary, model, task, f"scores-{len(panels)}"))
    about = (
        f"Score in points; bands: {interval_names(summary)} interval of each score. Bands that overlap do not show "
        "that quants are equal: see the paired differences. Dashed: the baseline."
    )
    if has_verdicts(summary):
        about += f" Signs: {signs(summary)}."
    return Chart("scores", "Score against bits per weight", about, tuple(panels))


def _panel(summary: Summary, model: str, task: str, key: str) -> Panel:
    points = sorted(summary.ladder(model, task), key=lambda c: c.bits_per_weight)
    width = _WIDTH - _LEFT - _RIGHT
    _, _, pen = blank(1, 1, (0.1, 0.1, 0.1, 0.1))
    bits = [c.bits_per_weight for c in points]
    places = list(dict.fromkeys((c.bits_per_weight, c.quant) for c in points))
    named = QuantNames(places, summary.baseline, pen, (width, _PLOT), after_baseline="")
    above = named.height + 0.05
    figure, axes, _ = blank(_WIDTH, _BELOW + _PLOT + above, (_LEFT, _BELOW, _RIGHT, above))
    room = max(0.08 * (max(bits) - min(bits)), 0.3)
    axes.set_xlim(min(bits) - room, max(bits) + room)
    low, high = [c.estimate.low for c in points], [c.estimate.high for c in points]
    axes.set_ylim(*score_range(min(low), max(high)))
    named.draw(axes)
    mean = [c.estimate.mean for c in points]
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    if len(points) == 1:
        axes.plot(bits * 2, [low[0], high[0]], color=LINE, linewidth=2, alpha=0.5)
    axes.fill_between(bits, low, high, color=LINE, alpha=0.15, linewidth=0)
    axes.plot(bits, mean, color=LINE, linewidth=1.8, zorder=2)
    for condition in points:
        comparison = summary.comparison(condition)
        decision = comparison.decision if comparison else None
        colour, shape = SHADES[decision.verdict] if decision else (LINE, "o")
        where = [condition.bits_per_weight], [condition.estimate.mean]
        mark: dict[str, Any] = {
            "marker": shape,
            "linestyle": "none",
            "clip_on": False,
            "markeredgewidth": 0.8,
            "zorder": 3,
        }
        hollow = condition.estimate.zero_width
        size = 9.5 if decision else 7.0
        axes.plot(
            *where,
            markersize=size,
            markerfacecolor=PAPER if hollow else colour,
            markeredgecolor=colour if hollow else PAPER,
            **mark,
        )
        if decision:
            sign: dict[str, Any] = {"fontsize": 6.5, "weight": "bold", "ha": "center", "va": "center_baseline"}
            words(
                *(axes, where[0][0], where[1][0], SIGNS[decision.verdict]),
                color=colour if hollow else PAPER,
                zorder=4,
                **sign,
            )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    under: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SIZE, "color": MUTED, "va": "bottom"}
    words(axes, 0.5, -(_BELOW - 0.02) / _PLOT, "measured bits per weight", ha="center", **under)
    told = "; ".join(f"{c.quant} at {c.bits_per_weight:.2f} bits {' '.join(score_text(c.estimate))}" for c in points)
    title = summary.make_title(model, task)
    return render_panel(figure, title, key, f"Score in points against bits per weight, {title}: {told}.")
