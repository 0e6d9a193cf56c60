"""Resources of graders: opened for those that need them, closed afterwards, and what they say is passed on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from quantexp.config.grading import EmbedderConfig, JudgeConfig
from quantexp.evaluation import resources
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.resources import ResourceSettings, check_resources, open_grader
from quantexp.evaluation.scoring import regrade_table
from quantexp.tasks.graders.base import Answer, Grade, Grader, JointGrading, Need
from quantexp.tasks.reasoning import NONE
from quantexp.util.errors import UserError

SETTINGS = ResourceSettings("a job")


@dataclass
class _Dictionary:
    facts: Mapping[str, str]
    asked: list[int] = field(default_factory=list)
    is_open: bool = True


class _Together(JointGrading):
    def __init__(self, asked: list[int]) -> None:
        self._asked = asked

    def grade_all(self, answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Iterator[Grade]:
        self._asked.append(len(answers))
        return (Grade.right_or_wrong(answer.text == fields["answer"], answer.text) for answer, fields in answers)


@dataclass(frozen=True, slots=True)
class _Lookup(Grader):
    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[_Together]:
        assert resources["judge"].is_open
        yield _Together(resources["judge"].asked)


def _grader(kind: type[Grader], needs: frozenset[Need]) -> Grader:
    return kind("lookup", 1, "looks it up", lambda *_: Grade(1.0, "pure"), needs=needs)


def test_a_grader_gets_what_it_needs_and_grades_a_table_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = _Dictionary({"grading.judge": "a dictionary"})

    @contextmanager
    def open_dictionary(settings: ResourceSettings) -> Iterator[_Dictionary]:
        assert settings is SETTINGS
        yield dictionary
        dictionary.is_open = False

    monkeypatch.setattr(resources, "OPENERS", {"judge": open_dictionary, "embedder": None})
    items = {name: {"answer": name} for name in "abc"}
    table = pd.DataFrame(
        {
            "item_id": [*"abc"],
            "output": ["a", "a", "c"],
            "score": [0.0, 0.0, 0.0],
            "finish_reason": ["stop", "stop", "context"],
            "completion_tokens": 3,
        }
    )
    with open_grader(_grader(_Lookup, frozenset({"judge"})), SETTINGS) as opened:
        graded = regrade_table(table, AnswerReader(NONE), opened.grade, items)

    assert opened.facts == {"grading.judge": "a dictionary"}
    assert graded["score"].tolist()[:2] == [1.0, 0.0]
    assert pd.isna(graded["score"][2])
    assert dictionary.asked == [2]
    assert not dictionary.is_open


def test_a_pure_grader_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "OPENERS", {"judge": None})

    with open_grader(_grader(Grader, frozenset()), SETTINGS) as opened:
        assert opened.grade(Answer("?"), {}).extracted == "pure"


def test_a_need_that_nobody_meets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "OPENERS", {})
    with (
        pytest.raises(UserError, match="needs what this version of quantexp cannot give it \\(embedder\\)"),
        open_grader(_grader(Grader, frozenset({"embedder"})), SETTINGS),
    ):
        pass


def test_a_missing_judge_is_told_before_anything_is_loaded() -> None:
    grader = _grader(Grader, frozenset({"judge"}))
    with pytest.raises(UserError, match="The grader lookup needs a judge: add judge=local "):
        check_resources(grader, JudgeConfig(), EmbedderConfig())
    check_resources(grader, JudgeConfig("server"), EmbedderConfig())
