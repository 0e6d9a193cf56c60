"""A quant against its baseline on the same items, and one mean score: the entry points of the statistics.

What was right or wrong gets Tango's interval and McNemar's mid-p; graded scores get Gaffke's bounds and the test that
belongs to them. Answers to one item count once. `Method.bootstrap` is the plain percentile bootstrap for everything,
for comparison with results that were made with it.
"""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from quantexp.stats.binary import mcnemar, tango_interval, tango_upper, wilson_interval
from quantexp.stats.bootstrap import p_with_ties, resampled_means
from quantexp.stats.checks import TIE_TOLERANCE, align, check_pair, check_resampling, check_scores
from quantexp.stats.gaffke import gaffke_lower, gaffke_p
from quantexp.stats.graded import Bounds, graded_bounds, percentile_bounds
from quantexp.stats.sequential import anytime_bounds, anytime_lower
from quantexp.stats.units import finite_factor, finite_p, group

_SLACK = 1e-9
"""What a score may exceed 1 by, because F1 and the like are rounded."""


E_VALUE = "mixture e-value"
"""What a comparison's `test_method` says where units may be looked at one by one."""

TIES = "percentile bootstrap, ties on both sides"
"""What it says of the method bootstrap."""


class Method(Enum):
    """Statistical method."""

    default = "default"
    """Chosen by the scores, each for its coverage with few changed items; never a single point as an interval."""
    bootstrap = "bootstrap"
    """Percentile bootstrap over units with ties on both sides of p, whatever the scores. When no unit changed, the
    interval is a single point, which proves nothing."""
    sequential = "sequential"
    """E-values, which hold however often and for whatever reason one has looked; units in the order in which they were
    drawn, which must be random. For the mean of the population only."""


class Kind(Enum):
    """Kind of the units' scores."""

    binary = "binary"
    """0 or 1 each."""
    graded = "graded"
    """Anything else, such as shares, F1, or means of several answers that differ."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The drop from the baseline to a quant over the same units: positive means that the baseline is better.

    Attributes:
        difference: Mean of baseline minus quant over units, in the unit of the scores.
        low: Lower end of the interval.
        high: Upper end of the interval.
        upper: One-sided upper bound of the drop at the same confidence: at 0.95, the upper end of the 90% interval.
        p_value: Two-sided, of no drop; not adjusted for other comparisons.
        n: Number of units: unique items.
        answers: Number of answers that each side gave to them.
        design_effect: How many times larger the variance of the difference is than if all answers were independent; 1
            without repeats, nan where the two sides' answers cannot be paired one by one.
        kind: What the units' scores are.
        lost: Units on which the baseline is better (b).
        gained: Units on which the quant is better (c).
        baseline_mean: Mean score of the baseline over units.
        baseline_low: One-sided lower bound of the baseline's mean at the same confidence, exact for right or wrong; nan
            where scores lie outside [0, 1].
        quant_mean: Mean score of the quant over units.
        deviation: Standard deviation of the units' differences; nan for a single unit.
        interval_method: How the interval was made, in words.
        test_method: How the p-value was made, in words.
        confidence: Nominal coverage of the interval.
        resamples: Number of resamples, where the methods take any.
        seed: Seed of the resampling.
        population: Number of unique items of the fixed set that the result is about; None for whatever the items
            sample.
    """

    difference: float
    low: float
    high: float
    upper: float
    p_value: float
    n: int
    answers: int
    design_effect: float
    kind: Kind
    lost: int
    gained: int
    baseline_mean: float
    baseline_low: float
    quant_mean: float
    deviation: float
    interval_method: str
    test_method: str
    confidence: float
    resamples: int
    seed: int
    population: int | None

    @property
    def changed(self) -> int:
        """Units whose score differs between the two."""
        return self.lost + self.gained

    @property
    def method(self) -> Method:
        """Method that made it."""
        return {E_VALUE: Method.sequential, TIES: Method.bootstrap}.get(self.test_method, Method.default)

    @property
    def zero_width(self) -> bool:
        """True if the interval is a single point although not all of a fixed set was answered: it bounds nothing."""
        return self.population != self.n and self.low == self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean score over units with its interval.

    Attributes:
        mean: Mean of the units' scores.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of units: unique items.
        answers: Number of answers.
        design_effect: How many times larger the variance of the mean is than if all answers were independent.
        kind: What the units' scores are.
        interval_method: How the interval was made, in words.
        confidence: Nominal coverage of the interval.
        resamples: Number of resamples, where the method takes any.
        seed: Seed of the resampling.
        population: Number of unique items of the fixed set that the result is about, or None.
    """

    mean: float
    low: float
    high: float
    n: int
    answers: int
    design_effect: float
    kind: Kind
    interval_method: str
    confidence: float
    resamples: int
    seed: int
    population: int | None

    @property
    def zero_width(self) -> bool:
        """True if the interval is a single point although not all of a fixed set was answered: it bounds nothing."""
        return self.population != self.n and self.low == self.high


def compare(
    baseline: ArrayLike,
    quant: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    population: int | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
    method: Method = Method.default,
) -> PairedComparison:
    """Compare a quant with its baseline, answer by answer, on the same items.

    Where more than one of the arrays is a pandas Series, what has the same label belongs together, whatever the order.

    Args:
        baseline: Score of each answer under the baseline, shape (m,); in [0, 1] unless the method is the bootstrap.
        quant: Score of the same answers, in the same order, under the quant, shape (m,).
        clusters: Id of each answer's item, shape (m,): answers with one id are averaged and count once. None when all
            answers are to different items.
        population: Number of unique items of a fixed set, if the result is about that set only: intervals then shrink
            by √((N - n) / (N - 1)), but for half an item. With all of the set answered, the interval is the difference
            itself, and right.
        confidence: Nominal coverage of the interval, at least 0.5 and below 1.
        resamples: Number of resamples, where the method takes any.
        seed: Seed of `numpy.random.default_rng`; the same seed gives the same result.
        method: Which statistics.

    Raises:
        ValueError: The arrays or the labels of Series do not fit each other, a score is not finite or outside [0, 1],
            or an option is out of range.
    """
    ours, theirs, clusters = align({"baseline": baseline, "quant": quant, "clusters": clusters})
    before, after = check_pair(ours, theirs)
    units = group(before.size, clusters)
    order = units.drawn() if method is Method.sequential else slice(None)
    return compare_units(
        units.means(before)[order],
        units.means(after)[order],
        answers=units.answers,
        design_effect=units.design_effect(before - after),
        population=population,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        method=method,
    )


def compare_units(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    *,
    answers: int,
    design_effect: float,
    population: int | None,
    confidence: float,
    resamples: int,
    seed: int,
    method: Method,
) -> PairedComparison:
    """Compare scores that count once each; `compare` for the rest."""
    _check_target(method, population)
    check_resampling(resamples, seed, confidence)
    differences = before - after
    kind = _kind(before, after)
    tie = TIE_TOLERANCE * float(max(np.abs(before).max(), np.abs(after).max()))
    lost, gained = int(np.count_nonzero(differences > tie)), int(np.count_nonzero(differences < -tie))
    n, difference = int(differences.size), float(differences.mean())
    if method is Method.bootstrap:
        means = resampled_means(differences, resamples, seed)
        bounds = percentile_bounds(means, confidence)
        p_value, test_method = p_with_ties(means, tie), TIES
    elif method is Method.sequential:
        _check_range(before, after)
        found = anytime_bounds(np.clip(differences, -1, 1), confidence=confidence)
        bounds = Bounds(found.low, found.high, found.upper, "confidence sequence by betting")
        p_value, test_method = found.p_value, E_VALUE
    elif kind is Kind.binary:
        low, high = tango_interval(lost, gained, n, confidence=confidence)
        bounds = Bounds(low, high, tango_upper(lost, gained, n, confidence=confidence), "Tango score")
        p_value, test_method = mcnemar(lost, gained).mid_p, "McNemar mid-p"
    else:
        _check_range(before, after)
        bounds = graded_bounds(differences, confidence=confidence)
        p_value, test_method = gaffke_p(np.clip(differences, -1, 1)), "Gaffke, two-sided"
    factor = finite_factor(n, population)
    return PairedComparison(
        difference=difference,
        low=_shrink_low(difference, bounds.low, n, population, method),
        high=_shrink_high(difference, bounds.high, n, population, method),
        upper=_shrink_high(difference, bounds.upper, n, population, method),
        p_value=finite_p(p_value, factor, difference if lost or gained else 0.0),
        n=n,
        answers=answers,
        design_effect=design_effect,
        kind=kind,
        lost=lost,
        gained=gained,
        baseline_mean=float(before.mean()),
        baseline_low=_shrink_low(
            float(before.mean()), _baseline_low(before, confidence, method), n, population, method, lowest=0.0
        ),
        quant_mean=float(after.mean()),
        deviation=float(differences.std(ddof=1)) if n > 1 else math.nan,
        interval_method=bounds.method,
        test_method=test_method,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        population=population,
    )


def estimate(
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    population: int | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
    method: Method = Method.default,
) -> Estimate:
    """Estimate a mean score: Wilson's interval for right or wrong, Gaffke's for graded scores.

    Args:
        scores: Score of each answer, shape (m,); in [0, 1] unless the method is the bootstrap.
        clusters: Id of each answer's item, shape (m,); see `compare`.
        population: Number of unique items of a fixed set, if the result is about that set only; see `compare`.
        confidence: Nominal coverage of the interval, at least 0.5 and below 1.
        resamples: Number of resamples, where the method takes any.
        seed: Seed of `numpy.random.default_rng`.
        method: Which statistics.

    Raises:
        ValueError: A score is not finite or outside [0, 1], the ids do not fit, or an option is out of range.
    """
    aligned, clusters = align({"scores": scores, "clusters": clusters})
    values = check_scores(aligned, "scores")
    check_resampling(resamples, seed, confidence)
    units = group(values.size, clusters)
    each = units.means(values)
    _check_target(method, population)
    kind, mean = _kind(each), float(each.mean())
    if method is Method.bootstrap:
        bounds = percentile_bounds(resampled_means(each, resamples, seed), confidence)
        low, high, interval_method = bounds.low, bounds.high, bounds.method
    elif method is Method.sequential:
        _check_range(each)
        # From [0, 1] to [-1, 1] and back.
        found = anytime_bounds(np.clip(2 * each[units.drawn()] - 1, -1, 1), confidence=confidence)
        low, high, interval_method = (1 + found.low) / 2, (1 + found.high) / 2, "confidence sequence by betting"
    elif kind is Kind.binary:
        low, high = wilson_interval(int(each.sum()), units.n, confidence=confidence)
        interval_method = "Wilson score"
    else:
        _check_range(each)
        bounds = graded_bounds(each, lowest=0.0, confidence=confidence)
        low, high, interval_method = bounds.low, bounds.high, bounds.method
    return Estimate(
        mean=mean,
        low=_shrink_low(mean, low, units.n, population, method, lowest=0.0),
        high=_shrink_high(mean, high, units.n, population, method),
        n=units.n,
        answers=units.answers,
        design_effect=units.design_effect(values),
        kind=kind,
        interval_method=interval_method,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        population=population,
    )


def _baseline_low(before: NDArray[np.float64], confidence: float, method: Method) -> float:
    if not _is_in_range(before):
        return math.nan
    scores = np.clip(before, 0.0, 1.0)
    if method is Method.sequential:
        return (1.0 + anytime_lower(2.0 * scores - 1.0, confidence=confidence)) / 2.0
    if _kind(before) is Kind.binary:  # the same, and quicker
        right = float(before.sum())
        return float(betaincinv(right, before.size - right + 1.0, 1.0 - confidence)) if right else 0.0
    return gaffke_lower(scores, lowest=0.0, confidence=confidence)


def _kind(*sides: NDArray[np.float64]) -> Kind:
    right_or_wrong = all(bool(np.all((side == 0.0) | (side == 1.0))) for side in sides)
    return Kind.binary if right_or_wrong else Kind.graded


def _is_in_range(scores: NDArray[np.float64]) -> bool:
    return bool(scores.min() >= -_SLACK and scores.max() <= 1.0 + _SLACK)


def _check_range(*sides: NDArray[np.float64]) -> None:
    for side in sides:
        if not _is_in_range(side):
            outside = side[(side < -_SLACK) | (side > 1.0 + _SLACK)]
            raise ValueError(
                f"scores must lie between 0 and 1, not {outside[0]:g}: scale them, or use the method bootstrap."
            )


def _check_target(method: Method, population: int | None) -> None:
    if method is Method.sequential and population is not None:
        # Late items of a fixed set are bound to make up for early ones: the bets would not be fair.
        raise ValueError("the method sequential holds for the population only: leave population out.")


def _shrink_low(
    point: float, end: float, n: int, population: int | None, method: Method, *, lowest: float = -1.0
) -> float:
    """Return a lower end of an interval, for a fixed set shrunk, and half an item of it lower.

    The mean of the set moves in steps of an item. Without that half, a 95% bound was measured to miss the mean in up to
    18% of samples of nearly all of a set.
    """
    if population is None:
        return end
    half = 0.0 if method is Method.bootstrap or n == population else 0.5 / population
    shrunk = point + finite_factor(n, population) * (end - point) - half
    return max(shrunk, lowest) if half else shrunk


def _shrink_high(point: float, end: float, n: int, population: int | None, method: Method) -> float:
    """Return an upper end, the mirror image of a lower one."""
    return -_shrink_low(-point, -end, n, population, method)
