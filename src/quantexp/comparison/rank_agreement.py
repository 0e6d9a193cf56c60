"""Agreement of the conditions' order by divergence on one corpus with their order by loss on a task."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from quantexp.comparison.changed_answers import runs_behind
from quantexp.comparison.spreads import average_scores, merge_clusters
from quantexp.comparison.summary import RankComparison, Summary
from quantexp.stats.rank_agreement import rank_agreement
from quantexp.tracking.reader import JobRecord

DivergenceItems = Mapping[tuple[str, str, str], pd.DataFrame]
"""By model, task and quant: of each item, by its id, the `sum` of the divergences of its tokens and their `tokens`."""


def add_rank_agreement(
    summary: Summary, records: Sequence[JobRecord], measured: DivergenceItems, *, confidence: float, seed: int
) -> Summary:
    """Return the summary with the agreement of each corpus's order with each task's, model by model.

    Items that ask the same count once.
    """
    runs = runs_behind(summary, records)
    found = []
    for model in summary.models():
        for corpus in summary.tasks(model):
            for task in summary.tasks(model):
                quants = [
                    each.quant
                    for each in summary.select_comparisons(model, task)
                    if (model, corpus, each.quant) in measured
                ]
                if len(quants) > 1:
                    found.append(
                        _compare(
                            summary, runs, measured, (model, corpus, task), quants, confidence=confidence, seed=seed
                        )
                    )
    return replace(summary, rank_agreements=tuple(each for each in found if each is not None))


def _compare(
    summary: Summary,
    runs: Mapping[tuple[str, str, str], Sequence[JobRecord]],
    measured: DivergenceItems,
    place: tuple[str, str, str],
    quants: Sequence[str],
    *,
    confidence: float,
    seed: int,
) -> RankComparison | None:
    """Return the agreement on a model's corpus and task; None if the conditions have no item in common."""
    model, corpus, task = place
    before = average_scores(runs[model, task, summary.baseline])
    losses = pd.DataFrame({quant: before - average_scores(runs[model, task, quant]) for quant in quants}).dropna()
    clusters = merge_clusters(runs[model, corpus, summary.baseline])
    by_quant = {
        quant: measured[model, corpus, quant].groupby(lambda item: clusters.get(item, item)).sum() for quant in quants
    }
    sums, tokens = (
        pd.DataFrame({quant: by_quant[quant][column] for quant in quants}).dropna() for column in ("sum", "tokens")
    )
    paired = corpus == task
    if paired:
        both = sums.index.intersection(losses.index, sort=True)
        sums, tokens, losses = (each.loc[both] for each in (sums, tokens, losses))
    if sums.empty or losses.empty:
        return None
    whole, near = rank_agreement(
        sums.T.to_numpy(), tokens.T.to_numpy(), losses.T.to_numpy(), paired=paired, confidence=confidence, seed=seed
    )
    found = map(summary.find_divergence, summary.ladder(model, corpus))
    return RankComparison(model, corpus, next(each.over for each in found if each is not None), task, whole, near)
