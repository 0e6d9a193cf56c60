"""What changed between two quants: hand-made tables, and properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.summaries import RIGHT, WRONG, Read, answers

from quantexp.comparison.flips import CHANGES, COLUMNS, Flips, anchor, flip_rows, flips, list_clusters, pair_answers
from quantexp.report.html import changed_sections
from quantexp.stats import Method, compare

NOTHING = Flips(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "change", "churned"),
    [
        (RIGHT, WRONG, "lost", True),
        (WRONG, RIGHT, "gained", True),
        ((2 / 3, "{}", None), (1 / 3, "{}", None), "lost", False),
        ((0.0, "7", None), (0.0, "8", None), "another wrong answer", True),
        ((2 / 3, "a", None), (2 / 3, "b", None), "another wrong answer", True),
        ((0.0, "7", None), (0.0, None, "no number"), "another wrong answer", True),
        ((0.0, None, "no number"), (0.0, None, "[invalid]"), "another wrong answer", False),
        ((1.0, "Paris", None), (1.0, "paris city", None), "same score, other answer", True),
        ((0.1 + 0.2, "a", None), (0.3, "a", None), None, False),
        ((1.0 - 1e-15, "a", None), (1.0 - 1e-16, "b", None), "same score, other answer", True),
        (RIGHT, RIGHT, None, False),
        (WRONG, WRONG, None, False),
        ((0.0, None, "no number"), (0.0, float("nan"), "no number"), None, False),
    ],
)
def test_each_change(before: Read, after: Read, change: str | None, churned: bool) -> None:
    baseline, quant = answers(RIGHT, before), answers(RIGHT, after)
    counted = flips(baseline, quant)
    found = [counted.lost, counted.gained, counted.both_wrong_different, counted.both_right_different]
    assert found == [int(change == each) for each in CHANGES]
    assert (counted.answers, counted.churn) == (2, int(churned))
    rows = flip_rows(baseline, quant, task="gsm8k", name="Q4")
    assert list(rows.columns) == list(COLUMNS)
    assert rows["change"].tolist() == ([change] if change else [])


def test_a_row_says_what_both_sides_did() -> None:
    asked: dict[str, list[str]] = {"prompt": ["P"], "question": ["Q"], "reference": ["R"]}
    baseline = answers(RIGHT, output=["so 18"], seed=[7], sample=[2], **asked)
    quant = answers((0.0, None, "no number"), output=["hm"], seed=[7], sample=[2], **asked)
    (row,) = flip_rows(baseline, quant, task="gsm8k", name="Q4").to_dict("records")
    assert pd.isna(row.pop("quant_extracted"))
    assert row == {
        "task": "gsm8k",
        "quant": "Q4",
        "seed": 7,
        "item_id": "i0",
        "sample": 2,
        "change": "lost",
        "baseline_score": 1.0,
        "quant_score": 0.0,
        "baseline_extracted": "18",
        "reference": "R",
        "question": "Q",
        "prompt": "P",
        "baseline_output": "so 18",
        "quant_output": "hm",
    }


def test_rows_are_sorted_by_change_and_keep_the_baselines_order_within_one() -> None:
    kinds = [(WRONG, RIGHT), (RIGHT, WRONG), ((0.0, "1", None), (0.0, "2", None)), (RIGHT, (1.0, "x", None))]
    pairs = [kinds[number] for number in (3, 0, 2, 1, 0, 1, 2, 3)]
    names = ["h", "g", "f", "e", "d", "c", "b", "a"]
    baseline = answers(*(before for before, _ in pairs), item_id=names)
    quant = answers(*(after for _, after in pairs), item_id=names).iloc[::-1]
    assert flip_rows(baseline, quant, task="t", name="q")["item_id"].tolist() == list("ecgdfbha")


def test_only_answers_that_both_sides_scored_are_compared() -> None:
    baseline = answers(RIGHT, RIGHT, RIGHT, (None, None, "not asked"), item_id=["a", "b", "c", "d"])
    quant = answers(WRONG, (None, None, "not asked"), WRONG, WRONG, item_id=["a", "b", "other", "d"])
    assert flips(baseline, quant) == Flips(1, 1, 0, 0, 0, 1)
    for column, values in (("seed", [1, 1, 1, 1]), ("sample", [1, 1, 1, 1])):
        assert flips(baseline, quant.assign(**{column: values})) == NOTHING


def test_of_several_rows_for_one_answer_the_last_counts() -> None:
    baseline = answers(WRONG, RIGHT, item_id=["a", "a"])
    quant = answers(RIGHT, WRONG, WRONG, item_id=["a", "a", "a"])
    assert flips(baseline, quant) == Flips(1, 1, 0, 0, 0, 1)
    unasked = answers(RIGHT, (None, None, "not asked"), item_id=["a", "a"])
    assert flips(unasked, quant) == NOTHING


@pytest.mark.parametrize("empty", [pd.DataFrame(), answers(), answers().astype(object), answers(RIGHT).iloc[:0]])
def test_empty_tables_count_nothing(empty: pd.DataFrame) -> None:
    full, unasked = answers(RIGHT, WRONG), answers((None, None, "not asked"))
    pairs = [(empty, empty), (empty, full), (full, empty), (full, unasked), (empty, unasked)]
    for baseline, quant in [*pairs, (unasked, unasked.assign(seed="0"))]:
        assert flips(baseline, quant) == NOTHING
        rows = flip_rows(baseline, quant, task="t", name="q")
        assert rows.empty
        assert list(rows.columns) == list(COLUMNS)
        assert changed_sections(rows) == []


def test_gaps_everywhere_crash_nothing() -> None:
    gaps = [None, None]
    names = ("seed", "sample", "cluster", "prompt", "output", "reference", "extracted", "grading_error")
    columns = {name: gaps for name in names}
    baseline, quant = answers(RIGHT, WRONG, **columns), answers(WRONG, RIGHT, **columns)
    assert (flips(baseline, quant).lost, flips(baseline, quant).gained) == (1, 1)
    assert len(changed_sections(flip_rows(baseline, quant, task="t", name="q"))[0].answers) == 2


def test_a_table_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the quant's table has no column grading_error"):
        flips(answers(RIGHT), answers(RIGHT).drop(columns="grading_error"))


def test_items_of_one_cluster_are_one_and_without_a_cluster_each_is_its_own() -> None:
    baseline, quant = answers(*[RIGHT] * 4), answers(*[WRONG] * 4)
    mixed = ["i1", "", "i1", ""]  # a cluster's id is not an item's
    for clusters, count in (("same", 1), ("", 4), (None, 4), (mixed, 3)):
        pairs = pair_answers(baseline.assign(cluster=clusters), quant.assign(cluster=clusters))
        assert len(set(list_clusters(pairs))) == count


reads = st.sampled_from(
    [RIGHT, WRONG, (0.0, "7", None), (1.0, "18.0", None), (0.0, None, "no number"), (0.0, None, "[invalid]")]
    + [(third / 3, f"{third}{letter}", None) for third in (1, 2) for letter in "ab"]
    + [(None, None, "not asked")]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables of one task: some answers on one side only, some twice, some unscored, some items alike."""
    keys = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 1)), max_size=20))
    sides = []
    for _ in range(2):
        mine = [key for key in keys if draw(st.booleans()) or draw(st.booleans())]
        columns = {
            "seed": [seed for seed, _, _ in mine],
            "item_id": [f"i{item}" for _, item, _ in mine],
            "cluster": [f"c{item // 2}" for _, item, _ in mine],
            "sample": [sample for _, _, sample in mine],
        }
        sides.append(answers(*(draw(reads) for _ in mine), **columns))
    return sides[0], sides[1]


def scored(table: pd.DataFrame) -> set[tuple[int, str, int]]:
    """The answers that have a score, by their last row."""
    rows = zip(table["seed"], table["item_id"], table["sample"], table["score"], strict=True)
    return {key for key, score in {row[:3]: row[3] for row in rows}.items() if not pd.isna(score)}


@given(tables())
def test_counts_add_up(sides: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    counted, rows = flips(*sides), flip_rows(*sides, task="t", name="q")
    kinds = [counted.lost, counted.gained, counted.both_wrong_different, counted.both_right_different]
    assert [int((rows["change"] == change).sum()) for change in CHANGES] == kinds
    assert len(rows) == sum(kinds) <= counted.answers
    assert not rows.duplicated(["seed", "item_id", "sample"]).any()
    first, second = (scored(side) for side in sides)
    assert counted.answers == len(first & second)
    misread = sum(pd.isna(row["baseline_extracted"]) and pd.isna(row["quant_extracted"]) for _, row in rows.iterrows())
    assert counted.churn == len(rows) - misread  # here no score changes without another answer
    for before, after, change in zip(rows["baseline_score"], rows["quant_score"], rows["change"], strict=True):
        assert (before > after, before < after) == (change == "lost", change == "gained")


@given(tables())
def test_swapping_the_sides_exchanges_lost_and_gained(sides: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    baseline, quant = sides
    there, back = flips(baseline, quant), flips(quant, baseline)
    assert back == Flips(
        answers=there.answers,
        lost=there.gained,
        gained=there.lost,
        both_wrong_different=there.both_wrong_different,
        both_right_different=there.both_right_different,
        churn=there.churn,
    )


binary = st.sampled_from([0.0, 1.0])
graded = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1 / 3, 0.4, 0.5, 2 / 3, 0.7, 1.0])


def scores(each: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, float]]]:
    """Both scores of each answer."""
    return st.lists(st.tuples(each, each), min_size=1, max_size=30)


@given(st.one_of(scores(binary), scores(graded)), st.sampled_from(Method))
def test_lost_and_gained_agree_with_the_statistics(drawn: list[tuple[float, float]], method: Method) -> None:
    before, after = (np.array(side) for side in zip(*drawn, strict=True))
    baseline = answers(*((score, "x", None) for score in before))
    quant = answers(*((score, "x", None) for score in after)).iloc[::-1]
    counted = flips(baseline, quant)
    expected = compare(before, after, resamples=10, method=method)
    assert (counted.lost, counted.gained, counted.answers) == (expected.lost, expected.gained, expected.answers)


def test_every_task_and_quant_has_its_own_anchor() -> None:
    pairs = [("b", "Q4"), ("a", "Q4"), ("a", "Q3"), ("a b", "Q"), ("a-b", "Q"), ("a", "b-Q"), ("A", "Q3")]
    assert len({anchor(*pair) for pair in pairs}) == len(pairs)


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_anchor_is_plain_and_the_same_each_time(task: str, quant: str) -> None:
    assert anchor(task, quant) == anchor(task, quant)
    assert set(anchor(task, quant)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
