"""Power: the items that a comparison of two quants needs, and what a given number of items can show.

Both conditions answer the same n items, scored right or wrong. b items are right under the baseline alone, c under the
quant alone, the difference is (b - c) / n: the quant's drop. Of all items the share `psi` changes between the two, and
the true drop is `delta`, so |delta| <= psi. Only changed items carry information: D = b + c of them are
Binomial(n, psi), and given D, b is Binomial(D, (1 + delta / psi) / 2). Power is summed exactly over that law, with no
normal approximation and no simulation. With a guess of psi from a pilot run (5% is common for a good quant) that is all
a plan needs.

Two questions have two tests:

- Is there a difference? Mid-p McNemar, two-sided at `alpha` (Fagerland, Lydersen and Laake 2013).
- Is the drop below a margin? The upper end of the Tango (1998) interval with confidence 1 - 2 * alpha lies below it,
  which is one-sided at `alpha`.

In a family of k comparisons pass `alpha / k`, Holm's first step: the power of the one comparison is then what it has if
no other is significant, the least that Holm's method gives it.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_Integers = NDArray[np.int64]

_NORMAL = NormalDist()

_NEGLIGIBLE = 1e-13
"""Numbers of changed items rarer than this, on either side, are left out of the sum."""


def mcnemar_power(n: int, psi: float, difference: float, *, alpha: float = 0.05) -> float:
    """Return the probability that the two-sided mid-p McNemar test of n items has p <= alpha.

    Args:
        n: Number of items.
        psi: Share of items whose score changes, above 0 and at most 1.
        difference: True drop, between -psi and psi; 0 gives the type-I error.
        alpha: Level of the test.

    Returns:
        The power, exact up to rounding.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(n, psi, alpha=alpha)
    _check_difference(difference, psi)
    return _two_sided(n, psi, alpha)(difference)


def minimal_detectable_difference(n: int, psi: float, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return the smallest true drop that the mid-p McNemar test of n items finds with the wanted power.

    Args:
        n: Number of items.
        psi: Share of items whose score changes, above 0 and at most 1.
        power: Wanted probability of p <= alpha, above alpha and below 1.
        alpha: Level of the test.

    Returns:
        The drop as a rate, or None where even a drop of psi, every change a loss, is found too rarely.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(n, psi, power=power, alpha=alpha)
    power_of = _two_sided(n, psi, alpha)
    if power_of(psi) < power:
        return None
    low, high = 0.0, psi  # mid-p exceeds its level only slightly, so power at 0 is below the wanted one
    while high - low > 1e-9 * psi:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def required_items(
    difference: float, psi: float, *, power: float = 0.8, alpha: float = 0.05, exact: bool = True
) -> int:
    """Return the number of items with which the mid-p McNemar test finds a drop with the wanted power.

    The closed form is n = (z(1 - alpha / 2) * sqrt(psi) + z(power) * sqrt(psi - difference²))² / difference² (Connor
    1987, "Sample Size for Testing Differences in Proportions for the Paired-Sample Design", Biometrics 43). The exact
    search starts from it. Exact power rises with n as long as psi is at most about one half; beyond, it zigzags, and
    the result is then a number of items that has the wanted power while one item fewer has not.

    Args:
        difference: True drop, not 0, between -psi and psi; its sign does not matter.
        psi: Share of items whose score changes, above 0 and at most 1.
        power: Wanted probability of p <= alpha, above alpha and below 1.
        alpha: Level of the test.
        exact: False for the closed form.

    Returns:
        The number of items.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(1, psi, power=power, alpha=alpha)
    _check_difference(difference, psi)
    if difference == 0:
        raise ValueError("difference must not be 0: no number of items finds a drop that is not there.")
    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)
    root = z_alpha * math.sqrt(psi) + z_power * math.sqrt(psi - difference**2)
    closed = math.ceil((root / difference) ** 2)
    if not exact:
        return closed
    return _smallest(lambda n: _two_sided(n, psi, alpha)(difference) >= power, closed)


def power_within(n: int, psi: float, margin: float, difference: float = 0.0, *, alpha: float = 0.05) -> float:
    """Return the probability that n items show a drop to be below the margin.

    That is, that the upper end of the Tango interval of confidence 1 - 2 * alpha lies below it.

    Args:
        n: Number of items.
        psi: Share of items whose score changes, above 0 and at most 1.
        margin: The largest drop that would not matter, as a rate above 0 and below 1.
        difference: True drop, between -psi and psi; at the margin or above it the result is the rate of false claims,
            about alpha at most, except where nearly every change is a loss: at psi = margin it reaches 0.07 for 0.05.
        alpha: One-sided level of the claim.

    Returns:
        The power, exact up to rounding.

    Raises:
        ValueError: An argument is out of range.
    """
    from scipy.stats import binom  # takes a second to load, which only a planner should wait for

    _check(n, psi, alpha=alpha, margin=margin)
    _check_difference(difference, psi)
    changed, weight = _changed_items(n, psi)
    threshold = -_NORMAL.inv_cdf(1 - alpha)
    # Given D the statistic rises with b: bisect all D at once for the largest b that still makes the claim.
    low, high = np.full(changed.size, -1), changed + 1
    while np.any(unsure := high - low > 1):
        middle = np.clip((low + high) // 2, 0, changed)
        claimed = _tango_z(middle, changed - middle, n, margin) <= threshold
        low, high = np.where(unsure & claimed, middle, low), np.where(unsure & ~claimed, middle, high)
    return float(weight @ binom.cdf(low, changed, (1 + difference / psi) / 2))


def required_items_within(
    margin: float, psi: float, difference: float = 0.0, *, power: float = 0.8, alpha: float = 0.05, exact: bool = True
) -> int:
    """Return the number of items that show with the wanted power that the drop is below the margin.

    The closed form is n = (z(1 - alpha) + z(power))² * (psi - difference²) / (margin - difference)². It is a little
    too small, and much too small where psi is not well above the margin: 310 instead of 398 items at 2% for both. The
    exact search starts from it. Exact power falls again here and there as n grows, by up to 0.02 at psi = 2% and
    less than 0.005 from 5% on: the result has the wanted power and one item fewer has not.

    Args:
        margin: The largest drop that would not matter, as a rate above 0 and below 1.
        psi: Share of items whose score changes, above 0 and at most 1.
        difference: True drop, below the margin, between -psi and psi.
        power: Wanted probability of the claim, above alpha and below 1.
        alpha: One-sided level of the claim.
        exact: False for the closed form.

    Returns:
        The number of items.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(1, psi, power=power, alpha=alpha, margin=margin)
    _check_difference(difference, psi)
    if difference >= margin:
        raise ValueError(
            f"difference must be below the margin of {margin}, not {difference}: it cannot be shown to be."
        )
    z = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    closed = max(1, math.ceil(z**2 * (psi - difference**2) / (margin - difference) ** 2))
    if not exact:
        return closed
    return _smallest(lambda n: power_within(n, psi, margin, difference, alpha=alpha) >= power, closed)


def _two_sided(n: int, psi: float, alpha: float) -> Callable[[float], float]:
    """Return the mid-p test's power as a function of the true drop; what does not depend on it is computed once."""
    from scipy.stats import binom

    changed, weight = _changed_items(n, psi)
    # p = 2 * (P(X < k) + P(X = k) / 2) for k = min(b, c) rises with k, and X <= k - 1 has less than alpha / 2 at this
    # quantile, so the largest rejected k is this one or the one before.
    k = np.asarray(binom.ppf(alpha / 2, changed, 0.5), np.int64)
    half_p = binom.cdf(k - 1, changed, 0.5) + 0.5 * binom.pmf(k, changed, 0.5)
    k = np.where(half_p <= alpha / 2, k, k - 1)

    def power(difference: float) -> float:
        share = (1 + difference / psi) / 2
        return float(weight @ (binom.cdf(k, changed, share) + binom.sf(changed - k - 1, changed, share)))

    return power


def _changed_items(n: int, psi: float) -> tuple[_Integers, NDArray[np.float64]]:
    """Return the numbers of changed items that are not negligible, and the probability of each."""
    from scipy.stats import binom

    low = max(0, int(binom.ppf(_NEGLIGIBLE, n, psi)))
    changed = np.arange(low, int(binom.isf(_NEGLIGIBLE, n, psi)) + 1)
    return changed, binom.pmf(changed, n, psi)


def _smallest(enough: Callable[[int], bool], start: int) -> int:
    """Return an n that is enough while n - 1 is not, the nearest to be found from a good guess."""
    step = max(1, start // 50)
    high = start
    while not enough(high):
        high += step
        step *= 2
    step = max(1, start // 50)
    low = min(start, high - 1)
    while low > 0 and enough(low):
        high = low
        low = max(0, low - step)
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _tango_z(b: _Integers, c: _Integers, n: int, margin: float) -> NDArray[np.float64]:
    """Return the statistic that `tango_upper` inverts, for many counts at once."""
    a = 2 * n
    minus_b = b + c - (2 * n - b + c) * margin
    root = np.sqrt(minus_b**2 + 4 * a * c * margin * (1 - margin))
    q = (root + minus_b) / (2 * a)
    z: NDArray[np.float64] = (b - c - n * margin) / np.sqrt(n * (2 * q + margin * (1 - margin)))
    return z


def _check(n: int, psi: float, *, alpha: float, power: float | None = None, margin: float | None = None) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    if not 0 < psi <= 1:
        raise ValueError(f"psi must be above 0 and at most 1, not {psi}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}.")
    if power is not None and not alpha < power < 1:
        raise ValueError(f"power must be above alpha, which is {alpha}, and below 1, not {power}.")
    if margin is not None and not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, not {margin}.")


def _check_difference(difference: float, psi: float) -> None:
    if not -psi <= difference <= psi:
        raise ValueError(f"difference must be between -psi and psi, which is {psi}, not {difference}.")
