"""One decision over several tasks: the weighted mean of their paired differences.

The pool is a population of its own. Where each item counts once, it is the tasks' items taken together, and has the
interval and the test of a single task. Where tasks have weights, the intervals are put together from those of the
tasks. Beside them stands the stratified cluster bootstrap: items, with all their answers, are drawn within each task.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from quantexp.stats.binary import mcnemar
from quantexp.stats.bootstrap import p_with_ties, resampled_means
from quantexp.stats.checks import TIE_TOLERANCE, check_pair, check_resampling
from quantexp.stats.comparison import TIES, Kind, Method, PairedComparison, compare_units
from quantexp.stats.gaffke import drawn_means
from quantexp.stats.graded import Bounds, percentile_bounds
from quantexp.stats.random_effects import Heterogeneity, effect_variance, measure_heterogeneity
from quantexp.stats.units import finite_factor, finite_p, group

_MOST_SUMS = 1 << 20
"""Sums that the exact test lists one by one; beyond, they are put on a grid."""

_GRID = 1 << 15
"""Steps of that grid from 0 to the largest sum: finer than what a p-value shows."""


@dataclass(frozen=True, slots=True)
class PooledComparison:
    """The drop from the baseline to a quant over several tasks.

    Attributes:
        overall: The weighted mean, as a comparison: `n`, `lost` and `gained` are sums over the tasks, `deviation` is
            what a unit would have if the mean were one over n units.
        tasks: Each task's own comparison.
        weights: Of the tasks, with the sum 1.
        bootstrap_low: Lower end of the interval by the stratified cluster bootstrap.
        bootstrap_high: Upper end of it.
        p_exact: Two-sided exact p-value of no difference on any task; nan where scores are graded.
        heterogeneity: How far the tasks differ; None for one task.
    """

    overall: PairedComparison
    tasks: tuple[PairedComparison, ...]
    weights: tuple[float, ...]
    bootstrap_low: float
    bootstrap_high: float
    p_exact: float
    heterogeneity: Heterogeneity | None


@dataclass(frozen=True, slots=True)
class _Stratum:
    """Scores of one task's units."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    answers: int
    design_effect: float

    def compare(self, population: int | None, **options: Any) -> PairedComparison:
        own: dict[str, Any] = {"answers": self.answers, "design_effect": self.design_effect}
        return compare_units(self.before, self.after, population=population, **own, **options)


def pool(
    baselines: Sequence[ArrayLike],
    quants: Sequence[ArrayLike],
    *,
    weights: Sequence[float] | None = None,
    clusters: Sequence[ArrayLike | None] | None = None,
    populations: Sequence[int] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
    method: Method = Method.default,
) -> PooledComparison:
    """Compare a quant with its baseline over several tasks.

    Each item counts once (no weights): the tasks' items are one sample, with Tango's interval and McNemar's test if all
    are right or wrong, and Gaffke's bounds and test otherwise. Sampling within tasks of fixed sizes varies less than
    sampling from all of them, so that both err on the safe side.

    Weights: the interval is put together from those of the tasks (MOVER: Zou and Donner 2008, Statistics in Medicine
    27) if all are right or wrong, and otherwise from the draws behind their Gaffke bounds (melding: Fay, Proschan and
    Brittain 2015, Biometrics 71). The test of right or wrong is McNemar's, stratified: given how many items of each
    task changed, each change is a loss or a gain with probability 1/2 (Cox 1958, Biometrika 45). It is exact if no task
    has a difference, and errs on the safe side if differences of tasks cancel out.

    Of a single task it is that task's own comparison.

    Args:
        baselines: For each task the score of each answer under the baseline, shape (m,).
        quants: The same answers under the quant.
        weights: Of the tasks, above 0, in proportion; None to count each item once.
        clusters: For each task the ids of the answers' items, as in `compare`; None where all are different items.
        populations: Of each task the number of unique items of the fixed set that the result is about; without weights
            each item of these sets then counts once.
        confidence: Nominal coverage of the intervals, at least 0.5 and below 1.
        resamples: Number of resamples.
        seed: Seed of the resampling.
        method: Which statistics; not `sequential`, since tasks then have numbers of items that depend on their scores.

    Raises:
        ValueError: There is no task, numbers do not fit each other, or one is out of range.
    """
    check_resampling(resamples, seed, confidence)
    if method is Method.sequential:
        raise ValueError("a pool needs numbers of items that are fixed beforehand: use another method than sequential.")
    _check_numbers(len(baselines), quants=quants, weights=weights, clusters=clusters, populations=populations)
    options: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed, "method": method}
    strata = [
        _make_stratum(before, after, ids)
        for before, after, ids in zip(baselines, quants, clusters or [None] * len(baselines), strict=True)
    ]
    sizes: Sequence[int | None] = populations or [None] * len(strata)
    parts = [stratum.compare(size, **options) for stratum, size in zip(strata, sizes, strict=True)]
    shares = _normalise(weights if weights is not None else populations or [part.n for part in parts])
    means = _resample(strata, shares, resamples, seed)
    drawn = percentile_bounds(means, confidence)
    is_binary = all(part.kind is Kind.binary for part in parts)
    exact, mid = stratified_sign_p(parts, shares) if is_binary else (math.nan, math.nan)
    if len(parts) == 1:
        [overall] = parts
    elif method is Method.bootstrap:
        tie = TIE_TOLERANCE * max(float(np.abs([each.before, each.after]).max()) for each in strata)
        overall = _combine(parts, shares, drawn, p_with_ties(means, tie), TIES)
    elif weights is None and populations is None:
        overall = _merge(strata).compare(None, **options)
    else:
        melded, p_value = _meld(strata, shares, confidence, resamples, seed)
        bounds = _recover(parts, shares) if is_binary or populations else melded
        p_value, test = (mid, "McNemar mid-p, stratified") if is_binary else (p_value, "Gaffke, melded, two-sided")
        overall = _combine(parts, shares, bounds, p_value, test)
    return PooledComparison(
        overall=overall,
        tasks=tuple(parts),
        weights=shares,
        bootstrap_low=drawn.low,
        bootstrap_high=drawn.high,
        p_exact=exact,
        heterogeneity=None
        if len(parts) == 1
        else measure_heterogeneity(
            [part.difference for part in parts], [effect_variance(part) for part in parts], confidence=confidence
        ),
    )


def stratified_sign_p(parts: Sequence[PairedComparison], weights: Sequence[float]) -> tuple[float, float]:
    """Return McNemar's exact p-value and its mid-p over several tasks, two-sided.

    Given how many units of each task changed, each is lost or gained with probability 1/2 if no task has a difference;
    the law of the weighted mean is summed over all outcomes. Above some million of them, sums are rounded to a grid so
    fine that no shown digit changes, and those within its step of the observed one count as beyond it.

    Args:
        parts: Of each task a comparison of what is right or wrong.
        weights: Of the tasks.
    """
    steps = np.array([weight / part.n for weight, part in zip(weights, parts, strict=True)])
    if np.allclose(steps, steps[0], rtol=1e-12, atol=0.0):
        pooled = mcnemar(sum(part.lost for part in parts), sum(part.gained for part in parts))
        return pooled.exact, pooled.mid_p
    sums: NDArray[np.floating[Any]]
    probabilities: NDArray[np.floating[Any]]
    changed = np.array([part.changed for part in parts])
    observed = abs(sum(float(step) * (part.lost - part.gained) for step, part in zip(steps, parts, strict=True)))
    most = float(steps @ changed)
    if math.prod(int(each) + 1 for each in changed) <= _MOST_SUMS:
        sums, probabilities = np.zeros(1), np.ones(1)
        for step, count in zip(steps, changed, strict=True):
            lost = np.arange(count + 1)
            sums = np.add.outer(sums, step * (2.0 * lost - count)).ravel()
            probabilities = np.multiply.outer(probabilities, _fair_coin(count)).ravel()
        tie = TIE_TOLERANCE * max(most, 1.0)
    else:
        from scipy.signal import fftconvolve  # takes a second to load

        probabilities, width = np.ones(1), most / _GRID
        for size, count in zip(steps, changed, strict=True):
            lost = np.arange(count + 1)
            places = np.rint(size * lost / width).astype(np.int64)
            law = np.bincount(places, weights=_fair_coin(count))
            probabilities = np.maximum(fftconvolve(probabilities, law), 0.0)
        # In steps of twice the grid's: a loss that becomes a gain changes the sum by two.
        sums = np.arange(probabilities.size, dtype=np.float64) * (2.0 * width) - most
        tie = 2.0 * width * len(parts)
    beyond = float(probabilities[sums > observed + tie].sum())
    at = float(probabilities[np.abs(sums - observed) <= tie].sum())
    return min(1.0, 2.0 * (beyond + at)), min(1.0, 2.0 * beyond + at)


def _fair_coin(count: int) -> NDArray[np.float64]:
    """Return the probability of each number of heads among so many throws of a fair coin."""
    heads = np.arange(count + 1)
    ways = gammaln(count + 1.0) - gammaln(heads + 1.0) - gammaln(count - heads + 1.0)
    return np.exp(ways - count * math.log(2.0))


def _check_numbers(count: int, **given: Sequence[object] | None) -> None:
    if not count:
        raise ValueError("pool needs at least one task.")
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{len(values)} {name} do not fit {count} tasks: give one each.")


def _make_stratum(baseline: ArrayLike, quant: ArrayLike, clusters: ArrayLike | None) -> _Stratum:
    before, after = check_pair(baseline, quant)
    units = group(before.size, clusters)
    return _Stratum(units.means(before), units.means(after), units.answers, units.design_effect(before - after))


def _normalise(weights: Sequence[float]) -> tuple[float, ...]:
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"weights must be above 0, not {min(weights)}.")
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _resample(strata: Sequence[_Stratum], weights: Sequence[float], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the weighted means of units drawn with replacement within each task, shape (resamples,)."""
    means = np.zeros(resamples)
    for place, (each, weight) in enumerate(zip(strata, weights, strict=True)):
        stream = seed if place == 0 else (seed, place)
        means += weight * resampled_means(each.before - each.after, resamples, stream)
    return means


def _merge(strata: Sequence[_Stratum]) -> _Stratum:
    """Take the units of all tasks together."""
    effects = {each.design_effect for each in strata}
    return _Stratum(
        np.concatenate([each.before for each in strata]),
        np.concatenate([each.after for each in strata]),
        sum(each.answers for each in strata),
        effects.pop() if len(effects) == 1 else math.nan,
    )


def _recover(parts: Sequence[PairedComparison], weights: Sequence[float]) -> Bounds:
    """Put the interval of a weighted mean together from those of its parts."""
    mean = _weigh(weights, [part.difference for part in parts])
    below = _distance(weights, [part.difference - part.low for part in parts])
    above, upper = (
        _distance(weights, [end - part.difference for end, part in zip(ends, parts, strict=True)])
        for ends in ([part.high for part in parts], [part.upper for part in parts])
    )
    methods = ", ".join(dict.fromkeys(part.interval_method for part in parts))
    return Bounds(mean - below, mean + above, mean + upper, f"{methods}, put together")


def _meld(
    strata: Sequence[_Stratum], weights: Sequence[float], confidence: float, resamples: int, seed: int
) -> tuple[Bounds, float]:
    """Add the draws of which the tasks' Gaffke bounds are quantiles; return their quantiles, and the p-value."""
    lows, highs = np.zeros(resamples), np.zeros(resamples)
    for place, (each, weight) in enumerate(zip(strata, weights, strict=True)):
        differences = np.clip(each.before - each.after, -1.0, 1.0)
        at_least, at_most = drawn_means(differences, 1.0, resamples, (seed, place))
        lows, highs = lows + weight * at_least, highs + weight * at_most
    below, above = percentile_bounds(lows, confidence), percentile_bounds(highs, confidence)
    outside = min(np.count_nonzero(lows <= TIE_TOLERANCE), np.count_nonzero(highs >= -TIE_TOLERANCE))
    return Bounds(below.low, above.high, above.upper, "Gaffke, melded"), min(1.0, 2.0 * outside / resamples)


def _combine(
    parts: Sequence[PairedComparison], weights: Sequence[float], bounds: Bounds, p_value: float, test: str
) -> PairedComparison:
    """Return the weighted mean as a comparison."""
    first, n = parts[0], sum(part.n for part in parts)
    difference = _weigh(weights, [part.difference for part in parts])
    baseline_mean = _weigh(weights, [part.baseline_mean for part in parts])
    below = _distance(weights, [part.baseline_mean - part.baseline_low for part in parts])
    errors = [part.deviation / math.sqrt(part.n) for part in parts]
    changed = any(part.changed for part in parts)
    return replace(
        first,
        difference=difference,
        low=bounds.low,
        high=bounds.high,
        upper=bounds.upper,
        p_value=finite_p(p_value, _finite_factor(parts, weights, errors), difference if changed else 0.0),
        n=n,
        answers=sum(part.answers for part in parts),
        design_effect=first.design_effect if len({part.design_effect for part in parts}) == 1 else math.nan,
        kind=Kind.binary if all(part.kind is Kind.binary for part in parts) else Kind.graded,
        lost=sum(part.lost for part in parts),
        gained=sum(part.gained for part in parts),
        baseline_mean=baseline_mean,
        baseline_low=baseline_mean - below,
        quant_mean=_weigh(weights, [part.quant_mean for part in parts]),
        deviation=_distance(weights, errors) * math.sqrt(n),
        interval_method=bounds.method,
        test_method=test,
        population=None if first.population is None else sum(part.population or 0 for part in parts),
    )


def _finite_factor(parts: Sequence[PairedComparison], weights: Sequence[float], errors: Sequence[float]) -> float:
    """Return by what the error of the mean shrinks as each task's does, whose items are of a fixed set."""
    factors = [finite_factor(part.n, part.population) for part in parts]
    whole = _distance(weights, errors)
    if not whole > 0.0:
        return max(factors)
    return _distance(weights, [each * factor for each, factor in zip(errors, factors, strict=True)]) / whole


def _weigh(weights: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(weight * value for weight, value in zip(weights, values, strict=True))


def _distance(weights: Sequence[float], distances: Sequence[float]) -> float:
    """Return the distance of a weighted mean whose independent parts have these."""
    return math.hypot(*(weight * distance for weight, distance in zip(weights, distances, strict=True)))
