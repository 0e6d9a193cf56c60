"""A user's own questions: under their own name, and beside other data in one sweep."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.composing import compose_job, initialize_hydra

from quantexp.config import DataConfig
from quantexp.config.fingerprint import config_fingerprint
from quantexp.config.own_data import check_own_data
from quantexp.notebook import load as load_sweep
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError

QUIZ = "prompt;answer;also_right\nCapital of Peru?;Lima;\nNine times two?;18;eighteen\nWho?;Me;I\n"


@pytest.fixture
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("data=files", "data.path=some/capitals.csv"), "capitals"),
        (("data=files", "data.path='My quiz (v1.2).jsonl.gz'"), "My-quiz-v1.2"),
        (("data=files", "data.path=quiz.final.CSV"), "quiz.final"),
        (("data=files", "data.path=capitals.csv", "task.name=rivers"), "rivers"),
        (("data=files", "data.path=data-${quant.name}.tsv"), "data-Q8_0"),
        (("data=hub", "data.repository=owner/trivia.v2"), "trivia.v2"),
        (("data=hub", "data.own.qa=capitals.csv"), "capitals"),
        (("data=hub", "data.own.rivers=capitals.csv", "task.name=rivers"), "rivers"),
        ((), "qa"),
    ],
)
def test_own_questions_are_called_after_their_file_or_as_they_are_named(overrides: tuple[str, ...], name: str) -> None:
    job = compose_job("task=qa", *overrides)
    assert job.task.name == name
    assert get_task(job.task.name, job.task.module).name == name


@pytest.mark.usefixtures("_conf")
def test_one_task_has_data_of_its_own_and_the_others_what_they_had() -> None:
    own = "data.own={qa: {path: quiz.csv, columns: {question: prompt}, limit: 5}, triviaqa: mine.jsonl}"
    before, after = (compose_job("data=hub", "task=gsm8k", *more) for more in ((), (own,)))
    assert after.data == DataConfig(**{**vars(before.data), "own": after.data.own})
    assert config_fingerprint(after) == config_fingerprint(before)
    quiz = compose_job("data=hub", "task=qa", own)
    alone = compose_job(
        "data=files", "task=qa", "data.path=quiz.csv", "data.columns={question: prompt}", "data.limit=5"
    )
    assert (quiz.data.source, quiz.data.name, quiz.data.path, quiz.task.limit) == ("files", "files", "quiz.csv", 5)
    assert config_fingerprint(quiz) == config_fingerprint(alone)
    trivia = compose_job("data=hub", "task=triviaqa", own)
    assert (trivia.data.source, trivia.data.path, trivia.data.columns) == ("files", "mine.jsonl", {})
    assert trivia.task.limit is None  # the Hub's 200 is not its
    bundled = compose_job("data=hub", "task=triviaqa", "data.own.triviaqa={source: bundled, limit: 7}")
    assert (bundled.data.source, bundled.data.name, bundled.task.limit) == ("bundled", "bundled", 7)
    check_own_data([after, quiz, trivia])
    with pytest.raises(UserError) as refused:
        check_own_data([after])
    assert str(refused.value) == "data.own.qa: no job has that task; choose one of gsm8k, or add it to task=."


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("data.own.qa=5",),
            "data.own.qa=5: give a file, as in data.own.qa=FILE, or keys of data, as in 'data.own.qa={",
        ),
        (
            ("data.own.qa=[a.csv]",),
            "data.own.qa=['a.csv']: give a file, as in data.own.qa=FILE, or keys of data, as in",
        ),
        (
            ("data.own.qa={file: a.csv}",),
            "data.own.qa.file: there is no such key; choose one of name, source, repository,",
        ),
        (("data.own.qa={limit: many}",), "data.limit=many: a whole number is needed."),
        (
            ("data=files", "data.path=my-${task.name}.csv"),
            "data.path asks for the task's name, which a task without one takes from data.path: add task.name=NAME.",
        ),
    ],
)
def test_own_data_that_are_none_get_one_sentence(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many types: the sentence is what is tested
        compose_job("task=qa", *overrides)
    assert (explain_error(caught.value) or "").startswith(sentence)


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((), "No items of qa ship with quantexp; bring yours: data=files data.path=FILE."),
        (("data=hub",), "data=hub needs data.repository; add data.repository=VALUE to the command."),
    ],
)
def test_own_questions_must_be_brought(overrides: tuple[str, ...], sentence: str) -> None:
    job = compose_job("task=qa", *overrides)
    with pytest.raises(UserError) as refused:
        load(job.data, get_task(job.task.name, job.task.module))
    assert str(refused.value) == sentence


def test_own_questions_beside_other_data_in_one_sweep(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, small_model: tuple[str, ...]
) -> None:
    (tmp_path / "quiz.csv").write_text(QUIZ)
    small = ("task.limit=2", "task.shots=0", "task.max_tokens=8", "engine.threads=1", "stats.resamples=100")
    many = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,qa", *small_model, *small)
    own = "data.own.qa={path: quiz.csv, columns: {question: prompt, answer: [answer, also_right]}}"
    status, out, err = command(tmp_path, "quantexp", *many, own)
    assert status == 0, err
    assert re.search(r"4 jobs: Q8_0, Q3_K_M on triviaqa, quiz \(bundled data, quiz\.csv \(\d+ rows\)\)", err)
    assert err.count("quiz.csv: its cells are separated by semicolons") == 1
    assert "quiz" in out
    found = load_sweep(folder=tmp_path / "mlruns")
    assert sorted(found.comparisons["task"]) == ["quiz", "triviaqa"]
    quiz = found.items[found.items["task"] == "quiz"]
    assert {"Lima", "18", "Me"} >= set(quiz["reference"])
    assert set(quiz["rule"].dropna()) <= {"first line", "first line as a number"}

    status, _, err = command(tmp_path, "quantexp.regrade", "grader=qa-contains", "stats.resamples=100")
    assert status == 0, err
    assert "Q8_0 quiz seed 0: qa-v2 " in err
    assert "qa-contains-v2 " in err
    status, _, err = command(tmp_path, "quantexp.regrade", "grader=qa-number", "stats.resamples=100")
    assert status == 1
    assert "is not graded again: The grader qa-number cannot grade item 1: the field 'answer' has no number" in err

    status, _, err = command(tmp_path, "quantexp", *many, own.replace("data.own.qa", "data.own.quiz"))
    assert (status, err.splitlines()[-1]) == (
        2, "quantexp: data.own.quiz: no job has that task; choose one of triviaqa, qa, or add it to task=.",
    )  # fmt: skip
