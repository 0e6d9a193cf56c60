"""Outcomes of an answer besides its score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.evaluation.outcomes import (
    LONGEST_UNIT,
    SHORTEST_LOOP,
    TIMES,
    ends_in_loop,
    has_other_script,
    list_outcomes,
)
from quantexp.tasks.graders.base import UNFINISHED, Answer, Grade

RIGHT, UNREAD = Grade(1.0, "7"), Grade.unreadable("no number")


def loops(text: str) -> bool:
    """The definition, tried for every length and every unit."""
    end = text.rstrip()
    return any(
        len(end) >= length and end[-length:][unit:] == end[-length:][:-unit]
        for unit in range(1, LONGEST_UNIT + 1)
        for length in [max(SHORTEST_LOOP, TIMES * unit)]
    )


@given(
    st.text(alphabet="ab \n", max_size=60),
    st.text(alphabet="ab ", min_size=1, max_size=12),
    st.integers(0, 80),
    st.integers(0, 8),
)
def test_a_loop_is_found_where_the_definition_has_one(before: str, unit: str, times: int, cut: int) -> None:
    text = before + (unit * times)[cut:]
    assert ends_in_loop(text) == loops(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let me think again. " * 20, True),
        ("Let me think again. " * 20 + "The answer is 7.", False),
        ("x" * 119, False),
        ("x" * 120, True),
        ("A list:\n" + "".join(f"{number}. An item\n" for number in range(40)), False),
        ("So the total is 12 apples and 3 pears, which makes 15 fruits. " * 3 + "So", True),
        ("So the total is 12 apples and 3 pears, which makes 15 fruits. " * 2, False),
        ("y" * 300 + "z" * 10, False),
        ("", False),
    ],
)
def test_loops(text: str, expected: bool) -> None:
    assert ends_in_loop(text) is expected


@pytest.mark.parametrize(
    ("answer", "prompt", "expected"),
    [
        ("The answer is 7.", "How many?", False),
        ("答案是七。", "How many?", True),
        ("The answer is seven 答", "How many?", True),
        ("The answer is seven, and that is as sure as anything in all of this world 答", "How many?", False),
        ("π r² is the area", "What is the area?", False),
        ("Ответ 7", "Сколько, and why?", False),
        ("The answer is 7.", "2 + 5 = ?", False),
        ("7", "How many?", False),
    ],
)
def test_letters_of_another_script(answer: str, prompt: str, expected: bool) -> None:
    assert has_other_script(answer, prompt) is expected


@given(st.text(), st.text())
def test_an_answer_in_the_words_of_its_prompt_has_no_other_script(words: str, more: str) -> None:
    assert not has_other_script(words, words + more)


def outcomes(answer: Answer, grade: Grade = RIGHT, tokens: int = 10) -> set[str]:
    """The names of those that it has, and of the lengths."""
    return {name for name, value in list_outcomes(answer, grade, "How many?", tokens).items() if value}


def test_each_outcome_is_one_and_no_other() -> None:
    length = {"answer_tokens"}
    assert outcomes(Answer("It is 7.", reasoning_tokens=0)) == length
    assert outcomes(Answer("It is", is_cut=True, reasoning_tokens=0), UNREAD) == length | {"truncated"}
    assert outcomes(Answer("It is", is_cut=True, reasoning_tokens=0), Grade.unfinished()) == length | {"truncated"}
    assert Grade.unfinished().error == UNFINISHED
    assert outcomes(Answer(" \n", reasoning_tokens=0), UNREAD) == length | {"empty"}
    assert outcomes(Answer("It is.", reasoning_tokens=0), UNREAD) == length | {"unreadable"}
    ended = Answer("", "It is " * 30, is_cut=True, ended_in_reasoning=True, reasoning_tokens=10)
    assert outcomes(ended) == {"ended_in_reasoning", "loop", "reasoning_tokens"}
    found = list_outcomes(Answer("7", "as", reasoning_tokens=4), RIGHT, "How many?", 10)
    assert (found["reasoning_tokens"], found["answer_tokens"]) == (4, 6)
    unknown = list_outcomes(Answer("7", "as"), RIGHT, "How many?", 10)
    assert np.isnan(unknown["reasoning_tokens"])
    assert np.isnan(unknown["answer_tokens"])
    # An answer without reasoning beside others with some is one of length 0, not one that nobody counted.
    assert list_outcomes(Answer("7", reasoning_tokens=0), RIGHT, "How many?", 10)["reasoning_tokens"] == 0
