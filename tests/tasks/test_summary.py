"""Summaries: what the exact checks see and what they do not, and what a judge's checklist makes of verdicts."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task
from quantexp.tasks.graders.base import Answer
from quantexp.tasks.graders.judged import TIE, JudgeVerdict, Pair
from quantexp.tasks.graders.rubrics import SAYS_FACT, Rubric
from quantexp.tasks.summary import find_foreign_names, find_foreign_numbers

TASK = get_task("summary")
DOCUMENT = (
    "The baker Ana O'Neil of Port Ellow sold twelve hundred loaves on 24th May, at 8.30 in the morning. "
    "A third of the £1,250 went to the Rovers, half to St. Mary's."
)
FIELDS: dict[str, Any] = {
    "document": DOCUMENT,
    "summary": "Ana O'Neil sold loaves in Port Ellow on 24 May at 8.30 in the morning for £1,250.",
    "must": ["She sold loaves.", "It was in May."],
    "must_not": ["She sold cakes."],
    "mentions": [["O'Neil", "the baker"], ["1,250"]],
}


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        ('Ana sold bread. Bread was sold. "Nobody knew," she said: It was May.', []),
        ("The Rovers' share, and Rover Mary's, I think.", []),
        ("It was sold in Port Ellow by Anna O'Neill.", ["Anna", "O'Neill"]),
        ("**Summary**\n- Buns were sold\n- The Baker left Kelby.", ["Kelby"]),
    ],
)
def test_names_that_the_text_lacks(summary: str, names: list[str]) -> None:
    assert find_foreign_names(summary, DOCUMENT) == names


@pytest.mark.parametrize(
    ("summary", "numbers"),
    [
        ("On 24 May at 8:30, 12 people paid 1250.00 pounds; 100 came.", []),
        ("On 25 May 13 people paid £1,260.", ["25", "13", "1260"]),
    ],
)
def test_numbers_that_the_text_lacks(summary: str, numbers: list[str]) -> None:
    assert find_foreign_numbers(summary, DOCUMENT) == numbers


@pytest.mark.parametrize(
    ("summary", "fields", "score"),
    [
        (FIELDS["summary"], (1, 1, 1, 1), 1),
        ("Too short, says the baker.", (0, 1, 1, 0.5), 1 / 3),
        ("The baker sold " + "many " * 60 + "loaves for 1250 pounds.", (0, 1, 1, 1), 2 / 3),
        ("A woman in Kelby sold quite a lot of bread on 31 May this year.", (1, 0, 0, 0), 0),
    ],
)
def test_a_score_is_the_mean_of_three_times_what_is_mentioned(
    summary: str, fields: Sequence[float], score: float
) -> None:
    grade = TASK.grader().grade(summary, FIELDS)
    assert tuple(grade.fields.values()) == fields
    assert grade.score == pytest.approx(score)


def test_without_mentions_the_three_count_alone_and_what_is_cut_is_too_long() -> None:
    fields = {key: value for key, value in FIELDS.items() if key != "mentions"}
    grader = TASK.grader()
    assert grader.grade(FIELDS["summary"], fields).score == 1
    assert grader.grade_cut is not None
    assert grader.grade_cut(FIELDS["summary"], fields).score == pytest.approx(2 / 3)
    assert grader.grade(" \n...", FIELDS).error == "no words"


@given(st.text())
def test_total(output: str) -> None:
    mentions: list[list[str]]
    for mentions in ([], FIELDS["mentions"]):
        grade = TASK.grader().grade(output, {**FIELDS, "mentions": mentions})
        assert 0 <= grade.score <= 1
        assert len(grade.fields) == 3 + bool(mentions)


class _Judge:
    """A judge with one verdict a statement."""

    def __init__(self, *labels: bool | None) -> None:
        self._labels = labels
        self.asked: list[Pair] = []

    def calibrate(self, rubric: Rubric) -> None:
        assert rubric is SAYS_FACT

    def decide(self, _: Rubric, pairs: Sequence[Pair]) -> list[JudgeVerdict]:
        self.asked += pairs
        return [JudgeVerdict(label, TIE if label is None else None) for label in self._labels]


@pytest.mark.parametrize(
    ("labels", "score", "fields"),
    [
        ((True, True, False), 1, {"said": 1, "avoided": 1}),
        ((True, False, False), 0.5, {"said": 0.5, "avoided": 1}),
        ((True, True, True), 0, {"said": 1, "avoided": 0}),
    ],
)
def test_a_checklist_counts_what_is_said_and_what_is_avoided(
    labels: Sequence[bool], score: float, fields: dict[str, float]
) -> None:
    judge = _Judge(*labels)
    with TASK.grader("summary-judge").open({"judge": judge}) as grade:
        found = grade(Answer("She sold\nloaves."), FIELDS)
    assert (found.score, found.fields) == (score, fields)
    assert judge.asked == [("She sold loaves.", each) for each in (*FIELDS["must"], *FIELDS["must_not"])]


def test_a_statement_without_a_verdict_leaves_the_summary_without_a_score() -> None:
    with TASK.grader("summary-judge").open({"judge": _Judge(True, None, False)}) as grade:
        found = grade(Answer("She sold loaves."), FIELDS)
    assert found.is_undecided
    assert found.error == "undecided: the judge's votes are a tie on 1 of 3 statements"


@pytest.mark.parametrize(
    ("field", "value"), [("document", " "), ("summary", None), ("mentions", ["x"]), ("mentions", [[]])]
)
def test_refuses_items_with_an_unusable_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        TASK.validate({**FIELDS, field: value})


@pytest.mark.parametrize(("field", "value"), [("must", []), ("must", None), ("must_not", "no")])
def test_a_judge_needs_statements(field: str, value: Any) -> None:
    check = TASK.grader("summary-judge").check
    assert check is not None
    with pytest.raises(ValueError, match=f"'{field}' must be a list of statements"):
        check({**FIELDS, field: value})
