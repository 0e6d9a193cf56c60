"""The bootstrap: golden values, the exact law, an independent implementation, and its algebra."""

import dataclasses
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from quantexp.stats import Method, compare, estimate
from quantexp.stats import bootstrap as module

paired_bootstrap = partial(compare, method=Method.bootstrap)
bootstrap_mean = partial(estimate, method=Method.bootstrap)

Scores = NDArray[np.float64]


def right_wrong(b: int, c: int, n: int = 600) -> tuple[Scores, Scores]:
    """b items only the baseline has right, then c only the quant has right, then agreement."""
    baseline = np.array([1.0] * b + [0.0] * c + [1.0] * (n - b - c))
    quant = np.array([0.0] * b + [1.0] * c + [1.0] * (n - b - c))
    return baseline, quant


def exact_law(b: int, c: int, n: int = 600) -> Scores:
    """P(sum of resampled differences = s) for s = -n..n, without Monte Carlo.

    The generating function of one draw, on the unit circle, to the power n.
    """
    one = np.zeros(2 * n + 1)
    one[[0, 1, -1]] = (n - b - c) / n, b / n, c / n
    law = np.fft.ifft(np.fft.fft(one) ** n).real
    return np.roll(law, n)


# Counts are whole numbers of 600, so an interval is known exactly as counts of items.
GOLDEN = [
    (22, 16, -6, 18, 0.3670),
    (31, 19, -2, 26, 0.0984),
    (5, 8, -10, 4, 0.4846),
    (37, 18, 5, 33, 0.0078),
    (38, 19, 4, 34, 0.0106),
]


@pytest.mark.parametrize(("b", "c", "low", "high", "p"), GOLDEN)
def test_golden_values(b: int, c: int, low: int, high: int, p: float) -> None:
    result = paired_bootstrap(*right_wrong(b, c))
    assert (result.low, result.high) == (low / 600, high / 600)
    assert result.p_value == p
    assert result.difference == (b - c) / 600
    assert result.changed == b + c
    assert result.n == 600


@pytest.mark.parametrize(("b", "c"), [(22, 16), (16, 16), (31, 19), (5, 8), (21, 14), (37, 18)])
def test_agrees_with_the_exact_law(b: int, c: int) -> None:
    law = exact_law(b, c)
    sums = np.arange(-600, 601)
    cumulative = np.cumsum(law)
    exact_p = min(1.0, 2 * min(law[sums <= 0].sum(), law[sums >= 0].sum()))
    exact_low, exact_high = (sums[np.searchsorted(cumulative, q)] for q in (0.025, 0.975))
    result = paired_bootstrap(*right_wrong(b, c), seed=7)
    spread = 2 * np.sqrt(exact_p / 2 * (1 - exact_p / 2) / result.resamples)
    assert abs(result.p_value - exact_p) < 5 * spread
    assert abs(result.low * 600 - exact_low) <= 1.001
    assert abs(result.high * 600 - exact_high) <= 1.001


@pytest.mark.parametrize("batch", [None, 500])
def test_identical_to_scipy(batch: int | None) -> None:
    baseline, quant = right_wrong(37, 18)
    theirs = scipy_stats.bootstrap(
        (baseline - quant,),
        np.mean,
        n_resamples=10_000,
        batch=batch,
        method="percentile",
        rng=np.random.default_rng(42),
    )
    ours = paired_bootstrap(baseline, quant)
    assert (ours.low, ours.high) == tuple(theirs.confidence_interval)
    means = module.resampled_means(baseline - quant, 10_000, 42)
    np.testing.assert_array_equal(means, theirs.bootstrap_distribution)


@pytest.mark.parametrize("n", [1, 2, 7, 600])
@pytest.mark.parametrize("indices", [1, 5, 600, 6007, 1 << 30])
def test_chunks_continue_one_stream(n: int, indices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(n)
    draws = np.random.default_rng(3).integers(0, n, (501, n))
    monkeypatch.setattr(module, "_INDICES_PER_CHUNK", indices)
    np.testing.assert_array_equal(module.resampled_means(values, 501, 3), values[draws].mean(axis=1))


def test_mean_is_the_difference_from_nothing() -> None:
    scores = np.random.default_rng(5).integers(0, 4, 200) / 3
    mean = bootstrap_mean(scores, seed=9)
    paired = paired_bootstrap(scores, np.zeros(200), seed=9)
    assert (mean.mean, mean.low, mean.high) == (paired.difference, paired.low, paired.high)


def test_mean_interval_is_about_the_normal_one() -> None:
    scores = np.array([1.0] * 240 + [0.0] * 360)
    found = bootstrap_mean(scores)
    half = 1.959964 * np.sqrt(0.4 * 0.6 / 600)
    assert found.mean == 0.4
    assert found.low == pytest.approx(0.4 - half, abs=0.003)
    assert found.high == pytest.approx(0.4 + half, abs=0.003)


def test_thirds_that_cancel_are_ties() -> None:
    # In exact arithmetic half of the items lose a third and half gain one, so 0 is a common value
    # of d*; the same comparison in whole numbers, which are exact, must give the same p.
    thirds = np.array([0, 1, 2, 3, 1, 2, 0, 3]) / 3, np.array([1, 0, 3, 2, 2, 1, 1, 2]) / 3
    whole = np.rint(3 * thirds[0]), np.rint(3 * thirds[1])
    means = module.resampled_means(thirds[0] - thirds[1], 10_000, 42)
    assert np.any((means != 0) & (np.abs(means) < 1e-12)), "the case must contain rounded ties"
    assert paired_bootstrap(*thirds).p_value == paired_bootstrap(*whole).p_value


def test_a_score_that_differs_by_rounding_has_not_changed() -> None:
    result = paired_bootstrap([0.1 + 0.2] * 10, [0.3] * 10)
    assert result.changed == 0
    assert result.zero_width
    assert result.p_value == 1.0


def test_no_discordant_pair_is_marked_not_bounded() -> None:
    baseline, quant = right_wrong(0, 0, n=200)
    result = paired_bootstrap(baseline, quant)
    assert (result.low, result.high, result.p_value) == (0.0, 0.0, 1.0)
    assert result.zero_width
    assert not paired_bootstrap(*right_wrong(1, 0, n=200)).zero_width
    assert bootstrap_mean(baseline).zero_width
    assert not bootstrap_mean([0.0, 1.0, 1.0]).zero_width


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    pair = right_wrong(37, 18)
    narrow, wide = (paired_bootstrap(*pair, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.p_value == narrow.p_value


def test_lists_and_booleans_are_scores() -> None:
    assert paired_bootstrap([True, True, False], [False, True, False]).difference == 1 / 3


def test_results_are_frozen() -> None:
    result = paired_bootstrap([1.0, 0.0], [0.0, 0.0], resamples=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.difference = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("baseline", "quant", "options", "message"),
    [
        ([1.0], [1.0, 0.0], {}, "baseline has 1 scores and quant has 2"),
        ([], [], {}, "baseline holds no score"),
        ([[1.0, 0.0]], [1.0, 0.0], {}, "baseline must have one dimension"),
        (1.0, [1.0], {}, "baseline must have one dimension"),
        ([1.0, 0.0], [1.0, float("nan")], {}, "quant must be finite, but item 1 is nan"),
        ([float("inf")], [1.0], {}, "baseline must be finite, but item 0 is inf"),
        (["right"], [1.0], {}, "baseline must be a one-dimensional array of numbers"),
        ([[1.0], [1.0, 2.0]], [1.0], {}, "baseline must be a one-dimensional array of numbers"),
        ([1.0], [1.0], {"resamples": 0}, "resamples must be at least 1"),
        ([1.0], [1.0], {"seed": -1}, "seed must not be negative"),
        ([1.0], [1.0], {"confidence": 1.0}, "confidence must be at least 0.5 and below 1"),
        ([1.0], [1.0], {"confidence": 95}, "confidence must be at least 0.5 and below 1"),
    ],
)
def test_mistakes_get_one_sentence(baseline: Any, quant: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        paired_bootstrap(baseline, quant, **options)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_mistakes_about_one_mean() -> None:
    with pytest.raises(ValueError, match=r"scores must be finite, but item 2 is nan\.$"):
        bootstrap_mean([0.0, 1.0, float("nan")])
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        bootstrap_mean([0.0, 1.0], resamples=0)


# Eighths and powers of two are exact in binary, so the algebra can be asserted to the bit.
eighths = st.integers(0, 8).map(lambda k: k / 8)
pairs = st.lists(st.tuples(eighths, eighths), min_size=1, max_size=40).map(
    lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
)
seeds = st.integers(0, 2**32)
CLOSE = 1e-12


@given(pairs, seeds)
def test_properties_of_one_result(pair: tuple[Scores, Scores], seed: int) -> None:
    baseline, quant = pair
    result = paired_bootstrap(baseline, quant, resamples=200, seed=seed)
    d = baseline - quant
    assert d.min() <= result.low <= result.high <= d.max()
    assert 0.0 <= result.p_value <= 1.0
    assert result.difference == pytest.approx(result.baseline_mean - result.quant_mean, abs=CLOSE)
    assert result.changed == sum(x != y for x, y in zip(baseline, quant, strict=True))
    assert result == paired_bootstrap(baseline, quant, resamples=200, seed=seed)
    if result.low > 0:
        assert result.p_value <= 0.06  # 0.05 and the one resample the percentile interpolates over
    if result.p_value == 0:
        assert result.low > 0 or result.high < 0


@given(pairs, seeds)
def test_swapping_the_two_mirrors_the_result(pair: tuple[Scores, Scores], seed: int) -> None:
    baseline, quant = pair
    one = paired_bootstrap(baseline, quant, resamples=200, seed=seed)
    other = paired_bootstrap(quant, baseline, resamples=200, seed=seed)
    assert other.difference == -one.difference
    assert other.p_value == one.p_value
    assert other.low == pytest.approx(-one.high, abs=CLOSE)
    assert other.high == pytest.approx(-one.low, abs=CLOSE)


@given(pairs, seeds, st.integers(-4, 4), st.integers(-20, 20))
def test_scaling_scales_and_shifting_changes_nothing(
    pair: tuple[Scores, Scores], seed: int, power: int, shift: int
) -> None:
    baseline, quant = pair
    scale = 2.0**power
    one = paired_bootstrap(baseline, quant, resamples=200, seed=seed)
    scaled = paired_bootstrap(baseline * scale, quant * scale, resamples=200, seed=seed)
    assert (scaled.difference, scaled.low, scaled.high, scaled.p_value) == (
        one.difference * scale,
        one.low * scale,
        one.high * scale,
        one.p_value,
    )
    shifted = paired_bootstrap(baseline + shift, quant + shift, resamples=200, seed=seed)
    assert (shifted.difference, shifted.low, shifted.high, shifted.p_value, shifted.changed) == (
        one.difference,
        one.low,
        one.high,
        one.p_value,
        one.changed,
    )


@given(pairs, seeds)
def test_identical_arrays_differ_by_nothing(pair: tuple[Scores, Scores], seed: int) -> None:
    result = paired_bootstrap(pair[0], pair[0], resamples=50, seed=seed)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


@given(pairs, seeds, eighths)
def test_mean_moves_with_its_scores(pair: tuple[Scores, Scores], seed: int, up: float) -> None:
    scores, _ = pair
    one = bootstrap_mean(scores, resamples=200, seed=seed)
    moved = bootstrap_mean(scores + up, resamples=200, seed=seed)
    assert scores.min() <= one.low <= one.high <= scores.max()
    assert moved.mean == pytest.approx(one.mean + up, abs=CLOSE)
    assert moved.low == pytest.approx(one.low + up, abs=CLOSE)
    assert moved.high == pytest.approx(one.high + up, abs=CLOSE)


def test_statistics_load_nothing_slow() -> None:
    # scipy.special is needed; scipy.stats takes a second, which every command would wait for.
    code = (
        "import sys, quantexp.stats;"
        "print(*sorted(sys.modules.keys() & {'matplotlib', 'rich', 'mlflow', 'hydra', 'scipy.stats', 'pandas'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
