"""Multiple choice from the question to the report: tokens at the seam, the store, kills, other readings."""

import csv
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.support.forking import Forker
from tests.support.stores import client_of, runs_of

from quantexp.config import Config, DataConfig, ModelConfig, QuantConfig, TaskConfig
from quantexp.config.schema import PromptConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.choices import ChoicePrompter, Question, list_likeliest, score_choices
from quantexp.store import CompletionStore
from quantexp.tasks import get_task
from quantexp.tasks.choice import parse_scores
from quantexp.tasks.data import load
from quantexp.tasks.items import Item
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]
TASK = get_task("choice")
ABOUT = {"model": "m", "quant": "q", "task": "choice"}


def config(shots: int = 2, **words: str) -> Config:
    prompt = PromptConfig(**{"version": 1, "instructions": "", "item": "Question: {question}", **words})  # type: ignore[arg-type]
    return Config(
        model=ModelConfig("m", "path"), quant=QuantConfig("q"), task=TaskConfig("choice", prompt=prompt, shots=shots)
    )


def prompter(engine: LlamaCpp, unconditional: bool = False, shots: int = 2, **words: str) -> ChoicePrompter:
    examples = load(DataConfig("bundled"), TASK).examples
    return ChoicePrompter(TASK, config(shots, **words), examples, engine, unconditional)


def questions(engine: LlamaCpp, count: int, unconditional: bool = False) -> list[Question]:
    made = prompter(engine, unconditional)
    return [made.question(item) for item in load(DataConfig("bundled"), TASK).items[:count]]


def item(*choices: str, question: str = "What is it?") -> Item:
    return Item("one", {"question": question, "choices": [*choices], "answer": 0}, None)


def test_an_item_is_plain_text_after_worked_examples(engine: LlamaCpp) -> None:
    [question] = questions(engine, 1)
    assert question.prompt.text == (
        "Question: Which animal gives us wool?\nAnswer: a sheep\n\n"
        "Question: What do you use to open a locked door?\nAnswer: a key\n\n"
        "Question: What do plants need from the sun in order to grow?\nAnswer:"
    )
    whole = [engine.tokenize_plain(f"{question.prompt.text} {choice}") for choice in question.choices]
    assert [(*each.tokens, *each.continuation) for each in question.asked] == whole
    assert [engine.text_of(each.continuation) for each in question.asked] == [f" {each}" for each in question.choices]
    assert question.alone == ()


def test_the_worked_examples_are_the_shared_beginning(engine: LlamaCpp) -> None:
    first, *others = questions(engine, 4)
    head = engine.text_of(first.prompt.tokens[: first.prompt.shared])
    assert head.startswith("Question: Which animal gives us wool?")
    assert first.prompt.shared > 30
    assert all(
        each.prompt.tokens[: first.prompt.shared] == first.prompt.tokens[: first.prompt.shared] for each in others
    )


def test_spaces_at_the_end_of_the_context_belong_to_the_choice(engine: LlamaCpp) -> None:
    [plain] = prompter(engine, shots=0).question(item("an ox", "a cow")).asked[:1]
    [spaced] = prompter(engine, shots=0, answer="Answer:  ").question(item("an ox", "a cow")).asked[:1]
    assert spaced.text == plain.text
    assert engine.text_of(spaced.continuation) == "   an ox"


def test_the_same_words_have_the_same_identity(engine: LlamaCpp) -> None:
    made = prompter(engine)
    others = [prompter(engine, shots=1), prompter(engine, answer="A:"), prompter(engine, item="Q: {question}")]
    assert prompter(engine, unconditional=True).hashes == made.hashes
    for name in ("sha256", "words_sha256"):
        assert len({made.hashes[name], *(each.hashes[name] for each in others)}) == 4
    with pytest.raises(UserError, match=r"task\.shots=9 asks for more worked examples than the 8 there are"):
        prompter(engine, shots=9)
    with pytest.raises(UserError, match=r"task\.prompt\.item='\{nothing\}' cannot be filled"):
        prompter(engine, shots=0, item="{nothing}").question(item("a", "b"))


def test_scores_are_stored_one_by_one_and_taken_from_there(engine: LlamaCpp, tmp_path: Path) -> None:
    asked = questions(engine, 3, unconditional=True)
    with CompletionStore(tmp_path / "all") as store:
        whole = score_choices(engine, asked, store, ABOUT)
        assert (whole.new, whole.reused) == (24, 0)
        again = score_choices(engine, asked[::-1], store, ABOUT)
        assert (again.new, again.reused) == (0, 24)
        assert [each.text for each in again.completions] == [each.text for each in whole.completions[::-1]]
    # A choice and a question alone, as they may be left by a kill.
    with CompletionStore(tmp_path / "some") as store:
        second = replace(asked[1], choices=asked[1].choices[2:3], asked=asked[1].asked[2:3], alone=asked[1].alone[:1])
        score_choices(engine, [second, asked[2]], store, ABOUT)
        rest = score_choices(engine, asked, store, ABOUT)
        assert (rest.new, rest.reused) == (14, 10)
        assert [each.text for each in rest.completions] == [each.text for each in whole.completions]
    scores = parse_scores(whole.completions[0].text)
    assert scores is not None
    assert tuple(score.choice for score in scores) == asked[0].choices
    assert all(score.unconditional is not None and score.unconditional != score.logprob for score in scores)
    best = max(scores, key=lambda score: score.logprob)
    [likeliest, *_] = list_likeliest(whole.completions)
    assert likeliest.text == f" {best.choice}" == engine.text_of(likeliest.tokens)
    assert sum(likeliest.logprobs) == pytest.approx(best.logprob, abs=1e-5)


def test_it_ends_once_no_more_are_needed(engine: LlamaCpp, tmp_path: Path) -> None:
    asked = questions(engine, 4)
    seen: list[str] = []

    def enough(prompt: Any, _: object) -> bool:
        seen.append(prompt.item_id)
        return len(seen) == 2

    with CompletionStore(tmp_path) as store:
        found = score_choices(engine, asked, store, ABOUT, enough=enough)
    assert seen == [each.prompt.item_id for each in asked[:2]]
    assert (len(found.completions), found.new) == (2, 8)


def test_an_item_that_does_not_fit_is_not_asked(engine: LlamaCpp, tmp_path: Path) -> None:
    long = prompter(engine, shots=0).question(item("word " * 1100, "short"))
    [fitting] = questions(engine, 1)
    with CompletionStore(tmp_path) as store:
        found = score_choices(engine, [long, fitting], store, ABOUT)
    assert [each.finish_reason for each in found.completions] == ["context", "stop"]


# Whole sweeps

SWEEP = ("quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=choice", "task.limit=6", "task.shots=2", "engine.threads=1",
         "engine.context=512", "stats.resamples=50")  # fmt: skip


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    client = client_of(folder)
    return {
        run.data.tags["quant"]: pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet"))
        for run in runs_of(folder, "job")
        if run.info.status == "FINISHED"
    }


def report_of(folder: Path) -> Path:
    return max(folder.glob("multirun/*/*/report"), key=lambda path: path.parts[-2])


@pytest.fixture(scope="module")
def chosen(command: Command, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a sweep has run through."""
    folder = tmp_path_factory.mktemp("chosen")
    status, _, err = command(folder, *SWEEP, f"model.cache={cache}", "divergence=true")
    assert status == 0, err
    assert "tokens/s" not in err  # nothing was written
    return folder


def test_a_sweep_compares_scores_leads_and_probabilities(chosen: Path) -> None:
    found = tables(chosen)
    for table in found.values():
        assert len(table) == 6
        assert {"category", "score_probability", "score_lead"} <= set(table)
        assert ((table["score_lead"] > 0.5) == (table["score"] == 1)).all()
        for output, reference in zip(table["output"], table["reference"], strict=True):
            assert reference in [score["choice"] for score in json.loads(output)]
    # The same items, but not the same probabilities.
    assert (found["Q8_0"]["item_id"] == found["Q3_K_M"]["item_id"]).all()
    assert (found["Q8_0"]["score_probability"] != found["Q3_K_M"]["score_probability"]).all()
    page = (report_of(chosen) / "report.html").read_text()
    for part in ("probability", "lead", "science", "reading", "difficulty 1"):
        assert part in page, part
    [divergence] = csv.DictReader((report_of(chosen) / "divergence.csv").read_text().splitlines())
    assert float(divergence["mean"]) > 0
    assert divergence["answers"] == "6"


@pytest.mark.slow  # the store is asked by test_scores_are_stored_one_by_one_and_taken_from_there
def test_a_sweep_that_is_killed_goes_on_to_the_same_table(
    chosen: Path, forker: Forker, cache: Path, tmp_path: Path
) -> None:
    process = forker.start(tmp_path, *SWEEP, f"model.cache={cache}")
    deadline = time.monotonic() + 300
    while sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("mlruns/completions/*.jsonl")) < 9:
        assert time.monotonic() < deadline, process.err
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(60)
    ended = forker.run(tmp_path, *SWEEP, f"model.cache={cache}")
    assert ended.status == 0, ended.err
    assert "completions from the store" in ended.err
    for quant, table in tables(tmp_path).items():
        pd.testing.assert_frame_equal(table, tables(chosen)[quant])


def test_another_reading_needs_no_model(
    chosen: Path, command: Command, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    status, out, err = command(chosen, "quantexp.regrade", "grader=acc_norm")
    assert status == 0, err
    assert "acc-v1 0." in err
    assert "acc_norm-v1 0." in err
    assert "probability" not in out.partition("@@")[0]
    status, _, err = command(chosen, "quantexp.regrade", "grader=acc_unconditional")
    assert status == 1
    assert "did not ask: run it again with task.grader=acc_unconditional" in " ".join(err.split())
    again = (*SWEEP, f"model.cache={cache}", "quant=Q8_0", "task.grader=acc_unconditional")
    status, _, err = command(chosen, *[each for each in again if each != "quant=Q8_0,Q3_K_M"])
    assert status == 0, err
    assert "24 of 48 completions from the store" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("engine.floor=true",), "task=choice is scored, not answered, so it cannot have engine.floor=true"),
        (("task.prompt.system=Hello",), "cannot have task.prompt.system"),
        (("divergence=true", "divergence_over=gold"), "cannot have divergence_over=gold"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told(
    command: Command, cache: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    status, _, err = command(tmp_path, *SWEEP, f"model.cache={cache}", *arguments)
    assert status != 0
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
