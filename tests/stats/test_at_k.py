"""pass@k and majority@k against what they are defined as."""

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantexp.stats import Method, at_k, estimate, majority_at_k, pass_at_k


@st.composite
def graded(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Answers to some items: what was read, 0 for nothing, and if it is right, as equal answers are alike."""
    items, n = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    read = np.array(draw(st.lists(st.integers(0, 3), min_size=items * n, max_size=items * n)), np.uint64)
    key = draw(st.integers(1, 3))
    return (read == key).astype(np.float64).reshape(items, n), read.reshape(items, n)


@given(graded(), st.data())
def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_answer(
    answers: tuple[NDArray[np.float64], NDArray[np.uint64]], data: st.DataObject
) -> None:
    right, _ = answers
    k = data.draw(st.integers(1, right.shape[1]))
    choices = [[max(chosen) for chosen in combinations(row, k)] for row in right.tolist()]
    found = pass_at_k(right, k)
    assert found == pytest.approx([np.mean(each) for each in choices])
    n, wrong = right.shape[1], right.shape[1] - right.sum(axis=1).astype(int)
    assert found == pytest.approx([1 - comb(each, k) / comb(n, k) for each in wrong])


@given(graded(), st.data())
def test_majority_at_k_scores_the_answer_that_most_agree_on(
    answers: tuple[NDArray[np.float64], NDArray[np.uint64]], data: st.DataObject
) -> None:
    right, read = answers
    k = data.draw(st.integers(1, right.shape[1]))
    expected = []
    for row, scores in zip(read.tolist(), right.tolist(), strict=True):
        votes = Counter(answer for answer in row[:k] if answer)  # of equals, the first that was met comes first
        expected.append(scores[row.index(votes.most_common(1)[0][0])] if votes else 0.0)
    assert majority_at_k(right, read, k).tolist() == expected


def test_many_answers_do_not_overflow() -> None:
    right = np.zeros((1, 5000))
    right[0, 0] = 1
    assert pass_at_k(right, 2500) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, 4])
def test_more_answers_than_there_are_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be between 1 and the 3 answers to an item, not {k}"):
        pass_at_k(np.zeros((2, 3)), k)


SCORES = np.array([1.0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
READ = [5, 6, 6, 0, 0, 0, 0, 0, 7, 7, 7, 7]
ITEMS = ["b"] * 4 + ["a"] * 4 + ["c"] * 4
SAMPLES = [0, 1, 2, 3] * 3


def test_each_k_is_a_mean_over_items_with_an_interval() -> None:
    found = at_k(SCORES, READ, ITEMS, SAMPLES)
    assert [each.k for each in found] == [1, 2, 4]
    once, twice, all_four = found
    assert once.passed.mean == pytest.approx(SCORES.mean())
    assert once.passed.n == 3
    assert twice.passed.mean == pytest.approx(np.mean([0.5, 5 / 6, 1.0]))
    assert all_four.passed == estimate([1.0, 1.0, 1.0])
    assert [each.majority.mean for each in found] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    # Whatever the order of the rows.
    order = np.random.default_rng(0).permutation(12)
    again = at_k(SCORES[order], np.array(READ)[order], np.array(ITEMS)[order], np.array(SAMPLES)[order])
    assert [each.passed.mean for each in again] == pytest.approx([each.passed.mean for each in found])
    assert [each.majority.mean for each in again] == pytest.approx([each.majority.mean for each in found])


def test_items_that_ask_the_same_count_once() -> None:
    clusters = ["x"] * 8 + ["y"] * 4
    found = at_k(SCORES, READ, ITEMS, SAMPLES, clusters=clusters)
    assert [each.passed.n for each in found] == [2, 2, 2]
    assert found[1].passed.mean == pytest.approx(np.mean([(0.5 + 5 / 6) / 2, 1.0]))
    in_order = at_k(SCORES, READ, ITEMS, SAMPLES, clusters=clusters, method=Method.sequential)
    assert in_order[1].passed.mean == pytest.approx(found[1].passed.mean)


def test_an_item_that_lacks_an_answer_is_left_out() -> None:
    scores = SCORES.copy()
    scores[5] = np.nan
    assert [each.passed.n for each in at_k(scores, READ, ITEMS, SAMPLES)] == [2, 2, 2]
    assert [each.passed.n for each in at_k(SCORES[:11], READ[:11], ITEMS[:11], SAMPLES[:11])] == [2, 2, 2]


def test_there_are_none_of_single_answers_and_of_graded_scores() -> None:
    assert at_k([1.0, 0.0], [1, 2], ["a", "b"], [0, 0]) == ()
    assert at_k([1.0, 0.5], [1, 2], ["a", "a"], [0, 1]) == ()
    assert at_k([], [], [], []) == ()
