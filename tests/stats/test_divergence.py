"""The summary of divergences: numpy's figures on all tokens, intervals over items that cover as often as they say."""

import math
import time
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantexp.stats import DivergenceSummary, divergence_summary
from quantexp.stats.divergence import QUANTILES, _quantiles


def tokens(rng: np.random.Generator, items: int, each: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Divergences with heavy tails, alike within an item."""
    of_item = rng.normal(0.0, 0.8, items).repeat(each)
    return np.exp(of_item + rng.normal(-3.0, 1.0, items * each)), np.arange(items).repeat(each)


def summary(
    kl: NDArray[np.float64], items: NDArray[np.intp], *, resamples: int = 50, seed: int = 0, confidence: float = 0.95
) -> DivergenceSummary:
    baseline = -np.linspace(0.1, 3.0, kl.size)
    return divergence_summary(
        kl, kl < 0.1, baseline, baseline - kl / 10, items, resamples=resamples, seed=seed, confidence=confidence
    )


def test_the_estimates_are_those_of_all_tokens_together() -> None:
    kl, items = tokens(np.random.default_rng(0), 12, 31)
    found = summary(kl, items)
    baseline = -np.linspace(0.1, 3.0, kl.size)
    change = np.exp(baseline - kl / 10) - np.exp(baseline)
    assert (found.tokens, found.items) == (372, 12)
    assert found.mean.value == pytest.approx(kl.mean())
    quantiles = [each.value for each in (found.median, found.p90, found.p95, found.p99, found.p999)]
    assert quantiles == pytest.approx(np.quantile(kl, QUANTILES))
    assert found.maximum == kl.max()
    assert found.probability_change.value == pytest.approx(change.mean())
    assert found.probability_change_rms.value == pytest.approx(np.sqrt((change**2).mean()))
    assert found.same_top.value == pytest.approx((kl < 0.1).mean())
    assert found.log_perplexity_ratio.value == pytest.approx(kl.mean() / 10)
    for each in (found.mean, found.median, found.same_top, found.probability_change_rms, found.log_perplexity_ratio):
        assert each.low <= each.value <= each.high


@given(st.data())
def test_weighted_quantiles_are_those_of_repeated_values(data: st.DataObject) -> None:
    values = np.sort(data.draw(st.lists(st.floats(0, 10), min_size=1, max_size=20).map(np.array)))
    weight = st.lists(st.integers(0, 4), min_size=values.size, max_size=values.size).filter(any)
    weights = np.array(data.draw(st.lists(weight, min_size=1, max_size=4)), np.int32)
    expected = [np.quantile(values.repeat(row), QUANTILES) for row in weights]
    np.testing.assert_allclose(_quantiles(values, weights), np.transpose(expected), atol=1e-12)


def test_a_quant_that_changes_nothing_gives_zeros_that_bound_nothing() -> None:
    n = 600
    logprob = np.linspace(-5, -0.1, n)
    found = divergence_summary(np.zeros(n), np.ones(n), logprob, logprob, np.arange(n) // 60, resamples=20)
    for each in (found.mean, found.median, found.log_perplexity_ratio, found.probability_change_rms):
        assert each.value == 0
        assert math.isnan(each.low)
        assert math.isnan(each.high)
    assert found.maximum == 0.0
    # Ten items that agree do not show that all do: .975 of what one-sided bounds leave.
    assert found.same_top.low == pytest.approx(0.025**0.1)
    assert found.same_top.high == 1


def test_the_seed_alone_decides_what_is_drawn_and_order_does_not_matter() -> None:
    kl, items = tokens(np.random.default_rng(1), 20, 9)
    one = summary(kl, items, seed=3)
    assert one == summary(kl, items, seed=3)
    assert one.median != summary(kl, items, seed=4).median
    mixed = np.random.default_rng(2).permutation(kl.size)
    other = divergence_summary(
        kl[mixed], kl[mixed] < 0.1, np.zeros(kl.size), -kl[mixed] / 10, items[mixed], resamples=50, seed=3
    )
    assert astuple(other.mean) == pytest.approx(astuple(one.mean))
    assert astuple(other.median) == pytest.approx(astuple(one.median))


def test_tokens_of_one_item_are_not_counted_as_independent() -> None:
    kl, items = tokens(np.random.default_rng(5), 30, 40)
    clustered, naive = summary(kl, items, resamples=400).mean, summary(kl, np.arange(kl.size), resamples=400).mean
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_the_interval_of_the_mean_covers_it() -> None:
    """With 40 items of uneven size: near 95%, which resampled tokens would miss by far."""
    truth = math.exp(-3.0 + (0.8**2 + 1.0) / 2)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        kl, items = tokens(rng, 40, 30)
        kept = rng.random(kl.size) < 0.7
        found = summary(kl[kept], items[kept], resamples=300, seed=seed).mean
        covered += found.low <= truth <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_intervals_of_few_items_cover() -> None:
    """With 20 items, where resampled means miss one time in nine."""
    truth = math.exp(-3.0 + (0.8**2 + 1.0) / 2)
    same = 0.5 * (1 + math.erf((math.log(0.1) + 3.0) / math.sqrt(2 * (0.8**2 + 1.0))))
    covered = np.zeros(3)
    for seed in range(400):
        found = summary(*tokens(np.random.default_rng(seed), 20, 50), resamples=1)
        for place, (interval, true) in enumerate(
            ((found.mean, truth), (found.same_top, same), (found.log_perplexity_ratio, truth / 10))
        ):
            covered[place] += interval.low <= true <= interval.high
    assert (covered / 400 > [0.89, 0.92, 0.86]).all()
    assert covered[0] >= covered[2]  # the logarithm's scale covers more often than a symmetric interval of the same


def test_a_quantile_without_enough_tokens_beyond_it_has_no_interval() -> None:
    few = summary(*tokens(np.random.default_rng(5), 20, 50))
    assert few.p90.low < few.p90.value < few.p90.high
    for each in (few.p99, few.p999):
        assert math.isnan(each.low)
        assert math.isnan(each.high)
    assert math.isfinite(summary(*tokens(np.random.default_rng(5), 200, 50)).p99.low)


@pytest.mark.parametrize("items", [2, 3, 5, 9, 10, 19, 20, 39, 40])
def test_a_quantile_of_few_items_has_no_interval_however_many_tokens_they_have(items: int) -> None:
    found = summary(*tokens(np.random.default_rng(5), items, 1000))
    for each, fewest in ((found.median, 10), (found.p90, 20), (found.p95, 40), (found.p99, 200)):
        assert math.isfinite(each.low) == math.isfinite(each.high) == (items >= fewest)
    assert math.isfinite(found.mean.low)


def test_items_that_agree_have_no_interval_of_a_mean() -> None:
    found = summary(np.tile([0.1, 0.3, 0.7], 12), np.arange(12).repeat(3))
    assert found.mean.value == pytest.approx(1.1 / 3)
    assert math.isnan(found.mean.low)
    assert math.isnan(found.mean.high)


@given(st.lists(st.lists(st.floats(0, 5), min_size=1, max_size=6), min_size=2, max_size=8))
def test_every_interval_holds_its_estimate(kl: list[list[float]]) -> None:
    items = np.repeat(np.arange(len(kl)), [len(each) for each in kl])
    found = summary(np.concatenate(kl), items)
    for each in (found.mean, found.same_top, found.probability_change, found.probability_change_rms):
        assert math.isnan(each.low) == math.isnan(each.high)
        assert not each.low > each.value + 1e-12
        assert not each.value - 1e-12 > each.high
        assert each.low != each.high
    assert 0 <= found.same_top.low < found.same_top.high <= 1
    assert not found.mean.low < 0


def test_series_of_tokens_are_put_together_by_their_labels() -> None:
    kl, items = tokens(np.random.default_rng(6), 5, 4)
    labels = [f"t{number}" for number in range(kl.size)]
    series, of = pd.Series(kl, index=labels), pd.Series(items, index=labels)
    one, other = (
        divergence_summary(series, series < 0.1, -series, each, of, resamples=5)
        for each in (-2 * series, -2 * series[::-1])
    )
    assert one == other


def test_one_item_has_no_interval() -> None:
    found = summary(np.array([0.1, 0.2]), np.zeros(2, np.intp))
    assert found.mean.value == pytest.approx(0.15)
    assert math.isnan(found.mean.low)
    assert math.isnan(found.p99.high)


@pytest.mark.parametrize(
    ("kl", "items", "word"),
    [([], [], "at least one"), ([0.1, np.nan], [0, 1], "finite"), ([0.1, 0.2], [0], "clusters")],
)
def test_what_makes_no_sense_is_refused(kl: list[float], items: list[int], word: str) -> None:
    n = len(kl)
    with pytest.raises(ValueError, match=word):
        divergence_summary(kl, [True] * n, [-1.0] * n, [-1.0] * n, items)


def test_a_whole_experiment_takes_seconds() -> None:
    kl, items = tokens(np.random.default_rng(0), 200, 300)
    started = time.process_time()
    summary(kl, items, resamples=2000)
    assert time.process_time() - started < 10
