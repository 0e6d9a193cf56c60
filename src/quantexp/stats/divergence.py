"""Divergence of a quant's distributions from the baseline's, over tokens, with intervals over items.

Tokens of one item are not independent: they share its subject, and each is read after those before it. So intervals
are over whole items with all their tokens (Miller 2024, arXiv 2411.00640, on clustered questions). The estimates count
each token once, as llama.cpp's `llama-perplexity` does, so that an item with more tokens counts more.

A mean over tokens is a ratio of sums over items, with its linearized standard error and Student's t of n - 1 degrees of
freedom (Cochran 1977, "Sampling Techniques", section 6.3); of what is positive on the scale of its logarithm, of a
share on that of its logit, since their laws are skewed. A quantile's interval is the percentile bootstrap's, items
being resampled (Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8). It has none of fewer
than 10 items, nor where fewer than 50 tokens, or the tokens of 2 items, lie beyond it (so the 90th percentile takes 20
items, the 99th 200), for it would miss the truth far too often. Nor has the maximum, which can only grow. Where all
items agree, or all resamples do, the interval would be a point, which bounds nothing: then there is none either.
"""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

from quantexp.stats.bootstrap import percentile_interval
from quantexp.stats.checks import align
from quantexp.stats.units import group

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Those that `llama-perplexity` prints, above the median."""

AT_MOST = 1.0
"""Nats that each unit of the baseline's probability of which a quant's server does not tell is taken to add at most.
See docs/explanation/divergence.md."""

_FEWEST_BEYOND = 50
"""Tokens that must lie beyond a quantile; with fewer, 95% intervals were measured to cover as little as .64."""

_FEWEST_RESAMPLED = 10
"""Items that must be there to resample: of 2, 3 and 5, 95% intervals of a median covered .50, .72 and .85."""

_FEWEST_ITEMS_BEYOND = 2
"""Items of which as many tokens as lie beyond a quantile would be; with half of that they covered as little as .84."""

_WEIGHTS_PER_CHUNK = 1 << 22
"""Token weights at once: bounds the working memory to some 50 MB."""


_AGREED = 1e-12
"""A standard error below this share of its estimate is rounding."""

_UNKNOWN = math.nan, math.nan
"""Ends of an interval that nobody can know."""

_LARGEST_LOG = 700.0
"""e to this is near the largest floating-point number."""


class _Scale(Enum):
    """On which an interval is symmetric."""

    identity = "identity"
    logarithm = "logarithm"
    logit = "logit"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its interval.

    Attributes:
        value: of the tokens at hand.
        low, high: nan where nobody can know them: of one item only, of items that do not differ, or of a quantile that
            has too few items, or too few tokens beyond it.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DivergenceSummary:
    """Over all scored tokens.

    Attributes:
        tokens: how many.
        items: how many items they belong to.
        confidence: of the intervals.
        mean: mean KL(baseline || quant), in nats.
        median, p90, p95, p99, p999: its quantiles, linearly interpolated.
        maximum: its largest value.
        probability_change: mean of the probability that the quant gives to the token in the text, minus the baseline's.
        probability_change_rms: root of the mean square of that difference.
        probability_moved: mean of its absolute value.
        same_top: share of tokens at which both hold the same token likeliest.
        log_perplexity_ratio: ln(perplexity of the quant / perplexity of the baseline); positive: the quant is worse.
    """

    tokens: int
    items: int
    confidence: float
    mean: Interval
    median: Interval
    p90: Interval
    p95: Interval
    p99: Interval
    p999: Interval
    maximum: float
    probability_change: Interval
    probability_change_rms: Interval
    probability_moved: Interval
    same_top: Interval
    log_perplexity_ratio: Interval


def divergence_summary(
    divergence: ArrayLike,
    same_top: ArrayLike,
    baseline_logprob: ArrayLike,
    quant_logprob: ArrayLike,
    items: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> DivergenceSummary:
    """Summarize what was measured at n tokens.

    Args:
        divergence: KL(baseline || quant) at each token, in nats, shape (n,).
        same_top: whether both hold the same token likeliest, shape (n,).
        baseline_logprob: log-probability of the token in the text under the baseline, in nats, shape (n,).
        quant_logprob: the same under the quant, shape (n,).
        items: the item that each token belongs to, numbers or strings, shape (n,).
        confidence: of the intervals.
        resamples: of the items.
        seed: of the random numbers.

    Raises:
        ValueError: There are no tokens, the shapes differ, a value is not finite, or a parameter makes no sense.
    """
    given = {
        "divergence": divergence,
        "same_top": same_top,
        "baseline_logprob": baseline_logprob,
        "quant_logprob": quant_logprob,
    }
    *columns, items = align({**given, "items": items})
    kl, same, baseline, quant = (
        _checked(name, values, np.size(divergence)) for name, values in zip(given, columns, strict=True)
    )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, but is {confidence}.")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but is {resamples}.")
    units = group(kl.size, items)
    members = np.arange(kl.size) if units.members is None else units.members
    change = np.exp(quant) - np.exp(baseline)
    sizes = np.bincount(members, minlength=units.n).astype(np.float64)

    def mean(values: NDArray[np.float64], scale: _Scale) -> Interval:
        sums = np.asarray(np.bincount(members, weights=values, minlength=units.n), np.float64)
        return _interval_of_mean(sums, sizes, confidence, scale)

    square = mean(change**2, _Scale.logarithm)
    quantiles = np.quantile(kl, QUANTILES)
    beyond = np.round(1.0 - np.array(QUANTILES), 9)
    known = beyond * kl.size >= _FEWEST_BEYOND
    known &= units.n >= np.maximum(_FEWEST_RESAMPLED, _FEWEST_ITEMS_BEYOND / beyond)
    drawn = _drawn_quantiles(kl, members, units.n, resamples, seed) if known.any() else np.empty((len(QUANTILES), 0))
    median, p90, p95, p99, p999 = (
        Interval(float(value), *(percentile_interval(draws, confidence) if enough and np.ptp(draws) else _UNKNOWN))
        for value, draws, enough in zip(quantiles, drawn, known, strict=True)
    )
    return DivergenceSummary(
        tokens=kl.size,
        items=units.n,
        confidence=confidence,
        mean=mean(kl, _Scale.logarithm),
        median=median,
        p90=p90,
        p95=p95,
        p99=p99,
        p999=p999,
        maximum=float(kl.max()),
        probability_change=mean(change, _Scale.identity),
        # The root keeps the order, so an interval's ends stay its ends.
        probability_change_rms=Interval(math.sqrt(square.value), math.sqrt(square.low), math.sqrt(square.high)),
        probability_moved=mean(np.abs(change), _Scale.logarithm),
        same_top=mean(same, _Scale.logit),
        log_perplexity_ratio=mean(baseline - quant, _Scale.identity),
    )


def _interval_of_mean(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], confidence: float, scale: _Scale
) -> Interval:
    """Return the mean over tokens with its interval over items.

    Args:
        sums: Of each item's tokens, shape (n,).
        sizes: Number of tokens of each item, shape (n,).
        confidence: Nominal coverage.
        scale: On which the interval is symmetric.
    """
    n, total = sums.size, float(sizes.sum())
    value = float(sums.sum() / total)
    if n == 1:
        return Interval(value, *_UNKNOWN)
    error = math.sqrt(n / (n - 1) * float(((sums - value * sizes) ** 2).sum())) / total
    if error <= _AGREED * abs(value):
        if scale is not _Scale.logit:
            return Interval(value, *_UNKNOWN)
        # All items agree; a share of them up to this may be as different as possible.
        unseen = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / n)
        return Interval(value, value - unseen * value, value + unseen * (1.0 - value))
    reach = float(stdtrit(n - 1, (1.0 + confidence) / 2.0)) * error
    if scale is _Scale.logarithm and value > 0.0:
        factor = math.exp(min(reach / value, _LARGEST_LOG))
        return Interval(value, value / factor, value * factor)
    if scale is _Scale.logit:
        centre, half = float(logit(value)), reach / (value * (1.0 - value))
        return Interval(value, float(expit(centre - half)), float(expit(centre + half)))
    return Interval(value, value - reach, value + reach)


def _drawn_quantiles(
    kl: NDArray[np.float64], members: NDArray[np.intp], n: int, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return quantiles of resampled items with all their tokens, shape (quantiles, resamples)."""
    order = np.argsort(kl, kind="stable")
    drawn = np.empty((len(QUANTILES), resamples))
    rng = np.random.default_rng(seed)
    rows = max(1, _WEIGHTS_PER_CHUNK // kl.size)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        counts = _times_drawn(rng, n, stop - start)
        drawn[:, start:stop] = _quantiles(kl[order], counts[:, members[order]])
    return drawn


def _checked(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size != n or n == 0:
        raise ValueError(f"{name} must hold one number for each of the tokens, at least one, but has {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not a finite number.")
    return array


def _times_drawn(rng: np.random.Generator, n: int, rows: int) -> NDArray[np.int32]:
    """Count how often each of n items is drawn in each resample, shape (rows, n)."""
    drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.int32)


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Quantiles of values that count several times each, shape (quantiles, rows).

    Args:
        values: ascending, shape (n,).
        weights: how often each counts, shape (rows, n).
    """
    rows, n = weights.shape
    # One running count over all rows, so that one search finds everything.
    running = np.cumsum(weights, dtype=np.int64)
    ends = running[n - 1 :: n]
    starts = np.concatenate([[0], ends[:-1]])
    place = np.array(QUANTILES)[:, None] * (ends - starts - 1)
    whole = np.floor(place).astype(np.int64)
    following = np.minimum(whole + 1, ends - starts - 1)
    low, high = (
        values[running.searchsorted(starts + rank, side="right") - n * np.arange(rows)] for rank in (whole, following)
    )
    return np.asarray(low + (place - whole) * (high - low))
