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

The price: to show a drop to be within 2 points with 80% probability takes 1.9 to 2.5 times as many items as one fixed
look. Half of the runs are through with 1.2 to 1.5 times as many, or earlier; a bad quant stops soon.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_jacobi

from quantexp.stats.checks import align, check_scores

_Floats = NDArray[np.float64]

_NODES = 128
"""Stakes of the mixture against "no difference". Gauss-Jacobi nodes make the mixture equal to the integral over all
stakes, up to rounding, until 2 * _NODES - 1 items have changed; with more it stays a valid e-value."""

_WITHIN_STAKES = np.geomspace(0.02, 0.95, 9)
"""Stakes of the mixture against "the drop is at least the margin", as shares of the largest one that cannot go broke.
The best one is about margin / psi of it for a quant that loses nothing and changes a share psi of the items."""

_HALVINGS = 52
"""Of the interval (-1, 1) on the way to a bound: as many as a floating-point number has digits."""

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
    """Item at which a comparison may stop.

    Attributes:
        verdict: "worse" if a loss was shown first, "within" if the drop was first shown to be below the margin,
            "undecided" if neither was shown: go on, or stop and claim nothing. A quant that gains is "within".
        items: Number of items after which the verdict stood; all of them if undecided.
        e_value: The e-value that decided, or the larger of the two if undecided.
        margin: The margin, in the unit of the scores.
        alpha: The probability of a false claim allowed to each of the two questions, over all looks together.
        family: Number of comparisons that share the alpha of "worse".
    """

    verdict: Literal["worse", "within", "undecided"]
    items: int
    e_value: float
    margin: float
    alpha: float
    family: int = 1


def running_e_values(differences: ArrayLike, *, margin: float) -> RunningEValues:
    """Return the e-values after each item; those of the first k items do not depend on what follows.

    Against "no difference" the stakes have the density of 2 * Beta(5, 5) - 1. If all differences are -1, 0 or 1 the
    mixture is then 2^(b + c) B(b + 5, c + 5) / B(5, 5) with b and c the numbers of 1 and -1, and B the beta function.

    Args:
        differences: Baseline minus quant of each item, in random order, in [-1, 1], shape (n,).
        margin: The largest drop that would not matter, above 0 and below 1.

    Raises:
        ValueError: The differences are not such an array, or the margin is out of range.
    """
    values = _differences(differences)
    _check_margin(margin)
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


def sequential_decision(
    differences: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    family: int = 1,
    baseline: ArrayLike | None = None,
    chance: float = 0.0,
) -> SequentialDecision:
    """Return the verdict at the first item after which an e-value reaches 1 / alpha, or family / alpha for "worse".

    A quant that is not worse is called worse with probability at most alpha / family, and one that loses the margin or
    more is said to be within it with probability at most alpha: over all items together, however often and for whatever
    reason one looks. "Worse" takes the two-sided e-value and a mean difference above 0, as with a two-sided p-value. If
    one item shows both, the verdict is "worse".

    Args:
        differences: Baseline minus quant of each item, in random order, in [-1, 1], shape (n,).
        margin: The largest drop that would not matter, above 0 and below 1.
        alpha: See above.
        family: Number of comparisons declared together: among all of them one is falsely called worse with probability
            at most alpha (Bonferroni). As in `decide`, claims of "within" are not corrected.
        baseline: The baseline's score of each item, in [0, 1], shape (n,): "within" then also takes an e-value of
            1 / alpha against "the baseline scores at most chance + margin", which leaves nothing to lose. None says
            that the baseline is known to be above that.
        chance: Score of an answer at random.

    Raises:
        ValueError: The differences are not such an array, or an option is out of range.
    """
    _check_level(alpha, family)
    differences, baseline = align({"differences": differences, "baseline": baseline})
    evidence = running_e_values(differences, margin=margin)
    worse = (evidence.difference >= family / alpha) & (evidence.worse > evidence.better)
    within = np.maximum.accumulate(evidence.within) >= 1 / alpha
    if baseline is not None:
        scores = _scores(baseline)
        if scores.size != worse.size:
            raise ValueError(f"baseline has {scores.size} scores for {worse.size} differences.")
        stakes, weights = _difference_stakes()
        above = _log_wealth(_floor_outcomes(scores, chance + margin), stakes, weights)
        within &= np.maximum.accumulate(above) >= np.log(1 / alpha)
    reached = np.flatnonzero(worse | within)
    if not reached.size:
        e_value = max(evidence.difference[-1], evidence.within[-1])
        return SequentialDecision("undecided", worse.size, float(e_value), margin, alpha, family)
    first = int(reached[0])
    if worse[first]:
        return SequentialDecision("worse", first + 1, float(evidence.difference[first]), margin, alpha, family)
    return SequentialDecision("within", first + 1, float(evidence.within[first]), margin, alpha, family)


class SequentialTest:
    """`sequential_decision`, one difference at a time, at a cost that does not grow with those before.

    Attributes:
        items: Number of differences added.
        verdict: What `sequential_decision` says of them; once it is not "undecided", it stays.
    """

    def __init__(self, *, margin: float, alpha: float = 0.05, family: int = 1, chance: float = 0.0) -> None:
        """Arguments and errors are those of `sequential_decision`."""
        _check_margin(margin)
        _check_level(alpha, family)
        if chance + margin >= 1:
            raise ValueError(f"chance and margin, {chance} and {margin}, must be below 1 together.")
        self.items = 0
        self.verdict: Literal["worse", "within", "undecided"] = "undecided"
        self._alpha, self._family = alpha, family
        stakes, weights = _difference_stakes()
        within = _WITHIN_STAKES / (1 - margin)
        self._floor = chance + margin
        self._stakes = (stakes, -stakes, -within, stakes)
        self._wealth = [_log_shares(each) for each in (weights, weights, np.ones_like(within), weights)]
        self._margin = margin
        self._is_within = self._is_above_floor = False

    def add(self, difference: float, baseline: float) -> bool:
        """Take one more item's difference, in [-1, 1], and the baseline's score of it; whether there is a verdict now.

        Raises:
            ValueError: The difference is not in [-1, 1], or the score not in [0, 1].
        """
        value = float(_differences([difference])[0])
        above = float(_floor_outcomes(_scores([baseline]), self._floor)[0])
        self.items += 1
        outcomes = (value, value, value - self._margin, above)
        for wealth, stakes, outcome in zip(self._wealth, self._stakes, outcomes, strict=True):
            wealth += np.log1p(stakes * outcome)
        worse, better, within, floor = (float(np.logaddexp.reduce(wealth)) for wealth in self._wealth)
        self._is_within |= within >= np.log(1 / self._alpha)
        self._is_above_floor |= floor >= np.log(1 / self._alpha)
        if self.verdict == "undecided":
            if np.logaddexp(worse, better) - np.log(2) >= np.log(self._family / self._alpha) and worse > better:
                self.verdict = "worse"
            elif self._is_within and self._is_above_floor:
                self.verdict = "within"
        return self.verdict != "undecided"


@dataclass(frozen=True, slots=True)
class AnytimeBounds:
    """Bounds of a mean difference that hold after every item at once.

    Attributes:
        low, high: Of a confidence sequence: the probability that it ever misses the mean is at most 1 - confidence.
        upper: The same, one-sided, for the drop.
        p_value: Two-sided, of no difference: one over the largest e-value so far for a difference of the observed sign.
    """

    low: float
    high: float
    upper: float
    p_value: float


def anytime_bounds(differences: ArrayLike, *, confidence: float = 0.95) -> AnytimeBounds:
    """Return the bounds that belong to `running_e_values`: the means against which no item so far has won 1 / alpha.

    The drop is within a margin by `sequential_decision` where `upper` is below the margin. `upper` and `high` take the
    stakes of "within", `low` those of "worse" (Waudby-Smith and Ramdas 2024, section 4: the confidence sequence is what
    is left of all means after the bets against each).

    Args:
        differences: Baseline minus quant of each item, in random order, in [-1, 1], shape (n,).
        confidence: Nominal coverage, over all items together.

    Raises:
        ValueError: The differences are not such an array, or confidence is not between 0 and 1.
    """
    values = _differences(differences)
    _check_confidence(confidence)
    stakes, weights = _difference_stakes()
    alpha = 1 - confidence

    def below(mean: float) -> float:  # evidence against "at least the mean"; it grows with the mean
        scaled = (mean - values) / (1 - mean)
        return float(_log_wealth(scaled, _WITHIN_STAKES, np.ones_like(_WITHIN_STAKES)).max())

    worse, better = (_log_wealth(sign * values, stakes, weights) for sign in (1.0, -1.0))
    # As with `sequential_decision`, evidence of a gain is none of a loss, and the other way round.
    same_side = (worse - better) * values.sum() > 0
    both = np.where(same_side, np.logaddexp(worse, better) - np.log(2), 0.0)
    return AnytimeBounds(
        low=_lower(values, np.log(2 / alpha)),
        high=_crossing(below, np.log(2 / alpha)),
        upper=_crossing(below, np.log(1 / alpha)),
        p_value=min(1.0, float(np.exp(-both.max()))),
    )


def anytime_lower(values: ArrayLike, *, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of a mean after every item at once, with the stakes of `anytime_bounds`.

    Args:
        values: One per item, in random order, in [-1, 1], shape (n,).
        confidence: Nominal coverage, over all items together.

    Raises:
        ValueError: The values are not such an array, or confidence is not between 0 and 1.
    """
    _check_confidence(confidence)
    return _lower(_differences(values), float(np.log(1 / (1 - confidence))))


def _lower(values: _Floats, needed: float) -> float:
    stakes, weights = _difference_stakes()

    def above(negative: float) -> float:  # evidence against "at most the mean"; it grows as the mean falls
        return float(_log_wealth((values + negative) / (1 - negative), stakes, weights).max())

    return -_crossing(above, needed)


def sequential_items(
    difference: float, variance: float, *, margin: float, alpha: float = 0.05, family: int = 1, power: float = 0.8
) -> tuple[float, float]:
    """Return how many items it takes until "within" and until "worse" are shown with the given probability.

    A stake's log wealth after n items is about stake * S - stake² * n * (variance + mean²) / 2 (second order of
    log(1 + x)), where S is the sum of the differences; with probability `power` it is above n * mean - z(power) *
    √(n * variance). n is where the mixture's wealth at that S is enough.

    Args:
        difference: The mean difference.
        variance: Of a single item's difference.
        margin: As for `sequential_decision`.
        alpha: Likewise.
        family: Likewise.
        power: Probability of a verdict by then.

    Returns:
        Two numbers of items, infinite above 10^9.
    """
    stakes, weights = _difference_stakes()
    within = _WITHIN_STAKES / (1 - margin)
    z = NormalDist().inv_cdf(power)
    return (
        _items(margin - difference, variance, within, np.ones_like(within), np.log(1 / alpha), z),
        _items(difference, variance, stakes, weights, np.log(2 * family / alpha), z),
    )


def sequential_items_above(
    mean: float, variance: float, *, floor: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return how many items show a mean score to be above a floor, as `sequential_items` does for differences.

    Args:
        mean: Of the scores, which lie in [0, 1].
        variance: Of a single item's score.
        floor: Above 0 and below 1.
        alpha: One-sided level.
        power: Probability that it is shown by then.
    """
    stakes, weights = _difference_stakes()
    z = NormalDist().inv_cdf(power)
    return _items((mean - floor) / floor, variance / floor**2, stakes, weights, np.log(1 / alpha), z)


def items_within_without_change(margin: float, *, alpha: float = 0.05) -> int:
    """Return after how many items of which none changed their score a drop is shown to be within a margin."""
    gains = np.log1p(_WITHIN_STAKES / (1 - margin) * margin)
    shares = _log_shares(np.ones_like(gains))

    def is_shown(n: int) -> bool:
        return bool(np.logaddexp.reduce(shares + n * gains) >= np.log(1 / alpha))

    most = 1
    while not is_shown(most):
        most *= 2
    return bisect_left(range(most), True, lo=1, key=is_shown)


def _items(mean: float, variance: float, stakes: _Floats, weights: _Floats, needed: float, z: float) -> float:
    log_shares = _log_shares(weights)

    def enough(n: float) -> bool:
        total = n * mean - z * np.sqrt(n * variance)
        wealth = np.logaddexp.reduce(log_shares + stakes * total - stakes**2 * n * (variance + mean**2) / 2)
        return bool(wealth >= needed)

    low, high = 1.0, 1e9
    if not enough(high):
        return float("inf")
    while high / low > 1.001:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _crossing(evidence: Callable[[float], float], needed: float) -> float:
    """Find the smallest mean in (-1, 1) for which the evidence, which grows with it, is as large as needed."""
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if evidence(middle) >= needed else (middle, high)
    return high


@cache
def _difference_stakes() -> tuple[_Floats, _Floats]:
    """Stakes against "no difference" on the one side, and their weights; the other side is their mirror image."""
    nodes, weights = roots_jacobi(_NODES, 4, 4)
    positive = nodes > 0  # the nodes are symmetric about 0, which is not one of them
    return nodes[positive], weights[positive]


def _log_wealth(outcomes: _Floats, stakes: _Floats, weights: _Floats) -> _Floats:
    """Logarithm of the weighted mean, over the stakes, of the running product of 1 + stake * outcome."""
    wealth = np.cumsum(np.log1p(np.outer(stakes, outcomes)), axis=1)
    mixture: _Floats = np.logaddexp.reduce(wealth + _log_shares(weights)[:, None], axis=0)
    return mixture


def _log_shares(weights: _Floats) -> _Floats:
    shares: _Floats = np.log(weights / weights.sum())
    return shares


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, not {margin}.")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}.")


def _check_level(alpha: float, family: int) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}.")
    if family < 1:
        raise ValueError(f"family must be at least 1, not {family}.")


def _exp(logarithms: _Floats) -> _Floats:
    return np.exp(np.minimum(logarithms, _LARGEST_LOG))


def _scores(values: ArrayLike) -> _Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.all((array >= 0) & (array <= 1)):
        raise ValueError("baseline must hold scores between 0 and 1.")
    return array


def _floor_outcomes(scores: _Floats, floor: float) -> _Floats:
    """Return what is won per unit staked against "the mean score is at most the floor"; -1 at worst."""
    return (scores - floor) / floor


def _differences(values: ArrayLike) -> _Floats:
    array = check_scores(values, "differences")
    bad = np.flatnonzero(np.abs(array) > 1)
    if bad.size:
        raise ValueError(f"differences must lie between -1 and 1, but item {bad[0]} is {array[bad[0]]}.")
    return array
