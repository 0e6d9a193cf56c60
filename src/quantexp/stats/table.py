"""Many quants and tasks at once, from one table of answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantexp.stats.comparison import Method, PairedComparison, compare_units
from quantexp.stats.units import Units

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("quant", "task", "item", "score")


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One quant on one task against the baseline."""

    task: str
    quant: str
    comparison: PairedComparison


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers of one quant to one task, sorted by item; answers to one item are in the order of the table."""

    items: NDArray[np.int64]
    scores: NDArray[np.float64]

    def only(self, wanted: NDArray[np.bool_]) -> "_Answers":
        keep = wanted[self.items]
        return self if keep.all() else _Answers(self.items[keep], self.scores[keep])

    def marked(self, size: int) -> NDArray[np.bool_]:
        mask = np.zeros(size, dtype=np.bool_)
        mask[self.items] = True
        return mask

    def units(self) -> Units:
        new = np.concatenate([[True], self.items[1:] != self.items[:-1]])
        members = np.cumsum(new) - 1
        return Units(self.items.size, int(members[-1]) + 1, None if new.all() else members)


def compare_table(
    frame: "pd.DataFrame",
    *,
    baseline: str,
    population: Mapping[str, int] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
    method: Method = Method.default,
) -> tuple[TableComparison, ...]:
    """Compare every quant with the baseline on every task, on the items that both answered.

    An item that was answered several times counts once, with its mean score. The design effect needs the answers of the
    two sides in pairs: the first with the first, and so on; it is nan where they answered an item differently often.

    Args:
        frame: One row per answer, with the columns quant, task, item (what answers to one item share) and score.
            Categorical columns are fastest and smallest.
        baseline: The quant that the others are compared with.
        population: Unique items of the fixed set that a task's result is about, by task; see `compare`.
        confidence: Nominal coverage of the intervals.
        resamples: Number of resamples, where a method takes any.
        seed: Seed of each comparison's resampling.
        method: Which statistics.

    Returns:
        One comparison per task and quant, sorted by their names.

    Raises:
        ValueError: A column is missing or has gaps, a quant and the baseline have no item of a task in common, or an
            option or a score is out of range.
    """
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"the table has no column {missing[0]}; it needs quant, task, item and score.")
    quant_of, quants = _codes(frame["quant"])
    if baseline not in quants:
        raise ValueError(f"the table holds no answer of the baseline {baseline}.")
    results = []
    for task, answers, size in _tasks(frame, quant_of, len(quants)):
        before_all = answers[quants.index(baseline)]
        for quant, after_all in zip(quants, answers, strict=True):
            if quant == baseline or after_all.items.size == 0:
                continue
            before = before_all.only(after_all.marked(size))
            after = after_all.only(before_all.marked(size))
            if before.items.size == 0:
                raise ValueError(f"{quant} and {baseline} have no item of {task} in common.")
            units, theirs = before.units(), after.units()
            paired = np.array_equal(before.items, after.items)
            comparison = compare_units(
                units.means(before.scores),
                theirs.means(after.scores),
                answers=min(units.answers, theirs.answers),
                design_effect=units.design_effect(before.scores - after.scores) if paired else np.nan,
                population=None if population is None else population.get(task),
                confidence=confidence,
                resamples=resamples,
                seed=seed,
                method=method,
            )
            results.append(TableComparison(task, quant, comparison))
    return tuple(results)


def _tasks(
    frame: "pd.DataFrame", quant_of: NDArray[np.integer[Any]], quants: int
) -> Iterator[tuple[str, list[_Answers], int]]:
    """Each task's name, its answers by quant, and how many items it has; items are numbered from 0 in a task."""
    task_of, tasks = _codes(frame["task"])
    item_of, items = _codes(frame["item"])
    scores = frame["score"].to_numpy(dtype=np.float64)
    for number, task in enumerate(tasks):
        rows = np.flatnonzero(task_of == number)
        if rows.size == 0:
            continue
        seen = np.zeros(len(items), dtype=np.bool_)
        seen[item_of[rows]] = True
        size = int(np.count_nonzero(seen))
        key = quant_of[rows].astype(np.int64) * size + (np.cumsum(seen) - 1)[item_of[rows]]
        order = np.argsort(key, kind="stable")
        key, score = key[order], scores[rows[order]]
        if not np.isfinite(score).all():
            raise ValueError(f"score must be finite, but {task} has an answer without one.")
        ends = np.searchsorted(key, np.arange(quants + 1) * size)
        answers = [_Answers(key[start:end] % size, score[start:end]) for start, end in pairwise(ends)]
        yield task, answers, size


def _codes(column: "pd.Series[Any]") -> tuple[NDArray[np.integer[Any]], list[str]]:
    """Number of each row's value among the sorted distinct values, and those."""
    categorical = column.astype("category").cat
    codes, names = categorical.codes.to_numpy(), categorical.categories
    if codes.size and codes.min() < 0:
        raise ValueError(f"the column {column.name} has gaps.")
    order = names.argsort()
    rank = np.empty(len(names), dtype=codes.dtype)
    rank[order] = np.arange(len(names))
    return rank[codes], names[order].tolist()
