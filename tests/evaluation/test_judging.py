"""The judge: what it is measured by, when it is refused, and that it is asked each question once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.judges import judge_of, measure_by_few, serve_judge

from quantexp.config.grading import JudgeConfig
from quantexp.evaluation.judge_engine import ModelUnderTest
from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.models import ModelFile
from quantexp.store import CompletionStore
from quantexp.tasks import get_task
from quantexp.tasks.graders.base import Answer, Grade, JointGrading
from quantexp.tasks.graders.rubrics import Rubric
from quantexp.util.errors import UserError

TESTED = ModelUnderTest("qwen3-8b", "abc", "qwen3", "http://127.0.0.1:1/v1", "qwen")
GRADER = get_task("extraction").grader("requested-action-judge")
GOLD = {"requested_action": "Refund the €20."}
FEW = 40
"""Of the bundled pairs, by which judges are measured here (`measure_by_few`)."""


def answer(action: str) -> Answer:
    return Answer(f'{{"requested_action": "{action}"}}')


def graded(
    config: JudgeConfig, folder: Path, *answers: Answer, tested: ModelUnderTest = TESTED
) -> tuple[list[Grade], Mapping[str, str]]:
    """The grades of answers to GOLD, and what is recorded of the judge."""
    with (
        CompletionStore(folder / "completions") as known,
        open_grader(GRADER, ResourceSettings("a job", judge=config, known=known, tested=tested)) as opened,
    ):
        assert isinstance(opened.grade, JointGrading)
        return list(opened.grade.grade_all([(each, GOLD) for each in answers])), opened.facts


def test_a_judge_is_measured_then_asked_in_both_orders_and_each_question_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_few(monkeypatch)
    gold = GOLD["requested_action"]
    known = {(gold, "Give the 20 euros back."): True}
    with serve_judge(noise=0.1, position=0.05, known=known) as server:
        answers = [
            answer("Give the 20 euros back."),
            answer("Charge €20."),
            answer("refund the €20"),
            Answer("Refund it."),
        ]
        grades, facts = graded(judge_of(server.address), tmp_path, *answers)
        assert [(grade.score, grade.error) for grade in grades] == [
            (1, None),
            (0, None),
            (1, None),
            (0, "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ]
        # Two small questions first; each pair in both orders, and each of the calibration a second time.
        assert len(server.asked) == 2 + 2 * 2 * FEW + 2 * 2
        again, same = graded(judge_of(server.address), tmp_path, *answers)
        assert (again, same) == (grades, facts)
        assert len(server.asked) == 4 + 2 * 2 * FEW + 2 * 2
    assert facts["grading.judge"] == (f"a-judge (a-judge of {server.address}), 1 votes in each order, temperature 0")
    measured = facts["grading.judge.same-request-v1"]
    assert measured == (
        f"same-request-v1: agrees with 85% of {FEW} labels, kappa 0.72 [0.53, 0.91]; noise floor: 7.5% of its "
        "verdicts change with the order of the texts, 0.0% if asked again; 7.5% ties, 0.0% of its replies unreadable"
    )


@pytest.mark.parametrize(
    ("say", "problem"),
    [
        (lambda rubric, label: f"They are {rubric.yes if label else rubric.no}.", "100% of its replies cannot be read"),
        (lambda rubric, label: rubric.yes, "kappa is 0.00 .*, 0% of its replies cannot be read"),
    ],
)
def test_a_judge_that_agrees_too_little_is_refused(
    tmp_path: Path, say: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_few(monkeypatch)
    with serve_judge(say=say) as server, pytest.raises(UserError, match=f"too little with the 40 .*{problem}"):
        graded(judge_of(server.address), tmp_path, answer("Charge €20."))


@pytest.mark.parametrize(
    ("name", "tested", "problem"),
    [
        ("Qwen3-8B", TESTED, "qwen3-8b by its name"),
        ("other", ModelUnderTest("mine", "abc", url="{url}", served="a-judge"), "a-judge of http"),
    ],
)
def test_the_model_under_test_is_no_judge(tmp_path: Path, name: str, tested: ModelUnderTest, problem: str) -> None:
    with serve_judge() as server:
        tested = ModelUnderTest(tested.name, tested.sha256, "", tested.url.format(url=server.address), tested.served)
        with pytest.raises(UserError, match=f"is the model under test .{problem}"):
            graded(judge_of(server.address, name), tmp_path, tested=tested)


def test_votes_are_drawn_and_the_majority_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_by_few(monkeypatch)
    gold = GOLD["requested_action"]
    drawn = iter(range(1000))

    def say(rubric: Rubric, label: bool) -> str:
        return rubric.no if next(drawn) % 10 == 0 else rubric.yes if label else rubric.no

    with serve_judge(known={(gold, "Give it back."): True}, say=say) as server:
        config = judge_of(server.address, votes=3, temperature=0.7)
        [grade], facts = graded(config, tmp_path, answer("Give it back."))
        votes = [asked for asked in server.asked if "Give it back." in str(asked)]
    assert (grade.score, len(votes), len({asked["seed"] for asked in votes})) == (1, 6, 6)
    assert "3 votes in each order, temperature 0.7, seed 0" in facts["grading.judge"]
    measured = facts["grading.judge.same-request-v1"]
    assert "agrees with 100% of 40 labels" in measured


def test_an_answer_on_which_votes_are_a_tie_has_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_by_few(monkeypatch)
    with serve_judge(position=1, known={(GOLD["requested_action"], "Give it back."): True}) as server:
        [grade], _ = graded(judge_of(server.address, agreement=-1), tmp_path, answer("Give it back."))
    assert (grade.is_undecided, grade.error) == (True, "undecided: the judge's votes are a tie")


@pytest.mark.slow  # pairs through the embedded model, in both orders
def test_the_embedded_model_agrees_too_little_to_judge_another(
    q8_0: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_few(monkeypatch)
    model = {"source": "path", "path": q8_0.path, "name": "smollm2-135m-instruct"}
    config = JudgeConfig("local", model, {"name": "llama_cpp", "context": 1024, "threads": 1})
    with pytest.raises(UserError, match=r"too little with the 40 bundled pairs .*kappa is -?0\.\d\d \["):
        graded(config, tmp_path, answer("Charge €20."), tested=ModelUnderTest("random-weights", "0", "llama"))
    same = ModelUnderTest("another-name", q8_0.sha256)
    with pytest.raises(UserError, match=r"is the model under test .the file with sha256"):
        graded(config, tmp_path, answer("Charge €20."), tested=same)
