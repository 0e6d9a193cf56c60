"""Order of claims about a pool and its tasks: the pool's comes first, and opens the gate to those of the tasks.

Of one condition, "within the margin" is claimed of the pool at level alpha, and of tasks only once the pool has shown
it, then by Holm over its tasks, again at alpha (serial gatekeeping: Maurer, Hothorn and Lehmacher 1995; Westfall and
Krishen 2001, Journal of Statistical Planning and Inference 99). So all its claims together are wrong with at most
alpha. Losses stand behind no gate: a task may lose where the pool does not. They are one family, corrected by Holm,
with the pools among them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from quantexp.stats.binary import tango_z
from quantexp.stats.checks import check_pair
from quantexp.stats.gaffke import bounded_mean_share, tally
from quantexp.stats.units import finite_factor
from quantexp.stats.verdict import Decision, HeldBack, Verdict, holm

_WITHIN = {Verdict.within_margin: Verdict.inconclusive, Verdict.worse_within_margin: Verdict.worse}
"""What remains of a verdict without its claim "within"."""


def gate_tasks(
    pool: Decision, tasks: Sequence[Decision], p_within: Sequence[float], *, alpha: float = 0.05
) -> tuple[Decision, ...]:
    """Hold back the tasks' claims "within" that the order of claims does not allow.

    Args:
        pool: The decision on the pool.
        tasks: Those on its tasks, each made alone.
        p_within: Of each task the p-value of its claim; see `noninferiority_p`.
        alpha: Level of the claims.

    Returns:
        The tasks' decisions, in their order.

    Raises:
        ValueError: There is no task, or the numbers do not fit.
    """
    if len(tasks) != len(p_within):
        raise ValueError(f"{len(p_within)} p-values do not fit {len(tasks)} tasks: give one each.")
    adjusted = holm(p_within)
    is_open = pool.verdict in _WITHIN
    gated = []
    for task, p_value in zip(tasks, adjusted, strict=True):
        held_back = None if is_open and p_value < alpha else HeldBack.tasks if is_open else HeldBack.pool
        if held_back is not None and task.verdict in _WITHIN:
            task = replace(task, verdict=_WITHIN[task.verdict], further=None, held_back=held_back)
        gated.append(task)
    return tuple(gated)


def noninferiority_p(
    baseline: ArrayLike, quant: ArrayLike, margin: float, *, chance: float = 0.0, population: int | None = None
) -> float:
    """Return the smallest level at which a quant is called within the margin: by Tango's score, or Gaffke's bound.

    It is the larger one of two p-values: of a drop that is no smaller than the margin, and of a baseline that scores no
    more than chance + margin; see `decide`.

    Args:
        baseline: Mean score of each unique item under the baseline, from 0 to 1, shape (n,).
        quant: The same under the quant.
        margin: The tolerable drop, above 0.
        chance: Score of an answer at random.
        population: Number of unique items of a fixed set, if the result is about that set only; see `compare`.

    Raises:
        ValueError: The arrays do not fit each other.
    """
    before, after = (np.clip(side, 0.0, 1.0) for side in check_pair(baseline, quant))
    differences, n = before - after, before.size
    factor = finite_factor(n, population)
    half = 0.0 if population in (None, n) else 0.5 / population
    limit = _stretch(float(differences.mean()), margin - half, factor)
    missing = 1.0 - before
    most_missing = _stretch(float(missing.mean()), 1.0 - chance - margin - half, factor)
    if bool(np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all()) and limit < 1.0:
        lost, gained = (int(np.count_nonzero(differences == change)) for change in (1.0, -1.0))
        of_drop = float(ndtr(tango_z(lost, gained, n, limit)))
    else:
        of_drop = _exceedance_p(differences, limit)
    return max(of_drop, _exceedance_p(missing, most_missing))


def _stretch(mean: float, limit: float, factor: float) -> float:
    """Return the limit that the bound of a sample has to keep where that of a fixed set, which shrinks, keeps this."""
    if factor > 0.0:
        return mean + (limit - mean) / factor
    return 1.0 if mean < limit else -1.0


def _exceedance_p(values: NDArray[np.float64], limit: float) -> float:
    """Return the p-value of a mean that is at least the limit, of values that are at most 1."""
    if limit >= 1.0:
        return 0.0
    distinct, counts = tally(values)
    if distinct[-1] < 1.0:
        distinct, counts = np.append(distinct, 1.0), np.append(counts, 0)
    return float(bounded_mean_share(distinct, counts[None], limit)[0])
