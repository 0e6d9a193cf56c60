"""Spread of items between a baseline and a quant, as a sweep has seen it: what a plan is made from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from quantexp.stats.planning import Spread
    from quantexp.tracking.reader import JobRecord


def measure_spread(baseline: Sequence["JobRecord"], quant: Sequence["JobRecord"]) -> "Spread":
    """Measure how much the scores of the items differ that both sides have, from their runs on a task."""
    from quantexp.stats.planning import Spread

    before, after = average_scores(baseline), average_scores(quant)
    both = before.index.intersection(after.index)
    return Spread.seen(before[both], after[both])


def merge_clusters(runs: Sequence["JobRecord"]) -> dict[str, str]:
    """Return what the items of runs share that ask the same, by item."""
    return {item: cluster for run in runs for item, cluster in run.clusters.items()}


def average_scores(runs: Sequence["JobRecord"]) -> "pd.Series[float]":
    """Return the score of each unique item, the mean over seeds."""
    import pandas as pd

    answers = pd.concat([run.scores.dropna() for run in runs])
    clusters = merge_clusters(runs)
    return answers.groupby([clusters.get(item, item) for item in answers.index]).mean()
