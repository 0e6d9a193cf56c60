"""Dialogues: whose earlier answers stand in the chat, what is stored, and what a kill leaves."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.support.forking import Forker
from tests.support.openai_server import Asked, OpenAIServer, Reply, chat, models, probing
from tests.support.stores import client_of, runs_of

from quantexp.config import Config, DataConfig, EngineConfig, History, ModelConfig, QuantConfig, TaskConfig
from quantexp.config.schema import PromptConfig
from quantexp.engines import Engine, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.openai.engine import OpenAIServer as Remote
from quantexp.evaluation.conversations import ConversationPrompter, Held, hold, list_columns
from quantexp.evaluation.generation import Generated, generate
from quantexp.models import ModelFile
from quantexp.store import CompletionStore
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Item

TASK = get_task("chat")
ITEMS = load(DataConfig("bundled"), TASK).items
BY_TURNS = [next(item for item in ITEMS if len(item.fields["turns"]) == turns) for turns in (4, 2, 3)]


def prompter(engine: Engine, history: History = History.own, tokens: int = 6, shots: int = 0) -> ConversationPrompter:
    prompt = PromptConfig(1, "Be brief.", "{turns}")
    task = TaskConfig("chat", prompt=prompt, max_tokens=tokens, history=history, shots=shots)
    config = Config(model=ModelConfig("m", "path"), quant=QuantConfig("q"), task=task)
    return ConversationPrompter(config, load(DataConfig("bundled"), TASK).examples, engine)


def converse(
    engine: Engine, made: ConversationPrompter, store: CompletionStore, items: Sequence[Item] = BY_TURNS
) -> tuple[Held, list[int]]:
    """Hold the dialogues; also how many were answered at once in each wave."""
    waves = []

    def answer(prompts: Sequence[Prompt], _: bool) -> Generated:
        waves.append(len(prompts))
        return generate(engine, prompts, made.decoding, store, {})

    return hold([made.open(item, 0) for item in items], made, engine, answer), waves


def test_the_models_own_answers_stand_between_the_turns(small_engine: LlamaCpp, tmp_path: Path) -> None:
    engine = small_engine
    made = prompter(engine)
    with CompletionStore(tmp_path / "all") as store:
        held, waves = converse(engine, made, store)
        assert waves == [1, 2, 3, 3]  # aligned at the end
        assert (held.generated.new, held.generated.reused) == (9, 0)
        again, _ = converse(engine, made, store)
        assert (again.generated.new, again.generated.reused) == (0, 9)
        assert again.prompts == held.prompts
        # Each earlier answer is the completion of the chat before it, to the letter, though it was cut off.
        for item, prompt in zip(BY_TURNS, held.prompts, strict=True):
            said = [message["content"] for message in prompt.messages]
            assert said[::2] == [f"Be brief.\n\n{item.fields['turns'][0]}", *item.fields["turns"][1:]]
            for place in range(1, len(said), 2):
                text, tokens = engine.encode_chat(prompt.messages[:place])
                [(_, completion)] = engine.complete([Prompt(item.id, text, tokens, prompt.shared)], made.decoding)
                assert said[place] == completion.text
    columns = list_columns(held.prompts[0])
    assert columns["question"] == BY_TURNS[0].fields["turns"][-1]
    assert json.loads(columns["messages"]) == [dict(message) for message in held.prompts[0].messages]


def test_gold_answers_take_their_place(small_engine: LlamaCpp, tmp_path: Path) -> None:
    engine = small_engine
    made = prompter(engine, History.gold)
    with CompletionStore(tmp_path) as store:
        held, waves = converse(engine, made, store)
    assert waves == [3]
    for item, prompt in zip(BY_TURNS, held.prompts, strict=True):
        assert [message["content"] for message in prompt.messages[1::2]] == item.fields["replies"]
    others = [prompter(engine), prompter(engine, History.gold, shots=1)]
    assert len({made.hashes["sha256"], *(each.hashes["sha256"] for each in others)}) == 3
    [shown, *_] = load(DataConfig("bundled"), TASK).examples
    example = others[1].open(BY_TURNS[1], 0).prompt.messages
    assert example[1]["content"] == shown.fields["replies"][0]
    assert example[3]["content"] == shown.fields["answer"]


def test_a_dialogue_that_outgrows_the_context_is_not_asked(small_engine: LlamaCpp, tmp_path: Path) -> None:
    long = replace(BY_TURNS[1], id="long", fields={**BY_TURNS[1].fields, "turns": ["Hello!", "word " * 1100]})
    begun = replace(BY_TURNS[1], id="begun", fields={**BY_TURNS[1].fields, "turns": ["word " * 1100, "Hello!"]})
    with CompletionStore(tmp_path) as store:
        held, _ = converse(small_engine, prompter(small_engine), store, [long, BY_TURNS[2], begun])
    assert [each.finish_reason == "context" for each in held.generated.completions] == [True, False, True]


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Remote, OpenAIServer]]]:
    held: list[Any] = []

    def start(answer: Callable[[Asked], Reply], **model: Any) -> tuple[Remote, OpenAIServer]:
        server = OpenAIServer(answer, pages=models("m"))
        held.append(server)
        file = ModelFile("", "not known: awq of m", 0, 0, 4.25, "awq", "not known", 0)
        engine = Remote(file, ModelConfig("m", "server", **model), EngineConfig("openai", url=server.address))
        held.append(engine)
        return engine, server

    yield start
    for each in reversed(held):
        each.close()


def test_a_server_is_sent_its_own_answers_without_their_reasoning(
    serve: Callable[..., tuple[Remote, OpenAIServer]], tmp_path: Path
) -> None:
    engine, server = serve(
        lambda asked: chat("4" if probing(asked) else f"<think>hm</think>\nafter {len(asked['messages'])}"),
        reasoning="think", reasoning_tokens=20,
    )  # fmt: skip
    with CompletionStore(tmp_path) as store:
        held, _ = converse(engine, prompter(engine), store)
        asked = len(server.asked)
        converse(engine, prompter(engine), store)
        assert len(server.asked) == asked
    answers = [message["content"] for message in held.prompts[0].messages[1::2]]
    assert answers == ["after 1", "after 3", "after 5"]
    assert [each.text for each in held.generated.completions] == [
        f"<think>hm</think>\nafter {turns}" for turns in (7, 3, 5)
    ]


# Whole sweeps

SWEEP = ("quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=chat", "task.limit=6", "task.max_tokens=8", "engine.threads=1",
         "engine.context=512", "stats.resamples=50")  # fmt: skip


def read_tables(folder: Path) -> dict[str, bytes]:
    client = client_of(folder)
    return {
        run.data.tags["quant"]: Path(client.download_artifacts(run.info.run_id, "items.parquet")).read_bytes()
        for run in runs_of(folder, "job")
        if run.info.status == "FINISHED"
    }


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_to_the_same_bytes(forker: Forker, cache: Path, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
    command = (*SWEEP, f"model.cache={cache}")
    ended = forker.run(whole, *command)
    assert ended.status == 0, ended.err
    process = forker.start(torn, *command)
    deadline = time.monotonic() + 300
    while sum(path.read_bytes().count(b"\n") for path in torn.glob("mlruns/completions/*.jsonl")) < 8:
        assert time.monotonic() < deadline, process.err
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(60)
    ended = forker.run(torn, *command)
    assert ended.status == 0, ended.err
    assert "completions from the store" in ended.err
    assert read_tables(torn) == read_tables(whole)
    [table, _] = (pd.read_parquet(path) for path in sorted(whole.glob("mlruns/artifacts/**/items.parquet")))
    assert len(table) == 6
    turns = {item.id: len(item.fields["turns"]) for item in ITEMS}
    messages = dict(zip(table["item_id"], map(json.loads, table["messages"]), strict=True))
    assert {name: len(said) for name, said in messages.items()} == {name: 2 * turns[name] - 1 for name in messages}


@pytest.mark.slow
def test_divergence_is_measured_at_the_last_turn(
    command: Callable[..., tuple[int, str, str]], cache: Path, tmp_path: Path
) -> None:
    small = (*SWEEP, f"model.cache={cache}", "divergence=true", "engine.floor=true", "task.limit=4")
    status, _, err = command(tmp_path, *small)
    assert status == 0, err
    [report] = tmp_path.glob("multirun/*/*/report/divergence.csv")
    assert len(report.read_text().splitlines()) == 2
    floors = [run for run in runs_of(tmp_path, "job") if "floor.answers" in run.data.metrics]
    assert [run.data.metrics["floor.answers"] for run in floors] == [4]
