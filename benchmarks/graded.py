"""How often Gaffke's bounds of graded differences are right: rare large losses, and what the bounds cost in items."""

import math

import numpy as np
from frequencies import ALPHA, MARGIN, STEPS, THIRDS, Floats, Integers, covered_by_gaffke, rate, upper_shares
from lattice import resampled_law
from numpy.typing import NDArray

from quantexp.stats import running_e_values
from quantexp.stats.gaffke import GaffkePlan

LAWS: dict[str, dict[int, float]] = {
    "+1: 3%, −⅓: 3%": {3: 0.03, -1: 0.03},
    "+1: 2%": {3: 0.02},
    "+⅓: 6%": {1: 0.06},
    "+⅓: 11%, −⅓: 5%": {1: 0.11, -1: 0.05},
    "+⅔: 6%, −⅓: 6%": {2: 0.06, -1: 0.06},
    "+1: 2.2%, −⅓: 0.6%": {3: 0.022, -1: 0.006},
    "±1: 6/5%, ±⅓: 10/7%": {3: 0.06, -3: 0.05, 1: 0.10, -1: 0.07},
}
"""Shares of items by their differences in thirds; each loses two points on average."""

NULLS: dict[str, dict[int, float]] = {
    "±⅓: 5% each": {1: 0.05, -1: 0.05},
    "+⅓: 3%, −1: 1%": {1: 0.03, -3: 0.01},
    "+⅓: 12%, −1: 4%": {1: 0.12, -3: 0.04},
}
"""Those that lose nothing on average."""


def shares(law: dict[int, float]) -> Floats:
    """Probability of each of `THIRDS`."""
    found = np.array([law.get(step, 0.0) for step in range(-STEPS, STEPS + 1)])
    found[STEPS] = 1.0 - found.sum()
    return found


def drawn(rng: np.random.Generator, law: dict[int, float], n: int, runs: int) -> Integers:
    """How many of n items have each difference, shape (runs, 7)."""
    return rng.multinomial(n, shares(law), runs)


def shown_by_gaffke(counts: Integers, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Whether the default bound is below the margin."""
    return np.asarray(upper_shares(counts, margin) < ALPHA)


def shown_by_bootstrap(counts: Integers, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Whether the percentile bootstrap's upper end is below it, with infinitely many resamples."""
    distinct, place = np.unique(counts, axis=0, return_inverse=True)
    steps = np.arange(-STEPS, STEPS + 1)
    found = np.zeros(len(distinct), dtype=bool)
    for row, each in enumerate(distinct):
        law = resampled_law(steps, each, STEPS)
        found[row] = law is not None and law.interval(1 - 2 * ALPHA)[1] < margin
    return found[place.ravel()]


def shown_by_betting(rng: np.random.Generator, counts: Integers, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Whether the e-value of `stats=sequential` shows it at some item of a random order."""
    found = np.zeros(len(counts), dtype=bool)
    for row, each in enumerate(counts):
        values = rng.permutation(np.repeat(THIRDS, each))
        found[row] = running_e_values(values, margin=margin).within.max() >= 1 / ALPHA
    return found


def false_within(rng: np.random.Generator, law: dict[int, float], n: int, runs: int) -> dict[str, tuple[float, float]]:
    """Rate of "within 2pp" where the drop is just that, by method; and the default interval's coverage."""
    counts = drawn(rng, law, n, runs)
    above = upper_shares(counts, MARGIN)
    return {
        "Gaffke": rate(np.asarray(above < ALPHA)),
        "betting": rate(shown_by_betting(rng, counts[: runs // 8])),
        "bootstrap": rate(shown_by_bootstrap(counts[: runs // 2])),
        "covers": rate(covered_by_gaffke(counts, MARGIN, above)),
    }


def planned(rng: np.random.Generator, law: dict[int, float], runs: int) -> tuple[int, tuple[float, float]]:
    """Items that show a margin of two points with 80% power by the plan, and their power."""
    variance = float(shares(law) @ THIRDS**2)
    n = math.ceil(GaffkePlan(variance, 1.0 - MARGIN, ALPHA).items(MARGIN, 0.8))
    return n, rate(shown_by_gaffke(drawn(rng, law, n, runs)))
