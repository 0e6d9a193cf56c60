"""From comparisons to verdicts: within a margin, worse, or how many more items it takes to tell.

"Not significant" is never read as "as good". A quant is within a margin when the bound of its drop is below the margin
(a one-sided test of non-inferiority), and worse when the drop is significant among all comparisons that were declared
together. Both can be true, and neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.checks import check_scores
from quantexp.stats.comparison import E_VALUE, PairedComparison
from quantexp.stats.sequential import sequential_items

_FEW = 10
"""Changed items below which their own variance says little about the next items."""


class Verdict(Enum):
    """What a comparison shows."""

    within_margin = "within margin"
    worse = "worse"
    worse_within_margin = "worse, but within margin"
    inconclusive = "inconclusive"


_VERDICTS = {
    (True, False): Verdict.within_margin,
    (False, True): Verdict.worse,
    (True, True): Verdict.worse_within_margin,
    (False, False): Verdict.inconclusive,
}
"""By whether it is within the margin, and whether it is worse."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one comparison of a family.

    Attributes:
        verdict: What the comparison shows.
        margin: The drop that was declared tolerable, in the unit of the scores.
        p_adjusted: Two-sided p-value after Holm's correction over the family.
        further_items: Unique items to add for a verdict with the wanted power, if the drop and its variance are as
            observed; None when there is a verdict already, or by e-values when no number would be enough.
    """

    verdict: Verdict
    margin: float
    p_adjusted: float
    further_items: int | None


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values so that rejecting those below alpha makes one false rejection with at most probability alpha.

    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2).

    Args:
        p_values: The p-values of the whole family, shape (k,).

    Raises:
        ValueError: They are not a one-dimensional, non-empty array of numbers between 0 and 1.
    """
    p = check_scores(p_values, "p_values")
    if p.min() < 0.0 or p.max() > 1.0:
        raise ValueError("p_values must lie between 0 and 1.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def decide(
    comparisons: Sequence[PairedComparison],
    margins: float | Sequence[float],
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> tuple[Decision, ...]:
    """Reach a verdict on every comparison of one family that was declared before the results were seen.

    Within margin: the one-sided upper bound of the drop is below the margin. Worse: the quant's mean is lower and its
    p-value, after Holm's correction over the family, is below alpha. An interval that is a single point without
    reason supports neither. The bounds are not corrected for the size of the family: each claim "within margin" is
    wrong with probability alpha on its own.

    Args:
        comparisons: The whole family, made at confidence 1 - alpha.
        margins: The tolerable drop of each comparison, or one for all; above 0, in the unit of the scores.
        alpha: Level of the tests.
        power: Probability of a verdict that the further items are to give.

    Returns:
        One decision per comparison, in their order.

    Raises:
        ValueError: The family is empty, a margin is not above 0, their number does not fit, the comparisons were made
            at another confidence, or alpha or power is out of range.
    """
    if not comparisons:
        raise ValueError("decide needs at least one comparison.")
    each = [float(margins)] * len(comparisons) if isinstance(margins, int | float) else [float(m) for m in margins]
    if len(each) != len(comparisons):
        raise ValueError(f"{len(each)} margins do not fit {len(comparisons)} comparisons: give one, or one each.")
    if not all(margin > 0 for margin in each):
        raise ValueError(f"a margin must be above 0, not {min(each)}.")
    if not (0.0 < alpha <= 0.5 and 0.0 < power < 1.0):
        raise ValueError(f"alpha={alpha} must be above 0 and at most 0.5, and power={power} between 0 and 1.")
    for comparison in comparisons:
        if abs(1.0 - comparison.confidence - alpha) > 1e-9:
            raise ValueError(
                f"alpha={alpha:g} needs comparisons at confidence {1 - alpha:g}, not {comparison.confidence:g}."
            )
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        _decision(comparison, margin, float(p), len(comparisons), alpha, power)
        for comparison, margin, p in zip(comparisons, each, adjusted, strict=True)
    )


def _decision(
    comparison: PairedComparison, margin: float, p_adjusted: float, family: int, alpha: float, power: float
) -> Decision:
    within = comparison.upper < margin and not comparison.zero_width
    worse = comparison.difference > 0 and p_adjusted < alpha and not comparison.zero_width
    verdict = _VERDICTS[within, worse]
    further = None
    if verdict is Verdict.inconclusive:
        further = _further_items(comparison, margin, family, alpha, power)
    return Decision(verdict, margin, p_adjusted, further)


def _further_items(comparison: PairedComparison, margin: float, family: int, alpha: float, power: float) -> int | None:
    """Items to add until a verdict is likely, whichever comes first.

    With the drop d and the variance v of a unit's difference as observed: n = (z(1 - alpha) + z(power))² v / (margin -
    d)² to be within the margin, if d is below it, and n = (z(1 - alpha / 2k) + z(power))² v / d² to be worse, if d is
    above 0 (normal approximation; Julious 2004, "Sample sizes for clinical trials with Normal data", Statistics in
    Medicine 23). k is the size of the family: Holm's first step, which is on the safe side. Where one may stop at any
    time, `sequential_items`.
    """
    normal, d = NormalDist(), comparison.difference
    variance = _variance(comparison)
    needed = math.inf
    if comparison.test_method == E_VALUE:
        needed = sequential_items(d, variance, margin=margin, alpha=alpha, family=family, power=power)
        return None if math.isinf(needed) else max(1, math.ceil(needed) - comparison.n)
    if d < margin:
        needed = (normal.inv_cdf(1.0 - alpha) + normal.inv_cdf(power)) ** 2 * variance / (margin - d) ** 2
    if d > 0:
        z = normal.inv_cdf(1.0 - alpha / (2.0 * family)) + normal.inv_cdf(power)
        needed = min(needed, z**2 * variance / d**2)
    if comparison.population is not None:  # a fixed set needs fewer, and never more than it has
        needed = needed * comparison.population / (needed + comparison.population - 1)
    return max(1, math.ceil(needed) - comparison.n)


def _variance(comparison: PairedComparison) -> float:
    """Variance of a unit's difference, for planning.

    Of fewer than ten changed units it would be a guess, and 0 if there are none: then one lost and one gained unit are
    added, changed as much as the observed ones on average (by 1, the most possible, if there are none).
    """
    n, squared_mean = comparison.n, comparison.difference**2
    squares = squared_mean * n + (comparison.deviation**2 * (n - 1) if n > 1 else 0.0)
    if comparison.changed >= _FEW:
        return squares / n - squared_mean
    size = squares / comparison.changed if comparison.changed else 1.0
    return (squares + 2.0 * size) / (n + 2) - squared_mean
