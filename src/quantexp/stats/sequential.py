"""Evidence that may be looked at after every item: e-values for a paired difference, and a rule that stops.

A p-value holds for one look. Looking every 50 items and stopping at the first p < 0.05 finds a difference that is not
there in one run out of four or five. An e-value is the wealth of a gambler who starts with 1 and bets against a
hypothesis, item by item, at odds that are fair or unfavourable if it is true. Then, however often one looks, the
probability that the wealth ever reaches 1 / alpha is at most alpha (Ville's inequality).

The gambler stakes the share |bet| of the wealth on an item's difference d, which multiplies it by 1 + bet * (d - m)
against "the mean difference is at most m" (bet > 0) or "at least m" (bet < 0). As nobody knows the best stake, the
wealth is divided over a fixed grid of them; the mean of martingales is one too (Waudby-Smith and Ramdas 2024,
"Estimating means of bounded random variables by betting", JRSS-B 86(1), section 4 on mixtures over a grid).

When it is valid: differences lie in [-1, 1], and given the items before it each item's mean difference is as the
hypothesis says. That holds if items are independent draws from one population, in an order that has nothing to do with
their difficulty: shuffle a data set that is sorted. It does not hold exactly for the mean of a fixed set of items drawn
without replacement, where late items are bound to make up for early ones. Items that depend on each other (repeats,
copies) must be averaged into one first.

The price: to show a drop to be within 2 points with 80% probability takes about twice as many items as one fixed look.
Half of the runs are through with about as many as the fixed look needs, or earlier; a bad quant stops soon.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_jacobi

_Floats = NDArray[np.float64]

_NODES = 128
"""Stakes of the mixture against "no difference". Gauss-Jacobi nodes make the mixture equal to the integral over all
stakes, up to rounding, until 2 * _NODES - 1 items have changed; with more it stays a valid e-value."""

_WITHIN_STAKES = np.geomspace(0.05, 0.95, 8)
"""Stakes of the mixture against "the drop is at least the margin", as shares of the largest one that cannot go broke.
The best one is about margin / psi of it for a quant that loses nothing and changes a share psi of the items."""

_LARGEST_LOG = 700.0
"""e to this is near the largest floating-point number; a larger e-value says nothing more."""


@dataclass(frozen=True, slots=True, eq=False)
class RunningEValues:
    """E-values after the first, second, ... item, each of shape (n,); large is evidence against the hypothesis.

    Attributes:
        difference: Against "the mean difference is 0"; the mean of the next two.
        worse: Against "the quant is as good or better" (mean difference at most 0).
        better: Against "the quant is as good or worse" (mean difference at least 0).
        within: Against "the drop is at least the margin".
        margin: The margin, in the unit of the scores.
    """

    difference: _Floats
    worse: _Floats
    better: _Floats
    within: _Floats
    margin: float


@dataclass(frozen=True, slots=True)
class SequentialDecision:
    """Where a comparison may stop.

    Attributes:
        verdict: "worse" if a loss was shown first, "within" if the drop was first shown to be below the margin,
            "undecided" if neither was shown: go on, or stop and claim nothing. A quant that gains is "within".
        items: Number of items after which the verdict stood; all of them if undecided.
        e_value: The e-value that decided, or the larger of the two if undecided.
        margin: The margin, in the unit of the scores.
        alpha: The probability of a false claim allowed to each of the two questions, over all looks together.
    """

    verdict: Literal["worse", "within", "undecided"]
    items: int
    e_value: float
    margin: float
    alpha: float


def running_e_values(differences: ArrayLike, *, margin: float) -> RunningEValues:
    """E-values after each item; those of the first k items do not depend on what follows.

    Against "no difference" the stakes have the density of 2 * Beta(5, 5) - 1. If all differences are -1, 0 or 1 the
    mixture is then 2^(b + c) B(b + 5, c + 5) / B(5, 5) with b and c the numbers of 1 and -1, and B the beta function.

    Args:
        differences: Baseline minus quant of each item, in random order, in [-1, 1], shape (n,).
        margin: The largest drop that would not matter, above 0 and below 1.

    Raises:
        ValueError: The differences are not such an array, or the margin is out of range.
    """
    values = _differences(differences)
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, not {margin}.")
    stakes, weights = _difference_stakes()
    worse, better = (_log_wealth(sign * values, stakes, weights) for sign in (1.0, -1.0))
    largest = 1 / (1 - margin)  # at d = 1 the wealth is multiplied by 1 - stake * (1 - margin)
    within = _log_wealth(margin - values, _WITHIN_STAKES * largest, np.ones_like(_WITHIN_STAKES))
    return RunningEValues(
        difference=_exp(np.logaddexp(worse, better) - np.log(2)),
        worse=_exp(worse),
        better=_exp(better),
        within=_exp(within),
        margin=margin,
    )


def sequential_decision(differences: ArrayLike, *, margin: float, alpha: float = 0.05) -> SequentialDecision:
    """The verdict at the first item after which an e-value reaches 1 / alpha.

    A quant that is not worse is called worse with probability at most alpha, and one that loses the margin or more is
    said to be within it with probability at most alpha: over all items together, however often and for whatever reason
    one looks. In a family of k comparisons pass alpha / k. "Worse" takes the two-sided e-value and a mean difference
    above 0, as with a two-sided p-value. If one item shows both, the verdict is "worse".

    Args:
        differences: Baseline minus quant of each item, in random order, in [-1, 1], shape (n,).
        margin: The largest drop that would not matter, above 0 and below 1.
        alpha: See above.

    Raises:
        ValueError: The differences are not such an array, or an option is out of range.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}.")
    evidence = running_e_values(differences, margin=margin)
    worse = (evidence.difference >= 1 / alpha) & (evidence.worse > evidence.better)
    reached = np.flatnonzero(worse | (evidence.within >= 1 / alpha))
    if not reached.size:
        e_value = max(evidence.difference[-1], evidence.within[-1])
        return SequentialDecision("undecided", worse.size, float(e_value), margin, alpha)
    first = int(reached[0])
    if worse[first]:
        return SequentialDecision("worse", first + 1, float(evidence.difference[first]), margin, alpha)
    return SequentialDecision("within", first + 1, float(evidence.within[first]), margin, alpha)


@cache
def _difference_stakes() -> tuple[_Floats, _Floats]:
    """Stakes against "no difference" on the one side, and their weights; the other side is their mirror image."""
    nodes, weights = roots_jacobi(_NODES, 4, 4)
    positive = nodes > 0  # the nodes are symmetric about 0, which is not one of them
    return nodes[positive], weights[positive]


def _log_wealth(outcomes: _Floats, stakes: _Floats, weights: _Floats) -> _Floats:
    """Logarithm of the weighted mean, over the stakes, of the running product of 1 + stake * outcome."""
    wealth = np.cumsum(np.log1p(np.outer(stakes, outcomes)), axis=1)
    mixture: _Floats = np.logaddexp.reduce(wealth + np.log(weights / weights.sum())[:, None], axis=0)
    return mixture


def _exp(logarithms: _Floats) -> _Floats:
    return np.exp(np.minimum(logarithms, _LARGEST_LOG))


def _differences(values: ArrayLike) -> _Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("differences must be a one-dimensional array of numbers.") from error
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"differences must have one dimension and at least one item, not the shape {array.shape}.")
    bad = np.flatnonzero(~(np.abs(array) <= 1))
    if bad.size:
        raise ValueError(f"differences must lie between -1 and 1, but item {bad[0]} is {array[bad[0]]}.")
    return array
