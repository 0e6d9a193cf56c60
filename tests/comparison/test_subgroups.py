"""Parts of a comparison: which rows are in which, and that they are compared like the whole."""

import numpy as np
import pytest
from tests.support.summaries import RIGHT, WRONG, answers

from quantexp.comparison.flips import pair_answers
from quantexp.comparison.subgroups import DIFFICULTY, FIELDS, Part, parts
from quantexp.stats import Method, compare
from quantexp.tracking.tags import CATEGORY

ROWS = [RIGHT, WRONG, RIGHT, RIGHT]
AFTER = [WRONG, RIGHT, RIGHT, WRONG]


def named(found: tuple[Part, ...]) -> list[tuple[str, str, int, float]]:
    return [(part.by, part.name, part.difference.n, part.difference.difference) for part in found]


def test_levels_and_fields_are_compared_each_on_its_own_rows() -> None:
    columns = {"difficulty": [2.0, 1.0, 2.0, None]}
    before = answers(*ROWS, **columns, score_urgency=[1.0, 0.0, 1.0, None], score_name=[1.0, 1.0, 1.0, 1.0])
    after = answers(*AFTER, **columns, score_urgency=[0.0, 0.0, 1.0, 1.0], score_name=[1.0, 1.0, 0.0, 0.0])
    assert named(parts(pair_answers(before, after), resamples=50)) == [
        (FIELDS, "urgency", 3, pytest.approx(1 / 3)),
        (FIELDS, "name", 4, 0.5),
        (DIFFICULTY, "1", 1, -1.0),
        (DIFFICULTY, "2", 2, 0.5),
    ]


def test_a_part_is_compared_like_the_whole_with_every_option() -> None:
    columns = {"difficulty": [1, 1, 1, 2]}
    before = answers(*ROWS, **columns, cluster=["a", "a", "b", "c"])
    after = answers(*AFTER, **columns, cluster=["a", "a", "b", "c"])
    options = {"confidence": 0.9, "resamples": 70, "seed": 3, "method": Method.bootstrap}
    [part, _] = parts(pair_answers(before, after), **options)  # type: ignore[arg-type]
    assert part.difference == compare([1, 0, 1], [0, 1, 1], clusters=["a", "a", "b"], **options)  # type: ignore[arg-type]
    [part, _] = parts(pair_answers(before, after), by_item=False, **options)
    assert part.difference == compare([1, 0, 1], [0, 1, 1], **options)  # type: ignore[arg-type]


def test_rows_are_paired_and_only_those_that_both_scored_count() -> None:
    columns = {"difficulty": [1, 1, 2, 2]}
    before = answers(*ROWS, **columns)
    after = answers(*AFTER, **columns).iloc[[3, 1, 0]]
    after.loc[1, "score"] = np.nan
    assert named(parts(pair_answers(before, after), resamples=50)) == [
        (DIFFICULTY, "1", 1, 1.0),
        (DIFFICULTY, "2", 1, 1.0),
    ]


def test_categories_are_compared_each_on_its_own_rows() -> None:
    columns = {"category": ["science", "reading", "science", None]}
    before, after = answers(*ROWS, **columns), answers(*AFTER, **columns)
    assert named(parts(pair_answers(before, after), resamples=50)) == [
        (CATEGORY, "reading", 1, -1.0),
        (CATEGORY, "science", 2, 0.5),
    ]
    alike = [answers(*rows, category=["science"] * 4) for rows in (ROWS, AFTER)]
    assert parts(pair_answers(*alike)) == ()


@pytest.mark.parametrize("difficulty", [[None] * 4, [3, 3, 3, 3], [3, None, None, None]])
def test_where_there_is_one_level_or_none_there_are_no_levels(difficulty: list[int | None]) -> None:
    before, after = (answers(*rows, difficulty=difficulty) for rows in (ROWS, AFTER))
    assert parts(pair_answers(before, after)) == ()
    assert parts(pair_answers(before.drop(columns="difficulty"), after.drop(columns="difficulty"))) == ()


def test_a_field_that_one_side_lacks_is_left_out() -> None:
    before, after = answers(*ROWS, score_urgency=[1.0] * 4), answers(*AFTER)
    assert parts(pair_answers(before, after)) == ()
    assert parts(pair_answers(before.iloc[:0], after.iloc[:0])) == ()
