"""Agreement of orders: scipy's τ, and intervals that follow from how much items differ."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau

from quantexp.stats import rank_agreement
from quantexp.stats.rank_agreement import kendall_tau


@given(arrays(np.int64, (2, 6), elements=st.integers(0, 4)))
def test_tau_is_scipys(orders: Any) -> None:
    [found] = kendall_tau(*(row[None].astype(float) for row in orders))
    expected = kendalltau(*orders).statistic
    assert found == pytest.approx(expected, nan_ok=True)


def made(losses: Any, noise: float, items: int = 40) -> tuple[Any, Any, Any]:
    """Divergences that grow from condition to condition, and losses about these means."""
    rng = np.random.default_rng(0)
    kl = np.arange(1, len(losses) + 1)[:, None] * rng.uniform(0.9, 1.1, (len(losses), items))
    return kl, np.ones_like(kl), np.array(losses)[:, None] + noise * rng.normal(size=kl.shape)


def test_of_clear_orders_the_interval_is_narrow_and_of_noise_wide() -> None:
    whole, near = rank_agreement(*made(np.arange(10.0), 0.1), paired=True)
    assert (whole.conditions, whole.tau, whole.low, whole.high) == (10, 1, 1, 1)
    assert (near.conditions, near.tau) == (5, 1)
    # The near half loses nothing, and the others do.
    whole, near = rank_agreement(*made([0.0] * 5 + [5.0, 6, 7, 8, 9], 1.0), paired=True)
    assert whole.tau > 0.7
    assert near.low < near.tau < near.high
    assert near.high - near.low > 0.5
    again, _ = rank_agreement(*made(-np.arange(6.0), 0.1), paired=False)
    assert again.tau == -1


def test_too_few_conditions_or_no_differences_have_no_tau() -> None:
    whole, near = rank_agreement(*made(np.arange(4.0), 0.1), paired=True)
    assert math.isnan(whole.tau)
    assert (whole.conditions, near.conditions) == (4, 2)
    whole, _ = rank_agreement(*made([0.0] * 6, 0.0), paired=True)
    assert math.isnan(whole.tau)
    kl, sizes, losses = made(np.arange(5.0), 0.1)
    with pytest.raises(ValueError, match="cannot be paired"):
        rank_agreement(kl, sizes, losses[:, 1:], paired=True)
