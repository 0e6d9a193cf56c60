"""Exact laws of sums: by hand, by full enumeration, and against resampling."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from quantexp.stats.lattice import flipped_law, resampled_law, steps

few = st.lists(st.integers(-3, 3), min_size=1, max_size=5).map(np.array)


def tally(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    distinct, counts = np.unique(values, return_counts=True)
    return distinct, counts.astype(np.int64)


@pytest.mark.parametrize(
    ("values", "whole", "per_one"),
    [
        ([-1.0, 0.0, 1.0], [-1, 0, 1], 1),
        ([0.0], [0], 1),
        ([-1 / 3, 0.0, 2 / 3], [-1, 0, 2], 3),
        ([0.25, 1 / 3], [3, 4], 12),
        ([2.0, 4.0], [2, 4], 1),
        ([0.01, 0.5], [1, 50], 100),
        ([0.1 + 0.2 - 0.3, 0.1], [0, 1], 10),
    ],
)
def test_the_step_that_fits(values: list[float], whole: list[int], per_one: int) -> None:
    found = steps(np.array(values))
    assert found is not None
    assert (found[0].tolist(), found[1]) == (whole, per_one)


@pytest.mark.parametrize("value", [1 / 11, math.pi / 4, 0.3 + 1e-7])
def test_values_off_every_lattice(value: float) -> None:
    assert steps(np.array([0.0, value])) is None


@settings(max_examples=40)
@given(few)
def test_resampling_enumerated(values: NDArray[np.int64]) -> None:
    law = resampled_law(*tally(values), 1)
    assert law is not None
    sums = np.array([sum(draw) for draw in product(values, repeat=values.size)])
    for possible in range(-16, 17):
        assert law.probabilities[law.sums == possible].sum() == pytest.approx(np.mean(sums == possible), abs=1e-12)
    assert law.p_value == pytest.approx(min(1.0, 2 * min(np.mean(sums <= 0), np.mean(sums >= 0))), abs=1e-12)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9).map(np.array))
def test_sign_flips_enumerated(sizes: NDArray[np.int64]) -> None:
    law = flipped_law(*tally(sizes), 1)
    assert law is not None
    sums = np.array([np.dot(signs, sizes) for signs in product((-1, 1), repeat=sizes.size)])
    for size in range(int(sizes.sum()) + 2):
        assert law.beyond(size) == pytest.approx(np.mean(np.abs(sums) >= size), abs=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 300), st.integers(0, 300))
def test_sign_flips_of_ones_are_the_binomial_test(b: int, c: int) -> None:
    changed = b + c + 1
    law = flipped_law(np.array([1]), np.array([changed]), 1)
    assert law is not None
    assert law.beyond(abs(b + 1 - c)) == pytest.approx(binomtest(c, changed).pvalue, abs=1e-11)


def test_the_tails_that_are_left_out_do_not_matter() -> None:
    # Wide and narrow laws, one-sided values, and a mean far from 0: nothing is lost and nothing wraps around.
    for values, counts in (
        ([1, 0], [1, 99_999]),
        ([100, 0], [3, 5_000]),
        ([7, 8], [50_000, 50_000]),
        ([-3, 3], [1, 1]),
    ):
        drawn, times = np.array(values), np.array(counts)
        law = resampled_law(drawn, times, 1)
        assert law is not None
        n = times.sum()
        mean = float(drawn @ times / n)
        assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-10)
        assert law.sums @ law.probabilities == pytest.approx(n * mean, abs=1e-5)
        spread = (law.sums - n * mean) ** 2 @ law.probabilities
        assert spread == pytest.approx(float((drawn - mean) ** 2 @ times), rel=1e-7)


def test_an_end_of_the_interval_is_exceeded_with_at_most_the_tail() -> None:
    law = resampled_law(np.array([-2, 0, 3]), np.array([5, 80, 7]), 4)
    assert law is not None
    low, high = law.interval(0.9)
    means = law.sums / (92 * 4)
    assert law.probabilities[means < low].sum() < 0.05 <= law.probabilities[means <= low].sum()
    assert law.probabilities[means > high].sum() < 0.05 <= law.probabilities[means >= high].sum()


def test_laws_too_long_are_left_to_resampling() -> None:
    assert resampled_law(np.array([0, 25_200]), np.array([500, 500]), 25_200) is None
    assert flipped_law(np.array([25_199]), np.array([500]), 25_200) is None
