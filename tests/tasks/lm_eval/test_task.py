"""Tasks of lm-evaluation-harness: which metric is the score, what is refused, and what makes a task another one."""

import math
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.harness_tasks import MEAN, write_choices, write_group, write_instructions, write_sums, write_task

from quantexp.config import TaskConfig
from quantexp.tasks import get_task, open_task
from quantexp.tasks.choice import ChoiceScore, format_scores
from quantexp.tasks.items import Dataset
from quantexp.tasks.lm_eval.task import make_task
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.util.errors import UserError

pytest.importorskip("lm_eval")


def config(folder: Path, name: str, **further: Any) -> TaskConfig:
    given: dict[str, Any] = {"grader": "first", "max_tokens": 256, "shots": None, "include_path": str(folder)}
    return TaskConfig(name, module="quantexp.tasks.lm_eval", **(given | further))


def opened(folder: Path, name: str, **further: Any) -> OwnWordsTask:
    task = open_task(config(folder, name, **further))
    assert isinstance(task, OwnWordsTask)
    return task


def data_of(task: OwnWordsTask) -> Dataset:
    return task.load()


def test_documents_are_items(tmp_path: Path) -> None:
    write_choices(tmp_path, "capitals")
    task = opened(tmp_path, "capitals")
    data = data_of(task)
    assert [item.id for item in data.items] == [str(place) for place in range(8)]
    assert data.items[1].fields["question"] == "The capital of Italy is"
    assert task.target(data.items[1].fields) == "Rome"
    assert len({item.cluster for item in data.items}) == 8
    assert "category" not in data.items[0].fields
    assert data.facts.keys() == {"lm-eval", "definition"}


def test_requests_are_those_of_the_harness(tmp_path: Path) -> None:
    write_sums(tmp_path)
    task = opened(tmp_path, "sums")
    items = data_of(task).items
    assert task.settings == {"shots": 2, "max_tokens": 12, "stop": ["\n"]}
    some, all_of_them = task.ask(items[3:5], "", len), task.ask(items, "", len)
    # Examples are drawn for one document after the other: what is drawn of them does not move any.
    assert some == {item.id: all_of_them[item.id] for item in items[3:5]}
    [context] = some[items[3].id].contexts
    assert context.text.count("Question: ") == 3
    assert context.text.endswith("\n\nQuestion: 4 + 5\nAnswer:")
    assert opened(tmp_path, "sums", shots_seed=7).ask(items, "", len) != all_of_them


def test_a_chat_has_the_examples_as_turns(tmp_path: Path) -> None:
    write_sums(tmp_path, gen_prefix="The sum is", description="Add.")
    task = opened(tmp_path, "sums", chat=True, shots=1)
    [item, *_] = data_of(task).items
    [context] = task.ask([item], "Be brief.", len)[item.id].contexts
    assert [message["role"] for message in context.messages] == ["system", "user", "assistant", "user"]
    assert context.messages[0]["content"] == "Be brief.\n\nAdd."
    assert context.messages[-1]["content"] == "Question: 1 + 2\nAnswer:"
    assert context.text == "The sum is"


def test_the_first_metric_is_the_score_and_the_others_are_fields(tmp_path: Path) -> None:
    write_choices(tmp_path, "capitals")
    task = opened(tmp_path, "capitals")
    fields = data_of(task).items[0].fields  # Paris, Rome, Madrid, Tokyo
    scores = [
        ChoiceScore(choice, -logprob, 1, likeliest=False)
        for choice, logprob in zip("abcd", (5, 9, 5.5, 9), strict=True)
    ]
    grade = task.grader("first").grade(format_scores(scores), fields)
    assert (grade.score, grade.fields, grade.extracted) == (1.0, {"acc_norm": 0.0}, "choice 1")
    assert task.grader().name == "acc"
    other = opened(tmp_path, "capitals", metric="acc_norm").grader("first")
    assert (other.id, other.grade(format_scores(scores), fields).score) == ("acc_norm-v1", 0.0)
    assert other.grade("", fields).error == "not the scores of continuations"
    unknown = format_scores([replace(score, likeliest=None) for score in scores])
    assert other.grade(unknown, fields).score == 0


def test_filters_make_metrics_of_their_own(tmp_path: Path) -> None:
    write_sums(tmp_path)
    task = opened(tmp_path, "sums")
    fields = data_of(task).items[0].fields
    assert {"exact_match.strict", "exact_match.flexible"} == task.graders.keys() - {"first"}
    strict, flexible = (task.grader(f"exact_match.{name}") for name in ("strict", "flexible"))
    assert strict.grade(" 3", fields).score == 1
    assert strict.grade("It is 3.", fields).fields == {"exact_match.flexible": 1.0}
    assert strict.grade("It is 3.", fields).error == "nothing that the filter strict looks for"
    assert flexible.grade("It is 3.", fields).extracted == "3"
    assert flexible.grade("It is 4.", fields).score == 0


def test_a_document_has_the_share_of_its_own_values(tmp_path: Path) -> None:
    write_instructions(tmp_path)
    task = opened(tmp_path, "instructed")
    pets, colours = (item.fields for item in data_of(task).items)
    assert task.grader().name == "prompt_level_strict_acc"
    grade = task.grader().grade("red and Blue", colours)
    others = {"inst_level_strict_acc_by_document": 1 / 3, "inst_level_loose_acc_by_document": 2 / 3}
    assert grade.score == 0
    assert grade.fields == pytest.approx({**others, "prompt_level_loose_acc": 0})
    assert task.grader().grade("a cat", pets).fields == dict.fromkeys(grade.fields, 1)
    by_document = opened(tmp_path, "instructed", metric="inst_level_strict_acc_by_document").grader("first")
    assert by_document.grade("red and Blue", colours).score == pytest.approx(1 / 3)
    with pytest.raises(
        UserError, match=r"inst_level_strict_acc is made of a whole corpus.*inst_level_strict_acc_by_doc"
    ):
        opened(tmp_path, "instructed", metric="inst_level_strict_acc")


def test_a_group_is_one_task_with_categories(tmp_path: Path) -> None:
    write_group(tmp_path)
    items = data_of(opened(tmp_path, "world")).items
    assert [item.fields["category"] for item in items] == ["world_west"] * 5 + ["world_east"] * 4
    assert items[-1].id == "world_east-3"


def test_the_process_keeps_its_random_numbers(tmp_path: Path) -> None:
    write_sums(tmp_path)
    random.seed(3)
    expected = random.random()
    random.seed(3)
    opened(tmp_path, "sums")
    assert random.random() == expected


def test_a_task_that_has_moved_is_another_one(tmp_path: Path) -> None:
    found = []
    folders = [tmp_path / name for name in ("one", "same", "words", "rows")]
    for folder in folders:
        folder.mkdir()
        write_choices(folder, "capitals")
    (folders[2] / "capitals.yaml").write_text((folders[2] / "capitals.yaml").read_text().replace(" is", " is named"))
    rows = (folders[3] / "capitals.jsonl").read_text().splitlines()
    (folders[3] / "capitals.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    for folder in folders:
        data = data_of(opened(folder, "capitals"))
        found.append((data.fingerprint, data.facts["definition"]))
    one, same, words, fewer = found
    assert one == same
    assert (one[0] == words[0], one[1] == words[1]) == (True, False)
    assert (one[0] == fewer[0], one[1] == fewer[1]) == (False, True)


@pytest.fixture
def _few_others(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the harness look through some of its own tasks; for all of them it takes ten seconds."""
    from lm_eval.tasks import manager

    folder = tmp_path_factory.mktemp("tasks")
    shutil.copytree(Path(manager.__file__).with_name("gsm8k"), folder / "gsm8k")
    monkeypatch.setattr(manager, "__file__", str(folder / "manager.py"))


@pytest.mark.usefixtures("_few_others")
@pytest.mark.parametrize(
    ("definition", "further", "sentence"),
    [
        ({}, {"name": "gsm8kk"}, r"task\.name=gsm8kk: lm-evaluation-harness has no such task; did you mean gsm8k"),
        ({}, {"name": "capitols"}, r"task\.name=capitols: lm-evaluation-harness has no such task; did you mean .*cap"),
        ({}, {"name": "lm_eval"}, r"task=lm-eval needs the name of a task: add task\.name=NAME"),
        ({}, {"metric": "mcc"}, r"task\.metric=mcc is made of a whole corpus.*choose one of acc, acc_norm\."),
        ({}, {"metric": "bleu"}, r"task\.metric=bleu: capitals has no such metric .* choose one of acc, acc_norm\."),
        ({"unsafe_code": True}, {}, r"capitals runs code that the model writes: add task\.unsafe_code=true"),
        ({"unsafe_code": True}, {"unsafe_code": True}, r"capitals runs code .* by itself, and not by .* code_eval"),
        ({"repeats": 3}, {}, r"capitals asks each document several times"),
        ({"num_fewshot": 0}, {"shots": 2}, r"task\.shots=2: capitals is defined to be asked without examples"),
        ({"doc_to_text": "{{nothing | fail}}"}, {}, r"cannot make task\.name=capitals"),
        ({"dataset_kwargs": {"data_files": "/nowhere.json"}}, {}, r"The data of task\.name=capitals cannot be read"),
        ({"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "word_perplexity"}]}, {},
         r"perplexities of the whole corpus.* task=text"),
        ({"metric_list": [{"metric": "f1", "aggregation": "f1", "higher_is_better": True}]}, {},
         r"has no metric that a document has a score by, and f1 is of a whole corpus"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_told(
    tmp_path: Path, definition: dict[str, Any], further: dict[str, Any], sentence: str
) -> None:
    write_choices(tmp_path, "capitals", **definition)
    with pytest.raises(UserError, match=sentence):
        opened(tmp_path, **({"name": "capitals"} | further))


def test_draws_are_asked_for(tmp_path: Path) -> None:
    write_sums(tmp_path, generation_kwargs={"until": "\n", "do_sample": True, "temperature": 0.6, "top_p": 0.9})
    with pytest.raises(UserError, match=r"add task\.sampling\.temperature=0\.6 task\.sampling\.top_p=0\.9, or another"):
        opened(tmp_path, "sums")
    asked = config(tmp_path, "sums", stop=["."])
    asked.sampling.temperature = 0.5
    assert make_task(asked).settings == {"shots": 2, "max_tokens": 256, "stop": ["\n", "."]}


def test_a_group_of_another_mean_is_refused(tmp_path: Path) -> None:
    write_group(tmp_path, weighted=False)
    with pytest.raises(UserError, match=r"counts each of its tasks alike.* task\.name=world_west,world_east"):
        opened(tmp_path, "world")
    assert opened(tmp_path, "world", metric="acc_norm").default_grader == "acc_norm"


def test_a_score_lies_between_0_and_1(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("def grade(doc, results):\n    return {'points': 7, 'share': 0.5}\n")
    write_sums(tmp_path)
    text = (tmp_path / "sums.yaml").read_text()
    metrics = [{"metric": name, **MEAN} for name in ("points", "share")]
    write_sums(tmp_path, metric_list=metrics)
    text = (tmp_path / "sums.yaml").read_text() + "process_results: !function utils.grade\n"
    (tmp_path / "sums.yaml").write_text(text)
    task = opened(tmp_path, "sums")
    fields = data_of(task).items[0].fields
    with pytest.raises(UserError, match=r"points\.strict of the document 0 of sums is 7, and a score lies between"):
        task.grader("first").grade("3", fields)
    grade = opened(tmp_path, "sums", metric="share").grader("first").grade("3", fields)
    assert (grade.score, grade.fields["points.strict"]) == (0.5, 7.0)


def test_a_value_that_is_no_number_is_no_field(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("def grade(doc, results):\n    return {'share': 0.5}\n")
    metrics = [{"metric": name, **MEAN} for name in ("share", "other")]
    write_task(tmp_path, "odd", [{"q": "1"}, {"q": "2"}], output_type="generate_until", doc_to_text="q",
               doc_to_target="q", metric_list=metrics)  # fmt: skip
    (tmp_path / "odd.yaml").write_text((tmp_path / "odd.yaml").read_text() + "process_results: !function utils.grade\n")
    task = opened(tmp_path, "odd")
    assert math.isnan(task.grader().grade("3", data_of(task).items[0].fields).fields["other"])


def test_without_the_harness_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(UserError, match=r'task=lm-eval needs lm-evaluation-harness: pip install "quantexp\[lm-eval\]"'):
        opened(tmp_path, "gsm8k")
    assert get_task("gsm8k", "quantexp.tasks.lm_eval").configure is not None


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.include_path=.*nowhere is no folder"):
        opened(tmp_path / "nowhere", "capitals")
