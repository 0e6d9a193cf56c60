"""The bootstrap and the sign-flip test of graded differences, whichever way they are computed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from quantexp.stats import graded as module
from quantexp.stats import mcnemar, tango_interval, wilson_interval
from quantexp.stats.graded import bootstrap_bounds, drawn_means, sign_flip_p

Scores = NDArray[np.float64]

# Three ways to compute one thing: the exact law, counts of categories, items.
LATTICE = np.repeat([-1.0, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0], [4, 9, 170, 8, 6, 3])
CATEGORIES = np.repeat([-math.sqrt(0.5), -0.1, 0.0, 0.1, math.sqrt(0.5)], [6, 9, 170, 9, 6])
CONTINUOUS = np.random.default_rng(8).normal(0.02, 0.1, 200).clip(-1, 1)


def test_each_way_is_taken() -> None:
    assert bootstrap_bounds(LATTICE).method == "percentile bootstrap, exact law"
    assert bootstrap_bounds(CATEGORIES).method == "percentile bootstrap, 10,000 resamples"
    assert sign_flip_p(LATTICE)[1] == "sign-flip permutation, exact"
    assert sign_flip_p(CONTINUOUS)[1] == "sign-flip permutation, 10,000 resamples"


@pytest.mark.parametrize("values", [LATTICE, CATEGORIES, CONTINUOUS, CATEGORIES + 0.07])
def test_intervals_agree_with_scipy(values: Scores) -> None:
    theirs = [
        scipy_stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=level, rng=1
        ).confidence_interval
        for level in (0.95, 0.9)
    ]
    ours = bootstrap_bounds(values, resamples=20_000)
    error = 0.05 * values.std() / math.sqrt(values.size) + 1 / (3 * values.size)  # Monte Carlo, and one step
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs[0]), abs=error)
    assert ours.upper == pytest.approx(theirs[1].high, abs=error)


@pytest.mark.parametrize("values", [LATTICE, CATEGORIES, CONTINUOUS, CATEGORIES + 0.07])
def test_p_agrees_with_scipy(values: Scores) -> None:
    theirs = scipy_stats.permutation_test(
        (values, np.zeros(values.size)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=5_000,
        rng=1,
    ).pvalue
    ours, _ = sign_flip_p(values, resamples=20_000)
    assert ours == pytest.approx(theirs, abs=5 * math.sqrt(theirs * (1 - theirs) / 5_000) + 1e-3)


def test_categories_and_items_draw_from_one_law(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(items_per_category: int) -> tuple[Scores, Scores]:
        monkeypatch.setattr(module, "_ITEMS_PER_CATEGORY", items_per_category)
        sizes, times = module._tally(np.abs(CATEGORIES))
        rng = np.random.default_rng(5)
        sums = module._flipped_sums(sizes, times, rng, 20_000)
        return drawn_means(CATEGORIES, 20_000, 3).round(9), sums.round(9)

    for one, other in zip(drawn(0), drawn(1 << 30), strict=True):
        assert not np.array_equal(one, other)
        assert scipy_stats.ks_2samp(one, other).pvalue > 0.001
        assert one.std() == pytest.approx(other.std(), rel=0.03)


@pytest.mark.parametrize(("b", "c"), [(22, 16), (16, 16), (31, 19), (5, 8), (37, 18), (6, 0), (1, 0)])
def test_p_of_right_and_wrong_is_mcnemars_exact_p(b: int, c: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.repeat([1.0, -1.0, 0.0], [b, c, 600 - b - c])
    exact = mcnemar(b, c).exact
    assert sign_flip_p(values)[0] == pytest.approx(exact, abs=1e-12)
    monkeypatch.setattr(module, "flipped_law", lambda *_: None)
    resampled, _ = sign_flip_p(values)
    assert resampled == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-3)


def test_a_resampled_p_is_never_zero() -> None:
    values = np.full(60, 0.3) + np.linspace(0, 0.01, 60) * math.pi
    assert sign_flip_p(values, resamples=99)[0] == 0.01


def test_an_exact_p_is_never_zero_either() -> None:
    assert sign_flip_p(np.full(100, 0.5))[0] == pytest.approx(2.0**-99, abs=1e-12)
    assert sign_flip_p(np.full(100, 0.5))[0] > 0


def test_thirds_that_cancel_are_ties() -> None:
    # 2/3 - 1/3 and 1/3 - 0 differ by rounding; as the same change they make far more sign patterns a tie.
    values = np.array([2 / 3 - 1 / 3, 1 / 3, 0 - 1 / 3, 1 / 3 - 2 / 3, 1 - 2 / 3])
    assert len(set(np.abs(values))) > 1
    assert sign_flip_p(values)[0] == sign_flip_p(np.array([1.0, 1, -1, -1, 1]))[0] == 1.0


def test_thirteenths_that_cancel_are_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    # On no lattice that is looked for, so resampled; 1/13 + 6/13 - 7/13 is not 0 in floating point. In whole numbers,
    # where every tie is exact, the same sign patterns must give the same p.
    whole = np.repeat([1.0, -1.0, 6.0, -6.0, 7.0, -7.0], [7, 4, 5, 6, 3, 2])
    resampled, method = sign_flip_p(whole / 13)
    assert "resamples" in method
    monkeypatch.setattr(module, "flipped_law", lambda *_: None)
    assert sign_flip_p(whole)[0] == resampled


def test_one_change_computed_in_two_ways_is_one_value() -> None:
    one = np.repeat([0.7, 0.1, 0.0, math.pi / 8], [20, 20, 60, 10])
    other = np.repeat([0.7, 0.8 - 0.7, 0.3 - 0.2, 0.0, math.pi / 8], [20, 10, 10, 60, 10])
    assert len(set(one)) < len(set(other))
    np.testing.assert_allclose(drawn_means(other, 500, 3), drawn_means(one, 500, 3), atol=1e-12)


@pytest.mark.parametrize("n", [1, 5, 200, 10_000])
def test_nothing_changed_is_bounded_as_without_discordant_pairs(n: int) -> None:
    bounds = bootstrap_bounds(np.zeros(n))
    assert (bounds.low, bounds.high) == pytest.approx(tango_interval(0, 0, n), abs=1e-12)
    assert bounds.upper == pytest.approx(tango_interval(0, 0, n, confidence=0.9)[1], abs=1e-12)
    assert sign_flip_p(np.zeros(n))[0] == 1.0


def test_all_right_is_bounded_as_by_wilson() -> None:
    bounds = bootstrap_bounds(np.ones(200), lowest=0.0)
    assert (bounds.low, bounds.high) == pytest.approx(wilson_interval(200, 200), abs=1e-12)


@settings(max_examples=40)
@given(st.integers(1, 300), st.floats(-1, 1))
def test_equal_values_leave_room_on_both_sides(n: int, value: float) -> None:
    bounds = bootstrap_bounds(np.full(n, value))
    point = float(np.full(n, value).mean())
    assert -1 <= bounds.low <= point <= bounds.high <= 1
    assert bounds.low < bounds.high
    assert bounds.upper <= bounds.high
    more = bootstrap_bounds(np.full(4 * n, value))
    assert more.high - more.low < bounds.high - bounds.low


def test_a_single_resample_has_no_width_of_its_own() -> None:
    bounds = bootstrap_bounds(CONTINUOUS, resamples=1)
    assert bounds.low < CONTINUOUS.mean() < bounds.high


# Any mixture: on a lattice, on none, many values, few values.
mixtures = st.one_of(
    st.lists(st.integers(-6, 6).map(lambda k: k / 6), min_size=2, max_size=60),
    st.lists(st.sampled_from([0.0, 0.123456, -0.123456, 0.7654321, 1.0]), min_size=2, max_size=120),
    st.lists(st.floats(-1, 1), min_size=2, max_size=40),
).map(np.array)


@settings(max_examples=60)
@given(mixtures, st.integers(0, 2**32))
def test_order_and_sign(values: Scores, seed: int) -> None:
    ours, p = bootstrap_bounds(values, resamples=300, seed=seed), sign_flip_p(values, resamples=300, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(values)
    assert bootstrap_bounds(shuffled, resamples=300, seed=seed).high == pytest.approx(ours.high, abs=1e-12)
    assert sign_flip_p(shuffled, resamples=300, seed=seed) == p
    assert sign_flip_p(-values, resamples=300, seed=seed) == p
    if "exact" in ours.method:
        mirrored = bootstrap_bounds(-values, resamples=300, seed=seed)
        assert (-mirrored.high, -mirrored.low) == pytest.approx((ours.low, ours.high), abs=1e-12)
    assert -1 <= ours.low < ours.high <= 1
    assert ours.low <= ours.upper <= ours.high
    assert 0 < p[0] <= 1


@pytest.mark.parametrize("values", [CATEGORIES + 0.07, CONTINUOUS])
def test_resamples_mirror_up_to_their_noise(values: Scores) -> None:
    one, other = bootstrap_bounds(values), bootstrap_bounds(-values)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.1 * values.std() / math.sqrt(200))
