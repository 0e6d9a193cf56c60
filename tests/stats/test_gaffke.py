"""Gaffke's bounds: against Clopper and Pearson, against the law of the weighted mean in fractions, and as a test."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

from quantexp.stats import Method, Verdict, compare, decide, estimate, mcnemar
from quantexp.stats.gaffke import (
    GaffkePlan,
    bounded_mean_share,
    drawn_means,
    gaffke_lower,
    gaffke_p,
    gaffke_upper,
    tally,
)
from quantexp.stats.graded import graded_bounds

Scores = NDArray[np.float64]

levels = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.975, 0.999])

# Any mixture: thirds and quarters, few values, many values, far more of one than of others.
mixtures = st.one_of(
    st.lists(st.integers(-12, 12).map(lambda k: k / 12), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.0, 0.123456, -0.123456, 0.7654321, 1.0, -1.0]), min_size=1, max_size=120),
    st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    st.tuples(st.integers(1, 5000), st.floats(-1, 1)).map(lambda many: [0.0] * many[0] + [many[1]]),
).map(np.array)


@settings(max_examples=150)
@given(st.integers(1, 20_000), st.floats(0, 1), levels)
def test_right_or_wrong_is_bounded_as_by_clopper_and_pearson(n: int, share: float, level: float) -> None:
    right = round(share * n)
    scores = np.repeat([1.0, 0.0], [right, n - right])
    expected = 1.0 if right == n else float(beta.ppf(level, right + 1, n - right))
    assert gaffke_upper(scores, confidence=level) == pytest.approx(expected, abs=1e-9)
    mirrored = 0.0 if right == 0 else float(beta.ppf(1 - level, right, n - right + 1))
    assert gaffke_lower(scores, lowest=0.0, confidence=level) == pytest.approx(mirrored, abs=1e-9)


def exceedance(knots: list[Fraction], t: Fraction) -> Fraction:
    """Probability that the mean of distinct values under uniform Dirichlet weights exceeds t: a divided difference."""
    degree = len(knots) - 1
    return sum(
        ((x - t) ** degree / math.prod((x - y for y in knots if y != x), start=Fraction(1)) for x in knots if x > t),
        Fraction(0),
    )


@given(st.sets(st.integers(-60, 59), min_size=1, max_size=9), levels)
def test_the_bound_is_the_quantile_of_the_weighted_mean(whole: set[int], level: float) -> None:
    knots = [Fraction(k, 60) for k in (*whole, 60)]
    bound = gaffke_upper(np.array([k / 60 for k in whole]), confidence=level)
    assert float(exceedance(knots, Fraction(bound))) == pytest.approx(1 - level, abs=1e-8)


@settings(max_examples=150)
@given(mixtures, levels, st.randoms())
@example(np.append(np.zeros(4965), 0.9375), 0.5, None)
@example(np.append(np.zeros(1000), 0.9375), 0.5, None)
def test_what_holds_for_every_bound(values: Scores, level: float, random: object) -> None:
    upper, lower = gaffke_upper(values, confidence=level), gaffke_lower(values, lowest=-1.0, confidence=level)
    assert -1 <= lower <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= upper <= 1
    assert gaffke_upper(-values, confidence=level) == -lower
    assert gaffke_upper(values[::-1], confidence=level) == upper
    raised = values.copy()
    raised[int(np.argmin(raised))] = 1.0
    assert gaffke_upper(raised, confidence=level) >= upper - 1e-9
    assert gaffke_upper(values, largest=2.0, confidence=level) > upper - 1e-9


@given(st.integers(1, 100_000), st.floats(-1, 1), levels)
def test_equal_values_leave_what_they_could_miss(n: int, value: float, level: float) -> None:
    rounded = round(value, 12)  # as two values are one
    expected = rounded + (1 - rounded) * (1 - (1 - level) ** (1 / n))
    assert gaffke_upper(np.full(n, value), confidence=level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_never_a_point_and_holds_the_one_sided_bound(confidence: float) -> None:
    for values in (np.zeros(1), np.ones(1), -np.ones(300), np.full(5, 0.37), np.array([1.0, -1.0])):
        bounds = graded_bounds(values, confidence=confidence)
        assert -1 <= bounds.low < bounds.high <= 1
        assert bounds.low <= values.mean() <= bounds.upper <= bounds.high


def test_a_score_rounded_past_the_largest_value_counts_as_it() -> None:
    rounded, exact = (graded_bounds(np.array([one, 0.0]), lowest=0.0) for one in (1.0 + 1e-10, 1.0))
    assert rounded == exact


@pytest.mark.parametrize(("b", "c"), [(22, 16), (16, 16), (5, 8), (37, 18), (6, 0), (0, 6), (1, 0), (0, 0), (600, 0)])
def test_p_of_right_and_wrong_is_mcnemars_exact_p(b: int, c: int) -> None:
    values = np.repeat([1.0, -1.0, 0.0], [b, c, 600 - b - c])
    exact = mcnemar(b, c).exact
    assert gaffke_p(values) == pytest.approx(exact, rel=1e-6, abs=1e-9)
    assert gaffke_p(values) > 0


@given(mixtures)
def test_p_is_small_if_and_only_if_the_interval_leaves_zero_out(values: Scores) -> None:
    p = gaffke_p(values)
    assert 0 <= p <= 1
    assert gaffke_p(-values) == pytest.approx(p, abs=1e-9)
    assume(abs(p - 0.05) > 1e-6)
    bounds = graded_bounds(values)
    assert (p < 0.05) == (bounds.low > 0 or bounds.high < 0)


def test_thirds_that_are_computed_in_two_ways_are_one_value() -> None:
    one = np.array([1 / 3, -1 / 3, 0.0, 2 / 3])
    other = np.array([2 / 3 - 1 / 3, 1 / 3 - 2 / 3, 0.1 + 0.2 - 0.3, 1 - 1 / 3])
    assert (one != other).any()
    assert gaffke_upper(one) == pytest.approx(gaffke_upper(other), abs=1e-12)
    assert gaffke_p(np.array([1 / 3, 1 / 3, -2 / 3])) == gaffke_p(np.array([2 / 3, -1 / 3, -1 / 3])) == 1.0


@given(mixtures, st.floats(-0.9, 0.9))
@example(np.zeros(284), -0.0078125)
def test_many_samples_at_once_are_judged_as_each_alone(values: Scores, mean: float) -> None:
    distinct, counts = tally(np.append(values, [-1.0, 1.0]))
    counts[[0, -1]] -= 1
    [share] = bounded_mean_share(distinct, counts[None], mean)
    upper = gaffke_upper(values)
    assume(abs(upper - mean) > 1e-7)
    assert (upper < mean) == (share < 0.05)


def test_the_draws_have_the_bounds_as_quantiles() -> None:
    for values in (np.repeat([-1.0, -1 / 3, 0.0, 1 / 3], [1, 4, 90, 9]), np.random.default_rng(8).uniform(-1, 1, 40)):
        lows, highs = drawn_means(values, 1.0, 40_000, 3)
        error = 0.05 * values.std() / math.sqrt(values.size)
        assert np.quantile(highs, 0.975) == pytest.approx(gaffke_upper(values, confidence=0.975), abs=error)
        assert np.quantile(lows, 0.025) == pytest.approx(gaffke_lower(values, lowest=-1, confidence=0.975), abs=error)


@pytest.mark.parametrize("n", [2, 12, 40, 120])
def test_one_gain_and_no_loss_among_few_graded_items_shows_no_margin(n: int) -> None:
    """A percentile bootstrap says "not worse at all" here, since no resample shows a loss."""
    before, after = np.full(n, 2 / 3), np.full(n, 2 / 3)
    after[0] = 1.0
    for side in (compare(before, after), compare(np.tile(before, 3), np.tile(after, 3), clusters=np.tile(range(n), 3))):
        assert side.upper > 0.02
        assert decide([side], 0.02)[0].verdict is Verdict.inconclusive
    larger = compare(np.full(200, 2 / 3), np.append(np.full(199, 2 / 3), 1.0))
    assert decide([larger], 0.02)[0].verdict is Verdict.within_margin


def test_rare_gains_are_no_reason_to_call_frequent_small_losses_worse() -> None:
    # Six of 24 items lose a twentieth, none gains: 1.25 points, which one unseen gain of a whole item outweighs. Every
    # sign the same has the sign-flip probability 2 / 2^6 = .03.
    before = np.full(24, 0.5)
    after = before - np.repeat([0.05, 0.0], [6, 18])
    assert compare(before, after).p_value > 0.3


def test_means_of_repeats_are_graded_and_bounded_so() -> None:
    ids = np.repeat(np.arange(20), 3)
    right = np.ones(60)
    right[0] = 0.0
    found = compare(np.ones(60), right, clusters=ids)
    assert (found.kind.value, found.interval_method, found.test_method) == ("graded", "Gaffke", "Gaffke, two-sided")
    assert estimate(right, clusters=ids).interval_method == "Gaffke"
    bootstrap = compare(np.ones(60), right, clusters=ids, method=Method.bootstrap)
    assert found.upper > bootstrap.upper


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.05 / 9])
def test_a_plan_without_variance_is_what_equal_values_take(alpha: float) -> None:
    for gap in (0.005, 0.02, 0.1):
        n = GaffkePlan(0.0, 1 - gap, alpha).items(gap, 0.8)
        assert n == pytest.approx(math.log(alpha) / math.log(1 - gap), rel=gap)


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([-1.0, -1 / 3, 0.0, 1 / 3, 1.0], [0.0, 0.02, 0.96, 0.02, 0.0]),
        ([-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0], [0.004, 0.0125, 0.0335, 0.9, 0.0335, 0.0125, 0.004]),
        ([-1.0, 0.0, 1.0], [0.05, 0.9, 0.05]),
        ([-1.0, -0.05, 0.0, 0.05, 1.0], [0.0, 0.25, 0.5, 0.25, 0.0]),
    ],
)
def test_planned_items_have_their_power(values: list[float], shares: list[float]) -> None:
    rng, scale = np.random.default_rng(0), np.array(values)
    variance = float(np.array(shares) @ scale**2)
    for margin in (0.02, 0.05):
        plan = GaffkePlan(variance, 1 - margin, 0.05)
        n = math.ceil(plan.items(margin, 0.8))
        shown = bounded_mean_share(scale, rng.multinomial(n, shares, 1000), margin) < 0.05
        assert 0.72 < shown.mean() < 0.93
        assert plan.power(n, margin) == pytest.approx(0.8, abs=0.02)
        assert plan.gap(n, 0.8) == pytest.approx(margin, rel=0.01)


def test_planned_numbers_grow_as_they_should() -> None:
    plans = [GaffkePlan(variance, 1.0, 0.05).items(0.02, 0.8) for variance in (0.0, 0.001, 0.01, 0.1)]
    assert all(small < large for small, large in pairwise(plans))
    assert math.isinf(GaffkePlan(0.1, 1.0, 0.05).items(0.0, 0.8))
