"""Tasks of lm-evaluation-harness from the command to the report, and their scores beside the harness's own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.support.harness_tasks import CAPITALS, MEAN, write_choices, write_group, write_sums, write_task
from tests.support.stores import client_of, runs_of
from tests.support.variants import mark_slow

from quantexp.config import Config, ModelConfig, QuantConfig, TaskConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.choices import score_choices
from quantexp.evaluation.generation import generate
from quantexp.evaluation.task_prompts import TaskPrompter
from quantexp.store import CompletionStore
from quantexp.tasks.lm_eval.task import make_task

pytest.importorskip("lm_eval")

Command = Callable[..., tuple[int, str, str]]

SWEEP = ("quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=lm-eval", "task.name=capitals,sums,world", "task.limit=5",
         "task.include_path=tasks", "engine.threads=1", "engine.context=512", "stats.resamples=50")  # fmt: skip


@pytest.fixture(scope="module")
def swept(command: Command, small_model: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a sweep over two tasks and a group has run through."""
    folder = tmp_path_factory.mktemp("harness")
    (folder / "tasks").mkdir()
    write_choices(folder / "tasks", "capitals")
    write_sums(folder / "tasks")
    write_group(folder / "tasks")
    status, _, err = command(folder, *SWEEP, *small_model)
    assert status == 0, err
    return folder


def tables(folder: Path) -> dict[tuple[str, str], pd.DataFrame]:
    client = client_of(folder)
    return {
        (run.data.tags["task"], run.data.tags["quant"]): pd.read_parquet(
            client.download_artifacts(run.info.run_id, "items.parquet")
        )
        for run in runs_of(folder, "job")
        if run.info.status == "FINISHED"
    }


def evaluate_again(name: str, folder: Path, table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Have the harness evaluate the outputs of a table; per task what it says of each document."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    outputs = {str(row["item_id"]): row["output"] for row in table.to_dict("records")}

    class Recorded(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            found = [json.loads(self._output(each))[each.idx] for each in requests]
            return [(each["logprob"], each["likeliest"]) for each in found]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [self._output(each) for each in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise NotImplementedError

        def _output(self, request: Any) -> str:
            place = samples[request.task_name][request.doc_id]
            several = len(samples) > 1
            return str(outputs[f"{request.task_name}-{place}" if several else str(place)])

    found = TaskManager(include_path=str(folder / "tasks"), include_defaults=False).load(name)
    samples: dict[str, list[int]] = {task: [] for task in found["tasks"]}
    for item in outputs:
        task, _, place = item.rpartition("-")
        samples[task or name].append(int(place))
    for places in samples.values():
        places.sort()
    # Without documents the harness takes all.
    tasks = {task: each for task, each in found["tasks"].items() if samples[task]}
    results = evaluate(lm=Recorded(), task_dict={"tasks": tasks}, samples=samples, bootstrap_iters=0)
    said: dict[str, list[dict[str, Any]]] = results["samples"]
    return said


def test_scores_are_those_that_the_harness_gives_the_same_outputs(swept: Path) -> None:
    scores = {"capitals": ("acc", "none"), "world": ("acc", "none"), "sums": ("exact_match", "strict")}
    for (name, _), table in tables(swept).items():
        metric, filtered = scores[name]
        said = {
            f"{task}-{each['doc_id']}" if name == "world" else str(each["doc_id"]): float(each[metric])
            for task, documents in evaluate_again(name, swept, table).items()
            for each in documents
            if each["filter"] == filtered
        }
        assert len(table) == len(said) == 5
        assert dict(zip(table["item_id"], table["score"], strict=True)) == said


def test_a_sweep_has_the_other_metrics_and_categories_beside_the_score(swept: Path) -> None:
    found = tables(swept)
    assert "score_acc_norm" in found["capitals", "Q8_0"]
    assert "score_exact_match.flexible" in found["sums", "Q8_0"]
    assert set(found["world", "Q8_0"]["category"]) == {"world_west", "world_east"}
    assert (found["sums", "Q8_0"]["output"].str.contains("\n") == False).all()  # noqa: E712 - a column, not a value
    [page] = swept.glob("multirun/*/*/report/report.html")
    text = page.read_text()
    for part in ("acc_norm", "exact_match.flexible", "world_west", "world_east"):
        assert part in text, part


def test_identity_names_the_harness_and_the_definition(swept: Path) -> None:
    for run in runs_of(swept, "job"):
        data = {key: json.loads(value) for key, value in run.data.tags.items() if key.startswith("identity.data")}
        [facts] = data.values()
        assert facts.keys() >= {"fingerprint", "lm-eval", "definition"}
        settings = json.loads(run.data.tags["identity.settings"])
        if run.data.tags["task"] == "sums":
            assert (settings["max_tokens"], settings["decoding"]) == (12, 'greedy; ends before ["\\n"]')
            assert json.loads(run.data.tags["identity.prompt"])["shots"] == 2


def test_the_same_command_has_finished_before(swept: Path, command: Command, small_model: tuple[str, ...]) -> None:
    status, _, err = command(swept, *[word.replace("Q8_0,Q3_K_M", "Q8_0") for word in SWEEP], *small_model)
    assert status == 0, err
    assert err.count("finished before") == 3


def test_another_metric_is_another_reading_of_the_same_outputs(swept: Path, command: Command) -> None:
    status, _, err = command(swept, "quantexp.regrade", "grader=acc_norm")
    assert status == 0, err
    assert "acc-v1" in err
    assert "acc_norm-v1" in err
    assert "sums has no grader acc_norm: left out" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("task.metric=mcc",), "task.metric=mcc is made of a whole corpus"),
        (("data=bundled",), "brings its own items: leave data=bundled out"),
        (("engine.floor=true",), "task=capitals is scored, not answered, so it cannot have engine.floor=true"),
    ],
)
def test_what_does_not_go_together_is_told(
    swept: Path, command: Command, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    given = ["task=lm-eval", "task.name=capitals", f"task.include_path={swept / 'tasks'}", *arguments]
    status, _, err = command(tmp_path, "quantexp", *given)
    assert status != 0
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


def config_of(folder: Path, name: str, **further: Any) -> TaskConfig:
    given: dict[str, Any] = {"grader": "first", "max_tokens": 9, "shots": None, "include_path": str(folder)}
    return TaskConfig(name, module="quantexp.tasks.lm_eval", **(given | further))


def prompter(engine: LlamaCpp, folder: Path, name: str, **further: Any) -> tuple[TaskPrompter, list[Any]]:
    config = config_of(folder, name, **further)
    task = make_task(config)
    config = replace(config, **task.settings)
    items = list(task.load().items)
    job = Config(model=ModelConfig("m", "path"), quant=QuantConfig("q"), task=config)
    return TaskPrompter(task, job, items[:4], engine, items), items


def test_context_and_continuation_are_the_tokens_of_the_whole(engine: LlamaCpp, tmp_path: Path) -> None:
    write_choices(tmp_path, "capitals", description="Geography.\n\n")
    made, items = prompter(engine, tmp_path, "capitals")
    question = made.question(items[1])
    assert question.choices == ("Madrid", "Rome", "Tokyo", "Cairo")
    for choice, asked in zip(question.choices, question.asked, strict=True):
        assert asked.tokens == engine.tokenize_plain("Geography.\n\nThe capital of Italy is")
        assert (*asked.tokens, *asked.continuation) == engine.tokenize_plain(f"{asked.text} {choice}")
        assert engine.text_of(asked.tokens[: asked.shared]) == "Geography.\n\nThe capital of"


def test_a_chat_is_encoded_by_the_models_template(engine: LlamaCpp, tmp_path: Path) -> None:
    write_choices(tmp_path, "capitals")
    made, items = prompter(engine, tmp_path, "capitals", chat=True)
    asked = made.question(items[1]).asked[1]
    assert asked.text.endswith("The capital of Italy is<|im_end|>\n<|im_start|>assistant\n")
    assert asked.tokens == engine.tokenize(asked.text)
    assert engine.text_of(asked.continuation) == "Rome"
    assert made.hashes != prompter(engine, tmp_path, "capitals")[0].hashes
    assert json.loads(made.columns(items[1])["messages"])[0]["role"] == "user"


def test_a_context_without_words_is_the_token_of_a_beginning(engine: LlamaCpp, tmp_path: Path) -> None:
    rows = [{"good": "The cat sleeps.", "bad": "The cat sleep."}, {"good": "Dogs bark.", "bad": "Dogs barks."}]
    write_task(tmp_path, "grammar", rows, output_type="multiple_choice", doc_to_text="", doc_to_target=0,
               target_delimiter="", doc_to_choice="{{[good, bad]}}",
               metric_list=[{"metric": "acc", **MEAN}])  # fmt: skip
    made, items = prompter(engine, tmp_path, "grammar")
    asked = made.question(items[0]).asked[0]
    assert asked.tokens == engine.beginning
    assert engine.text_of(asked.continuation) == "The cat sleeps."
    assert len({item.cluster for item in items}) == 2


def test_whether_a_continuation_is_the_likeliest_is_what_the_model_would_write(
    engine: LlamaCpp, tmp_path: Path
) -> None:
    from quantexp.engines import Decoding, Prompt

    write_choices(tmp_path, "capitals", CAPITALS)
    made, items = prompter(engine, tmp_path, "capitals")
    asked = [each for item in items[:4] for each in made.question(item).asked]
    scored = dict(engine.score(asked))
    for each in asked:
        [(_, written)] = engine.complete([Prompt("one", each.text, each.tokens, 0)], Decoding(len(each.continuation)))
        assert scored[each].likeliest == (written.tokens == each.continuation)
    assert {each.likeliest for each in scored.values()} == {True, False}


def test_prompts_have_one_identity_whichever_items_are_drawn(engine: LlamaCpp, tmp_path: Path) -> None:
    write_group(tmp_path)
    some, items = prompter(engine, tmp_path, "world")
    config = config_of(tmp_path, "world")
    job = Config(model=ModelConfig("m", "path"), quant=QuantConfig("q"), task=config)
    assert TaskPrompter(make_task(config), job, items[-2:], engine, items).hashes == some.hashes
    assert len(some.question(items[0]).asked) == 4


FOREIGN: dict[str, dict[str, Any] | None] = {
    "plain": {},
    "examples": {"num_fewshot": 3, "training_split": "train", "fewshot_split": "train", "description": "Places.\n\n"},
    "space": {"doc_to_text": "The capital of {{country}}: ", "target_delimiter": ""},
    "exact": {"metric_list": [{"metric": metric, **MEAN} for metric in ("exact_match", "acc")]},
    "mutual": {"metric_list": [{"metric": metric, **MEAN} for metric in ("acc_mutual_info", "acc_bytes")]},
    "inputs": {"doc_to_text": "answer", "doc_to_choice": "{{choices}}", "doc_to_target": "is in {{country}}."},
    "last word": {"output_type": "loglikelihood", "doc_to_target": "{{choices[answer]}}", "doc_to_choice": None,
                  "metric_list": [{"metric": "acc", **MEAN}, {"metric": "perplexity"}]},
    "written": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "chat"),
    mark_slow(
        [
            *((kind, False) for kind in FOREIGN),
            *sorted(((kind, True) for kind in FOREIGN), key=lambda case: case[0] not in {"plain", "written"}),
        ],
        after=len(FOREIGN) + 2,
    ),
    ids=lambda value: {True: "chat", False: "text"}.get(value, value),
)
def test_the_harness_finds_the_same_when_it_asks_this_engine_itself(
    engine: LlamaCpp, small_engine: LlamaCpp, tmp_path: Path, kind: str, chat: bool
) -> None:
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager
    from tests.support.harness_model import HarnessModel

    definition = FOREIGN[kind]
    if not chat:  # in a chat the harness cuts the tokens elsewhere, and only a real model gives the same scores
        engine = small_engine
    write_sums(tmp_path, "task") if definition is None else write_choices(tmp_path, "task", **definition)
    made, items = prompter(engine, tmp_path, "task", chat=chat)
    task = make_task(config_of(tmp_path, "task", chat=chat))
    with CompletionStore(tmp_path / "store") as store:
        if definition is None:
            completions = generate(engine, [made.prompt(item) for item in items[:4]], made.decoding, store, {})
        else:
            completions = score_choices(engine, [made.question(item) for item in items[:4]], store, {})
    grades = [
        task.grader().grade(each.text, item.fields)
        for item, each in zip(items[:4], completions.completions, strict=True)
    ]
    [theirs] = TaskManager(include_path=str(tmp_path), include_defaults=False).load("task")["tasks"].values()
    theirs.set_config(key="num_fewshot", value=theirs.config.num_fewshot or 0)
    theirs.set_fewshot_seed(1234)
    found = evaluate(
        HarnessModel(engine, chat), {"tasks": {"task": theirs}}, limit=4, bootstrap_iters=0,
        apply_chat_template=chat, fewshot_as_multiturn=chat,
    )["samples"]["task"]  # fmt: skip
    metric, _, filtered = task.grader().name.partition(".")
    said = [float(each[metric]) for each in found if each["filter"] == (filtered or "none")]
    assert [grade.score for grade in grades] == said
    if definition is None:
        return
    asked = [made.question(item).asked[0].text for item in items[:4]]
    assert asked == [str(each["arguments"][0][0]).rstrip() if not chat else each["arguments"][0][0] for each in found]
    if not chat:  # there the harness counts the template's last white space to the continuation
        own = [json.loads(each.text) for each in completions.completions]
        responses = [[response for [response] in each["resps"]] for each in found]
        assert [[score["likeliest"] for score in scores] for scores in own] == [
            [one for _, one in each] for each in responses
        ]
        for scores, each in zip(own, responses, strict=True):
            assert [score["logprob"] for score in scores] == pytest.approx([logprob for logprob, _ in each], abs=1e-3)
