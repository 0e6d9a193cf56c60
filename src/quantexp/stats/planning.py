"""A plan from one number: how much an item's score differs between two quants.

Right or wrong is planned by the exact sums of `power`, and above a million items by the normal approximation (Julious
2004, "Sample sizes for clinical trials with Normal data", Statistics in Medicine 23); graded scores by `GaffkePlan`.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from quantexp.stats.checks import align
from quantexp.stats.gaffke import GaffkePlan
from quantexp.stats.power import minimal_detectable_difference, power_within, required_items, required_items_within

_z = NormalDist().inv_cdf

_EXACT = 1_000_000
"""Items up to which sums are exact; beyond, they take minutes and agree with the normal law to all printed digits."""

_CHANGED = 1e-9
"""Differences below this are rounding."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of the items' differences between two quants.

    Attributes:
        variance: Mean squared difference of an item's score when nothing is lost on average; where scores are right or
            wrong, the share of items that change. Above 0 and at most 1.
        graded: Whether scores are other than right or wrong.
        changed: Units seen to change; None for a guess.
        n: Units seen; None for a guess.
    """

    variance: float
    graded: bool = False
    changed: int | None = None
    n: int | None = None

    @classmethod
    def seen(cls, before: ArrayLike, after: ArrayLike) -> Self:
        """Estimate from the scores of the same units, with a guard against few of them.

        One changed and one unchanged unit are added: (changed + 1) / (n + 2) of right or wrong. Of graded scores, the
        sum of squares about the mean gets one more change, as large as the others on average (1 if there are none).
        A pilot without any change never promises that nothing changes.

        Args:
            before: Score of each unit under the baseline, shape (n,).
            after: Score of the same units under the quant, shape (n,).
        """
        scores = np.array(align({"before": before, "after": after}), np.float64)
        differences = scores[0] - scores[1]
        changes = differences[np.abs(differences) > _CHANGED]
        changed, n = int(changes.size), int(differences.size)
        if np.isin(scores, (0.0, 1.0)).all():
            return cls((changed + 1) / (n + 2), False, changed, n)
        one_more = float(np.mean(changes**2)) if changed else 1.0
        squares = float(np.sum((differences - differences.mean()) ** 2))
        return cls((squares + one_more) / (n + 2), True, changed, n)

    def items_to_find(self, drop: float, *, power: float, alpha: float) -> int | None:
        """Items that find a drop, two-sided at alpha; None where fewer items change than the drop would take."""
        if self.graded:
            return math.ceil(GaffkePlan(self.variance, 1.0, alpha / 2).items(drop, power))
        if drop > self.variance:
            return None
        closed = required_items(drop, self.variance, power=power, alpha=alpha, exact=False)
        return closed if closed > _EXACT else required_items(drop, self.variance, power=power, alpha=alpha)

    def items_to_show(self, margin: float, *, power: float, alpha: float) -> int:
        """Items that show, one-sided at alpha, that the drop is below the margin, if there is none."""
        if self.graded:
            return math.ceil(GaffkePlan(self.variance, 1.0 - margin, alpha).items(margin, power))
        closed = max(1, math.ceil((_z(1 - alpha) + _z(power)) ** 2 * self.variance / margin**2))
        if closed > _EXACT:
            return closed
        return required_items_within(margin, self.variance, power=power, alpha=alpha)

    def smallest_drop(self, n: int, *, power: float, alpha: float) -> float | None:
        """Return the smallest drop that n items find; None where they find none, even if every change is a loss."""
        if not self.graded and n <= _EXACT:
            return minimal_detectable_difference(n, self.variance, power=power, alpha=alpha)
        if self.graded:
            drop = GaffkePlan(self.variance, 1.0, alpha / 2).gap(n, power)
            return drop if drop <= 1.0 else None
        drop = (_z(1 - alpha / 2) + _z(power)) * math.sqrt(self.variance / n)
        return drop if drop <= self.variance else None

    def chance_to_show(self, n: int, margin: float, *, alpha: float) -> float:
        """Return the probability that n items show that the drop is below the margin, if there is none."""
        if not self.graded and n <= _EXACT:
            return power_within(n, self.variance, margin, alpha=alpha)
        if self.graded:
            return GaffkePlan(self.variance, 1.0 - margin, alpha).power(n, margin)
        return NormalDist().cdf(margin * math.sqrt(n / self.variance) - _z(1 - alpha))
