"""Right or wrong, twice on the same items: McNemar's test, and the intervals of Tango and Wilson.

All of it follows from three counts: of n items, b are right under the baseline alone and c under the quant alone. Items
that both get right, or both wrong, carry no information about the sign of the difference (b - c) / n.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from quantexp.stats.checks import check_confidence, check_counts

_HALVINGS = 54
"""An interval of length 2 halved so often is as short as the spacing of floating-point numbers below 1."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two-sided p-values of "the quant loses as many items as it gains".

    Attributes:
        exact: Binomial test; rejects too rarely, at few changed items hardly ever.
        mid_p: Counts half of the observed outcome's probability; close to its nominal level (Fagerland, Lydersen and
            Laake 2013, "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13:91).
    """

    exact: float
    mid_p: float


def mcnemar(b: int, c: int) -> McNemar:
    """McNemar's test: given that b + c items changed, b is binomial with probability 1/2 if nothing is lost or gained.

    Raises:
        ValueError: A count is negative.
    """
    return McNemar(float(mcnemar_p(b, c, mid=False)), float(mcnemar_p(b, c)))


def mcnemar_p(b: ArrayLike, c: ArrayLike, *, mid: bool = True) -> NDArray[np.float64]:
    """McNemar's p-values of many pairs of counts at once: mid-p, or exact with `mid=False`.

    With F the distribution function of Binomial(b + c, 1/2) and k = min(b, c), exact is 2 F(k), at most 1, and mid-p
    takes the probability of k off it once: F(k) + F(k - 1).

    Args:
        b: Items right under the baseline alone; shapes of b and c broadcast.
        c: Items right under the quant alone.
        mid: Whether to give the mid-p instead of the exact p.

    Raises:
        ValueError: A count is negative.
    """
    lost, gained = np.asarray(b, dtype=np.int64), np.asarray(c, dtype=np.int64)
    if np.any(lost < 0) or np.any(gained < 0):
        raise ValueError("b and c are counts of items and must not be negative.")
    changed, fewer = lost + gained, np.minimum(lost, gained)
    at_most = bdtr(fewer, changed, 0.5)
    if not mid:
        return np.asarray(np.minimum(1.0, 2.0 * at_most))
    below = np.where(fewer > 0, bdtr(np.maximum(fewer - 1, 0), changed, 0.5), 0.0)
    return np.asarray(at_most + below)


def tango_interval(b: int, c: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of the difference (b - c) / n: all differences that the score test does not reject.

    It stays inside [-1, 1], keeps its coverage when few items changed, and is never a single point: with none changed
    it is ±z²/(n + z²). Tango (1998), "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17(8).

    Args:
        b: Items right under the baseline alone.
        c: Items right under the quant alone.
        n: All items.
        confidence: Nominal coverage, at least 0 and below 1.

    Returns:
        Lower and upper end; swapping b and c mirrors them exactly.

    Raises:
        ValueError: The counts do not fit n, or the confidence is out of range.
    """
    check_counts(b, c, n)
    check_confidence(confidence, at_least=0.0)
    one_sided = (1.0 + confidence) / 2.0
    return -tango_upper(c, b, n, confidence=one_sided), tango_upper(b, c, n, confidence=one_sided)


def tango_upper(b: int, c: int, n: int, *, confidence: float = 0.95) -> float:
    """One-sided upper bound of the difference (b - c) / n: the upper end of an interval at 2 * confidence - 1.

    Solves z(Δ) = -z with z(Δ) = (b - c - nΔ) / √(n (2q + Δ(1 - Δ))), where q is the most likely probability of the
    quant alone being right if the true difference is Δ: the larger root of 2n q² + B q + C = 0 with
    B = (2n - b + c) Δ - b - c and C = -c Δ(1 - Δ).

    Args:
        b: Items right under the baseline alone.
        c: Items right under the quant alone.
        n: All items.
        confidence: Nominal coverage of the bound, at least 0.5 and below 1.

    Raises:
        ValueError: The counts do not fit n, or the confidence is out of range.
    """
    check_counts(b, c, n)
    check_confidence(confidence)
    allowed = NormalDist().inv_cdf(confidence) ** 2
    inside, outside = (b - c) / n, 1.0
    # Halving instead of a root finder: the variance is 0 at Δ = 1, and at Δ = 0 when nothing changed.
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2.0
        if (b - c - n * middle) ** 2 <= allowed * _score_variance(b, c, n, middle):
            inside = middle
        else:
            outside = middle
    return inside


def tango_z(b: int, c: int, n: int, delta: float) -> float:
    """Return Tango's score z(Δ) of a true difference Δ: see `tango_upper`.

    Raises:
        ValueError: The counts do not fit n.
    """
    check_counts(b, c, n)
    distance, variance = b - c - n * delta, _score_variance(b, c, n, delta)
    return distance / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, distance)


def _score_variance(b: int, c: int, n: int, delta: float) -> float:
    """Variance of b - c if the true difference is delta."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1.0 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8.0 * n * constant))
    # Two forms of one root, each without the cancellation that the other has.
    q = (root - linear) / (4.0 * n) if linear <= 0 else -2.0 * constant / (root + linear)
    return n * (2.0 * max(0.0, q) + delta * (1.0 - delta))


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of one share: inside [0, 1] and never a single point, also when all or none succeed.

    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22(158).

    Raises:
        ValueError: The counts do not fit, or the confidence is out of range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes={successes} must be a count among n={n} items, at least one.")
    check_confidence(confidence, at_least=0.0)
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    centre = (successes + z * z / 2.0) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4.0)
    low = centre - half if successes > 0 else 0.0
    high = centre + half if successes < n else 1.0
    return low, high
