"""Posterior probability that a quant loses less than a margin, given right or wrong scores on the same items.

The model: each item is, independently, right under the baseline alone, under the quant alone, or the same under both.
The prior Dirichlet(1, 1, 2) is the uniform one over the four cells both, baseline alone, quant alone, neither, with the
first and the last added up. With b and c items changed out of n, the posterior is
Dirichlet(b + 1, c + 1, n - b - c + 2), and the share psi of changed items and the share of losses among them are
independent,

    psi ~ Beta(b + c + 2, n - b - c + 2),    losses ~ Beta(b + 1, c + 1),    drop = psi * (2 * losses - 1),

so that every probability of the drop is an integral over psi alone, done here by quadrature: no random numbers.

The answer depends on the prior where few items changed: it assumes, as if from four earlier items, that two of four
changed. That makes it slower than the Tango interval to call a quant that changes almost nothing harmless.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, xlog1py, xlogy

from quantexp.stats.checks import check_confidence, check_counts

_NODES = 200
"""Of the Gauss-Legendre rule; enough for 1e-7 from 1 to 100,000 items."""

_TAIL = 1e-15
"""Probability of psi left out on either side."""


@dataclass(frozen=True, slots=True)
class DropPosterior:
    """Posterior of the true drop.

    Attributes:
        mean: Expected drop.
        low: Lower end of the equal-tailed credible interval.
        high: Upper end.
        confidence: Probability of the interval, such as 0.95.
        margin: The margin asked about.
        within: Probability that the drop is below the margin.
        worse: Probability that the quant loses anything at all: that the drop is above 0.
    """

    mean: float
    low: float
    high: float
    confidence: float
    margin: float
    within: float
    worse: float


def drop_posterior(b: int, c: int, n: int, *, margin: float, confidence: float = 0.95) -> DropPosterior:
    """Return the posterior of the drop, and the probability that it is below a margin.

    Args:
        b: Items right under the baseline alone.
        c: Items right under the quant alone.
        n: All items.
        margin: The largest drop that would not matter, between -1 and 1.
        confidence: Probability of the credible interval, at least 0.5 and below 1.

    Raises:
        ValueError: The counts do not fit n, or an option is out of range.
    """
    check_counts(b, c, n)
    if not -1 <= margin <= 1:
        raise ValueError(f"margin must be between -1 and 1, not {margin}.")
    check_confidence(confidence)
    tail = (1 - confidence) / 2
    return DropPosterior(
        mean=(b - c) / (n + 4),
        low=_quantile(tail, b, c, n),
        # By symmetry, so that swapping b and c mirrors the interval exactly.
        high=-_quantile(tail, c, b, n),
        confidence=confidence,
        margin=margin,
        within=_below(margin, b, c, n),
        worse=_below(0.0, c, b, n),
    )


def _below(drop: float, b: int, c: int, n: int) -> float:
    """Return the posterior probability of a smaller drop."""
    changed, same = b + c + 2, n - b - c + 2
    # Where psi < |drop| the drop cannot be reached: below it for sure if it is positive, never if it is negative.
    sure = float(betainc(changed, same, drop)) if drop > 0 else 0.0
    low = max(abs(drop), float(betaincinv(changed, same, _TAIL)))
    high = 1 - float(betaincinv(same, changed, _TAIL))
    if low >= high:
        return sure
    nodes, weights = _rule()
    psi = low + (high - low) * (nodes + 1) / 2
    share = betainc(b + 1, c + 1, np.clip((1 + drop / psi) / 2, 0, 1))
    density = np.exp(xlogy(changed - 1, psi) + xlog1py(same - 1, -psi) - betaln(changed, same))
    inside = float(weights @ (share * density)) * (high - low) / 2
    return min(1.0, sure + inside)


@cache
def _rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(_NODES)


def _quantile(probability: float, b: int, c: int, n: int) -> float:
    from scipy.optimize import brentq  # takes half a second to load, which only this option should cost

    return float(brentq(lambda drop: _below(drop, b, c, n) - probability, -1.0, 1.0, xtol=1e-12))
