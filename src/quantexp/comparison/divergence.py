"""Divergence of each quant from the baseline, from the token tables of the runs that were compared."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from quantexp.comparison.changed_answers import runs_behind
from quantexp.comparison.rank_agreement import add_rank_agreement
from quantexp.comparison.spreads import merge_clusters
from quantexp.comparison.summary import Comparison, Condition, Divergence, Summary
from quantexp.config import Forced
from quantexp.stats import divergence_summary
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import BASE, DIVERGENCE, LEFT_OUT, PARTED

COLUMNS = {
    DIVERGENCE: ("item_id", "sample", "divergence", "same_top", "baseline_logprob", "quant_logprob"),
    PARTED: ("item_id", "sample", "token"),
}
"""Columns of each table that are read here."""


def add_divergence(
    summary: Summary, records: Sequence[JobRecord], store: Store, *, confidence: float, seed: int
) -> Summary:
    """Return the summary with the divergence of each comparison whose runs have all measured it, and what it ranks.

    Tokens are resampled with their item, or with those items that ask the same.
    """
    runs = runs_behind(summary, records)
    items: dict[tuple[str, str, str], pd.DataFrame] = {}

    def measured(each: Comparison | Condition) -> Divergence | None:
        of = runs[each.model, each.task, each.quant]
        if not all(DIVERGENCE in run.metrics for run in of):
            return None
        tokens = _tables(of, store, DIVERGENCE)
        of_item = tokens.groupby("item_id")["divergence"]
        items[each.model, each.task, each.quant] = pd.DataFrame({"sum": of_item.sum(), "tokens": of_item.size()})
        # Plain text has no answers.
        answers = _tables(of, store, PARTED)["token"] if all(PARTED in run.metrics for run in of) else pd.Series()
        clusters = merge_clusters(of)
        return Divergence(
            summary=divergence_summary(
                tokens["divergence"].to_numpy(),
                tokens["same_top"].to_numpy(),
                tokens["baseline_logprob"].to_numpy(),
                tokens["quant_logprob"].to_numpy(),
                [clusters.get(item, item) for item in tokens["item_id"]],
                confidence=confidence,
                seed=seed,
            ),
            answers=len(answers),
            parted=tuple(int(place) for place in answers.dropna()),
            over=_over(of[0]),
            base=of[0].tags.get(BASE, ""),
            left_out=float(tokens[LEFT_OUT].mean()) if LEFT_OUT in tokens else None,
        )

    bases = {_base_of(run) for place in runs if place[2] == summary.baseline for run in runs[place]}

    def measured_alone(each: Condition) -> Divergence | None:
        """Return the divergence of a condition that has no comparison, from the file that the baseline's is from."""
        of = runs[each.model, each.task, each.quant]
        is_alike = bases == {_base_of(run) for run in of} != {None}
        return measured(each) if is_alike and summary.comparison(each) is None else None

    summary = replace(
        summary,
        conditions=tuple(replace(each, divergence=measured_alone(each)) for each in summary.conditions),
        comparisons=tuple(replace(each, divergence=measured(each)) for each in summary.comparisons),
    )
    return add_rank_agreement(summary, records, items, confidence=confidence, seed=seed)


def _base_of(run: JobRecord) -> str | None:
    """Return the hash of the file that a run's divergence was measured from; None if it was the baseline's own."""
    found = run.identity.get("data", {}).get("divergence_base")
    return None if found is None else str(found)


def _over(run: JobRecord) -> str:
    if PARTED not in run.metrics:
        return "plain text"
    # MLflow keeps params as text.
    return "gold answers" if run.params.get("divergence_over") == Forced.gold.value else "the baseline's own answers"


def _tables(runs: Sequence[JobRecord], store: Store, name: str) -> pd.DataFrame:
    """Return the table of all runs, an item that several seeds drew once."""
    tables: list[pd.DataFrame] = []
    seen: set[tuple[str, int]] = set()
    for table in store.tables([run.run_id for run in runs], name, COLUMNS[name]):
        keys = pd.Series(list(zip(table["item_id"], table["sample"], strict=True)), index=table.index)
        tables.append(table[~keys.isin(seen)])
        seen.update(keys)
    return pd.concat(tables, ignore_index=True)
