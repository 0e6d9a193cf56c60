"""The mean of independent estimates, and how often its interval is right."""

import numpy as np
import pytest

from quantexp.stats import average, estimate


def test_of_one_estimate_it_is_the_estimate() -> None:
    one = estimate([1.0, 0.0, 1.0])
    found = average([one])
    assert (found.value, found.low, found.high) == pytest.approx((one.mean, one.low, one.high))


def test_of_equal_estimates_the_interval_shrinks_by_the_root_of_their_number() -> None:
    one = estimate([1.0] * 30 + [0.0] * 20)
    found = average([one] * 4)
    assert found.value == pytest.approx(one.mean)
    assert found.value - found.low == pytest.approx((one.mean - one.low) / 2)
    assert found.high - found.value == pytest.approx((one.high - one.mean) / 2)


def test_of_none_it_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        average([])


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng, true, trials = np.random.default_rng(1), (0.3, 0.6, 0.85), 400
    covered = 0
    for _ in range(trials):
        found = average([estimate((rng.random(40) < p).astype(float)) for p in true])
        covered += int(found.low <= np.mean(true) <= found.high)
    assert 0.92 <= covered / trials <= 0.98
