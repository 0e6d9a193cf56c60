"""Items that a verdict takes: the fewest that can show a margin at all, and how many more an open comparison needs."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from quantexp.stats.binary import tango_upper, wilson_interval
from quantexp.stats.comparison import Kind, Method, PairedComparison
from quantexp.stats.gaffke import GaffkePlan
from quantexp.stats.sequential import items_within_without_change, sequential_items, sequential_items_above
from quantexp.stats.units import finite_factor

FEW_CHANGED = 10
"""Changed items below which their own variance says little about the next items."""

_LIKELY = 0.6827
"""Probability of the ranges that further items are given for: one standard error to each side."""

_PLACES = 21
"""Drops tried within such a range."""

_MOST_ITEMS = 10**9
"""Beyond which no number is looked for."""


@dataclass(frozen=True, slots=True)
class FurtherItems:
    """Unique items to add for a verdict with the wanted power.

    Attributes:
        expected: If the drop and its variance are as observed.
        least: The smallest number for any drop within one standard error of the observed one, and any share of changed
            items within its 68% interval.
        most: The largest number for those; None if no number would be enough for some.
    """

    expected: int
    least: int
    most: int | None


def fewest_items(
    margin: float,
    *,
    kind: Kind = Kind.binary,
    method: Method = Method.default,
    chance: float = 0.0,
    population: int | None = None,
    alpha: float = 0.05,
) -> int | None:
    """Return the fewest unique items that show a margin, which is if the baseline is always right and nothing changes.

    Only a quant that gains more than it loses can show it with fewer.

    Right or wrong, with z = z(1 - alpha): the first n with z² / (n + z²) < margin (Tango); graded: with
    1 - alpha^(1 / n) < margin (Gaffke). The baseline must also be shown to score more than chance + margin; see
    `decide`.

    Args:
        margin: The largest drop that would not matter, above 0 and below 1.
        kind: What the units' scores are.
        method: Which statistics.
        chance: Score of an answer at random, at least 0 and below 1.
        population: Number of unique items of a fixed set, if the result is about that set only.
        alpha: One-sided level of the claim.

    Returns:
        The number of items; None where no number shows it, as with the method bootstrap.

    Raises:
        ValueError: The margin, chance or alpha is out of range.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, not {margin}.")
    if not 0 <= chance < 1:
        raise ValueError(f"chance must be at least 0 and below 1, not {chance}.")
    if not 0 < alpha <= 0.5:
        raise ValueError(f"alpha must be above 0 and at most 0.5, not {alpha}.")
    if chance + margin >= 1 or method is Method.bootstrap:
        return None
    return _fewest_items(margin, kind, method, chance + margin, population, alpha)


@cache
def _fewest_items(
    margin: float, kind: Kind, method: Method, floor: float, population: int | None, alpha: float
) -> int | None:
    if method is Method.sequential:
        above = sequential_items_above(1.0, 0.0, floor=floor, alpha=alpha, power=0.5)
        return max(items_within_without_change(margin, alpha=alpha), math.ceil(above))

    def is_enough(n: int) -> bool:
        factor = finite_factor(n, population)
        half = 0.0 if population in (None, n) else 0.5 / population
        unseen = 1.0 - alpha ** (1.0 / n)
        upper = tango_upper(0, 0, n, confidence=1.0 - alpha) if kind is Kind.binary else unseen
        return factor * upper + half < margin and factor * unseen + half < 1.0 - floor

    most = _MOST_ITEMS if population is None else population
    return bisect_left(range(most), True, lo=1, key=is_enough) if is_enough(most) else None


def find_further_items(
    comparison: PairedComparison, margin: float, *, chance: float, family: int, alpha: float, power: float
) -> FurtherItems | None:
    """Return the items to add until a verdict is likely, whichever comes first; None if no number is likely to tell.

    With the drop d and the variance v of a unit's difference as observed, right or wrong: n = (z(1 - alpha) +
    z(power))² v / (margin - d)² to be within the margin, if d is below it, and n = (z(1 - alpha / 2k) + z(power))² v /
    d² to be worse, if d is above 0 (normal approximation; Julious 2004, "Sample sizes for clinical trials with Normal
    data", Statistics in Medicine 23). k is the size of the family: Holm's first step, which is on the safe side. Graded
    scores: `GaffkePlan`. Where one may stop at any time: `sequential_items`. To be within the margin also takes
    `fewest_items`, and a baseline that is shown to be above the floor.
    """
    method = comparison.method
    ground = 0.0
    if method is not Method.bootstrap:
        if chance + margin >= 1.0:
            return None
        fewest = fewest_items(margin, kind=comparison.kind, method=method, chance=chance, alpha=alpha)
        ground = max(fewest or math.inf, _items_above_floor(comparison, chance + margin, method, alpha, power))
    needed = _needed_items(comparison, margin, method, family=family, alpha=alpha, power=power, ground=ground)
    n, d, size = comparison.n, comparison.difference, _squared_change(comparison)
    share = (comparison.changed + 2.0) / (n + 2.0) if comparison.changed < FEW_CHANGED else comparison.changed / n
    variance = max(0.0, share * size - d**2)
    expected = needed(d, variance)
    if math.isinf(expected):
        return None
    error = math.sqrt(variance / n)
    numbers = [
        needed(float(drop), max(share * size, abs(float(drop)) * math.sqrt(size)) - float(drop) ** 2)
        for share in wilson_interval(comparison.changed, n, confidence=_LIKELY)
        for drop in np.linspace(d - error, d + error, _PLACES)
    ]
    numbers.append(expected)
    least, most = (_added(comparison, each) for each in (min(numbers), max(numbers)))
    added = _added(comparison, expected)
    return None if added is None or least is None else FurtherItems(added, least, most)


def _needed_items(
    comparison: PairedComparison,
    margin: float,
    method: Method,
    *,
    family: int,
    alpha: float,
    power: float,
    ground: float,
) -> Callable[[float, float], float]:
    """Return the items for a verdict in all, as a function of the drop and a unit's variance."""
    normal = NormalDist()

    def needed(drop: float, variance: float) -> float:
        variance = max(variance, 0.0)
        if method is Method.sequential:
            within, worse = sequential_items(drop, variance, margin=margin, alpha=alpha, family=family, power=power)
        elif comparison.kind is Kind.binary or method is Method.bootstrap:
            within = (normal.inv_cdf(1.0 - alpha) + normal.inv_cdf(power)) ** 2 * variance
            worse = (normal.inv_cdf(1.0 - alpha / (2.0 * family)) + normal.inv_cdf(power)) ** 2 * variance
            within = within / (margin - drop) ** 2 if drop < margin else math.inf
            worse = worse / drop**2 if drop > 0 else math.inf
        else:
            within = GaffkePlan(variance, 1.0 - margin, alpha).items(margin - drop, power)
            worse = GaffkePlan(variance, 1.0, alpha / (2.0 * family)).items(drop, power)
        return min(max(within, ground), worse)

    return needed


def _items_above_floor(comparison: PairedComparison, floor: float, method: Method, alpha: float, power: float) -> float:
    """Return the items that show the baseline to be above the floor, if its mean is as observed."""
    if comparison.baseline_low > floor or math.isnan(comparison.baseline_low):
        return 0.0
    mean = comparison.baseline_mean
    if mean <= floor:
        return math.inf
    if method is Method.sequential:
        return sequential_items_above(mean, mean * (1.0 - mean), floor=floor, alpha=alpha, power=power)
    return GaffkePlan(mean * (1.0 - mean), floor, alpha).items(mean - floor, power)


def _added(comparison: PairedComparison, needed: float) -> int | None:
    if math.isinf(needed):
        return None
    if (size := comparison.population) is not None:  # a fixed set needs fewer, and never more than it has
        needed = needed * size / (needed + size - 1)
    return max(1, math.ceil(needed) - comparison.n)


def _squared_change(comparison: PairedComparison) -> float:
    """Return the mean squared difference of a changed unit; 1, the most possible, if none changed."""
    n = comparison.n
    squares = comparison.difference**2 * n + (comparison.deviation**2 * (n - 1) if n > 1 else 0.0)
    return squares / comparison.changed if comparison.changed else 1.0
