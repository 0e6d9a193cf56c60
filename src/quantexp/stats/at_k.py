"""Scores of several answers to an item: pass@k and majority@k, for what is right or wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantexp.stats.comparison import Estimate, estimate


@dataclass(frozen=True, slots=True)
class AtK:
    """Mean scores over items of k answers each.

    Attributes:
        k: Number of answers.
        passed: Probability that at least one of k answers is right.
        majority: Probability that the answer which most of k agree on is right.
    """

    k: int
    passed: Estimate
    majority: Estimate


def at_k(
    scores: ArrayLike,
    read: ArrayLike,
    items: ArrayLike,
    samples: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    **options: Any,
) -> tuple[AtK, ...]:
    """Estimate pass@k and majority@k for k = 1, 2, 4, ... up to the number of answers to an item.

    Args:
        scores: Score of each answer, shape (m,); NaN where it was not asked.
        read: Number of what was read from each, shape (m,), the same for equal answers; 0 where nothing was.
        items: Id of each answer's item, shape (m,).
        samples: Number of each answer among those to its item, from 0 in the order of drawing, shape (m,).
        clusters: Id of what items that ask the same share, by answer, shape (m,): they count once; None for none.
        options: Of `estimate`.

    Returns:
        One for each k; none if items have one answer each, or scores are not all 0 or 1. An item that lacks an answer
        is left out.
    """
    _, first, sorted_places = np.unique(np.asarray(items), return_index=True, return_inverse=True)
    order = first.argsort()  # as the items came
    places, first = order.argsort()[sorted_places], first[order]
    number = np.asarray(samples, dtype=np.intp)
    shape = (first.size, int(number.max(initial=0)) + 1)
    right, answers = np.full(shape, np.nan), np.zeros(shape, dtype=np.uint64)
    right[places, number] = np.asarray(scores, dtype=np.float64)
    answers[places, number] = np.asarray(read, dtype=np.uint64)
    complete = ~np.isnan(right).any(axis=1)
    right, answers = right[complete], answers[complete]
    if shape[1] < 2 or not right.size or not np.isin(right, (0.0, 1.0)).all():
        return ()
    units = None if clusters is None else np.asarray(clusters)[first[complete]]
    return tuple(
        AtK(
            k,
            estimate(pass_at_k(right, k), clusters=units, **options),
            estimate(majority_at_k(right, answers, k), clusters=units, **options),
        )
        for k in (1 << power for power in range(shape[1].bit_length()))
    )


def pass_at_k(right: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Estimate, without bias, the probability that at least one of k answers to an item is right.

    With c of n answers right, 1 - C(n - c, k) / C(n, k), the share of all choices of k answers that hold a right one
    (Chen et al. 2021, "Evaluating large language models trained on code").

    Args:
        right: 1 or 0 for each item's answers, shape (items, n).
        k: Number of answers, at most n.

    Raises:
        ValueError: There are fewer answers.
    """
    _check_k(right, k)
    n = right.shape[1]
    wrong = n - right.sum(axis=1, keepdims=True)
    drawn = np.arange(k)
    # Factor by factor: the binomial coefficients of many answers are beyond a float.
    return np.asarray(1.0 - np.prod(np.maximum(wrong - drawn, 0.0) / (n - drawn), axis=1), dtype=np.float64)


def majority_at_k(right: NDArray[np.float64], read: NDArray[np.uint64], k: int) -> NDArray[np.float64]:
    """Score the answer that was read most often among the first k to each item; of several, the one drawn first.

    Where nothing was read, there is no vote; an item without votes is wrong. ("Self-consistency", Wang et al. 2023.)

    Args:
        right: 1 or 0 for each item's answers, shape (items, n).
        read: Number of what was read from each, shape (items, n); 0 where nothing was.
        k: Number of answers, at most n.

    Raises:
        ValueError: There are fewer answers.
    """
    _check_k(right, k)
    voting = read[:, :k]
    votes = np.zeros(voting.shape, dtype=np.intp)
    for answer in range(k):
        votes += voting == voting[:, answer : answer + 1]
    votes[voting == 0] = 0
    chosen = votes.argmax(axis=1)[:, np.newaxis]
    found = np.take_along_axis(right[:, :k], chosen, 1) * (np.take_along_axis(votes, chosen, 1) > 0)
    return np.asarray(found[:, 0], dtype=np.float64)


def _check_k(right: NDArray[np.float64], k: int) -> None:
    if not 1 <= k <= right.shape[1]:
        raise ValueError(f"k must be between 1 and the {right.shape[1]} answers to an item, not {k}.")
