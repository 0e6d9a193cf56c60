"""Divergence in words: no more is said than the tokens and the quants at hand bear."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.support.summaries import make_summary

from quantexp.comparison.summary import Divergence, RankComparison, Summary
from quantexp.report.divergence import divergence_grid, divergences_table, order_text, ranking
from quantexp.report.divergence_limits import direction_grid, limit_notes, ranks_table
from quantexp.report.html import report_html
from quantexp.report.markdown import report_markdown
from quantexp.stats import Interval, RankAgreement, divergence_summary

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


def ranked(summary: Summary, near: RankAgreement) -> Summary:
    """The summary with an agreement of orders on each of its tasks."""
    found = [
        RankComparison(summary.models()[0], task, "plain text", task, RankAgreement(6, 0.6, 0.2, 0.8), near)
        for task in summary.tasks(summary.models()[0])
    ]
    return replace(summary, rank_agreements=tuple(found))


def test_what_divergence_cannot_tell_is_said() -> None:
    summary = ranked(measured(make_summary(tasks=["gsm8k"], ladder=FIVE)), RankAgreement(3, np.nan))
    # Tokens of 2 logarithms less under the quant than under the baseline: probability moves away from them.
    assert {row[-1] for row in direction_grid(summary).rows} == {"away from it"}
    [row] = ranks_table(summary).show().rows
    assert row == ("gsm8k (plain text)", "gsm8k", "6", "0.60 [0.20, 0.80]", "3", "too few (takes 5)")
    [found] = csv.DictReader(ranks_table(summary).format_csv().splitlines())
    assert (found["tau"], found["near_tau"]) == ("0.6", "")
    page, markdown = report_html(summary, []), report_markdown(summary)
    for text in (page, markdown):
        assert "What divergence cannot tell" in text
        assert "too few" in text
    plain = make_summary(tasks=["gsm8k"])
    assert "What divergence cannot tell" not in report_html(plain, []) + report_markdown(plain)


def test_moves_away_from_the_baselines_own_answers_are_no_loss() -> None:
    summary = measured(make_summary(tasks=["gsm8k"]))
    assert not any("are not the right ones" in note for note in limit_notes(summary))
    found = [
        replace(each, divergence=replace(each.divergence, over="the baseline's own answers"))
        for each in summary.comparisons
        if each.divergence is not None
    ]
    assert any("are not the right ones" in note for note in limit_notes(replace(summary, comparisons=tuple(found))))


def with_means(*means: tuple[float, float, float]) -> Summary:
    """Of quants whose mean divergence has these intervals, in the order of their bits."""
    made = measured(make_summary(tasks=["gsm8k"], ladder=FIVE[: len(means) + 1]))
    found = []
    for each, mean in zip(made.comparisons, means, strict=True):
        assert each.divergence is not None
        tokens = replace(each.divergence.summary, mean=Interval(*mean))
        found.append(replace(each, divergence=replace(each.divergence, summary=tokens)))
    return replace(made, comparisons=tuple(found))


@pytest.mark.parametrize(
    ("means", "order"),
    [
        ([(1, 0.9, 1.1), (2, 1.9, 2.1), (3, 2.9, 3.1)], "Q7, then Q6, then Q5"),
        ([(1, 0.9, 2.0), (2, 1.9, 2.1), (3, 2.9, 3.1)], "Q7 or Q6, then Q5"),
        # The first reaches past its neighbour, as far as the third.
        ([(1, 0.1, 3.5), (2, 1.9, 2.1), (3, 2.9, 3.1)], "Q7 or Q6 or Q5"),
        ([(1, np.nan, np.nan), (2, 1.9, 2.1), (3, 2.9, 3.1)], "Q7 or Q6 or Q5"),
        ([(1, 0.9, 1.1), (2, np.nan, np.nan), (3, 2.9, 3.1)], "Q7 or Q6 or Q5"),
    ],
)
def test_a_quant_comes_then_only_after_all_that_are_nearer(means: list[tuple[float, float, float]], order: str) -> None:
    assert f"the nearest to Q8 first: {order} on gsm8k." in order_text(with_means(*means))


def test_the_rank_correlation_is_spearmans_with_ties() -> None:
    summary = with_means(*((value, 0.0, 9.0) for value in (0.2, 0.1, 0.1, 0.4, 0.3)))
    pairs = [(c.divergence.summary.mean.value, c.difference.difference) for c in summary.comparisons if c.divergence]
    expected = spearmanr([kl for kl, _ in pairs], [loss for _, loss in pairs]).statistic
    assert f"gsm8k {expected:+.2f} (of 5, p " in ranking(summary)


def test_what_has_no_interval_is_shown_alone() -> None:
    [row, *_] = divergence_grid(measured(make_summary(tasks=["gsm8k"]), items=1)).rows
    assert "nan" not in " ".join(row)
    table = divergences_table(measured(make_summary(tasks=["gsm8k"]))).format_csv()
    assert "nan" not in table
    assert ",," in table  # of the 99.9th percentile
