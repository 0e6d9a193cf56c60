"""A plan where answers are drawn: more items, or more answers to each.

An item's difference between two quants, each with the mean of k drawn answers, has the variance B + W / k: B is how
much items differ in what they lose, W the noise of drawing one answer on both sides (Miller 2024, "Adding error bars to
evals", arXiv:2411.00640, section 3.2). More answers shrink W alone, more items both. The answers with one number are
drawn with the same random numbers on both sides, so W is that of their differences.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.planning import Spread


@dataclass(frozen=True, slots=True)
class SamplingSpread:
    """Spread of the items' differences where answers are drawn.

    Attributes:
        between: B, the variance of an item's true difference.
        within: W, the variance that drawing adds with one answer a side.
        items: Items seen.
        samples: Answers seen to each.
    """

    between: float
    within: float
    items: int
    samples: int

    @classmethod
    def seen(cls, before: NDArray[np.float64], after: NDArray[np.float64]) -> Self:
        """Estimate from the scores of the same items, without bias but for B, which is 0 where it would be less.

        Args:
            before: Scores of the baseline's answers, shape (items, k), k at least 2.
            after: Those of the quant's to the same items, drawn with the same random numbers.

        Raises:
            ValueError: the shapes differ, or there are fewer than two items or two answers.
        """
        if before.shape != after.shape or before.ndim != 2 or min(before.shape) < 2:
            raise ValueError(f"two arrays of items by answers are needed, not {before.shape} and {after.shape}.")
        items, samples = before.shape
        differences = before - after
        within = float(differences.var(axis=1, ddof=1).mean())
        total = float(differences.mean(axis=1).var(ddof=1))
        return cls(max(0.0, total - within / samples), within, items, samples)

    def at(self, samples: int) -> Spread:
        """Return the spread with so many answers to each item, with the guard of a pilot (`Spread.seen`)."""
        variance = self.between + self.within / samples
        return Spread((self.items * variance + 1 / samples) / (self.items + 2), graded=True)
