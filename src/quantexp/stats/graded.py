"""Scores between right and wrong: the percentile bootstrap and the sign-flip test over unit differences.

Where the values are multiples of one step (thirds, quarters, their means over repeats), both come from the exact law of
the resampled sum, without Monte Carlo error. Elsewhere they resample: by drawing how often each distinct value occurs
if there are few, which is exactly the same as drawing items, and by drawing items otherwise. Nothing depends on the
order of the items.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.bootstrap import percentile_interval, resampled_means
from quantexp.stats.checks import TIE_TOLERANCE
from quantexp.stats.lattice import flipped_law, resampled_law, steps

_ITEMS_PER_CATEGORY = 16
"""Items that can be drawn in the time in which one category's count can."""

_SIGNS_PER_CHUNK = 1 << 18
"""Random signs held at once: 2 MB as floating-point numbers."""

_DECIMALS = 12
"""Values that agree to so many decimals are the same value computed in two ways."""


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


def bootstrap_bounds(
    values: NDArray[np.float64],
    *,
    lowest: float = -1.0,
    highest: float = 1.0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
) -> Bounds:
    """Percentile bootstrap of a mean over units, never a single point.

    Resampling shows only what the sample holds. When all n values are the same v, every resample gives v, which is not
    evidence that every item would. The interval is then what n values without an exception leave possible: a share of
    up to z²/(n + z²) of items that is as far from v as a value can be, so v - (v - lowest) z²/(n + z²) to
    v + (highest - v) z²/(n + z²). At v = 0 and differences between -1 and 1 that is Tango's interval for no discordant
    pair, and for scores that are all 0 or all 1 it is Wilson's.

    Known weakness: few changes, most of them losses. With two to twelve changed units on average, 70% or more of them
    losses, the 95% interval covers 91 to 93% and the one-sided bound 91 to 92% (simulated, thirds, 200 and 600 units);
    with losses and gains in balance, both cover 94 to 95%.

    Args:
        values: One value per unit, shape (n,), not empty.
        lowest: The smallest value possible; -1 for a difference of two scores in [0, 1].
        highest: The largest value possible.
        confidence: Nominal coverage.
        resamples: Number of resamples, where it takes any.
        seed: Seed of `numpy.random.default_rng`.
    """
    distinct, counts = _tally(values)
    law = None
    if on_lattice := steps(distinct):
        law = resampled_law(on_lattice[0], counts, on_lattice[1])
    if law is not None:
        (low, high), (_, upper) = law.interval(confidence), law.interval(2.0 * confidence - 1.0)
        bounds = Bounds(low, high, upper, "percentile bootstrap, exact law")
    else:
        bounds = percentile_bounds(drawn_means(values, resamples, seed), confidence)
    if bounds.high - bounds.low > TIE_TOLERANCE:
        return bounds
    point, share = float(values.mean()), unseen_share(values.size, (1.0 + confidence) / 2.0)
    return Bounds(
        low=point - share * (point - lowest),
        high=point + share * (highest - point),
        upper=point + unseen_share(values.size, confidence) * (highest - point),
        method="largest unseen share, since all items have the same value",
    )


def percentile_bounds(means: NDArray[np.float64], confidence: float) -> Bounds:
    """Bounds from resampled means as they are; a single point when all of them are equal."""
    low, high = percentile_interval(means, confidence)
    _, upper = percentile_interval(means, 2.0 * confidence - 1.0)
    return Bounds(low, high, upper, f"percentile bootstrap, {means.size:,} resamples")


def drawn_means(values: NDArray[np.float64], resamples: int, seed: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Means of n values drawn with replacement, shape (resamples,); the order of the values does not matter."""
    distinct, counts = _tally(values)
    if distinct.size * _ITEMS_PER_CATEGORY > values.size:
        return resampled_means(np.repeat(distinct, counts), resamples, seed)
    drawn = np.random.default_rng(seed).multinomial(values.size, counts / values.size, size=resamples)
    return np.asarray(drawn @ distinct / values.size)


def unseen_share(n: int, confidence: float) -> float:
    """Largest share of items that n items without one of them leave possible, as a one-sided score bound."""
    squared = NormalDist().inv_cdf(confidence) ** 2
    return squared / (n + squared)


def sign_flip_p(values: NDArray[np.float64], *, resamples: int = 10_000, seed: int = 42) -> tuple[float, str]:
    """Two-sided p-value of "every unit's difference could as well have had the other sign", and how it was made.

    The share of sign patterns whose mean is at least as far from 0 as the observed one, ties included. On differences
    of -1, 0 and 1 it is McNemar's exact test. With resamples it is (k + 1) / (resamples + 1), k of them being at least
    as far, which is a valid test at any number of resamples (Phipson and Smyth 2010, "Permutation P-values Should
    Never Be Zero", Statistical Applications in Genetics and Molecular Biology 9(1)). An exact p below 1e-12 is known to
    be small, not how small.

    Args:
        values: One difference per unit, shape (n,), not empty.
        resamples: Number of random sign patterns, where it takes any.
        seed: Seed; the patterns are independent of the resamples that `bootstrap_bounds` draws with it.
    """
    sizes, counts = _tally(np.abs(values))
    sizes, counts = sizes[sizes > 0], counts[sizes > 0]
    if sizes.size == 0:
        return 1.0, "sign-flip permutation, exact"
    total = abs(float(np.round(values, _DECIMALS).sum()))
    if on_lattice := steps(sizes):
        law = flipped_law(on_lattice[0], counts, on_lattice[1])
        if law is not None:
            smallest = 2.0 ** (1 - int(counts.sum()))  # that of all signs alike, which the transform may round to 0
            return max(smallest, law.beyond(round(total * on_lattice[1]))), "sign-flip permutation, exact"
    sums = _flipped_sums(sizes, counts, np.random.default_rng((seed, 1)), resamples)
    tie = TIE_TOLERANCE * float(counts.sum())
    as_far = np.count_nonzero(np.abs(sums) >= total - tie)
    return (as_far + 1) / (resamples + 1), f"sign-flip permutation, {resamples:,} resamples"


def _tally(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct values in ascending order, and how many units have each."""
    distinct, counts = np.unique(np.round(values, _DECIMALS) + 0.0, return_counts=True)
    return distinct, counts.astype(np.int64)


def _flipped_sums(
    sizes: NDArray[np.float64], counts: NDArray[np.int64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Sums of all sizes under random signs, shape (resamples,)."""
    n = int(counts.sum())
    if sizes.size * _ITEMS_PER_CATEGORY <= n:
        return np.asarray((2 * rng.binomial(counts, 0.5, (resamples, sizes.size)) - counts) @ sizes)
    each = np.repeat(sizes, counts)
    sums, rows = np.empty(resamples), max(1, _SIGNS_PER_CHUNK // n)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        sums[start:stop] = (2.0 * rng.integers(0, 2, (stop - start, n), dtype=np.int8) - 1.0) @ each
    return sums
