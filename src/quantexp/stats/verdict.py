"""From comparisons to verdicts: within a margin, worse, or how many more items it takes to tell.

"Not significant" is never read as "as good". A quant is within a margin when the bound of its drop is below the margin
(a one-sided test of non-inferiority) and the baseline had it to lose, and worse when the drop is significant among all
comparisons that were declared together. Both can be true, and neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.checks import check_scores
from quantexp.stats.comparison import PairedComparison
from quantexp.stats.further import FurtherItems, fewest_items, find_further_items


class Verdict(Enum):
    """Verdict of a comparison."""

    within_margin = "within margin"
    worse = "worse"
    worse_within_margin = "worse, but within margin"
    inconclusive = "inconclusive"
    nothing_to_lose = "nothing to lose"
    """The baseline scored no more than chance + margin on these items: a loss beyond the margin could not be seen."""


class HeldBack(Enum):
    """Reason why a comparison that alone is within the margin is not called so."""

    pool = "the pool comes first, and is not within its margin"
    tasks = "too many tasks are claimed together"


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
        further: Unique items to add for a verdict with the wanted power; None unless it is inconclusive, or where no
            number is likely to tell.
        fewest_items: The fewest unique items in all that can show the margin (see `fewest_items`); None where no number
            can.
        chance: Score of an answer at random.
        at_ceiling: Whether a quant could not be better by the margin, since the baseline's mean is above 1 - margin.
            Losses are seen there as anywhere, but that no gain is seen says nothing.
        held_back: Why "within margin" is not claimed although the comparison alone shows it; see `gate_tasks`.
    """

    verdict: Verdict
    margin: float
    p_adjusted: float
    further: FurtherItems | None
    fewest_items: int | None
    chance: float
    at_ceiling: bool
    held_back: HeldBack | None = None

    @property
    def further_items(self) -> int | None:
        """Unique items to add if the drop and its variance are as observed."""
        return None if self.further is None else self.further.expected


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
    chances: float | Sequence[float] = 0.0,
) -> tuple[Decision, ...]:
    """Reach a verdict on every comparison of one family that was declared before the results were seen.

    Within margin: the one-sided upper bound of the drop is below the margin, and the one-sided lower bound of the
    baseline's mean is above chance + margin. Both have to be shown, each at level alpha, so the two together are wrong
    with at most alpha (an intersection-union test: Berger 1982, "Multiparameter Hypothesis Testing and Acceptance
    Sampling", Technometrics 24). Worse: the quant's mean is lower and its p-value, after Holm's correction over the
    family, is below alpha. Nothing to lose: it is not worse, and the baseline's mean on these items is at most chance +
    margin, whatever its true score; more items hardly help, an easier task does. An interval that is a single point
    without reason supports neither. The bounds are not corrected for the size of the family: each claim "within margin"
    is wrong with probability alpha on its own.

    Args:
        comparisons: The whole family, made at confidence 1 - alpha.
        margins: The tolerable drop of each comparison, or one for all; above 0, in the unit of the scores.
        alpha: Level of the tests.
        power: Probability of a verdict that the further items are to give.
        chances: The score of an answer at random for each comparison, or one for all: 1 / k where one of k answers is
            chosen.

    Returns:
        One decision per comparison, in their order.

    Raises:
        ValueError: The family is empty, a margin is not above 0, a chance not in [0, 1), their number does not fit, the
            comparisons were made at another confidence, or alpha or power is out of range.
    """
    if not comparisons:
        raise ValueError("decide needs at least one comparison.")
    each, at_random = (
        _broadcast(values, name, len(comparisons)) for values, name in ((margins, "margins"), (chances, "chances"))
    )
    if not all(margin > 0 for margin in each):
        raise ValueError(f"a margin must be above 0, not {min(each)}.")
    for chance in at_random:
        if not 0 <= chance < 1:
            raise ValueError(f"a chance must be at least 0 and below 1, not {chance}.")
    if not (0.0 < alpha <= 0.5 and 0.0 < power < 1.0):
        raise ValueError(f"alpha={alpha} must be above 0 and at most 0.5, and power={power} between 0 and 1.")
    for comparison in comparisons:
        if abs(1.0 - comparison.confidence - alpha) > 1e-9:
            raise ValueError(
                f"alpha={alpha:g} needs comparisons at confidence {1 - alpha:g}, not {comparison.confidence:g}."
            )
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        _decision(comparison, margin, chance, float(p), len(comparisons), alpha, power)
        for comparison, margin, chance, p in zip(comparisons, each, at_random, adjusted, strict=True)
    )


def _broadcast(values: float | Sequence[float], name: str, count: int) -> list[float]:
    each = [float(values)] * count if isinstance(values, int | float) else [float(value) for value in values]
    if len(each) != count:
        raise ValueError(f"{len(each)} {name} do not fit {count} comparisons: give one, or one each.")
    return each


def _decision(
    comparison: PairedComparison,
    margin: float,
    chance: float,
    p_adjusted: float,
    family: int,
    alpha: float,
    power: float,
) -> Decision:
    floor = chance + margin
    # The floor of scores outside [0, 1], whose bound is nan, is nobody's knowledge: they have none.
    above_floor = math.isnan(comparison.baseline_low) or comparison.baseline_low > floor
    within = comparison.upper < margin and above_floor and not comparison.zero_width
    worse = comparison.difference > 0 and p_adjusted < alpha and not comparison.zero_width
    verdict = _VERDICTS[within, worse]
    if verdict is Verdict.inconclusive and not above_floor and comparison.baseline_mean <= floor:
        verdict = Verdict.nothing_to_lose
    further = fewest = None
    if verdict is Verdict.inconclusive:
        further = find_further_items(comparison, margin, chance=chance, family=family, alpha=alpha, power=power)
    if margin < 1:
        fewest = fewest_items(
            margin,
            kind=comparison.kind,
            method=comparison.method,
            chance=chance,
            population=comparison.population,
            alpha=alpha,
        )
    return Decision(
        verdict,
        margin,
        p_adjusted,
        further,
        fewest_items=fewest,
        chance=chance,
        at_ceiling=comparison.baseline_mean > 1.0 - margin,
    )
