"""A contrast between tasks: does one task lose more than another?

Two drops of which one is significant and the other is not may still be the same; only a test of their difference tells
(Gelman and Stern 2006, "The Difference Between 'Significant' and 'Not Significant' is not Itself Statistically
Significant", The American Statistician 60(4)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quantexp.stats.bootstrap import percentile_interval
from quantexp.stats.checks import TIE_TOLERANCE, check_resampling, check_scores
from quantexp.stats.gaffke import drawn_means


@dataclass(frozen=True, slots=True)
class Contrast:
    """The sum of the means of several independent parts.

    Attributes:
        estimate: Sum of the parts' means.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: Two-sided, of a sum of 0; 0 means below the resolution of 2 / resamples.
        n: Number of units of each part.
        confidence: Nominal coverage of the interval.
        resamples: Number of draws.
        seed: Seed of the draws.
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
    """Sum the means of independent parts, with the sums of draws behind Gaffke's bounds of each as bounds.

    For "triviaqa loses more than gsm8k", the parts are baseline - quant for each item of triviaqa, and quant - baseline
    for each item of gsm8k.

    Of one part the ends are Gaffke's (see `gaffke`). For several, the draws of which the upper bounds of the parts are
    quantiles are added, and those of the lower bounds, and the quantiles of the sums are taken: "melding" (Fay,
    Proschan and Brittain 2015, "Combining one-sample confidence procedures for inference in the two-sample case",
    Biometrics 71). The interval is never a single point, and the p-value agrees with it.

    Args:
        parts: For each part the values of its units, already with their signs, shape (n,); at least one part.
        largest: The largest size a value can have: 1 for differences of two scores in [0, 1].
        confidence: Nominal coverage of the interval, at least 0.5 and below 1.
        resamples: Number of draws.
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
    lows, highs = np.zeros(resamples), np.zeros(resamples)
    for number, part in enumerate(values):
        at_least, at_most = drawn_means(np.clip(part, -largest, largest), largest, resamples, (seed, number))
        lows, highs = lows + at_least, highs + at_most
    low, _ = percentile_interval(lows, confidence)
    _, high = percentile_interval(highs, confidence)
    tie = TIE_TOLERANCE * largest * len(values)
    p_value = 2.0 * min(np.count_nonzero(lows <= tie), np.count_nonzero(highs >= -tie)) / resamples
    return Contrast(
        estimate=float(sum(part.mean() for part in values)),
        low=low,
        high=high,
        p_value=min(1.0, float(p_value)),
        n=tuple(int(part.size) for part in values),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
