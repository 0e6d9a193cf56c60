"""The planner: the published table, brute-force enumeration, and what power does as its arguments move."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quantexp.stats import (
    mcnemar_power,
    minimal_detectable_difference,
    power_within,
    required_items,
    required_items_within,
)
from quantexp.stats.binary import mcnemar, tango_upper

PSI = (0.02, 0.05, 0.10)

# The smallest detectable drop in percentage points at 80% power and 5%, two-sided; None is out of reach.
DETECTABLE: dict[int, tuple[float | None, float | None, float | None]] = {
    100: (None, None, 8.24),
    200: (None, 4.13, 6.05),
    300: (None, 3.45, 5.04),
    400: (1.83, 3.03, 4.36),
    500: (1.66, 2.74, 3.90),
    600: (1.53, 2.52, 3.57),
    800: (1.34, 2.18, 3.11),
    1000: (1.21, 1.95, 2.78),
    1319: (1.07, 1.71, 2.43),
    1500: (1.01, 1.61, 2.28),
    2000: (0.87, 1.39, 1.97),
}


@pytest.mark.parametrize("n", DETECTABLE)
def test_the_table_of_detectable_differences(n: int) -> None:
    for psi, expected in zip(PSI, DETECTABLE[n], strict=True):
        found = minimal_detectable_difference(n, psi)
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert 100 * found == pytest.approx(expected, abs=0.0051)


def enumerated(n: int, psi: float, difference: float, claims: Callable[[int, int], bool]) -> float:
    """The probability of a claim, over every b and c."""
    shares = [(psi + difference) / 2, (psi - difference) / 2, 1 - psi]
    return math.fsum(
        float(stats.multinomial.pmf([b, c, n - b - c], n, shares))
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if claims(b, c)
    )


def mid_p(b: int, c: int) -> float:
    k, changed = min(b, c), b + c
    return float(2 * (stats.binom.cdf(k - 1, changed, 0.5) + stats.binom.pmf(k, changed, 0.5) / 2))


@pytest.mark.parametrize(("n", "psi", "difference", "alpha"), [(30, 0.5, 0.2, 0.05), (45, 0.2, -0.2, 0.05 / 9)])
def test_power_is_the_sum_over_all_outcomes(n: int, psi: float, difference: float, alpha: float) -> None:
    expected = enumerated(n, psi, difference, lambda b, c: mid_p(b, c) <= alpha)
    assert mcnemar_power(n, psi, difference, alpha=alpha) == pytest.approx(expected, abs=1e-10)


def upper(b: int, c: int, n: int, confidence: float) -> float:
    """The upper end of the Tango interval, by maximum likelihood and root finding: no closed form is shared."""
    from scipy.optimize import brentq, minimize_scalar

    def z(drop: float) -> float:
        def minus_log_likelihood(q: float) -> float:
            return -float(stats.multinomial.logpmf([b, c, n - b - c], n, [q + drop, q, max(0.0, 1 - 2 * q - drop)]))

        low, high = max(0.0, -drop), (1 - drop) / 2
        q = minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-11}).x
        return (b - c - n * drop) / math.sqrt(n * (2 * q + drop * (1 - drop)))

    quantile = float(stats.norm.isf((1 - confidence) / 2))
    return float(brentq(lambda drop: z(drop) + quantile, max(-0.99, (b - c) / n), 0.999, xtol=1e-9))


def test_power_within_is_the_sum_over_all_outcomes() -> None:
    n, psi, margin, difference = 20, 0.3, 0.2, -0.05
    expected = enumerated(n, psi, difference, lambda b, c: b - c < n * margin and upper(b, c, n, 0.9) < margin)
    assert power_within(n, psi, margin, difference) == pytest.approx(expected, abs=1e-10)


def test_a_claim_of_no_loss_needs_items_even_if_nothing_changes() -> None:
    # With b = c = 0 the upper end is z² / (n + z²): below 2% from 133 items on.
    assert power_within(132, 1e-9, 0.02) == pytest.approx(0, abs=1e-6)
    assert power_within(133, 1e-9, 0.02) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("psi", "margin", "n"), [(0.05, 0.02, 773), (0.05, 0.01, 3092)])
def test_items_within_a_margin_by_the_closed_form(psi: float, margin: float, n: int) -> None:
    assert required_items_within(margin, psi, exact=False) == n


def test_items_for_a_difference_by_the_closed_form() -> None:
    for psi, difference in ((0.05, 0.017), (0.05, 0.01), (0.05, 0.005), (0.1, 0.03)):
        expected = (1.959964 * psi**0.5 + 0.841621 * (psi - difference**2) ** 0.5) ** 2 / difference**2
        assert abs(required_items(difference, psi, exact=False) - expected) <= 1.001


@pytest.mark.parametrize(("psi", "margin", "n"), [(0.05, 0.02, 810), (0.05, 0.01, 3133), (0.02, 0.02, 398)])
def test_items_within_a_margin_by_search(psi: float, margin: float, n: int) -> None:
    found = required_items_within(margin, psi)
    assert (
        abs(found - n) <= 10
    )  # power dips, and each of a few n next to each other is enough while its neighbour is not
    assert power_within(found, psi, margin) >= 0.8 > power_within(found - 1, psi, margin)
    assert power_within(required_items_within(margin, psi, exact=False), psi, margin) < 0.8


def test_large_plans_are_quick() -> None:
    assert required_items(0.001, 0.05) == pytest.approx(392_000, rel=0.01)
    assert required_items_within(0.001, 0.05) == pytest.approx(309_000, rel=0.01)


shares = st.floats(0.01, 0.5)
fractions = st.floats(0.05, 1.0)
sizes = st.integers(1, 3000)
levels = st.sampled_from([0.05, 0.01, 0.05 / 9])


@given(sizes, shares, fractions, fractions, levels)
def test_power_grows_with_the_difference(n: int, psi: float, one: float, other: float, alpha: float) -> None:
    small, large = sorted((one * psi, other * psi))
    low, high = (mcnemar_power(n, psi, each, alpha=alpha) for each in (small, large))
    assert low <= high + 1e-12
    assert mcnemar_power(n, psi, -large, alpha=alpha) == pytest.approx(high, abs=1e-12)
    assert power_within(n, psi, 0.02, small) >= power_within(n, psi, 0.02, large) - 1e-12


@given(sizes, st.integers(1, 500), shares, fractions)
def test_power_grows_with_items(n: int, more: int, psi: float, fraction: float) -> None:
    assert mcnemar_power(n, psi, fraction * psi) <= mcnemar_power(n + more, psi, fraction * psi) + 1e-4


@given(st.integers(30, 3000), shares, st.floats(0.5, 0.95), levels)
def test_the_detectable_difference_inverts_power(n: int, psi: float, power: float, alpha: float) -> None:
    found = minimal_detectable_difference(n, psi, power=power, alpha=alpha)
    if found is None:
        assert mcnemar_power(n, psi, psi, alpha=alpha) < power
    else:
        assert mcnemar_power(n, psi, found, alpha=alpha) == pytest.approx(power, abs=1e-5)
        assert abs(required_items(found, psi, power=power, alpha=alpha) - n) <= 1


@given(shares, st.floats(0.2, 1.0), st.floats(0.5, 0.95), levels)
def test_one_item_fewer_is_not_enough(psi: float, fraction: float, power: float, alpha: float) -> None:
    difference = fraction * psi
    n = required_items(difference, psi, power=power, alpha=alpha)
    assert mcnemar_power(n, psi, difference, alpha=alpha) >= power
    assert n == 1 or mcnemar_power(n - 1, psi, difference, alpha=alpha) < power
    n = required_items_within(difference, psi, power=power, alpha=alpha)
    assert power_within(n, psi, difference, alpha=alpha) >= power
    assert n == 1 or power_within(n - 1, psi, difference, alpha=alpha) < power


def test_power_is_of_the_tests_that_are_reported() -> None:
    expected = enumerated(60, 0.3, 0.1, lambda b, c: mcnemar(b, c).mid_p <= 0.05)
    assert mcnemar_power(60, 0.3, 0.1) == pytest.approx(expected, abs=1e-10)
    expected = enumerated(60, 0.3, 0.02, lambda b, c: tango_upper(b, c, 60, confidence=0.95) < 0.1)
    assert power_within(60, 0.3, 0.1, 0.02) == pytest.approx(expected, abs=1e-10)


def test_the_levels_hold() -> None:
    sizes = (50, 133, 200, 303, 600, 1319)
    assert 0.045 < max(mcnemar_power(n, psi, 0) for n in sizes for psi in (*PSI, 0.3)) < 0.0505
    assert 0.045 < max(power_within(n, psi, 0.02, 0.02) for n in sizes for psi in (0.03, 0.05, 0.1, 0.3)) < 0.0565
    # Where every change is a loss it is worst: 133 items without one are then taken for a claim.
    assert max(power_within(n, 0.02, 0.02, 0.02) for n in sizes) == pytest.approx(0.98**133)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (mcnemar_power, (0, 0.05, 0.01), "n must be at least 1, not 0"),
        (mcnemar_power, (10, 0.0, 0.0), "psi must be above 0 and at most 1"),
        (mcnemar_power, (10, float("nan"), 0.0), "psi must be above 0 and at most 1"),
        (mcnemar_power, (10, 0.05, 0.06), "difference must be between -psi and psi, which is 0.05, not 0.06"),
        (minimal_detectable_difference, (10, 5), "psi must be above 0 and at most 1, not 5"),
        (required_items, (0.0, 0.05), "difference must not be 0"),
        (required_items, (0.02, 0.01), "difference must be between -psi and psi"),
        (power_within, (10, 0.05, 2), "margin must be between 0 and 1, not 2"),
        (required_items_within, (0.02, 0.05, 0.02), "difference must be below the margin of 0.02"),
    ],
)
def test_mistakes_get_one_sentence(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        function(*arguments)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_mistakes_about_options() -> None:
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, not 5"):
        mcnemar_power(10, 0.05, 0.01, alpha=5)
    with pytest.raises(ValueError, match=r"power must be above alpha, which is 0.05, and below 1, not 0.01\.$"):
        required_items(0.01, 0.05, power=0.01)
    with pytest.raises(ValueError, match="power must be above alpha"):
        minimal_detectable_difference(100, 0.05, power=1.0)


def test_planning_a_family_of_nine() -> None:
    # Holm's first step tests at a ninth of the level; what that costs in items.
    alone, nine = (required_items(0.02, 0.05, alpha=alpha) for alpha in (0.05, 0.05 / 9))
    assert nine / alone == pytest.approx(1.67, abs=0.05)
    assert np.isclose(mcnemar_power(nine, 0.05, 0.02, alpha=0.05 / 9), 0.8, atol=0.002)
