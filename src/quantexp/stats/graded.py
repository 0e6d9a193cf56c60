"""Intervals of a mean that are made in several ways, and the one for scores between right and wrong: Gaffke's.

A percentile bootstrap shows only what the sample holds: of 12 differences of which one is a gain and the rest 0, no
resample shows a loss. Gaffke's bounds allow at every n for what the sample may have missed. Nothing of them depends on
the order of the items, and nothing is drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.bootstrap import percentile_interval
from quantexp.stats.gaffke import gaffke_lower, gaffke_upper


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval of a mean, with the one-sided bound that belongs to it.

    Attributes:
        low: Lower end.
        high: Upper end.
        upper: One-sided upper bound at the same confidence.
        method: How they were made, in words.
    """

    low: float
    high: float
    upper: float
    method: str


def graded_bounds(values: NDArray[np.float64], *, lowest: float = -1.0, confidence: float = 0.95) -> Bounds:
    """Return Gaffke's interval of a mean over units, never a single point; see `gaffke`.

    On values of 0 and 1 it is Clopper and Pearson's. When all n values are the same v, a one-sided bound is
    v + (1 - v) (1 - (1 - confidence)^(1 / n)): what n values without an exception leave possible.

    Args:
        values: One value per unit, at most 1, shape (n,), not empty.
        lowest: The smallest value possible; -1 for a difference of two scores in [0, 1].
        confidence: Nominal coverage.
    """
    values = np.clip(values, lowest, 1.0)  # scores are rounded
    each = (1.0 + confidence) / 2.0
    return Bounds(
        low=gaffke_lower(values, lowest=lowest, confidence=each),
        high=gaffke_upper(values, confidence=each),
        upper=gaffke_upper(values, confidence=confidence),
        method="Gaffke",
    )


def percentile_bounds(means: NDArray[np.float64], confidence: float) -> Bounds:
    """Bounds from resampled means as they are; a single point when all of them are equal."""
    low, high = percentile_interval(means, confidence)
    _, upper = percentile_interval(means, 2.0 * confidence - 1.0)
    return Bounds(low, high, upper, f"percentile bootstrap, {means.size:,} resamples")
