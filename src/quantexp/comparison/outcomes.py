"""What answers are besides right or wrong, under the baseline and under a quant: rates and lengths, paired."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from quantexp.comparison.flips import SIDES, list_clusters
from quantexp.stats import Method, PairedComparison, compare
from quantexp.tracking.tags import LENGTHS, OUTCOME

WORDS = {
    "truncated": "cut off within the answer",
    "ended_in_reasoning": "ended before an answer",
    "loop": "ends in a loop",
    "empty": "empty",
    "unreadable": "nothing could be read",
    "other_script": "in letters of another script",
    "syntax_error": "code that is no Python",
    "exception": "code that raises an exception",
    "wrong_result": "code with a wrong result",
    "time_out": "code that does not end in time",
    "reasoning_tokens": "length of the reasoning",
    "answer_tokens": "length of the answer",
}
"""Outcomes in words."""


@dataclass(frozen=True, slots=True)
class OutcomeShift:
    """An outcome under the baseline and under a quant.

    Attributes:
        name: of the outcome, as `evaluation.outcomes` has it.
        change: the quant's minus the baseline's, paired: a share of answers, or tokens. Its `quant_mean` is the
            baseline's and its `baseline_mean` the quant's, because more of an outcome is what a quant may bring.
    """

    name: str
    change: PairedComparison

    @property
    def baseline(self) -> float:
        """The baseline's share of answers, or its mean length."""
        return self.change.quant_mean

    @property
    def quant(self) -> float:
        """The quant's."""
        return self.change.baseline_mean

    @property
    def is_length(self) -> bool:
        """True if it counts tokens."""
        return OUTCOME + self.name in LENGTHS


def compare_outcomes(
    pairs: pd.DataFrame, *, by_item: bool = True, method: Method = Method.default, **options: Any
) -> tuple[OutcomeShift, ...]:
    """Compare each outcome of a quant's answers with the baseline's to the same items.

    Args:
        pairs: The answers that both have scored (`flips.pair_answers`), with a column of each side for every outcome;
            one that is missing on one side is 0 there.
        by_item: Whether an item counts once, with its mean; otherwise each answer is taken as independent.
        method: Which statistics; lengths, which have no largest value, are always resampled.
        options: Further ones of `stats.compare`.

    Returns:
        Outcomes that any answer has: shares in the order of their columns, then lengths. None of runs that recorded
        none.
    """
    if not {f"{LENGTHS[-1]}_{side}" for side in SIDES} <= set(pairs):
        return ()  # of one side nothing is known, and what is missing is not 0
    names = [str(name).removesuffix("_baseline") for name in pairs if str(name).startswith(OUTCOME)]
    names = list(dict.fromkeys(name.removesuffix("_quant") for name in names))
    names.sort(key=lambda name: name in LENGTHS)
    clusters = list_clusters(pairs) if by_item else None
    found = []
    for name in names:
        sides = [f"{name}_{side}" for side in SIDES]
        before, after = (
            pairs[side].fillna(0).to_numpy(dtype=np.float64) if side in pairs else np.zeros(len(pairs))
            for side in sides
        )
        outcome = name.removeprefix(OUTCOME)
        if outcome not in WORDS or not (before.any() or after.any()):  # of a later version, or of no answer
            continue
        if name in LENGTHS and any(pairs[side].isna().any() for side in sides if side in pairs):
            continue  # a mean over some of the answers would be of others than the baseline's
        is_resampled = name in LENGTHS or method is Method.sequential
        chosen = Method.bootstrap if is_resampled else method
        change = compare(after, before, clusters=clusters, method=chosen, **options)
        found.append(OutcomeShift(outcome, change))
    return tuple(found)
