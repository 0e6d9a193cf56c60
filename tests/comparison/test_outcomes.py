"""Outcomes of a quant's answers beside the baseline's."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.comparison.flips import pair_answers
from quantexp.comparison.outcomes import OutcomeShift, compare_outcomes
from quantexp.stats import Method


def answers(count: int, **outcomes: Any) -> pd.DataFrame:
    """Answers to so many items, all right, with these outcomes; of one token each unless it is said."""
    items = [str(number) for number in range(count)]
    outcomes = {"answer_tokens": [1.0] * count} | outcomes
    columns = {"item_id": items, "cluster": items, "seed": 0, "sample": 0, "score": 1.0, "extracted": 1}
    return pd.DataFrame(
        columns | {"grading_error": None} | {f"outcome_{name}": values for name, values in outcomes.items()}
    )


def compared(before: pd.DataFrame, after: pd.DataFrame, **options: Any) -> dict[str, OutcomeShift]:
    found = compare_outcomes(pair_answers(before, after), resamples=500, **options)
    return {each.name: each for each in found}


def test_more_of_an_outcome_under_the_quant_is_a_change_above_zero() -> None:
    before = answers(40, truncated=[1.0] * 2 + [0.0] * 38, answer_tokens=np.arange(40.0))
    after = answers(40, truncated=[0.0] * 2 + [1.0] * 12 + [0.0] * 26, answer_tokens=np.arange(40.0) + 10)
    found = compared(before, after)
    assert list(found) == ["truncated", "answer_tokens"]
    truncated, length = found["truncated"], found["answer_tokens"]
    assert (truncated.baseline, truncated.quant) == (0.05, 0.3)
    assert truncated.change.difference == pytest.approx(0.25)
    assert truncated.change.low > 0
    assert truncated.change.interval_method == "Tango score"
    assert not truncated.is_length
    assert (length.baseline, length.quant, length.is_length) == (19.5, 29.5, True)
    assert (length.change.low, length.change.high) == (10, 10)


def test_an_outcome_that_one_side_has_not_is_zero_there_and_one_that_none_has_is_left_out() -> None:
    before = answers(10, loop=[0.0] * 10, empty=[0.0] * 10)
    after = answers(10, loop=[1.0] + [0.0] * 9, truncated=[1.0] * 10)
    found = compared(before, after)
    assert {name: (each.baseline, each.quant) for name, each in found.items()} == {
        "loop": (0.0, 0.1),
        "truncated": (0.0, 1.0),
        "answer_tokens": (1.0, 1.0),
    }


def test_nothing_is_said_where_one_side_recorded_no_outcomes_and_no_length_that_is_not_known_of_all() -> None:
    new = answers(10, loop=[1.0] * 10)
    old = new.drop(columns=[name for name in map(str, new) if name.startswith("outcome_")])
    assert compared(old, new) == compared(new, old) == {}
    unknown = answers(10, loop=[1.0] * 10, answer_tokens=[5.0] * 9 + [np.nan])
    assert list(compared(new, unknown)) == ["loop"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_the_interval_holds_the_change_and_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    sides = [answers(len(pairs), loop=np.array([pair[side] for pair in pairs], float)) for side in (0, 1)]
    for found, expected in ((compared(*sides), 1), (compared(*sides[::-1]), -1)):
        difference = np.mean([after - before for before, after in pairs]) if pairs else 0.0
        for each in (each for each in found.values() if not each.is_length):
            assert each.change.difference == pytest.approx(expected * difference)
            assert each.change.low <= each.change.difference <= each.change.high


def test_several_answers_to_an_item_count_once_and_methods_without_bounds_for_them_are_resampled() -> None:
    one = answers(20, loop=[1.0, 0.0] * 10)
    twice = pd.concat([one, one.assign(sample=1)], ignore_index=True)
    clean = twice.assign(outcome_loop=0.0)
    assert compared(clean, twice)["loop"].change.n == 20
    assert compared(clean, twice, method=Method.sequential)["loop"].change.low > 0
