"""The charts of the HTML page, in their order."""

from quantexp.comparison.summary import Summary
from quantexp.report.depth_panels import depths
from quantexp.report.divergence_panels import divergences, select_partings
from quantexp.report.forest import changes, forest
from quantexp.report.memory import memory_chart, recorded_memories
from quantexp.report.pareto import tradeoff
from quantexp.report.pool_charts import model_forest, pool_forest
from quantexp.report.score_curves import ladders
from quantexp.report.subgroups import categories
from quantexp.report.svg import Chart, panel_style


def charts(summary: Summary, picked: Chart | None = None) -> list[Chart]:
    """Every chart that the summary has something for; a further one needs a line here.

    Args:
        summary: What to show.
        picked: The chart of memory that a pick has drawn, which comes first; None for what the runs have recorded.
    """
    if not summary.conditions:
        return []
    with panel_style():
        drawn = [
            picked,
            pool_forest(summary) if summary.pools else None,
            model_forest(summary) if summary.across else None,
            ladders(summary) if summary.has_bits else None,
            forest(summary) if summary.comparisons else None,
            changes(summary) if summary.comparisons else None,
            tradeoff(summary) if summary.has_bits else None,
            memory_chart(summary, recorded_memories(summary)) if picked is None else None,
            categories(summary),
            depths(summary),
            divergences(summary),
            select_partings(summary),
        ]
    return [chart for chart in drawn if chart is not None]
