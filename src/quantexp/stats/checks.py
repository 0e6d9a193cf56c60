"""Checks of the input of every entry point, and one way to say what is wrong with it."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TIE_TOLERANCE = 1e-12
"""A mean this close to 0, relative to the largest score, counts as exactly 0.

Thirds or F1 values do not cancel exactly in floating point: 1/3 + 1/3 - 2/3 summed in another order can be 5e-17. Left
alone, such a tie would fall on one side of 0 by chance and lower the p-value. Rounding stays below n * 2**-53 times the
largest score (1e-12 covers 9,000 terms in the worst order, far more in practice), and a true difference of two means of
scores is far larger.
"""


def check_scores(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return the values as a one-dimensional, non-empty array of finite numbers; ValueError names them otherwise."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a one-dimensional array of numbers.") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, one score per item, not {array.ndim}.")
    if array.size == 0:
        raise ValueError(f"{name} holds no score: at least one item is needed.")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} must be finite, but item {bad[0]} is {array[bad[0]]}.")
    return array


def align(arrays: Mapping[str, ArrayLike | None]) -> tuple[Any, ...]:
    """Return the arrays with all pandas Series among them in the order of the first one's index.

    What belongs together is then what has the same label. Series with equal indices are left as they are, whatever
    repeats in them: their rows belong together. An array without an index belongs to the Series row by row, so it is
    refused beside Series that had to be reordered.

    Args:
        arrays: By their names; None for what was not given.

    Raises:
        ValueError: The labels of two Series differ or repeat, or an array stands beside Series of different order.
    """
    pandas = sys.modules.get("pandas")  # whoever passes a Series has loaded it
    series = {} if pandas is None else {name: each for name, each in arrays.items() if isinstance(each, pandas.Series)}
    if not series:
        return tuple(arrays.values())
    (first, leader), *others = series.items()
    if all(each.index.equals(leader.index) for _, each in others):
        return tuple(arrays.values())
    for name, each in series.items():
        if not each.index.is_unique:
            label = each.index[each.index.duplicated()][0]
            raise ValueError(f"the index of {name} has {label!r} twice: give one value a label, or plain arrays.")
        alone = each.index.symmetric_difference(leader.index)
        if len(alone):
            raise ValueError(
                f"{first} and {name} have different labels in their indices, such as {alone[0]!r}: "
                "give both for the same items."
            )
    for name, given in arrays.items():
        if given is not None and name not in series:
            raise ValueError(
                f"{first} and {others[0][0]} have their labels in different order, and {name} has none: give it the "
                "same index."
            )
    return tuple(series[name].reindex(leader.index) if name in series else None for name in arrays)


def check_pair(baseline: ArrayLike, quant: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two arrays of scores, equally long, or a ValueError."""
    before, after = check_scores(baseline, "baseline"), check_scores(quant, "quant")
    if before.size != after.size:
        raise ValueError(
            f"baseline has {before.size} scores and quant has {after.size}: "
            "a paired comparison needs both on the same items, in the same order."
        )
    return before, after


def check_counts(b: int, c: int, n: int) -> None:
    """Raise ValueError unless b and c are counts of different items among n, at least one."""
    if b < 0 or c < 0 or n < 1 or b + c > n:
        raise ValueError(f"b={b} and c={c} must be counts among n={n} items, at least one.")


def check_confidence(confidence: float, *, at_least: float = 0.5) -> None:
    """Raise ValueError unless the confidence is in range; 95 for 0.95 is the usual mistake."""
    if not at_least <= confidence < 1.0:
        raise ValueError(f"confidence must be at least {at_least:g} and below 1, not {confidence}.")


def check_resampling(resamples: int, seed: int, confidence: float) -> None:
    """Raise ValueError unless the options of a resampling are in range."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}.")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}.")
    check_confidence(confidence)
