"""The checks of dialogues, and items that cannot be checked."""

from typing import Any

import pytest

from quantexp.tasks import get_task
from quantexp.tasks.chat import CHECKS

TASK = get_task("chat")
ITEM: dict[str, Any] = {"turns": ["Hello", "And?"], "replies": ["Hi"], "answer": "Blue", "checks": [{"has": "blue"}]}


@pytest.mark.parametrize(
    ("check", "passes", "fails"),
    [
        ({"has": "blue"}, ["It is “Blue”.", "blue-green"], ["bluebell", "red"]),
        ({"has": ["four", "4"]}, ["4!", "four of them"], ["14", "fourteen"]),
        ({"has": "7:30"}, ["At 7.30 sharp"], ["at 17:30"]),
        ({"lacks": ["red", "pink"]}, ["blue"], ["Red.", "blue or pink"]),
        ({"order": ["Ghent", "Dresden"]}, ["1. Ghent\n2. Dresden", "ghent dresden"], ["Dresden, Ghent", "Ghent"]),
        ({"starts": "Dear friend"}, ["Dear friend, hello", "**Dear** friend"], ["My dear friend", "Dear friendly one"]),
        ({"ends": "over"}, ["Done. Over.", "over"], ["over and out", "moreover"]),
        ({"closes": "?"}, ["Is it? "], ["Is it? Yes."]),
        ({"without": "z"}, ["horse"], ["ZEBRA"]),
        ({"case": "lower"}, ["it is paris, 1."], ["Paris", "1"]),
        ({"case": "upper"}, ["A DOG!"], ["A Dog"]),
        ({"most_words": 2}, ["a - dog"], ["a big dog"]),
        ({"least_words": 2}, ["a dog"], ["dog ..."]),
        ({"lines": 2}, ["a\n\n b\n"], ["a", "a\nb\nc"]),
    ],
)
def test_checks(check: dict[str, Any], passes: list[str], fails: list[str]) -> None:
    fields = ITEM | {"checks": [check]}
    TASK.validate(fields)
    assert [TASK.grader().grade(answer, fields).score for answer in passes] == [1] * len(passes)
    assert [TASK.grader().grade(answer, fields).score for answer in fails] == [0] * len(fails)


def test_an_answer_is_right_if_it_passes_all_checks() -> None:
    fields = ITEM | {"checks": [{"has": "blue"}, {"most_words": 2}]}
    grades = [TASK.grader().grade(answer, fields) for answer in ("Blue.", "It is blue.", "It is a red one.", "...")]
    assert [grade.score for grade in grades] == [1, 0, 0, 0]
    assert [grade.fields["checks"] for grade in grades] == [1, 0.5, 0, 0]
    assert grades[-1].error == "empty output"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"turns": "Hello"}, "the field 'turns' must be a list of texts"),
        ({"replies": []}, "one less than the 2 of 'turns', not 0"),
        ({"checks": []}, "the field 'checks' must be a list of checks"),
        ({"checks": [{"is": "blue"}]}, f"a check is one of {', '.join(CHECKS)} with its argument"),
        ({"checks": [{"lines": "2"}]}, "the check 'lines' needs a whole number above 0, not '2'"),
        ({"checks": [{"case": "title"}]}, "the check 'case' needs upper or lower"),
        ({"checks": [{"order": "a"}]}, "the check 'order' needs a list of texts"),
        ({"checks": [{"has": []}]}, "the check 'has' needs a text or a list of texts"),
        ({"checks": [{"ends": ["a"]}]}, "the check 'ends' needs a text that is not blank"),
    ],
)
def test_an_item_that_cannot_be_checked_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        TASK.validate(ITEM | change)
    assert sentence in str(refused.value)
