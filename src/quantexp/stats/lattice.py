"""The bootstrap and the sign-flip test with infinitely many resamples, for values that are multiples of one step.

Right or wrong, thirds, quarters, and means of those over a few repeats lie on such a lattice. The law of a sum of
independent draws is then a product of characteristic functions, turned back by one Fourier transform: no Monte Carlo
error, no seed, and less work than a thousand resamples.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.checks import check_confidence

_FINEST = 25_200
"""Values are looked for among the multiples of 1/25,200: shares of up to ten parts, of 16, of 25 and of 100, and the
products of such."""

_OFF = 1e-9
"""A value this close to a multiple is one. Scores are computed with an error of 1e-16."""

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

    def beyond(self, size: int) -> float:
        """Probability of a sum of at least this size, with either sign, in steps."""
        return float(min(1.0, self.probabilities[np.abs(self.sums) >= size].sum()))


def steps(distinct: NDArray[np.float64]) -> tuple[NDArray[np.int64], int] | None:
    """The values as whole numbers of the largest step that fits them all, and how many steps make 1.

    None when no step of at least 1/25,200 fits.
    """
    whole = np.rint(distinct * _FINEST)
    if np.abs(whole / _FINEST - distinct).max() > _OFF:
        return None
    multiples = whole.astype(np.int64)
    shared = math.gcd(_FINEST, int(np.gcd.reduce(multiples)))
    return multiples // shared, _FINEST // shared


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


def flipped_law(sizes: NDArray[np.int64], counts: NDArray[np.int64], per_one: int) -> Law | None:
    """Law of the sum when every item's sign is a coin's: what the sign-flip test approaches.

    Args:
        sizes: Distinct sizes in steps, shape (k,).
        counts: How many items have each, shape (k,).
        per_one: Steps in 1.

    Returns:
        The law, or None when it is too long to be worth it.
    """
    length = _length(float(sizes**2 @ counts), float(sizes.max()))
    if length > _LONGEST:
        return None
    turns = 2.0 * np.pi * np.arange(length // 2 + 1) / length
    characteristic = np.ones(turns.size)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(turns * size) ** count
    return _law(characteristic.astype(np.complex128), 0, length, int(counts.sum()) * per_one)


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
