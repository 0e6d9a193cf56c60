"""Agreement of orders from hand-made records: by corpus, among all and among near conditions."""

from dataclasses import replace

import numpy as np
import pandas as pd
from tests.comparison.test_pairing import record, summary_of

from quantexp.comparison.rank_agreement import add_rank_agreement
from quantexp.comparison.summary import Divergence
from quantexp.stats import divergence_summary

ITEMS = [f"i{number}" for number in range(30)]
QUANTS = [f"Q{number}" for number in range(10)]


def test_each_corpus_is_held_to_each_task() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.3, 0.7, len(ITEMS))
    records, measured = [], {}
    for place, quant in enumerate(["Q8_0", *QUANTS]):
        for task, loss in (("t", 0.02), ("u", -0.02)):
            # On t the scores fall with the divergence, on u they rise.
            scores = np.clip(hard + rng.normal(0, 0.01, len(ITEMS)) - loss * place, 0, 1)
            records.append(record(quant, dict(zip(ITEMS, scores, strict=True)), task=task))
        sums = 8 * 0.01 * place * rng.uniform(0.9, 1.1, len(ITEMS))
        measured["m", "t", quant] = pd.DataFrame({"sum": sums, "tokens": 8}, index=ITEMS)
    del measured["m", "t", "Q8_0"]
    tokens = divergence_summary([0.1, 0.2], [1, 0], [-1, -1], [-1, -2], ITEMS[:2], resamples=20)
    summary = summary_of(*records)
    comparisons = [
        replace(each, divergence=Divergence(tokens, 0, (), "plain text")) if each.task == "t" else each
        for each in summary.comparisons
    ]
    summary = replace(summary, comparisons=tuple(comparisons))
    found = add_rank_agreement(summary, records, measured, confidence=0.95, seed=0).rank_agreements
    same, other = sorted(found, key=lambda each: each.task)
    assert (same.corpus, same.task, same.over) == ("t", "t", "plain text")
    assert (other.corpus, other.task) == ("t", "u")
    assert (same.whole.conditions, same.near.conditions) == (10, 5)
    assert same.whole.tau > 0.9
    assert same.whole.low > 0.8
    assert other.whole.tau < -0.9
    # Items of no run in common leave nothing to order.
    elsewhere = {place: table.set_axis([f"x{item}" for item in table.index]) for place, table in measured.items()}
    [only] = add_rank_agreement(summary, records, elsewhere, confidence=0.95, seed=0).rank_agreements
    assert only.task == "u"
