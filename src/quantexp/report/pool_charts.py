"""Forests of pools: the tasks of each model with their pool, and the models with their average."""

from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from quantexp.comparison.summary import POOL, AcrossModels, Pooled, Summary
from quantexp.comparison.wording import difference_text, has_verdicts, interval_names, reading
from quantexp.report.forest import Row, blank_rows, draw_forest, draw_interval, scale_losses, span
from quantexp.report.labels import INK
from quantexp.report.pools import MODELS, POOLS, WEIGHTINGS, model_outcomes, models_grid, over_models
from quantexp.report.svg import LINE, Chart, Panel, list_signs, render_panel
from quantexp.stats import PairedComparison


def pool_forest(summary: Summary) -> Chart:
    """Draw each model's tasks, and their pool below them."""
    margins = [pool.decision.margin for pool in summary.pools if pool.decision is not None]
    limits = span([each for pool in summary.pools for each in (pool.difference, *pool.pooled.tasks)], margins)
    panels: list[Panel] = []
    for model in summary.models():
        pools = [pool for pool in summary.pools if pool.model == model]
        if not pools:
            continue
        rows = [row for pool in pools for row in _list_rows(summary, pool)]
        told = "; ".join(
            f"{each.quant} {' '.join(difference_text(each.difference))}, {reading(each)}" for each in pools
        )
        title = model if len(summary.models()) > 1 else "all tasks"
        panels.append(draw_forest(rows, limits, model, title, f"Tasks and their pool in points, {model}: {told}."))
    about = (
        f"Each line is the {interval_names(summary)} interval of baseline ({summary.baseline}) minus {summary.noun}, "
        f"in points. Below the tasks stands their pool ({WEIGHTINGS[summary.pools[0].weighting]})."
    )
    if has_verdicts(summary):
        about += f" Signs: {list_signs(summary)}."
    return Chart("pooled", "Tasks and their pool", about, tuple(panels), file=POOLS)


def _list_rows(summary: Summary, pool: Pooled) -> list[Row]:
    compared = {each.task: each for each in summary.comparisons if (each.model, each.quant) == (pool.model, pool.quant)}
    of_tasks = [Row(task, compared[task].difference, compared[task].decision) for task in pool.tasks]
    return [Row(pool.quant), *of_tasks, Row("pool", pool.difference, pool.decision)]


def model_forest(summary: Summary) -> Chart:
    """Draw each model's loss, and the average below them: of the pools, or without any, of each task."""
    shown = [row for row in summary.across if row.task == POOL] or [*summary.across]
    differences = {id(row): _find_differences(summary, row) for row in shown}
    ends = [
        end
        for row in shown
        for end in (row.average.mean, *_clip(row, [each for of in differences.values() for each in of]))
    ]
    limits = span([each for of in differences.values() for each in of], ends)
    panels = [_draw_models(row, differences[id(row)], limits) for row in shown]
    about = (
        f"Each line is the {interval_names(summary)} interval of one model's baseline ({summary.baseline}) minus "
        f"{summary.noun}, in points. The diamond is the average with its interval, the thin line where a further model "
        "is expected; both may go on beyond the picture. "
    ) + " ".join(model_outcomes(summary, is_whole=True)[len(summary.across) :])
    return Chart(
        "forest-of-models", "What each model loses", about, tuple(panels), models_grid(summary), file=MODELS,
        is_shared=True,
    )  # fmt: skip


def _find_differences(summary: Summary, row: AcrossModels) -> list[PairedComparison]:
    found = {
        **{(each.model, each.task, each.quant): each.difference for each in summary.comparisons},
        **{(each.model, POOL, each.quant): each.difference for each in summary.pools},
    }
    return [found[model, row.task, row.quant] for model in row.models]


def _clip(row: AcrossModels, differences: list[PairedComparison]) -> tuple[float, float]:
    """Return the ends of an average's interval, no further out than twice what the models span.

    Of two models it reaches far beyond what any of them lost, and would leave no room to see those.
    """
    low, high = min(each.low for each in differences), max(each.high for each in differences)
    room = high - low
    return max(row.average.low, low - room / 2), min(row.average.high, high + room / 2)


def _draw_models(row: AcrossModels, differences: list[PairedComparison], limits: tuple[float, float]) -> Panel:
    names = [*row.models, "average"]
    # The last difference only keeps the place of the average.
    figure, axes = blank_rows(
        [Row(name, each) for name, each in zip(names, [*differences, differences[-1]], strict=True)]
    )
    scale_losses(axes, limits)
    for place, difference in enumerate(differences):
        draw_interval(axes, place, difference, None)
    _draw_average(axes, len(differences), row)
    title = row.quant if row.task == POOL else f"{row.task}, {row.quant}"
    told = "; ".join(
        f"{name} {' '.join(difference_text(each))}" for name, each in zip(row.models, differences, strict=True)
    )
    average = f"average {100 * row.average.mean:+.1f} [{100 * row.average.low:+.1f}, {100 * row.average.high:+.1f}]"
    beside = over_models(row).replace("Over ", "")
    return render_panel(
        figure, "All models", title, f"Loss of each model in points, {title}: {told}; {average}.", beside
    )


def _draw_average(axes: Axes, place: int, row: AcrossModels) -> None:
    average = row.average
    if average.predicted_low == average.predicted_low:
        axes.plot([average.predicted_low, average.predicted_high], [place, place], color=INK, linewidth=0.8)
    corners = [
        (average.low, place),
        (average.mean, place - 0.28),
        (average.high, place),
        (average.mean, place + 0.28),
    ]
    axes.add_patch(Polygon(corners, closed=True, facecolor=LINE, edgecolor=INK, linewidth=0.6, zorder=4))
