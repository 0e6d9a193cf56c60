"""Exact laws of sums: by hand, by full enumeration, and against resampling."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice import resampled_law
from numpy.typing import NDArray

few = st.lists(st.integers(-3, 3), min_size=1, max_size=5).map(np.array)


def tally(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    distinct, counts = np.unique(values, return_counts=True)
    return distinct, counts.astype(np.int64)


@given(few)
def test_resampling_enumerated(values: NDArray[np.int64]) -> None:
    law = resampled_law(*tally(values), 1)
    assert law is not None
    sums = np.array([sum(draw) for draw in product(values, repeat=values.size)])
    for possible in range(-16, 17):
        assert law.probabilities[law.sums == possible].sum() == pytest.approx(np.mean(sums == possible), abs=1e-12)
    assert law.p_value == pytest.approx(min(1.0, 2 * min(np.mean(sums <= 0), np.mean(sums >= 0))), abs=1e-12)


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
