"""Measures of a quant's divergence from a baseline, token by token."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.sequences import Rows
from quantexp.evaluation.kl_divergence.encoding import ReferenceRows, below_top, blocks

SMALLEST = np.log(np.finfo(np.float64).tiny)
"""Stands for the logarithm of a probability that is 0 in the computer's numbers: -708 nats."""


@dataclass(frozen=True, slots=True)
class TokenMeasures(Rows):
    """Measures at each of n scored tokens; every array has the shape (n,).

    Attributes:
        divergence: KL(baseline || quant) of the two distributions, in nats.
        same_top: whether both hold the same token likeliest.
        baseline_logprob: log-probability of the token that stands in the text, under the baseline, in nats.
        quant_logprob: the same under the quant.
        quant_top: the token that the quant holds likeliest.
    """

    divergence: NDArray[np.float64]
    same_top: NDArray[np.bool_]
    baseline_logprob: NDArray[np.float64]
    quant_logprob: NDArray[np.float64]
    quant_top: NDArray[np.int32]


def measure(reference: ReferenceRows, logits: NDArray[np.float32]) -> TokenMeasures:
    """Compare a quant's logits at some places with the baseline's distributions there.

    The sum of p log(p / q) over the kept tokens, plus r log(r / s), where r and s are the sums of p and q over the
    rest, plus what this misses: r times the divergence of the rest's own distributions, p / r from q / s. That is the
    sum of (p / r) (x - 1 + exp(-x)) with x = log(p / r) - log(q / s), for which the drawn tokens stand. Written so, no
    part is negative, and all are 0 where p = q.

    Args:
        reference: n places, at least 1.
        logits: the quant's at the same places, shape (n, vocabulary size).

    Raises:
        UserError: logits are not numbers.
        ValueError: there are more or fewer rows than places.
    """
    if len(reference) != len(logits):
        raise ValueError(f"{len(logits)} rows of logits were given for {len(reference)} places.")
    return TokenMeasures.join([_measured(reference.part(part), logits[part]) for part in blocks(*logits.shape)])


def _measured(reference: ReferenceRows, logits: NDArray[np.float32]) -> TokenMeasures:
    top, below = below_top(logits)
    of_actual = np.take_along_axis(below, reference.actual[:, None].astype(np.intp), 1)[:, 0].astype(np.float64)
    starts = reference.offsets[:-1]
    places = np.repeat(np.arange(len(logits)), np.diff(reference.offsets))
    kept = below[places, reference.ids]
    drawn = np.take_along_axis(below, reference.drawn.astype(np.intp), 1)
    shares = np.exp(below, out=below)
    of_kept = np.add.reduceat(shares[places, reference.ids], starts, dtype=np.float64)
    shares[places, reference.ids] = 0.0
    of_rest = shares.sum(axis=1).astype(np.float64)
    total = np.log(of_kept + of_rest)
    log_rest = np.full(len(logits), SMALLEST)
    np.log(of_rest, out=log_rest, where=of_rest > 0)

    log_p, log_r, log_p_drawn = reference.log_probabilities()
    # A token that is impossible under the quant has a logit of minus infinity.
    log_q = np.maximum(kept, SMALLEST) - total[places]
    divergence = np.add.reduceat(np.exp(log_p) * (log_p - log_q), starts)
    some = np.isfinite(log_r)
    log_r, log_s = log_r[some], log_rest[some] - total[some]
    log_q_drawn = np.maximum(drawn[some], SMALLEST) - total[some, None]
    x = (log_p_drawn[some] - log_r[:, None]) - (log_q_drawn - log_s[:, None])
    missed = (x - 1.0 + np.exp(-x)).mean(axis=1)
    divergence[some] += np.exp(log_r) * (log_r - log_s + missed)
    return TokenMeasures(
        divergence=divergence,
        same_top=top == reference.top,
        baseline_logprob=reference.logprob.astype(np.float64),
        quant_logprob=np.maximum(of_actual, SMALLEST) - total,
        quant_top=top.astype(np.int32),
    )
