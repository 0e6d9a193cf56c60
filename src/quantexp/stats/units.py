"""Independent units: answers merged into what counts once, and fixed item sets.

Several answers to one item (under several seeds, or to the same question twice) are not independent. Counted as if they
were, they make intervals too narrow and differences too significant (Miller 2024, "Adding Error Bars to Evals", arXiv
2411.00640). Here they are averaged within their unit, so that every unit counts once and equally.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Units:
    """Grouping of answers into units.

    Attributes:
        answers: Number of answers, m.
        n: Number of units.
        members: Unit of each answer, counted from 0 in the sorted order of the cluster ids, shape (m,); None when every
            answer is a unit.
    """

    answers: int
    n: int
    members: NDArray[np.intp] | None

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each unit's values, shape (n,), from one value per answer, shape (m,)."""
        if self.members is None:
            return values
        sizes = np.bincount(self.members, minlength=self.n)
        return np.asarray(np.bincount(self.members, weights=values, minlength=self.n) / sizes)

    def drawn(self) -> NDArray[np.intp]:
        """Return the units in the order of their first answers, shape (n,)."""
        if self.members is None:
            return np.arange(self.n)
        return np.argsort(np.unique(self.members, return_index=True)[1])

    def design_effect(self, values: NDArray[np.float64]) -> float:
        """Return the variance of the mean over what it would be if the answers were independent.

        The variance over units, s²(units) / n, divided by the naive one, s²(answers) / m, both s² being mean squared
        deviations: exactly 3 for three identical copies of everything, 1 without repeats. It is 1 when all answers are
        equal (within 1e-12), and nan when there is one unit only, whose variance nobody can know.
        """
        if self.n == self.answers:
            return 1.0
        if self.n == 1:
            return math.nan
        if np.ptp(values) <= _ROUNDING:
            return 1.0
        return float((self.means(values).var() / self.n) / (values.var() / self.answers))


def group(answers: int, clusters: ArrayLike | None = None) -> Units:
    """Group answers into units by their cluster ids; without ids every answer is a unit.

    Args:
        answers: Number of answers, m.
        clusters: What answers of one unit share, such as an item's id, shape (m,); numbers or strings.

    Raises:
        ValueError: The ids do not fit the answers, or cannot be told apart.
    """
    if clusters is None:
        return Units(answers, answers, None)
    ids = np.asarray(clusters)
    if ids.shape != (answers,):
        raise ValueError(f"clusters must hold one id for each of the {answers} answers, but has the shape {ids.shape}.")
    try:
        distinct, members = np.unique(ids, return_inverse=True)
    except TypeError as error:
        raise ValueError("clusters must be all numbers or all strings, without gaps.") from error
    if distinct.dtype.kind == "f" and np.isnan(distinct).any():
        raise ValueError("clusters must be all numbers or all strings, without gaps.")
    return Units(answers, distinct.size, members)


def finite_factor(n: int, population: int | None) -> float:
    """Return the factor by which an interval shrinks when the n units are from a fixed set of items, all of interest.

    √((N - n) / (N - 1)), the finite population correction for sampling without replacement (Cochran 1977, "Sampling
    Techniques", section 2.6). 1 when the target is the population that the items sample (None), 0 when n = N: then the
    mean over the set is known exactly, and an interval that is a single point is right.

    Raises:
        ValueError: There are more units than the set has items.
    """
    if population is None:
        return 1.0
    if population < n:
        raise ValueError(f"population={population} must be at least the number of unique items answered, which is {n}.")
    return math.sqrt((population - n) / (population - 1)) if population > n else 0.0


def finite_p(p_value: float, factor: float, difference: float) -> float:
    """Return a two-sided p-value for a fixed item set: its normal deviate z grows to z / factor.

    With the whole set answered (factor 0) any difference is certain: p is 0, or 1 if there is none.
    """
    if factor == 1.0 or p_value / 2.0 == 0.0:
        return p_value
    if factor == 0.0:
        return 0.0 if difference else 1.0
    z = -NormalDist().inv_cdf(p_value / 2.0)
    return math.erfc(z / factor / math.sqrt(2.0))
