"""Merging of answers into units, the design effect, and the correction for a fixed item set."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from quantexp.stats.units import finite_factor, finite_p, group

Scores = NDArray[np.float64]

clustered = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=2, max_size=60).map(
    lambda rows: (np.array([r[0] for r in rows]) / 8, np.array([r[1] for r in rows]))
)


def test_answers_of_one_unit_are_averaged() -> None:
    units = group(5, ["b", "a", "b", "c", "a"])
    assert (units.answers, units.n) == (5, 3)
    np.testing.assert_array_equal(units.means(np.array([1.0, 0.5, 0.0, 1.0, 1.0])), [0.75, 0.5, 1.0])


def test_without_ids_every_answer_is_a_unit() -> None:
    values = np.array([0.1, 0.2, 0.3])
    units = group(3)
    assert units.n == 3
    np.testing.assert_array_equal(units.means(values), values)
    assert units.design_effect(values) == 1.0


def test_three_identical_copies_have_a_design_effect_of_three() -> None:
    scores = np.random.default_rng(0).integers(0, 4, 200) / 3
    units = group(600, np.tile(np.arange(200), 3))
    assert units.design_effect(np.tile(scores, 3)) == pytest.approx(3.0, rel=1e-12)


def test_repeats_that_do_not_resemble_each_other_have_a_design_effect_near_one() -> None:
    scores = np.random.default_rng(0).random(30_000)
    assert group(30_000, np.arange(30_000) % 10_000).design_effect(scores) == pytest.approx(1.0, abs=0.05)


def test_repeats_that_cancel_have_a_design_effect_of_zero() -> None:
    assert group(4, [0, 0, 1, 1]).design_effect(np.array([0.0, 1.0, 1.0, 0.0])) == 0.0


def test_equal_answers_and_one_unit() -> None:
    assert group(4, [0, 0, 1, 1]).design_effect(np.full(4, 0.1)) == 1.0
    assert group(1, ["a"]).design_effect(np.array([0.5])) == 1.0
    assert math.isnan(group(3, [7, 7, 7]).design_effect(np.array([0.0, 1.0, 1.0])))


@given(clustered)
def test_units_agree_with_a_plain_loop(data: tuple[Scores, NDArray[np.int64]]) -> None:
    scores, ids = data
    units = group(scores.size, ids)
    expected = [np.mean([s for s, i in zip(scores, ids, strict=True) if i == unit]) for unit in sorted(set(ids))]
    np.testing.assert_allclose(units.means(scores), expected, rtol=1e-12)
    named = group(scores.size, [f"item {i}" for i in ids])
    np.testing.assert_array_equal(named.means(scores), units.means(scores))


def test_a_fixed_set_shrinks_as_sampling_without_replacement_does() -> None:
    # Exact: the variance of the mean over all samples of 3 of 7 items.
    items = np.array([0.0, 1.0, 1.0, 0.5, 0.25, 0.0, 1.0])
    means = [items[list(chosen)].mean() for chosen in combinations(range(7), 3)]
    assert finite_factor(3, 7) ** 2 * items.var() / 3 == pytest.approx(np.var(means))


def test_known_factors() -> None:
    assert finite_factor(600, None) == 1.0
    assert finite_factor(600, 600) == 0.0
    assert finite_factor(1, 1) == 0.0
    assert finite_factor(514, 1319) == pytest.approx(math.sqrt(805 / 1318))
    assert finite_factor(1, 10) == 1.0


@given(st.floats(1e-12, 1.0), st.floats(0.05, 1.0))
def test_p_of_a_fixed_set_is_the_normal_deviate_rescaled(p: float, factor: float) -> None:
    expected = 2 * norm.sf(norm.isf(p / 2) / factor)
    assert finite_p(p, factor, 0.1) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert finite_p(p, factor, 0.1) <= p * (1 + 1e-9)


def test_p_at_the_ends() -> None:
    assert finite_p(0.3, 1.0, 0.1) == 0.3
    assert finite_p(1.0, 0.5, 0.0) == 1.0
    assert finite_p(0.0, 0.5, 0.1) == 0.0
    assert finite_p(5e-324, 0.5, 0.1) < 1e-300
    assert finite_p(0.9, 0.0, 0.01) == 0.0
    assert finite_p(1.0, 0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([1, 2], r"one id for each of the 3 answers, but has the shape \(2,\)"),
        (5, r"one id for each of the 3 answers, but has the shape \(\)"),
        ([1.0, float("nan"), 2.0], "all numbers or all strings, without gaps"),
        (np.array(["a", None, "b"], dtype=object), "all numbers or all strings, without gaps"),
    ],
)
def test_mistakes_get_one_sentence(clusters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        group(3, clusters)
    assert str(caught.value).endswith(".")


def test_more_answered_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"population=599 must be at least .* which is 600\.$"):
        finite_factor(600, 599)
