"""A contrast between tasks: does one task lose more than another?

Two drops of which one is significant and the other is not may still be the same; only a test of their difference tells
(Gelman and Stern 2006, "The Difference Between 'Significant' and 'Not Significant' is not Itself Statistically
Significant", The American Statistician 60(4)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.bootstrap import p_with_ties, percentile_interval
from quantexp.stats.checks import TIE_TOLERANCE, check_resampling, check_scores
from quantexp.stats.graded import drawn_means


@dataclass(frozen=True, slots=True)
class Contrast:
    """The sum of the means of several independent parts.

    Attributes:
        estimate: Sum of the parts' means.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: Two-sided, of a sum of 0, with ties on both sides; 0 means below the resolution of 2 / resamples.
        n: Number of units of each part.
        confidence: Nominal coverage of the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    n: tuple[int, ...]
    confidence: float
    resamples: int
    seed: int


def contrast(
    parts: Sequence[ArrayLike],
    *,
    largest: float = 1.0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
) -> Contrast:
    """Sum the means of independent parts, resampling the units of each part on its own (percentile bootstrap).

    For "triviaqa loses more than gsm8k", the parts are baseline - quant for each item of triviaqa, and quant - baseline
    for each item of gsm8k.

    A part whose values are all the same v shows no variation to resample. Its mean is drawn instead from what n values
    without an exception leave possible: v + (largest - v) g²/(n + g²) for a standard normal g above 0, v - (largest +
    v) g²/(n + g²) below. Its percentiles at every confidence are the bounds that a comparison without variation gets,
    so the interval is never a single point, and the p-value agrees with it.

    Args:
        parts: For each part the values of its units, already with their signs, shape (n,); at least one part.
        largest: The largest size a value can have: 1 for differences of two scores in [0, 1].
        confidence: Nominal coverage of the interval, at least 0.5 and below 1.
        resamples: Number of resamples.
        seed: Seed of `numpy.random.default_rng`.

    Raises:
        ValueError: There is no part, a part is not a one-dimensional, non-empty, finite array, a value is larger than
            `largest`, or an option is out of range.
    """
    check_resampling(resamples, seed, confidence)
    if not parts:
        raise ValueError("contrast needs at least one part.")
    values = [check_scores(part, f"part {number}") for number, part in enumerate(parts, start=1)]
    for number, part in enumerate(values, start=1):
        if (size := float(np.abs(part).max())) > largest * (1.0 + 1e-9):
            raise ValueError(f"part {number} has a value of size {size:g}, but the largest possible is {largest:g}.")
    means = np.zeros(resamples)
    for number, part in enumerate(values):
        means += _means(part, largest, resamples, (seed, number))
    low, high = percentile_interval(means, confidence)
    return Contrast(
        estimate=float(sum(part.mean() for part in values)),
        low=low,
        high=high,
        p_value=p_with_ties(means, TIE_TOLERANCE * largest * len(values)),
        n=tuple(int(part.size) for part in values),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def _means(part: NDArray[np.float64], largest: float, resamples: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    if np.ptp(part) > TIE_TOLERANCE * largest:
        return drawn_means(part, resamples, seed)
    g = np.random.default_rng(seed).standard_normal(resamples)
    value, share = part.mean(), g * g / (part.size + g * g)
    return np.asarray(value + share * np.where(g > 0, largest - value, -largest - value))
