"""The mean of several independent estimates."""

import math
from collections.abc import Sequence

from quantexp.stats.comparison import Estimate
from quantexp.stats.divergence import Interval


def average(estimates: Sequence[Estimate]) -> Interval:
    """Return the unweighted mean of independent mean scores, such as those of several tasks, with its interval.

    The interval is recovered from those of the parts, which may be of different kinds and need not be symmetric: with
    means m, lower ends l and upper ends u, its ends are the mean less √(Σ (m - l)²) / k and plus √(Σ (u - m)²) / k
    (MOVER: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27). Of one estimate it is the estimate's own.

    Raises:
        ValueError: There is none.
    """
    if not estimates:
        raise ValueError("average needs at least one estimate.")
    k = len(estimates)
    mean = math.fsum(each.mean for each in estimates) / k
    below = math.hypot(*(each.mean - each.low for each in estimates)) / k
    above = math.hypot(*(each.high - each.mean for each in estimates)) / k
    return Interval(mean, mean - below, mean + above)
