"""The percentile bootstrap over items: `Method.bootstrap`, and what is drawn where no exact law is known.

The unit that is resampled is the item, so items must be independent. Repeats of one item (seeds,
copies) are not: average them within the item first, otherwise the interval is too narrow by about
the square root of the number of repeats (Miller 2024, "Adding Error Bars to Evals", arXiv
2411.00640, on clustered questions).

The percentile interval is Efron and Tibshirani (1993), "An Introduction to the Bootstrap",
chapter 13. BCa is deliberately not used: with the few changed items a good quant produces, its
coverage falls below the percentile interval's.

Known weakness: resampling can only show what the sample holds. When no item changed score between
the two conditions, every resampled difference is 0 and the interval is [0, 0], which is not
evidence that the conditions are equal. The same happens to one mean when all items score the same.
`zero_width` names that case so that a report can mark it. An interval that stays honest there needs
pseudo-observations (Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference of
Binomial Proportions Based on Paired Data", J. Educational and Behavioral Statistics 37(4)).
"""

import numpy as np
from numpy.typing import NDArray

_INDICES_PER_CHUNK = 1 << 18
"""Item indices drawn at once: bounds the working memory to a few MB (8 bytes each, and as much
again for the gathered scores) as long as one resample fits, which is the smallest chunk."""


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Means of `values` drawn with replacement, shape (resamples,).

    Drawing the index matrix a few rows at a time continues the same random stream, so the result is
    that of one `default_rng(seed).integers(0, n, (resamples, n))`, whatever the chunk size.
    """
    rng = np.random.default_rng(seed)
    n = values.size
    rows = max(1, _INDICES_PER_CHUNK // n)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        means[start:stop] = values[rng.integers(0, n, (stop - start, n))].mean(axis=1)
    return means


def percentile_interval(means: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of the central share of resampled means."""
    # In percent first: (1 - 0.95) / 2 is not 0.025 in floating point, (100 - 95) / 2 is 2.5.
    tail = (100.0 - 100.0 * confidence) / 2.0
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def p_with_ties(means: NDArray[np.float64], tie: float) -> float:
    """Two-sided p-value of resampled means; those within `tie` of 0 count on both sides."""
    at_most_zero = np.count_nonzero(means <= tie) / means.size
    at_least_zero = np.count_nonzero(means >= -tie) / means.size
    return float(min(1.0, 2.0 * min(at_most_zero, at_least_zero)))
