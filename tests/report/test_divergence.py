"""Divergence in words: no more is said than the tokens and the quants at hand bear."""

from dataclasses import replace

import numpy as np
from tests.report.made import make_summary

from quantexp.report.divergence import divergence_csv, divergence_rows, ranking
from quantexp.report.summary import Divergence, Summary
from quantexp.stats import divergence_summary

FIVE = tuple((f"Q{8 - number}", 8.0 - number) for number in range(6))


def measured(summary: Summary, *, items: int = 12) -> Summary:
    """The summary with a divergence that grows as the bits fall."""
    rng = np.random.default_rng(0)
    found = []
    for place, comparison in enumerate(summary.comparisons):
        kl = rng.exponential(0.01 * (1 + place), 20 * items)
        tokens = divergence_summary(kl, kl < 0.1, -kl, -2 * kl, np.arange(kl.size) % items, resamples=20)
        found.append(replace(comparison, divergence=Divergence(tokens, 0, (), "plain text")))
    return replace(summary, comparisons=tuple(found))


def test_three_quants_have_no_rank_correlation_and_five_have_its_p() -> None:
    assert "correlation" not in ranking(measured(make_summary(tasks=["gsm8k"])))
    words = ranking(measured(make_summary(tasks=["gsm8k"], ladder=FIVE)))
    assert "(Spearman, permutation p): gsm8k +" in words
    assert "(of 5, p " in words
    assert ranking(measured(make_summary(tasks=["gsm8k"], ladder=FIVE))) == words


def test_what_has_no_interval_is_shown_alone() -> None:
    [row, *_] = divergence_rows(measured(make_summary(tasks=["gsm8k"]), items=1))
    assert "nan" not in " ".join(row)
    table = divergence_csv(measured(make_summary(tasks=["gsm8k"])))
    assert "nan" not in table
    assert ",," in table  # of the 99.9th percentile
