"""Random effects: how far an effect differs between places, such as tasks or models, and what it is on average.

The variance between places is Paule and Mandel's, its interval the Q-profile's, both of the one statistic Q(tau²). The
interval of the mean is Hartung, Knapp, Sidik and Jonkman's, which holds for few places where the usual one, of the
normal law, is far too narrow (IntHout, Ioannidis and Borm 2014, BMC Medical Research Methodology 14:25).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, chdtri, stdtrit

from quantexp.stats.checks import check_confidence, check_scores
from quantexp.stats.comparison import PairedComparison
from quantexp.stats.units import finite_factor

FEW_PLACES = 10
"""Places below which a summary over them is of few: their spread, and all that follows from it, is hardly known."""

_LEAST_SHARE = 1e-3
"""Of an effect's variance, which is left to it at least if the rest is shared."""

_HALVINGS = 45
"""Of the range of tau²; SciPy's root finders take half a second to load."""

_LEAST_VARIANCE = 1e-12
"""Of an effect that is known: a fixed set, all of which was answered."""


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Difference between effects beyond what chance explains.

    Attributes:
        q: Cochran's Q, the weighted sum of their squared distances from their mean.
        degrees: Of freedom: their number less one.
        p_value: Of effects that are all the same, by the chi-squared law of Q, which is approximate.
        i2: Share of the effects' variance that chance does not explain: tau² / (tau² + s²), where s² is the typical
            variance by chance (Higgins and Thompson 2002, Statistics in Medicine 21).
        i2_low: Lower end of its interval.
        i2_high: Upper end of it, for which Q counts as no less than it is by chance.
        tau: Standard deviation between the true effects (Paule and Mandel 1982).
        tau_low: Lower end of its interval (Q-profile: Viechtbauer 2007, Statistics in Medicine 26).
        tau_high: Upper end of it, likewise.
    """

    q: float
    degrees: int
    p_value: float
    i2: float
    i2_low: float
    i2_high: float
    tau: float
    tau_low: float
    tau_high: float


@dataclass(frozen=True, slots=True)
class RandomEffects:
    """Mean of effects that differ from place to place.

    Attributes:
        mean: Of the places' true effects.
        low: Lower end of its interval.
        high: Upper end of its interval.
        predicted_low: Lower end of the interval for the true effect in a further place; nan for fewer than three.
        predicted_high: Upper end of it.
        weights: Of the places, with the sum 1.
        heterogeneity: How far they differ.
        shared: Variance that all effects share.
        confidence: Nominal coverage of the intervals.
    """

    mean: float
    low: float
    high: float
    predicted_low: float
    predicted_high: float
    weights: tuple[float, ...]
    heterogeneity: Heterogeneity
    shared: float
    confidence: float

    @property
    def places(self) -> int:
        """Number of effects."""
        return len(self.weights)


def random_effects(
    effects: ArrayLike, variances: ArrayLike, *, shared: float = 0.0, confidence: float = 0.95
) -> RandomEffects:
    """Average effects whose true values differ from place to place, with an interval that holds for few of them.

    With v the variances by chance, w = 1 / (v + tau²) and m the weighted mean, its variance is max(1, q) / Σ w, q = Σ w
    (effect - m)² / (k - 1), and its law Student's with k - 1 degrees of freedom (Hartung and Knapp 2001, Statistics in
    Medicine 20; Sidik and Jonkman 2002, ibid. 21; the 1: Röver, Knapp and Friede 2015, BMC Medical Research Methodology
    15:99). The effect in a further place: m ± t(k - 2) √(tau² + that variance) (Partlett and Riley 2017, Statistics in
    Medicine 36). Effects are losses of a score from 0 to 1, so that no end is beyond -1 or 1.

    Errors that effects share, such as those of models that answered the same items, do not show in how far the effects
    differ: their variance is taken off each effect's own, and added to that of the mean.

    Args:
        effects: One for each place, at least two, shape (k,).
        variances: Of each by chance, above 0, shape (k,); see `effect_variance`.
        shared: The part of these variances that all effects share: the covariance of any two; below 0 it counts as 0.
        confidence: Nominal coverage of the intervals, at least 0.5 and below 1.

    Raises:
        ValueError: There are fewer than two effects, the numbers do not fit, or one is out of range.
    """
    check_confidence(confidence)
    y, v = _check_effects(effects, variances)
    common = max(0.0, shared)
    own = np.maximum(v - common, _LEAST_SHARE * v)
    found = _heterogeneity(y, own, confidence)
    k = y.size
    w = 1.0 / (own + found.tau**2)
    weights = w / w.sum()
    mean = float(weights @ y)
    scatter = float(w @ (y - mean) ** 2) / (k - 1)
    variance = max(1.0, scatter) / float(w.sum()) + common
    half = _quantile(confidence, k - 1) * math.sqrt(variance)
    further = _quantile(confidence, k - 2) * math.sqrt(found.tau**2 + variance) if k > 2 else math.nan
    return RandomEffects(
        mean=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        predicted_low=max(-1.0, mean - further) if k > 2 else math.nan,
        predicted_high=min(1.0, mean + further) if k > 2 else math.nan,
        weights=tuple(float(each) for each in weights),
        heterogeneity=found,
        shared=common,
        confidence=confidence,
    )


def measure_heterogeneity(effects: ArrayLike, variances: ArrayLike, *, confidence: float = 0.95) -> Heterogeneity:
    """Measure how far effects differ beyond chance.

    Args:
        effects: One for each place, at least two, shape (k,).
        variances: Of each by chance, above 0, shape (k,); see `effect_variance`.
        confidence: Nominal coverage of the intervals, at least 0.5 and below 1.

    Raises:
        ValueError: There are fewer than two effects, the numbers do not fit, or one is out of range.
    """
    check_confidence(confidence)
    return _heterogeneity(*_check_effects(effects, variances), confidence)


def effect_variance(comparison: PairedComparison) -> float:
    """Return the variance of a paired difference by chance, above 0 even if nothing changed.

    One item that is lost and one that is gained are added to those seen, as large as the others on average (Bonett and
    Price 2012, Journal of Educational and Behavioral Statistics 37): a few items of which none changed are not certain.
    """
    n = comparison.n
    squares = comparison.difference**2 * n + (comparison.deviation**2 * (n - 1) if n > 1 else 0.0)
    size = squares / comparison.changed if comparison.changed else 1.0
    mean = comparison.difference * n / (n + 2)
    variance = ((squares + 2.0 * size) / (n + 2) - mean**2) / (n + 2)
    return max(_LEAST_VARIANCE, variance * finite_factor(n, comparison.population) ** 2)


def _check_effects(effects: ArrayLike, variances: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, v = check_scores(effects, "effects"), check_scores(variances, "variances")
    if y.size != v.size or y.size < 2:
        raise ValueError(f"{y.size} effects and {v.size} variances: give a variance for each of at least two effects.")
    if v.min() <= 0.0:
        raise ValueError(f"variances must be above 0, not {v.min():g}.")
    return y, v


def _heterogeneity(y: NDArray[np.float64], v: NDArray[np.float64], confidence: float) -> Heterogeneity:
    degrees, tail = y.size - 1, (1.0 - confidence) / 2.0
    q = _spread(y, v, 0.0)
    few, many = (float(chdtri(degrees, share)) for share in (1.0 - tail, tail))
    between = [_solve_spread(y, v, target) for target in (degrees, many, few)]
    w = 1.0 / v
    typical = degrees * w.sum() / (w.sum() ** 2 - w @ w)
    # Effects that agree by luck more than they should do not show that they are the same.
    most = 1.0 - few / degrees
    between[2] = max(between[2], typical * most / (1.0 - most))
    shares = [each / (each + typical) for each in between]
    taus = [math.sqrt(each) for each in between]
    return Heterogeneity(
        q,
        degrees,
        float(chdtrc(degrees, q)),
        *(float(each) for each in shares),
        *taus,
    )


def _spread(y: NDArray[np.float64], v: NDArray[np.float64], between: float) -> float:
    """Return Q(tau²): the sum of squared distances from the weighted mean; it falls as tau² grows."""
    w = 1.0 / (v + between)
    return float(w @ (y - w @ y / w.sum()) ** 2)


def _solve_spread(y: NDArray[np.float64], v: NDArray[np.float64], target: float) -> float:
    """Return the tau² at which Q(tau²) is as large as the target; 0 if it is below for any."""
    if _spread(y, v, 0.0) <= target:
        return 0.0
    low, high = 0.0, float(np.ptp(y)) ** 2 / target * y.size + float(v.max())
    while _spread(y, v, high) > target:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _spread(y, v, middle) > target else (low, middle)
    return high


def _quantile(confidence: float, degrees: int) -> float:
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0))
