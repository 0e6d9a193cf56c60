"""How often the statistics are right: the properties that benchmarks/simulation.py prints.

A property that is a sum over every outcome that is not negligible is exact. The others are simulated, and come with the
standard error of the simulation.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from lattice import exact_bootstrap_law
from numpy.typing import NDArray
from scipy.special import betaln, ndtr, ndtri
from scipy.stats import binom, multivariate_hypergeom

from quantexp.stats import (
    PairedComparison,
    Verdict,
    compare,
    decide,
    drop_posterior,
    mcnemar_p,
    sequential_decision,
    tango_interval,
    wilson_interval,
)
from quantexp.stats.gaffke import bounded_mean_share

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.05
MARGIN = 0.02

STEPS = 3
"""Of a graded score: thirds."""

THIRDS = np.arange(-STEPS, STEPS + 1) / STEPS
"""The differences of such scores."""


def outcomes(n: int, psi: float, drop: float) -> tuple[Integers, Integers, Floats]:
    """Every b and c that is not negligible, and its probability; what is left out has less than 1e-8 in all."""
    losses, gains = (psi + drop) / 2, (psi - drop) / 2
    b = np.arange(int(binom.ppf(1e-10, n, losses)), int(binom.isf(1e-10, n, losses)) + 1)
    c = np.arange(int(binom.ppf(1e-10, n, gains)), int(binom.isf(1e-10, n, gains)) + 1)
    all_b, all_c = (each.ravel() for each in np.meshgrid(b, c, indexing="ij"))
    possible = all_b + all_c <= n
    all_b, all_c = all_b[possible], all_c[possible]
    # c given b: Binomial(n - b) with the share that gains have among what is not a loss.
    share = gains / (1 - losses) if losses < 1 else 0.0
    weight = binom.pmf(all_b, n, losses) * binom.pmf(all_c, n - all_b, share)
    kept = weight > 1e-14
    return all_b[kept], all_c[kept], weight[kept]


def expected(n: int, psi: float, drop: float, event: Callable[[int, int], bool]) -> float:
    """Probability of an event that depends on b and c."""
    b, c, weight = outcomes(n, psi, drop)
    happens = [event(one, other) for one, other in zip(b.tolist(), c.tolist(), strict=True)]
    return float(weight @ np.array(happens, dtype=float))


def compare_counts(b: int, c: int, n: int, *, population: int | None = None) -> PairedComparison:
    """Return the default comparison of right-or-wrong scores with these counts."""
    return compare_differences(np.repeat([1.0, -1.0, 0.0], [b, c, n - b - c]), population=population)


def compare_differences(
    values: Floats, clusters: Integers | None = None, population: int | None = None
) -> PairedComparison:
    """Return the default comparison of scores with these differences, the better one of each pair being 1."""
    return compare(1 - np.maximum(-values, 0), 1 - np.maximum(values, 0), clusters=clusters, population=population)


def rate(happened: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of simulations, and its standard error (never 0, so that 0 of 1,000 is not taken for certain)."""
    share = float(happened.mean())
    smoothed = (happened.sum() + 1) / (happened.size + 2)
    return share, float(np.sqrt(smoothed * (1 - smoothed) / happened.size))


def covers(interval: tuple[float, float], truth: float) -> bool:
    """Whether an interval holds the truth, ends included."""
    return interval[0] - 1e-12 <= truth <= interval[1] + 1e-12


def tango_coverage(n: int, psi: float, drop: float) -> float:
    """Coverage of the default interval of a right-or-wrong difference, exact."""
    return expected(n, psi, drop, lambda b, c: covers(tango_interval(b, c, n), drop))


def percentile_coverage(n: int, psi: float, drop: float) -> float:
    """Return the same of the percentile bootstrap with infinitely many resamples, exact."""
    return expected(n, psi, drop, lambda b, c: covers(exact_bootstrap_law(b, c, n).interval(), drop))


def wald_coverage(n: int, psi: float, drop: float) -> float:
    """Return the same of d ± 1.96 √((ψ - d²) / n), exact."""
    b, c, weight = outcomes(n, psi, drop)
    estimate = (b - c) / n
    half = ndtri(0.975) * np.sqrt(((b + c) / n - estimate**2) / n)
    return float(weight[np.abs(estimate - drop) <= half + 1e-12].sum())


def bca(b: int, c: int, n: int) -> tuple[float, float]:
    """Return the BCa bootstrap interval with infinitely many resamples, as scipy defines it."""
    law = exact_bootstrap_law(b, c, n)
    if b + c == 0:
        return 0.0, 0.0
    cumulative = np.cumsum(law.probabilities)
    observed = int(np.searchsorted(law.sums, b - c))
    bias = ndtri(cumulative[observed] - law.probabilities[observed] / 2)
    d = (b - c) / n
    cubes, squares = b * (1 - d) ** 3 - c * (1 + d) ** 3 - (n - b - c) * d**3, n * ((b + c) / n - d**2)
    acceleration = cubes / (6 * squares**1.5)
    shifted = bias + ndtri(np.array([0.025, 0.975]))
    low, high = law.sums[np.searchsorted(cumulative, ndtr(bias + shifted / (1 - acceleration * shifted)))] / n
    return float(low), float(high)


def bca_coverage(n: int, psi: float, drop: float) -> float:
    """Return the same of BCa, exact."""
    return expected(n, psi, drop, lambda b, c: covers(bca(b, c, n), drop))


def mcnemar_error(n: int, psi: float, *, mid: bool = True, alpha: float = ALPHA, copies: int = 1) -> float:
    """Rate of p <= alpha without a difference, exact; `copies` counts every item so many times, as if independent."""
    b, c, weight = outcomes(n, psi, 0.0)
    return float(weight[mcnemar_p(copies * b, copies * c, mid=mid) <= alpha].sum())


def wilson_coverage(n: int, share: float) -> float:
    """Coverage of the interval of one accuracy, exact."""
    right = np.arange(n + 1)
    inside = [covers(wilson_interval(k, n), share) for k in right.tolist()]
    return float(binom.pmf(right, n, share) @ np.array(inside, dtype=float))


def bootstrap_share_coverage(n: int, share: float) -> float:
    """Return the same of the percentile bootstrap with infinitely many resamples, exact."""
    right = np.arange(n + 1)
    low, high = (binom.ppf(tail, n, right / n) / n for tail in (0.025, 0.975))
    inside = (low <= share + 1e-12) & (share <= high + 1e-12)
    return float(binom.pmf(right, n, share) @ inside)


def graded_differences(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float) -> Floats:
    """Differences of scores out of three fields, shape (runs, n), with this mean.

    A share psi of the items changes: two thirds of those by one field, a quarter by two, the rest by three.
    """
    fields = rng.choice([1, 2, 3], size=(runs, n), p=[2 / 3, 1 / 4, 1 / 12])
    mean_size = (2 / 3 + 2 / 4 + 3 / 12) / 3
    sign = np.where(rng.random((runs, n)) < (1 + drop / (psi * mean_size)) / 2, 1, -1)
    differences: Floats = np.where(rng.random((runs, n)) < psi, sign * fields, 0) / 3
    return differences


def tallied(differences: Floats) -> Integers:
    """How many of the differences in each row are each of `THIRDS`, shape (runs, 7)."""
    steps = np.rint(STEPS * differences).astype(int)
    return np.stack([(steps == step).sum(axis=1) for step in range(-STEPS, STEPS + 1)], axis=1)


def upper_shares(counts: Integers, truth: float) -> Floats:
    """`bounded_mean_share` of thirds; many simulations have the same counts."""
    distinct, place = np.unique(counts, axis=0, return_inverse=True)
    return bounded_mean_share(THIRDS, distinct, truth)[place.ravel()]


def covered_by_gaffke(counts: Integers, truth: float, above: Floats | None = None) -> NDArray[np.bool_]:
    """Whether the default interval holds the truth; `above` are the upper shares, if they are known."""
    above = upper_shares(counts, truth) if above is None else above
    below = upper_shares(counts[:, ::-1], -truth)
    return np.asarray((above >= ALPHA / 2) & (below >= ALPHA / 2))


def called_different(counts: Integers) -> NDArray[np.bool_]:
    """Whether the default p of no difference is below 5%."""
    return ~covered_by_gaffke(counts, 0.0)


def graded(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float) -> tuple[Floats, Floats, Floats]:
    """Simulate the defaults on graded scores: coverage, rate of p <= 5%, misses of the one-sided bound.

    Each is a share and its standard error, shape (2,).
    """
    counts = tallied(graded_differences(rng, runs, n, psi, drop))
    above = upper_shares(counts, drop)
    found = covered_by_gaffke(counts, drop, above), called_different(counts), above < ALPHA
    return np.array(rate(found[0])), np.array(rate(found[1])), np.array(rate(found[2]))


def clustered_error(rng: np.random.Generator, runs: int, items: int, repeats: int) -> tuple[Floats, Floats]:
    """Graded scores, every item answered `repeats` times alike: false differences naive, and averaged within the item.

    Each is a share and its standard error.
    """
    counts = tallied(graded_differences(rng, runs, items, 0.1, 0.0))
    naive, averaged = called_different(repeats * counts), called_different(counts)
    return np.array(rate(naive)), np.array(rate(averaged))


def fixed_set(n: int, size: int, psi: float, *, declared: bool) -> tuple[float, float]:
    """Coverage and rate of p <= 5% when n different items are drawn from a fixed set without a difference, exact.

    `declared` says whether the comparison is told that the result is about that set only.
    """
    each = round(size * psi / 2)
    b, c, _ = outcomes(n, psi, 0.0)
    counts = np.stack([b, c, n - b - c], axis=1)
    weight = np.atleast_1d(multivariate_hypergeom.pmf(counts, [each, each, size - 2 * each], n))
    kept = weight > 1e-8
    covered = rejected = 0.0
    for one, other, probability in zip(b[kept].tolist(), c[kept].tolist(), weight[kept].tolist(), strict=True):
        found = compare_counts(one, other, n, population=size if declared else None)
        covered += probability * covers((found.low, found.high), 0.0)
        rejected += probability * (found.p_value <= ALPHA)
    return covered, rejected


def family_error(n: int, psi: float, comparisons: int) -> float:
    """Probability that any of so many independent comparisons without a difference is called worse, exact.

    Holm's method calls something significant if and only if the smallest p is at most alpha / comparisons.
    """
    b, c, weight = outcomes(n, psi, 0.0)
    worse = weight[(mcnemar_p(b, c) <= ALPHA / comparisons) & (b > c)].sum()
    return float(1 - (1 - worse) ** comparisons)


@cache
def _judge(b: int, c: int, n: int) -> tuple[Verdict, int | None]:
    """Return the verdict on these counts, and the further items that it asks for; many simulations have the same."""
    [decision] = decide([compare_counts(b, c, n)], MARGIN)
    return decision.verdict, decision.further_items


def two_looks(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float) -> tuple[Floats, Floats]:
    """Return a verdict after n items or, if there is none, after the further items that it asks for.

    Each is a share and its standard error.
    """
    within, worse = (np.zeros(runs, dtype=bool) for _ in range(2))
    shares = [(psi + drop) / 2, (psi - drop) / 2, 1 - psi]
    for run in range(runs):
        counts = rng.multinomial(n, shares)
        for _ in range(2):
            b, c, same = counts.tolist()
            verdict, further_items = _judge(b, c, b + c + same)
            if further_items is None:
                within[run] = verdict in (Verdict.within_margin, Verdict.worse_within_margin)
                worse[run] = verdict in (Verdict.worse, Verdict.worse_within_margin)
                break
            counts = counts + rng.multinomial(further_items, shares)
    return np.array(rate(within)), np.array(rate(worse))


Crossed = Callable[[int, Integers, Integers], NDArray[np.bool_]]


def ever(crossed: Crossed, n: int, psi: float, drop: float) -> float:
    """Probability that a rule on (items so far, b, c) ever says yes, asked after every item: exact."""
    size = int(n * psi + 10 * np.sqrt(n * psi)) + 3
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    state = np.zeros((size, size))
    state[0, 0] = 1.0
    reached = 0.0
    for items in range(1, n + 1):
        moved = state * (1 - psi)
        moved[1:] += (psi + drop) / 2 * state[:-1]
        moved[:, 1:] += (psi - drop) / 2 * state[:, :-1]
        yes = crossed(items, b, c)
        reached += float(moved[yes].sum())
        state = np.where(yes, 0.0, moved)
    return reached


@cache
def _difference_crossed(size: int) -> NDArray[np.bool_]:
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    wealth = (b + c) * np.log(2) + betaln(b + 5, c + 5) - betaln(5, 5)
    return np.asarray((wealth >= np.log(1 / ALPHA)) & (b > c))


def worse_crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
    """Whether the e-value calls the quant worse, by its closed form."""
    return _difference_crossed(b.shape[0])


def within_crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
    """Whether the e-value calls the drop within the margin, by its definition."""
    wealth = np.zeros(b.shape)
    stakes = np.geomspace(0.02, 0.95, 9) / (1 - MARGIN)
    for stake in stakes:
        same, lost, gained = np.log1p(stake * (MARGIN - np.array([0.0, 1.0, -1.0])))
        wealth += np.exp(items * same + b * (lost - same) + c * (gained - same)) / stakes.size
    return wealth >= 1 / ALPHA


@cache
def _p_crossed(size: int) -> NDArray[np.bool_]:
    b, c = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    return np.asarray(mcnemar_p(b, c) <= ALPHA)


def p_crossed(every: int) -> Crossed:
    """Whether mid-p is at most alpha, looked at after every so many items."""

    def crossed(items: int, b: Integers, c: Integers) -> NDArray[np.bool_]:
        return _p_crossed(b.shape[0]) if items % every == 0 else np.zeros(b.shape, dtype=bool)

    return crossed


def sequential_graded(rng: np.random.Generator, runs: int, n: int) -> tuple[Floats, Floats]:
    """Graded scores: rate of "worse" without a difference, and of "within" at the margin; with standard errors."""
    worse, within = (np.zeros(runs, dtype=bool) for _ in range(2))
    none, at_margin = (graded_differences(rng, runs, n, 0.1, drop) for drop in (0.0, MARGIN))
    for run in range(runs):
        worse[run] = sequential_decision(none[run], margin=MARGIN).verdict == "worse"
        within[run] = sequential_decision(at_margin[run], margin=MARGIN).verdict == "within"
    return np.array(rate(worse)), np.array(rate(within))


def credible_coverage(n: int, psi: float, drop: float) -> tuple[float, float]:
    """Coverage of the credible interval, and the rate of P(drop < margin) >= 95%: exact, at one truth."""
    b, c, weight = outcomes(n, psi, drop)
    kept = weight > 1e-7
    covered = claimed = 0.0
    for one, other, probability in zip(b[kept].tolist(), c[kept].tolist(), weight[kept].tolist(), strict=True):
        posterior = drop_posterior(one, other, n, margin=MARGIN)
        covered += probability * covers((posterior.low, posterior.high), drop)
        claimed += probability * (posterior.within >= 1 - ALPHA)
    return covered, claimed


@cache
def _claim(b: int, c: int, n: int) -> float:
    """Return P(drop < margin) of these counts."""
    return drop_posterior(b, c, n, margin=MARGIN).within


def calibration(rng: np.random.Generator, runs: int, n: int, low: float, high: float) -> tuple[float, float, float]:
    """Of the comparisons with low <= P(drop < margin) < high: mean of that P, share truly below, standard error.

    True shares of changes are uniform from 1% to 15% and true drops normal around 1 point, standard deviation 1.5
    points, cut to what the changes allow: a world that the prior does not know.
    """
    psi = rng.uniform(0.01, 0.15, runs)
    drop = np.clip(rng.normal(0.01, 0.015, runs), -psi, psi)
    said, true = [], []
    for changes, loss in zip(psi, drop, strict=True):
        b, c, _ = rng.multinomial(n, [(changes + loss) / 2, (changes - loss) / 2, 1 - changes])
        within = _claim(int(b), int(c), n)
        if low <= within < high:
            said.append(within)
            true.append(loss < MARGIN)
    share, error = rate(np.array(true))
    return float(np.mean(said)), share, error
