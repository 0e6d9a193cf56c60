"""Subgroup comparisons with the baseline: parts of the items, by field, by category and by difficulty.

Parts are looked at because one wonders, not because anything was declared about them: their intervals are not corrected
for how many there are, and they decide nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.flips import SIDES, list_clusters
from quantexp.stats import Estimate, PairedComparison, compare, estimate
from quantexp.tracking.tags import CATEGORY, FIELD, PLACE

DIFFICULTY, FIELDS = "difficulty", "field"
"""Two of the ways in which items are taken apart; the others are by `CATEGORY` and by `PLACE`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A comparison on part of what was asked.

    Attributes:
        by: `DIFFICULTY`, `CATEGORY` or `PLACE` (some of the items), or `FIELDS` (one field of all items).
        name: The level of difficulty, the category, the place, or the field.
        difference: Of the scores there, paired; positive means that the baseline is better.
        scores: Of a place the scores of both sides; None of other parts.
    """

    by: str
    name: str
    difference: PairedComparison
    scores: tuple[Estimate, Estimate] | None = None


def parts(pairs: pd.DataFrame, *, by_item: bool = True, **options: Any) -> tuple[Part, ...]:
    """Compare a quant with the baseline by field, by category, by difficulty and by place.

    Args:
        pairs: The answers that both have scored (`flips.pair_answers`); columns `score_NAME` of each side hold the
            score of a field, `category` the kind of item, `difficulty` the level, `place` length and depth in a long
            text, where there are any.
        by_item: Whether an item counts once, with its mean score; otherwise each answer is taken as independent.
        options: Of `stats.compare`.

    Returns:
        Fields in the order of the baseline's columns, then categories in the order of their names, then levels from the
        lowest, then places. No categories or levels where all items have the same, or none. Intervals are about the
        items that the data sample.
    """
    of_baseline = [str(name).removesuffix("_baseline") for name in pairs if str(name).endswith("_baseline")]
    fields = [name for name in of_baseline if name.startswith(FIELD) and f"{name}_quant" in pairs]
    found = []
    clusters = list_clusters(pairs) if by_item else None
    for by, name, rows, column in _selections(pairs, fields):
        before, after = (pairs.loc[rows, f"{column}_{side}"].to_numpy(dtype=np.float64) for side in SIDES)
        options["clusters"] = None if clusters is None else clusters[rows.to_numpy()]
        scores = (estimate(before, **options), estimate(after, **options)) if by == PLACE else None
        found.append(Part(by, name, compare(before, after, **options), scores))
    return tuple(found)


def _selections(pairs: pd.DataFrame, fields: Sequence[str]) -> Iterator[tuple[str, str, "pd.Series[bool]", str]]:
    """For each part how it was taken, its name, which rows it has, and in which columns its scores are."""
    for field in fields:
        rows = pairs[f"{field}_baseline"].notna() & pairs[f"{field}_quant"].notna()
        if rows.any():
            yield FIELDS, field.removeprefix(FIELD), rows, field
    for by, fewest, name in ((CATEGORY, 2, str), (DIFFICULTY, 2, "{:g}".format), (PLACE, 1, str)):
        column = f"{by}_baseline"
        values = sorted(pairs[column].dropna().unique()) if column in pairs else []
        for value in values if len(values) >= fewest else ():
            yield by, name(value), pairs[column] == value, "score"
