"""Multiple choice: which choice is right, what scores say, and how they are read."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.choice import (
    TASK,
    ChoiceScore,
    check_outputs,
    find_answer,
    format_scores,
    list_choices,
    needs_unconditional,
    parse_scores,
)
from quantexp.util.errors import UserError

FIELDS = {"question": "What is it?", "choices": ["ox", "elephant", "big cat"], "answer": "elephant"}
SCORES = [
    ChoiceScore("ox", -2.0, 1, unconditional=-9.0),
    ChoiceScore("elephant", -4.0, 2, unconditional=-7.0),
    ChoiceScore("big cat", -5.25, 3, unconditional=-13.0),
]


def test_each_reading_ranks_the_same_scores_its_own_way() -> None:
    output = format_scores(SCORES)
    found = {name: grader.grade(output, FIELDS) for name, grader in TASK.graders.items()}
    assert {name: grade.extracted for name, grade in found.items()} == {
        "acc": "ox",  # -2, -4, -5.25
        "acc_norm": "elephant",  # -2 / 2, -4 / 8, -5.25 / 7 a byte
        "acc_token": "big cat",  # -2, -4 / 2, -5.25 / 3 a token
        "acc_unconditional": "big cat",  # gains of 7, 3 and 7.75
    }
    assert {name for name, grade in found.items() if grade.score == 1} == {"acc_norm"}
    plain = [math.exp(score.logprob) for score in SCORES]
    assert found["acc"].fields["probability"] == pytest.approx(plain[1] / sum(plain), abs=1e-6)
    assert found["acc"].fields["lead"] == pytest.approx(plain[1] / (plain[1] + plain[0]), abs=1e-6)
    # Per byte, then scaled to the mean length of 17 / 3 bytes.
    scaled = [math.exp(-2 / 2 * 17 / 3), math.exp(-4 / 8 * 17 / 3), math.exp(-5.25 / 7 * 17 / 3)]
    assert found["acc_norm"].fields["probability"] == pytest.approx(scaled[1] / sum(scaled), abs=1e-6)


def test_the_lead_is_above_a_half_if_the_item_is_right() -> None:
    for grader in TASK.graders.values():
        for answer in FIELDS["choices"]:
            grade = grader.grade(format_scores(SCORES), {**FIELDS, "answer": answer})
            assert (grade.fields["lead"] > 0.5) == (grade.score == 1)
            assert 0 <= grade.fields["probability"] <= grade.fields["lead"] <= 1


def test_bytes_are_those_of_utf_8() -> None:
    fields = {"question": "?", "choices": ["éé", "abcd"], "answer": "éé"}
    output = format_scores([ChoiceScore("éé", -3.0, 1), ChoiceScore("abcd", -3.0, 1)])
    grade = TASK.grader("acc_norm").grade(output, fields)
    assert grade.fields == {"probability": 0.5, "lead": 0.5}
    assert grade.extracted == "éé"  # the first of two that are equal


@given(
    st.lists(st.tuples(st.text(min_size=1), st.floats(-900, 0), st.integers(1, 99), st.none() | st.floats(-9, 0))),
)
def test_scores_come_back_as_they_were_written(rows: list[tuple[str, float, int, float | None]]) -> None:
    found = parse_scores(format_scores([ChoiceScore(*row) for row in rows]))
    assert found is not None
    for score, (choice, logprob, tokens, unconditional) in zip(found, rows, strict=True):
        assert (score.choice, score.tokens) == (choice, tokens)
        assert score.logprob == pytest.approx(logprob, abs=1e-6)
        assert (score.unconditional is None) == (unconditional is None)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Rome",
        "[]",
        "{}",
        "[1, 2, 3]",
        format_scores(SCORES[:2]),
        format_scores(SCORES[::-1]),
        format_scores(SCORES).replace("-4.0", "NaN"),
        format_scores(SCORES).replace("-4.0", "null"),
        format_scores(SCORES).replace('"tokens": 2', '"tokens": 0'),
        format_scores(SCORES).replace("-7.0", '"seven"'),
        format_scores(SCORES).replace("-7.0", "[]").replace("-9.0", "[]"),
    ],
)
def test_what_are_not_the_choices_scores_is_unreadable(output: str) -> None:
    grade = TASK.grader().grade(output, FIELDS)
    assert (grade.score, grade.extracted) == (0, None)
    assert grade.error
    assert set(grade.fields.values()) == {0}


@pytest.mark.parametrize(
    ("answer", "place"), [("elephant", 1), (" elephant ", 1), ("B", 1), ("b", 1), (1, 1), ("1", 1), (0, 0), ("C", 2)]
)
def test_the_right_choice_is_a_text_a_letter_or_a_place(answer: object, place: int) -> None:
    assert find_answer({**FIELDS, "answer": answer}) == place


def test_a_text_is_rather_a_choice_than_a_place() -> None:
    assert find_answer({"choices": [2, 1, 0], "answer": "0"}) == 2
    assert find_answer({"choices": [2, 1, 0], "answer": 0}) == 0
    assert find_answer({"choices": ["b", "a"], "answer": "b"}) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"answer": "D"},
            "'answer' must be the text of one of the 3 choices, its letter from A on, or its place from 0",
        ),
        ({"answer": 3}, "'answer' must be"),
        ({"answer": -1}, "'answer' must be"),
        ({"answer": True}, "'answer' must be"),
        ({"answer": None}, "'answer' must be"),
        ({"choices": ["one"]}, "'choices' must be a list of two texts or more"),
        ({"choices": "ox"}, "'choices' must be a list"),
        ({"choices": ["ox", " "]}, "none of them blank"),
        ({"choices": ["ox", ["x"]]}, "none of them blank"),
        ({"choices": ["ox", "ox "]}, "holds the same text twice"),
        ({"question": " "}, "'question' must be non-blank text"),
    ],
)
def test_an_item_that_cannot_be_asked_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TASK.validate({**FIELDS, **change})


def test_choices_are_texts_or_numbers() -> None:
    assert list_choices({"choices": [" a ", 2, 2.5]}) == ["a", "2", "2.5"]


def test_a_grader_that_needs_other_scores_refuses_a_run_without_them() -> None:
    grader = TASK.grader("acc_unconditional")
    assert [each for each in TASK.graders.values() if needs_unconditional(each)] == [grader]
    check_outputs(grader, [format_scores(SCORES)])
    without = format_scores([ChoiceScore("ox", -2.0, 1)])
    check_outputs(TASK.grader("acc"), [without])
    with pytest.raises(UserError, match=r"did not ask: run it again with task\.grader=acc_unconditional"):
        check_outputs(grader, [format_scores(SCORES), without])
    assert grader.grade(format_scores([ChoiceScore(c, -1, 1) for c in FIELDS["choices"]]), FIELDS).error
