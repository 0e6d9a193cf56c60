"""Effects that differ from place to place: against statsmodels, in special cases, and how often intervals are right."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pooling import simulate_models
from scipy.stats import chi2, t
from statsmodels.stats.meta_analysis import combine_effects

from quantexp.stats import compare, effect_variance, measure_heterogeneity, random_effects

places = st.lists(st.tuples(st.floats(-0.2, 0.2), st.floats(1e-5, 1e-2)), min_size=2, max_size=8)


@given(places)
def test_against_statsmodels(found: list[tuple[float, float]]) -> None:
    effects, variances = (np.array(each) for each in zip(*found, strict=True))
    assume(np.ptp(effects) > 1e-6)  # or it divides by nothing
    ours = random_effects(effects, variances)
    theirs = combine_effects(effects, variances, method_re="iterated", use_t=True, atol=1e-6, maxiter=500)
    assert ours.heterogeneity.q == pytest.approx(theirs.q)
    assert ours.heterogeneity.p_value == pytest.approx(chi2.sf(theirs.q, effects.size - 1))
    assert ours.heterogeneity.tau**2 == pytest.approx(max(0.0, theirs.tau2), rel=1e-4, abs=1e-7)
    assert ours.mean == pytest.approx(theirs.mean_effect_re, abs=1e-5)
    # Theirs may be narrower than chance alone allows.
    half = t.ppf(0.975, effects.size - 1) * max(theirs.sd_eff_w_re_hksj, theirs.sd_eff_w_re)
    assert ours.high == pytest.approx(min(1, ours.mean + half), abs=1e-4)


@given(places, st.floats(0, 1))
def test_what_must_hold_for_any_effects(found: list[tuple[float, float]], shared: float) -> None:
    effects, variances = (np.array(each) for each in zip(*found, strict=True))
    summary = random_effects(effects, variances, shared=shared * variances.min())
    assert math.fsum(summary.weights) == pytest.approx(1)
    assert summary.places == effects.size
    assert effects.min() - 1e-12 <= summary.mean <= effects.max() + 1e-12
    assert -1 <= summary.low <= summary.mean <= summary.high <= 1
    of = summary.heterogeneity
    assert 0 <= of.tau_low <= of.tau + 1e-9 <= of.tau_high + 2e-9
    assert 0 <= of.i2_low <= of.i2 + 1e-9 <= of.i2_high + 2e-9 <= 1 + 2e-9
    if effects.size > 2:
        assert summary.predicted_low <= summary.low <= summary.high <= summary.predicted_high
    else:
        assert math.isnan(summary.predicted_low)


def test_equal_effects_have_the_error_of_their_mean_and_no_less() -> None:
    summary = random_effects([0.02] * 4, [1e-4] * 4)
    assert summary.heterogeneity.tau == summary.heterogeneity.q == 0
    assert summary.heterogeneity.i2 == 0
    assert summary.heterogeneity.i2_high == pytest.approx(1 - chi2.ppf(0.025, 3) / 3)  # agreement by luck is no proof
    assert summary.high - summary.mean == pytest.approx(t.ppf(0.975, 3) * 0.005)


def test_what_effects_share_does_not_average_out() -> None:
    alone = random_effects([0.02, 0.03, 0.01], [1e-4] * 3)
    together = random_effects([0.02, 0.03, 0.01], [1e-4] * 3, shared=0.9e-4)
    assert together.high - together.low > 1.2 * (alone.high - alone.low)
    # Of models that are one and the same there is one effect, however often it is listed.
    copies = random_effects([0.02] * 50, [1e-4] * 50, shared=1e-4)
    assert copies.high - copies.mean == pytest.approx(t.ppf(0.975, 49) * 0.01, rel=0.02)


def test_the_heterogeneity_of_known_numbers() -> None:
    found = measure_heterogeneity([0.0, 0.1], [1e-4, 1e-4])
    assert found.q == pytest.approx(50)
    assert found.degrees == 1
    assert found.tau**2 == pytest.approx(0.1**2 / 2 - 1e-4)
    assert found.i2 == pytest.approx(1 - 1 / 50)


def test_an_item_more_is_added_to_each_side_of_the_variance() -> None:
    same = compare([1.0] * 50, [1.0] * 50)
    assert effect_variance(same) == pytest.approx(2 / 52 / 52)
    assert effect_variance(compare([1.0], [1.0])) > 0
    many = compare([1.0] * 500 + [0.0] * 500, [0.0] * 500 + [1.0] * 500)
    assert effect_variance(many) == pytest.approx(1 / 1000, rel=0.01)
    assert 0 < effect_variance(compare([1.0] * 50, [0.0, 1.0] * 25, population=50)) < 1e-9


def test_wrong_input_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="1 effects and 1 variances"):
        random_effects([0.1], [0.1])
    with pytest.raises(ValueError, match="above 0, not 0"):
        random_effects([0.1, 0.2], [0.1, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 3, 5, 10])
@pytest.mark.parametrize("tau", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_the_interval_over_few_models_covers(models: int, tau: float, shared: float) -> None:
    rates = simulate_models(models, tau, 1500, shared=shared)
    assert rates.covers >= 0.925
    if tau == 0.03:
        assert rates.normal_covers < rates.covers
    if models > 2 and tau != 0.01:  # a spread that is mostly below chance is often estimated as none
        assert rates.predicts >= 0.9
