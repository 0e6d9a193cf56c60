"""Agreement of verdicts with labels, and the threshold that turns a score into a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.binary import wilson_interval
from quantexp.stats.checks import check_confidence, check_scores


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of verdicts with labels.

    Attributes:
        n: Number of pairs.
        accuracy: Share of verdicts that are the label.
        accuracy_low: Lower end of Wilson's interval.
        accuracy_high: Its upper end.
        kappa: Cohen's kappa: agreement beyond what the two margins give by chance; nan if they leave nothing to chance.
        kappa_low: Lower end of its interval, from its asymptotic standard error.
        kappa_high: Its upper end.
    """

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    kappa: float
    kappa_low: float
    kappa_high: float

    @property
    def kappa_text(self) -> str:
        """Kappa with its interval, such as `0.18 [0.03, 0.34]`."""
        return f"{self.kappa:.2f} [{self.kappa_low:.2f}, {self.kappa_high:.2f}]"


def agreement(verdicts: Sequence[object], labels: Sequence[object], *, confidence: float = 0.95) -> Agreement:
    """Measure how far verdicts agree with labels.

    A verdict that is no label at all, such as None for an undecided one, is a category of its own: it never agrees.

    Cohen 1960, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20:37. The
    standard error is that of Fleiss, Cohen and Everitt 1969, Psychological Bulletin 72:323, equation 13. If all agree,
    or none does, it would be 0: the ends are then those that Wilson's interval of the accuracy gives to kappa.

    Args:
        verdicts: Of any hashable values, one a pair.
        labels: Likewise, in the same order.
        confidence: Of both intervals.

    Raises:
        ValueError: There is no pair, or not as many verdicts as labels.
    """
    check_confidence(confidence)
    if len(verdicts) != len(labels) or not labels:
        raise ValueError(f"{len(verdicts)} verdicts and {len(labels)} labels: one of each is needed for every pair.")
    names = list(dict.fromkeys([*labels, *verdicts]))
    table = np.zeros((len(names), len(names)))
    for verdict, label in zip(verdicts, labels, strict=True):
        table[names.index(verdict), names.index(label)] += 1
    n = len(labels)
    right = int(np.trace(table))
    low, high = wilson_interval(right, n, confidence=confidence)
    kappa, error, by_chance = _kappa(table / n, n)
    if math.isnan(kappa):
        ends = (math.nan, math.nan)
    elif right in (0, n):
        ends = ((low - by_chance) / (1 - by_chance), (high - by_chance) / (1 - by_chance))
    else:
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
        ends = (max(-1.0, kappa - half), min(1.0, kappa + half))
    return Agreement(n, right / n, low, high, kappa, *ends)


def _kappa(shares: NDArray[np.float64], n: int) -> tuple[float, float, float]:
    """Return kappa, its standard error and the agreement by chance, from shares of all pairs by verdict and label."""
    verdicts, labels = shares.sum(axis=1), shares.sum(axis=0)
    observed, by_chance = float(np.trace(shares)), float(verdicts @ labels)
    if by_chance >= 1:
        return math.nan, math.nan, by_chance
    kappa = (observed - by_chance) / (1 - by_chance)
    both = verdicts[None, :] + labels[:, None]  # at (i, j): share of verdict j and of label i
    diagonal = (np.diag(shares) * (1 - np.diag(both) * (1 - kappa)) ** 2).sum()
    others = (1 - kappa) ** 2 * (shares * both**2)[~np.eye(len(shares), dtype=bool)].sum()
    variance = diagonal + others - (kappa - by_chance * (1 - kappa)) ** 2
    return kappa, math.sqrt(max(0.0, float(variance)) / n) / (1 - by_chance), by_chance


def choose_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """Choose the threshold at or above which a score means yes, so that most of the labels are met.

    It lies halfway between two neighbouring scores; of several that are as good, the highest counts. One beyond all
    scores is possible, where always saying the same is best.

    Args:
        scores: Shape (n,).
        labels: Shape (n,), true for yes.

    Raises:
        ValueError: There is no score, or not as many as labels.
    """
    given, truth = check_scores(scores, "scores"), np.asarray(labels, dtype=bool)
    if given.shape != truth.shape:
        raise ValueError(f"{given.size} scores and {truth.size} labels: one of each is needed for every pair.")
    distinct = np.unique(given)
    between = (distinct[:-1] + distinct[1:]) / 2
    candidates = np.concatenate([[distinct[0]], between, [np.nextafter(distinct[-1], np.inf)]])
    right = [int(((given >= candidate) == truth).sum()) for candidate in candidates]
    return float(candidates[len(right) - 1 - int(np.argmax(right[::-1]))])
