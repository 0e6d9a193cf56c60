"""Agreement of two orders of the same conditions: by their divergence and by their loss on a task.

Kendall's τ-b (Kendall 1945, Biometrika 33(3)): pairs of conditions that both put in the same order minus those that
they put in opposite orders, over the geometric mean of the numbers of pairs that each orders at all. 1: the same order;
0: no relation; -1: the reverse. Its interval is the percentile bootstrap's over items: both means of every condition
are noisy, which draws τ towards 0. It is of these conditions; that others would agree as much, it does not say.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.bootstrap import percentile_interval

FEWEST_RANKED = 5
"""Conditions whose order can be shown not to be chance: two of their 120 orders are perfect or perfectly wrong."""


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """Agreement of two orders.

    Attributes:
        conditions: how many are ordered.
        tau: Kendall's τ-b; nan of fewer than `FEWEST_RANKED`, or where one order has no differences.
        low, high: ends of its interval; nan where τ is, or where too few resamples have a τ.
    """

    conditions: int
    tau: float
    low: float = math.nan
    high: float = math.nan


def rank_agreement(
    divergences: ArrayLike,
    tokens: ArrayLike,
    losses: ArrayLike,
    *,
    paired: bool,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[RankAgreement, RankAgreement]:
    """Compare the order of c conditions by divergence with that by loss: all, and the half with the least divergence.

    Args:
        divergences: of each condition and item, the sum over the item's tokens, in nats, shape (c, n).
        tokens: how many tokens that are, shape (c, n).
        losses: of each condition and item, the baseline's score minus its own, shape (c, m).
        paired: whether both are of the same items, in the same order, which are then resampled together.
        confidence: of the intervals.
        resamples: of the items.
        seed: of the random numbers.

    Raises:
        ValueError: the shapes do not fit together, or a value is not finite.
    """
    kl, sizes, lost = (np.asarray(each, np.float64) for each in (divergences, tokens, losses))
    if kl.ndim != 2 or kl.shape != sizes.shape or lost.ndim != 2 or len(lost) != len(kl):
        raise ValueError(f"the shapes {kl.shape}, {sizes.shape} and {lost.shape} do not fit together.")
    if paired and kl.shape != lost.shape:
        raise ValueError(f"{kl.shape[1]} and {lost.shape[1]} items cannot be paired.")
    if not all(np.isfinite(each).all() for each in (kl, sizes, lost)):
        raise ValueError("a value is not a finite number.")
    rng = np.random.default_rng(seed)
    weights = _draw(rng, kl.shape[1], resamples)
    of_losses = weights if paired else _draw(rng, lost.shape[1], resamples)
    by_divergence = np.concatenate([(kl.sum(1) / sizes.sum(1))[None], (weights @ kl.T) / (weights @ sizes.T)])
    by_loss = np.concatenate([lost.mean(1)[None], (of_losses @ lost.T) / lost.shape[1]])
    near = np.argsort(by_divergence[0], kind="stable")[: math.ceil(len(kl) / 2)]
    whole, half = (
        _summarize(by_divergence[:, chosen], by_loss[:, chosen], confidence) for chosen in (np.arange(len(kl)), near)
    )
    return whole, half


def kendall_tau(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Kendall's τ-b of each row's two orders.

    Args:
        one: shape (r, c).
        other: shape (r, c).

    Returns:
        Shape (r,); nan where one of them has no differences.
    """
    first, second = np.triu_indices(one.shape[1], 1)
    # Means of the same values in another order of summation are not the same to the last bit.
    signs = [np.sign(np.round(each[:, first] - each[:, second], 12)) for each in (one, other)]
    size = np.sqrt((signs[0] ** 2).sum(1) * (signs[1] ** 2).sum(1))
    agree = (signs[0] * signs[1]).sum(1)
    return np.asarray(np.divide(agree, size, out=np.full(len(one), np.nan), where=size > 0))


def _summarize(one: NDArray[np.float64], other: NDArray[np.float64], confidence: float) -> RankAgreement:
    """Summarize the orders at hand, in the first row, and those of resampled items in the others."""
    count = one.shape[1]
    if count < FEWEST_RANKED:
        return RankAgreement(count, math.nan)
    taus = kendall_tau(one, other)
    drawn = taus[1:][np.isfinite(taus[1:])]
    if math.isnan(taus[0]) or drawn.size < 0.95 * (taus.size - 1):
        return RankAgreement(count, float(taus[0]))
    return RankAgreement(count, float(taus[0]), *percentile_interval(drawn, confidence))


def _draw(rng: np.random.Generator, items: int, resamples: int) -> NDArray[np.float64]:
    """Count how often each item is drawn in each resample, shape (resamples, items)."""
    return rng.multinomial(items, np.full(items, 1.0 / items), resamples).astype(np.float64)
