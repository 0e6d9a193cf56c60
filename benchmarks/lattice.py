"""The bootstrap with infinitely many resamples, for values that are multiples of one step.

The law of a sum of independent draws is then a product of characteristic functions, turned back by one Fourier
transform: no Monte Carlo error, no seed, and less work than a thousand resamples.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.checks import check_confidence, check_counts

_LONGEST = 1 << 16
"""Points of a law beyond which resampling is faster."""

_TAIL = 36.0
"""Minus the logarithm of the probability that a law may lose at either end: it is below what a Fourier transform
rounds off."""

_ROUNDING = 1e-12
"""Error of a probability summed over a law; two that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class Law:
    """Probabilities of a sum over n items.

    Attributes:
        sums: Possible sums in ascending order, in steps, shape (k,); those that hardly ever occur are left out.
        probabilities: Of each sum, exact to about 1e-12, shape (k,).
        unit: What a sum is divided by to become a mean: n times the steps in 1.
    """

    sums: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    unit: int

    @property
    def p_value(self) -> float:
        """Two-sided, with the ties at 0 on both sides: min(1, 2 min(P(sum <= 0), P(sum >= 0)))."""
        at_most, at_least = (self.probabilities[side].sum() for side in (self.sums <= 0, self.sums >= 0))
        return min(1.0, 2.0 * float(min(at_most, at_least)))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Percentile interval of the mean: each end is exceeded with at most the probability (1 - confidence) / 2.

        It is a single point when all items have the same value.

        Raises:
            ValueError: The confidence is out of range.
        """
        check_confidence(confidence, at_least=0.0)
        tail = (1.0 - confidence) / 2.0 - _ROUNDING
        low = int(np.argmax(np.cumsum(self.probabilities) >= tail))
        high = self.sums.size - 1 - int(np.argmax(np.cumsum(self.probabilities[::-1]) >= tail))
        return float(self.sums[low] / self.unit), float(self.sums[high] / self.unit)


def resampled_law(values: NDArray[np.int64], counts: NDArray[np.int64], per_one: int) -> Law | None:
    """Law of the sum of n values drawn with replacement: what the bootstrap over items approaches.

    Args:
        values: Distinct values in steps, shape (k,).
        counts: How many of the n items have each, shape (k,).
        per_one: Steps in 1.

    Returns:
        The law, or None when it is too long to be worth it.
    """
    n = int(counts.sum())
    shares = counts / n
    mean = float(values @ shares)
    length = _length(float(n * ((values - mean) ** 2 @ shares)), float(np.abs(values - mean).max()))
    if length > _LONGEST:
        return None
    one = np.bincount(values % length, weights=shares, minlength=length)
    return _law(np.fft.rfft(one) ** n, round(n * mean), length, n * per_one)


def exact_bootstrap_law(b: int, c: int, n: int) -> Law:
    """Law of the sum of n differences drawn with replacement from b times +1, c times -1 and n - b - c times 0.

    Its percentile interval and p-value are what the bootstrap over items approaches with more and more resamples.

    Raises:
        ValueError: The counts do not fit n, or n is above about ten million.
    """
    check_counts(b, c, n)
    law = resampled_law(np.array([1, -1, 0]), np.array([b, c, n - b - c]), 1)
    if law is None:
        raise ValueError(f"n={n} items are too many for the exact law.")
    return law


def _length(variance: float, largest: float) -> int:
    """Points that hold all but exp(-36) of a sum's probability on each side of its mean, by Bernstein's inequality.

    A power of 2 at least 4; `largest` bounds how far one item can be from its mean.
    """
    linear = _TAIL * largest / 3.0
    reach = linear + math.sqrt(linear * linear + 2.0 * _TAIL * variance)
    return 1 << max(2, math.ceil(math.log2(2.0 * reach + 3.0)))


def _law(characteristic: NDArray[np.complex128], centre: int, length: int, unit: int) -> Law:
    """Undo the transform; sums come out modulo the length, so they are counted from half a length below the centre."""
    sums = np.arange(centre - length // 2, centre + length // 2)
    probabilities = np.maximum(np.fft.irfft(characteristic, length), 0.0)
    return Law(sums, probabilities[sums % length], unit)
