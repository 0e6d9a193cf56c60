"""Flips between a baseline and a quant, answer by answer: counts, and a table of the answers themselves.

A mean score can stay the same while many answers change. Answers that go from right to wrong or from wrong to right are
called flips (Dutta et al. 2024, "Accuracy is Not All You Need", arXiv 2407.09141); answers that change at all, whatever
their scores, are called churn.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.stats.checks import TIE_TOLERANCE

LOST, GAINED = "lost", "gained"
OTHER_WRONG, OTHER_SAME = "another wrong answer", "same score, other answer"
CHANGES = (LOST, GAINED, OTHER_WRONG, OTHER_SAME)
"""All kinds of change, in the order of the table and the page."""

COLUMNS = (
    *("task", "quant", "seed", "item_id", "sample", "change", "baseline_score", "quant_score"),
    *("baseline_extracted", "quant_extracted", "reference", "question", "prompt", "baseline_output", "quant_output"),
)
"""Columns of the table of changed answers."""

KEYS = ["seed", "item_id", "sample"]
"""Columns that tell one answer from another."""

SIDES = ("baseline", "quant")
"""What ends the names of the columns of paired answers."""

_COUNTED = [*KEYS, "cluster", "extracted", "score", "grading_error"]


@dataclass(frozen=True, slots=True)
class Flips:
    """Numbers of answers that changed from the baseline to a quant.

    An answer is lost if its score fell and gained if it rose: a flip where answers are right or wrong. Scores that
    differ by rounding only are the same, as they are in a `stats.PairedComparison`.

    Attributes:
        answers: Answers compared: one per seed, item and sample that both sides scored.
        lost: Answers whose score fell.
        gained: Answers whose score rose.
        both_wrong_different: Answers with the same score below 1 for another reason: another answer was read, or none
            was and the reading error is another.
        both_right_different: Answers with the full score on both sides for which another answer was read.
        churn: Answers for which another answer was read, whatever the scores; nothing readable is an answer of its
            own, the same whatever the reading error.
    """

    answers: int
    lost: int
    gained: int
    both_wrong_different: int
    both_right_different: int
    churn: int


def flips(baseline: pd.DataFrame, quant: pd.DataFrame) -> Flips:
    """Count what changed from the baseline's answers to a quant's.

    Both are per-item tables of one model and task with a further column `seed`: one row per answer; they may be empty.
    Rows are paired on seed, item_id and sample. A row that only one side has, or that has no score (not asked), is left
    out; of several rows for one answer the last counts.

    Raises:
        ValueError: A table that is not empty lacks a column.
    """
    return count_flips(pair_answers(baseline, quant))


def count_flips(pairs: pd.DataFrame) -> Flips:
    """Return the same, from answers that have been paired (`pair_answers`)."""
    change, churn = _changes(pairs)
    counts = {each: int(np.count_nonzero(change == number)) for number, each in enumerate(CHANGES)}
    return Flips(
        answers=len(pairs),
        lost=counts[LOST],
        gained=counts[GAINED],
        both_wrong_different=counts[OTHER_WRONG],
        both_right_different=counts[OTHER_SAME],
        churn=int(np.count_nonzero(churn)),
    )


def flip_rows(baseline: pd.DataFrame, quant: pd.DataFrame, *, task: str, name: str) -> pd.DataFrame:
    """Return the answers that changed, one per row, with the columns `COLUMNS`.

    Their number is lost + gained + both_wrong_different + both_right_different of `flips`.

    Args:
        baseline: The baseline's answers, as for `flips`, with prompt, output and reference.
        quant: The other quant's answers.
        task: What the column task says.
        name: The other quant's name, for the column quant.

    Returns:
        Rows in the order of `CHANGES`, and within one kind in the order of the baseline's table; reference, question
        and prompt are the baseline's. Tables of earlier versions have no question.

    Raises:
        ValueError: A table that is not empty lacks a column.
    """
    pairs = pair_answers(baseline, quant)
    found = pairs.rename(columns={f"{name}_baseline": name for name in ("reference", "question", "prompt")})
    for column in ("score", "extracted", "output"):
        found = found.rename(columns={f"{column}_{side}": f"{side}_{column}" for side in SIDES})
    kinds = np.array([*CHANGES, ""], dtype=np.object_)[_changes(pairs)[0]]
    found = found.assign(task=task, quant=name, change=kinds)
    return found.iloc[select_changes(pairs)].reset_index(drop=True).reindex(columns=list(COLUMNS))


def select_changes(pairs: pd.DataFrame, most: int | None = None) -> NDArray[np.intp]:
    """Return the positions of changed answers among paired ones: in the order of `CHANGES`, then of the rows.

    If there are more than `most`, each kind has its share of that: the first ones.
    """
    change = _changes(pairs)[0]
    of_kind = [np.flatnonzero(change == number) for number in range(len(CHANGES))]
    total = sum(len(each) for each in of_kind)
    if most is not None and total > most:
        of_kind = [each[: -(-len(each) * most // total)] for each in of_kind]
    return np.concatenate(of_kind)


def anchor(task: str, quant: str) -> str:
    """Return the id of a task's and quant's heading on the page, for links: letters, digits, `_`, `.` and `-` only.

    Different pairs have different ids, also where their names differ in other characters alone.
    """
    names = re.sub(r"[^a-z0-9_.]+", "-", f"{task}-{quant}".lower()).strip("-")
    return f"{names}-{hashlib.sha256(json.dumps([task, quant]).encode()).hexdigest()[:8]}"


def pair_answers(baseline: pd.DataFrame, quant: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that both sides scored, in the order of the baseline's table; every column once per side.

    Args:
        baseline: The baseline's answers, as for `flips`; what was read and the reading error may be numbers that stand
            for texts, and the names of items and clusters categories.
        quant: The other quant's answers.

    Returns:
        The columns `KEYS`, and any other with the suffix _baseline or _quant.

    Raises:
        ValueError: A table that is not empty lacks a column.
    """
    left, right = _scored(baseline, "baseline"), _scored(quant, "quant")
    if left.empty or right.empty:  # an empty table's columns have no types, and may not fit the other's
        return pd.DataFrame(columns=list(dict.fromkeys([*left, *right])))
    if len(left) == len(right) and all(_same(left[key], right[key]) for key in KEYS):
        return pd.concat([left.reset_index(drop=True), right.drop(columns=KEYS).reset_index(drop=True)], axis="columns")
    found: pd.DataFrame = left.merge(right, on=KEYS, validate="one_to_one")
    return found


def _same(left: "pd.Series[Any]", right: "pd.Series[Any]") -> bool:
    if isinstance(left.dtype, pd.CategoricalDtype) and left.dtype == right.dtype:
        left, right = left.cat.codes, right.cat.codes
    return bool((left.to_numpy() == right.to_numpy()).all())


def _changes(pairs: pd.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Classify each paired answer by its place in `CHANGES`, -1 if unchanged; and tell if another was read."""
    before, after = _scores(pairs, "baseline"), _scores(pairs, "quant")
    fell, rose = _moved(before, after)
    churn = _differ(pairs["extracted_baseline"], pairs["extracted_quant"])
    misread = _differ(pairs["grading_error_baseline"], pairs["grading_error_quant"])
    full = np.maximum(before, after) >= 1.0 - TIE_TOLERANCE
    change = np.full(len(pairs), -1, dtype=np.int8)
    change[full & churn] = CHANGES.index(OTHER_SAME)
    change[~full & (churn | misread)] = CHANGES.index(OTHER_WRONG)
    change[fell], change[rose] = CHANGES.index(LOST), CHANGES.index(GAINED)
    return change, churn


def _scored(table: pd.DataFrame, side: str) -> pd.DataFrame:
    """Each answer's last row, where that has a score."""
    names = {name: f"{name}_{side}" for name in dict.fromkeys([*_COUNTED, *table]) if name not in KEYS}
    if table.empty:
        return pd.DataFrame(columns=_COUNTED).rename(columns=names)
    missing = [name for name in _COUNTED if name not in table]
    if missing:
        raise ValueError(f"the {side}'s table has no column {missing[0]}; it needs {', '.join(_COUNTED)}.")
    last: pd.DataFrame = table.drop_duplicates(KEYS, keep="last").rename(columns=names)
    scores = pd.to_numeric(last[names["score"]]).to_numpy(dtype=np.float64, na_value=np.nan)
    last[names["score"]] = scores
    found: pd.DataFrame = last.loc[np.isfinite(scores)]
    return found


def _scores(table: pd.DataFrame, side: str) -> NDArray[np.float64]:
    return table[f"score_{side}"].to_numpy(dtype=np.float64)


def _moved(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of scores that fell and of scores that rose, with the ties of `stats.compare`."""
    differences = before - after
    tie = TIE_TOLERANCE * float(max(np.abs(before).max(initial=0.0), np.abs(after).max(initial=0.0)))
    return differences > tie, differences < -tie


def _differ(before: "pd.Series[Any]", after: "pd.Series[Any]") -> NDArray[np.bool_]:
    """Return a mask of rows in which two columns of texts, or of their codes, differ; a gap is a value of its own."""
    if before.dtype == after.dtype == np.uint64:
        return np.asarray(before.to_numpy() != after.to_numpy())
    pairs = zip(before, after, strict=True)
    return np.array([as_text(left) != as_text(right) for left, right in pairs], dtype=np.bool_)


def list_clusters(pairs: pd.DataFrame) -> NDArray[Any]:
    """List the unique items of paired answers, shape (m,), as `stats.compare` takes its clusters."""
    items = unique_items(pairs["cluster_baseline"], pairs["item_id"])
    return items if items.dtype.kind == "i" else items.astype(str)


def unique_items(clusters: "pd.Series[Any]", items: "pd.Series[Any]") -> NDArray[Any]:
    """Return what the answers of one unique item share, shape (m,): their cluster's id, else their item's.

    Names, or where items and clusters are categories, numbers in the order of these names.
    """
    if isinstance(clusters.dtype, pd.CategoricalDtype) and isinstance(items.dtype, pd.CategoricalDtype):
        known = clusters.cat.categories.tolist(), items.cat.categories.tolist()
        labels = np.array([f"cluster {each}" for each in known[0]] + [f"item {each}" for each in known[1]], dtype=str)
        rank = np.argsort(np.argsort(labels))
        named = np.append(np.array([bool(as_text(each)) for each in known[0]], dtype=np.bool_), False)
        own = clusters.cat.codes.to_numpy()
        return np.where(named[own], rank[own], rank[len(known[0]) + items.cat.codes.to_numpy()])
    both = zip(clusters, items, strict=True)
    keys = [f"cluster {cluster}" if as_text(cluster) else f"item {item}" for cluster, item in both]
    return np.array(keys, dtype=np.object_)


def as_text(value: Any) -> str | None:
    """Return the value as text; None for a gap, whichever of pandas' gaps it is."""
    return None if pd.isna(value) else str(value)
