"""Gaffke's bound of a mean: of bounded values of which few differ, and of which the worst may not have been seen.

Append the largest possible value to the n values, weight the n + 1 by a uniform Dirichlet draw, and take the
confidence's quantile of the weighted mean (Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis
on the mean of a nonnegative variable"). For values of 0 and 1 that is Clopper and Pearson's bound. For others its
coverage is conjectured (Learned-Miller and Thomas 2019, arXiv 1905.06208); Phan, Thomas and Learned-Miller 2021,
"Towards practical mean bounds for small samples", prove it for a slightly wider bound, which is never worse than
Anderson's of 1969. docs/explanation/statistics.md has a simulation.

The weights are exponential variables over their sum. So the weighted mean exceeds t with the probability that a sum of
gamma variables, each times a value less t, is above 0. That is one contour integral of its moment generating function:
no random draws, whatever the values.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_Floats = NDArray[np.float64]

_DECIMALS = 12
"""Values that agree to so many decimals are the same value computed in two ways."""

_STEP = 0.15
"""Of the trapezoid rule. Its error is some exp(-2 pi (pi / 4) / step), or 1e-14."""

_NODES = np.arange(0.0, 19.0, _STEP)
"""The last is where the integrand, which falls at least as exp(-2x), is below 1e-16 of the first."""

_BLOCK = 24
"""Nodes at once: where many values differ, the integrand is negligible after the first few."""

_NEGLIGIBLE = 1e-17
"""A last term this small, as a share of the sum, leaves out less than is rounded off."""

_HALVINGS = 24
"""Of the range of the contour's place, which need not be exact."""

_STEPS = 100
"""Of the search for the bound: Newton's take 3 to 6, halvings 40."""

_CLOSE = 1e-8
"""Newton's step after which the next would be below what is rounded off."""

_TERMS_PER_CHUNK = 1 << 20
"""Complex numbers at once: 16 MB each of a few arrays."""


def gaffke_upper(values: _Floats, *, largest: float = 1.0, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound of the mean.

    Args:
        values: One per unit, shape (n,), not empty, none above `largest`. Their order does not matter.
        largest: The largest value possible.
        confidence: Coverage of the bound, at least 0.5 and below 1.
    """
    distinct, counts = tally(values)
    if distinct[-1] >= largest - 10.0**-_DECIMALS:
        distinct[-1] = largest
        counts[-1] += 1
    else:
        distinct, counts = np.append(distinct, largest), np.append(counts, 1)
    if distinct.size == 1:
        return largest
    wanted = NormalDist().inv_cdf(1.0 - confidence)
    low, high = float(distinct[0]), float(distinct[-1])
    n = counts.sum()
    mean = float(distinct @ counts / n)
    t = mean - wanted * math.sqrt(float((distinct - mean) ** 2 @ counts)) / float(n)
    for _ in range(_STEPS):
        if not low < t < high:
            t = (low + high) / 2.0
        tail, slope = (float(each[0]) for each in _exceedance(distinct, counts[None], t))
        z = float(ndtri(min(1.0, max(0.0, tail))))
        low, high = (t, high) if z > wanted else (low, t)
        density = math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) if math.isfinite(z) else 0.0
        change = (wanted - z) * density / slope if slope < 0.0 and density > 0.0 else math.inf
        if abs(change) < _CLOSE or high - low < _CLOSE:
            break
        t += change
    return min(largest, t + change if math.isfinite(change) else t)


def gaffke_lower(values: _Floats, *, lowest: float, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of the mean, the mirror image of `gaffke_upper`."""
    return -gaffke_upper(-values, largest=-lowest, confidence=confidence)


def gaffke_p(values: _Floats) -> float:
    """Return the two-sided p-value of a mean of 0: twice the smallest level at which a one-sided bound leaves 0 out.

    On differences of -1, 0 and 1 it is McNemar's exact test.

    Args:
        values: One per unit, between -1 and 1, shape (n,), not empty.
    """
    sides = []
    for sign in (1.0, -1.0):
        distinct, counts = tally(np.append(sign * values, 1.0))
        sides.append(float(_exceedance(distinct, counts[None], 0.0)[0][0]))
    return min(1.0, 2.0 * max(0.0, min(sides)))


def bounded_mean_share(values: _Floats, counts: NDArray[np.int64], mean: float) -> _Floats:
    """Return, for many samples at once, one less the confidence at which their upper bound is a given mean.

    The bound at confidence 1 - alpha lies below the mean where the result is below alpha. It costs less than the bound.

    Args:
        values: The values that there are, in ascending order, the last being the largest possible, shape (k,).
        counts: How many units of each sample have each value, shape (samples, k).
        mean: Above the lowest and below the largest value.
    """
    return _exceedance(values, counts + (np.arange(values.size) == values.size - 1), mean)[0]


def drawn_means(
    values: _Floats, largest: float, resamples: int, seed: int | tuple[int, ...]
) -> tuple[_Floats, _Floats]:
    """Return draws of which the lower and the upper bounds are quantiles, each of shape (resamples,).

    Args:
        values: One per unit, between -largest and largest, shape (n,).
        largest: The largest size a value can have.
        resamples: Number of draws.
        seed: Of `numpy.random.default_rng`.
    """
    distinct, counts = tally(values)
    rng = np.random.default_rng(seed)
    lows, highs = np.empty(resamples), np.empty(resamples)
    rows = max(1, _TERMS_PER_CHUNK // distinct.size)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        weights, unseen = rng.standard_gamma(counts, (stop - start, counts.size)), rng.exponential(size=stop - start)
        seen, total = weights @ distinct, weights.sum(axis=1) + unseen
        lows[start:stop], highs[start:stop] = (seen - unseen * largest) / total, (seen + unseen * largest) / total
    return lows, highs


@dataclass(frozen=True, slots=True)
class GaffkePlan:
    """Items that it takes to show a mean to be beyond a limit, when few of them differ.

    With g the distance of the mean from the limit, L that of the limit from the worst value, v a unit's variance, the
    bound is beyond the limit with the wanted power where

        n g - L >= z(1 - alpha) √(n v + k L²) + z(power) √(n v),    k = ((-ln(alpha) - 1) / z(1 - alpha))².

    The appended value is what L stands for. With v = 0 it is n g = -L ln(alpha), nearly the n at which units without
    any difference are enough. Simulated, n of the formula has a power of .75 to .85 for .8, and more where all
    differences are small.

    Attributes:
        variance: Of a unit's value.
        reach: L, the distance from the limit to the worst value.
        alpha: One-sided level.
    """

    variance: float
    reach: float
    alpha: float

    def power(self, n: float, gap: float) -> float:
        """Return the probability that n units are enough where the mean is that far from the limit."""
        room = n * gap - self._taken(n)
        if self.variance <= 0.0:
            return 1.0 if room >= 0.0 else 0.0
        return NormalDist().cdf(room / math.sqrt(n * self.variance))

    def gap(self, n: float, power: float) -> float:
        """Return the distance from the limit at which n units are enough with the wanted power."""
        return (self._taken(n) + NormalDist().inv_cdf(power) * math.sqrt(n * self.variance)) / n

    def items(self, gap: float, power: float) -> float:
        """Return the number of units, infinite above 10^12."""
        low, high = 1.0, 1e12
        if self.gap(high, power) > gap:
            return math.inf
        while high - low > 1e-6 * high:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.gap(middle, power) <= gap else (middle, high)
        return high

    def _taken(self, n: float) -> float:
        z = NormalDist().inv_cdf(1.0 - self.alpha)
        unseen = (math.log(1.0 / self.alpha) - 1.0) / z * self.reach
        return self.reach + z * math.sqrt(n * self.variance + unseen**2)


def tally(values: _Floats) -> tuple[_Floats, NDArray[np.int64]]:
    """Return the distinct values in ascending order, and how many units have each."""
    distinct, counts = np.unique(np.round(values, _DECIMALS) + 0.0, return_counts=True)
    return distinct, counts.astype(np.int64)


def _exceedance(values: _Floats, counts: NDArray[np.int64], t: float) -> tuple[_Floats, _Floats]:
    """Return the probability that the weighted mean exceeds t, and its derivative by t, each of shape (samples,).

    With a = value - t and K(s) = -Σ count log(1 - a s), it is 1 / (2 pi i) ∫ exp(K(s)) / s ds from c - i∞ to c + i∞
    for any c between 0 and 1 / max(a). Let c be where phi(s) = K(s) - log(s) is smallest. The path s = c + w (i sinh(x)
    + b (cosh(x) - 1)), w² = 1 / phi''(c) and b = phi'''(c) w³ / 3, leaves c as the path of steepest descent does, so
    that little cancels. As no singularity is nearer to c than w, the trapezoid rule converges geometrically.

    Args:
        values: Ascending, some above t, shape (k,).
        counts: Of each sample, shape (samples, k); those above t not all 0.
        t: The place.
    """
    tails, slopes = np.ones(len(counts)), np.zeros(len(counts))
    # No mean of a sample is below t if none of its values is, and then the integral is of no use.
    [integrated] = np.nonzero(counts[:, values < t].any(axis=1))
    rows = max(1, _TERMS_PER_CHUNK // (_BLOCK * values.size))
    for start in range(0, integrated.size, rows):
        chunk = integrated[start : start + rows]
        tails[chunk], slopes[chunk] = _exceedance_of_chunk(values - t, counts[chunk])
    return tails, slopes


def _exceedance_of_chunk(differences: _Floats, counts: NDArray[np.int64]) -> tuple[_Floats, _Floats]:
    # The smaller of both probabilities is computed, the one for which nothing cancels.
    mirrored = counts @ differences > 0
    a = np.where(mirrored[:, None], -differences, differences)
    low, high = np.zeros(len(counts)), (1.0 - 1e-9) / a.max(axis=1)
    for _ in range(_HALVINGS):
        c = (low + high) / 2.0
        rising = (counts * (a / (1.0 - c[:, None] * a))).sum(axis=1) > 1.0 / c
        low, high = np.where(rising, low, c), np.where(rising, c, high)
    c = (low + high) / 2.0
    poles = a / (1.0 - c[:, None] * a)
    second, third = (counts * poles**2).sum(axis=1), 2.0 * (counts * poles**3).sum(axis=1)
    width, bend = 1.0 / np.sqrt(second + 1.0 / c**2), third / second**1.5 / 3.0
    tails, slopes, grew = _integrate(a, counts, c, width, bend)
    if grew.any():  # the bent path runs into what many units make grow without bound; upright nothing does
        straight = _integrate(a[grew], counts[grew], c[grew], width[grew], np.zeros(int(grew.sum())))
        tails[grew], slopes[grew] = straight[:2]
    return np.where(mirrored, 1.0 - tails, tails), slopes


def _integrate(
    a: _Floats, counts: NDArray[np.int64], c: _Floats, width: _Floats, bend: _Floats
) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """Integrate along the path of each sample; return the probability, its slope, and if the integrand grew again."""
    bend, width, c = bend[:, None], width[:, None], c[:, None]
    tails, slopes = np.zeros(len(counts)), np.zeros(len(counts))
    before, grew = np.full(len(counts), np.inf), np.zeros(len(counts), bool)
    for nodes in np.split(_NODES, range(_BLOCK, _NODES.size, _BLOCK)):
        cosh, sinh = np.cosh(nodes), np.sinh(nodes)
        s = c + width * (1j * sinh + bend * (cosh - 1.0))
        # ds / i, so that the real part of the sum is the integral over both halves of the path, which meet at node 0.
        steps = width * (cosh - 1j * bend * sinh) * np.where(nodes > 0.0, 1.0, 0.5) * _STEP / math.pi
        factors = 1.0 - s[..., None] * a[:, None]
        weights = counts[..., None].astype(np.complex128)
        with np.errstate(over="ignore", invalid="ignore"):
            integrand = np.exp(-(np.log(factors) @ weights)[..., 0]) * steps
            slopes -= (integrand * ((1.0 / factors) @ weights)[..., 0]).real.sum(axis=1)
            terms = integrand / s
            tails += terms.real.sum(axis=1)
        size = np.abs(terms).max(axis=1)
        grew |= ~(size <= before)
        before = size
        if not grew.any() and np.abs(terms[:, -1].real).max() < _NEGLIGIBLE * np.abs(tails).min():
            break
    return tails, slopes, grew
