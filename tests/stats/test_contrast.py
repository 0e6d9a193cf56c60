"""Contrasts of independent parts: the published example, a normal approximation, and parts without variation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice import exact_bootstrap_law
from numpy.typing import NDArray
from scipy.stats import norm

from quantexp.stats import contrast, mcnemar
from quantexp.stats.graded import graded_bounds

Values = NDArray[np.float64]


def drops(b: int, c: int, n: int = 600) -> Values:
    return np.repeat([1.0, -1.0, 0.0], [b, c, n - b - c])


def test_the_published_reversal_was_never_shown() -> None:
    # TriviaQA loses 3.2 points at Q3 and GSM8K 2.0; the difference, 1.2, is well within chance.
    result = contrast([drops(37, 18), -drops(31, 19)])
    assert result.estimate == pytest.approx(7 / 600)
    assert (result.low, result.high) == pytest.approx((-0.0255, 0.0485), abs=0.0015)
    assert result.n == (600, 600)
    # Without resampling: the law of a difference of two independent sums. The normal approximation gives .49; the
    # probability of a tie at 0, about .03, counts on both sides.
    triviaqa, gsm8k = exact_bootstrap_law(37, 18, 600), exact_bootstrap_law(19, 31, 600)
    law = np.convolve(triviaqa.probabilities, gsm8k.probabilities)
    sums = np.arange(law.size) + triviaqa.sums[0] + gsm8k.sums[0]
    exact = 2 * law[sums <= 0].sum()
    assert exact == pytest.approx(0.525, abs=0.001)
    # What each part may have missed makes it larger.
    assert exact < result.p_value < exact + 0.13
    assert exact - law[sums == 0].sum() == pytest.approx(0.49, abs=0.005)


def test_one_part_has_the_bounds_and_the_test_of_a_comparison() -> None:
    result = contrast([drops(37, 18)], resamples=40_000)
    bounds = graded_bounds(drops(37, 18))
    assert (result.low, result.high) == pytest.approx((bounds.low, bounds.high), abs=0.001)
    assert result.p_value == pytest.approx(mcnemar(37, 18).exact, abs=0.004)


def test_what_a_part_may_have_missed_counts() -> None:
    # A gain of a third is seen, and no loss: resampling would never draw one.
    few = np.append(np.zeros(11), -1 / 3)
    result = contrast([few, np.zeros(400)])
    assert result.high > 0.1


def test_parts_of_different_sizes_add_their_variances() -> None:
    rng = np.random.default_rng(6)
    parts = [rng.normal(0.1, 0.2, 150).clip(-1, 1), rng.normal(-0.05, 0.3, 900).clip(-1, 1), drops(10, 4, 100)]
    result = contrast(parts)
    error = math.sqrt(sum(part.var() / part.size for part in parts))
    assert result.estimate == pytest.approx(sum(part.mean() for part in parts))
    unseen = sum(1 / part.size for part in parts)
    assert result.estimate - result.low == pytest.approx(1.96 * error + unseen, rel=0.15)
    assert result.high - result.estimate == pytest.approx(1.96 * error + unseen, rel=0.15)
    assert result.p_value >= 2 * norm.sf(abs(result.estimate) / error)
    assert result.n == (150, 900, 100)


def test_parts_are_resampled_independently() -> None:
    part = np.random.default_rng(1).normal(0, 0.2, 300).clip(-1, 1)
    one = contrast([part])
    for pair in ([part, part], [part, -part]):
        both = contrast(pair)
        assert both.high - both.low == pytest.approx(math.sqrt(2) * (one.high - one.low), rel=0.05)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_part_in_which_nothing_changed_is_not_certain(confidence: float) -> None:
    result = contrast([np.zeros(200)], confidence=confidence, resamples=40_000)
    bounds = graded_bounds(np.zeros(200), confidence=confidence)
    assert (result.low, result.high) == pytest.approx((bounds.low, bounds.high), abs=0.0015)
    assert result.p_value == 1.0
    alone, together = contrast([drops(20, 10, 200)]), contrast([drops(20, 10, 200), np.zeros(50)])
    assert together.high - together.low > 1.1 * (alone.high - alone.low)


def test_three_equal_losses_are_no_proof() -> None:
    result = contrast([np.full(3, 0.25)])
    assert result.low < 0 < 0.25 < result.high
    assert result.p_value > 0.05
    assert contrast([np.full(300, 0.25)]).p_value < 0.001


def test_another_largest_value_leaves_more_room() -> None:
    one, two = contrast([np.zeros(100)]), contrast([np.zeros(100)], largest=2.0)
    assert two.high == pytest.approx(2 * one.high)
    assert contrast([np.array([1.5, -2.0, 0.0])], largest=2.0).estimate == pytest.approx(-0.5 / 3)


parts = st.lists(
    st.lists(st.integers(-6, 6).map(lambda k: k / 6), min_size=1, max_size=30).map(np.array), min_size=1, max_size=3
)


@given(parts, st.integers(0, 2**32))
def test_what_holds_for_every_contrast(values: list[Values], seed: int) -> None:
    result = contrast(values, resamples=300, seed=seed)
    assert -len(values) <= result.low < result.high <= len(values)
    assert 0 <= result.p_value <= 1
    shuffled = contrast([np.random.default_rng(seed).permutation(v) for v in values], resamples=300, seed=seed)
    assert (shuffled.low, shuffled.high) == pytest.approx((result.low, result.high), abs=1e-12)
    assert shuffled.p_value == result.p_value
    assert result.estimate == pytest.approx(sum(v.mean() for v in values))


def test_false_positives_stay_near_the_level() -> None:
    rng = np.random.default_rng(2)
    rejected = 0
    for trial in range(400):
        one, other = (rng.choice([1.0, -1.0, 0.0], 300, p=[0.04, 0.04, 0.92]) for _ in range(2))
        rejected += contrast([one, -other], resamples=500, seed=trial).p_value < 0.05
    assert rejected / 400 < 0.085  # 0.05 and three standard errors


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "contrast needs at least one part"),
        ([[0.0], []], {}, "part 2 holds no score"),
        ([[0.0, math.nan]], {}, "part 1 must be finite, but item 1 is nan"),
        ([[0.0], [1.5]], {}, "part 2 has a value of size 1.5, but the largest possible is 1"),
        ([[0.0]], {"resamples": 0}, "resamples must be at least 1"),
        ([[0.0]], {"confidence": 95}, "confidence must be at least 0.5"),
    ],
)
def test_mistakes_get_one_sentence(values: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        contrast(values, **options)
    assert str(caught.value).endswith(".")
