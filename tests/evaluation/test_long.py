"""Long texts before a real model: they fill their lengths, and types of the KV cache are compared on them."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests.support.openai_server import OpenAIServer, chat, models
from tests.support.stores import client_of, runs_of

from quantexp.config import Config, EngineConfig, ModelConfig, QuantConfig, TaskConfig, Tokenizer
from quantexp.config.schema import PromptConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.openai.engine import OpenAIServer as Remote
from quantexp.engines.registry import check_engine
from quantexp.evaluation.task_prompts import TaskPrompter
from quantexp.models import ModelFile
from quantexp.tasks import open_task
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]


def config(*lengths: int, context: int = 1024) -> Config:
    prompt = PromptConfig(1, "Read.", "{text}\n\nQuestion: {question}")
    return Config(
        model=ModelConfig("m", "path"),
        quant=QuantConfig("q"),
        task=TaskConfig("long", prompt=prompt, lengths=[*lengths], max_tokens=48),
        engine=EngineConfig("llama_cpp", context=context),
    )


def test_prompt_and_answer_fill_the_length_by_the_models_own_tokens(engine: LlamaCpp) -> None:
    asked = config(512, 1024)
    task = open_task(asked.task)
    assert isinstance(task, OwnWordsTask)
    items = task.load().items
    made = TaskPrompter(task, asked, items[:3] + items[80:82], engine, items)
    for item in (items[0], items[2], items[80]):
        prompt = made.prompt(item)
        most = item.fields["length"] - 48
        assert most - 60 < len(prompt.tokens) <= most
        assert prompt.shared > 5  # the words before the text
        assert item.fields["needles"][0] in prompt.text
        assert made.columns(item)["question"] == item.fields["question"]
    # The identity is the same whichever items are drawn, and another with other words.
    other = TaskPrompter(task, asked, items[90:91], engine, items)
    assert other.hashes == made.hashes
    assert other.prompt(items[90]) == TaskPrompter(task, asked, items[90:95], engine, items).prompt(items[90])
    worded = replace(asked, task=replace(asked.task, prompt=PromptConfig(1, "", "{text}\n\n{question}")))
    changed = open_task(worded.task)
    assert isinstance(changed, OwnWordsTask)
    assert TaskPrompter(changed, worded, items[:1], engine, items).hashes != made.hashes


def test_a_context_that_does_not_hold_the_texts_is_refused() -> None:
    check_engine(config(512, 1024))
    with pytest.raises(UserError, match=r"texts of 4096 tokens, .* set engine\.context=4096, or lower"):
        check_engine(config(512, 4096))


def test_a_server_is_sent_texts_of_as_many_characters() -> None:
    with closing(OpenAIServer(lambda _: chat(), pages=models("m"))) as server:
        file = ModelFile("", "not known: awq of m", 0, 0, 4.25, "awq", "not known", 0)
        remote = EngineConfig("openai", url=server.address)
        with closing(Remote(file, ModelConfig("m", "server"), remote)) as engine:
            for tokenizer in (Tokenizer.characters, Tokenizer.model):
                asked = config(512)
                asked = replace(asked, task=replace(asked.task, tokenizer=tokenizer))
                task = open_task(asked.task)
                assert isinstance(task, OwnWordsTask)
                [item] = task.load().items[:1]
                if tokenizer is Tokenizer.model:
                    with pytest.raises(UserError, match=r"set task\.tokenizer=characters"):
                        TaskPrompter(task, asked, [item], engine, [item])
                else:
                    prompt = TaskPrompter(task, asked, [item], engine, [item]).prompt(item)
                    assert 0.85 * 464 < len(prompt.messages[-1]["content"]) / 4 < 464


@pytest.mark.slow
def test_types_of_the_kv_cache_are_compared_by_length_and_depth(command: Command, cache: Path, tmp_path: Path) -> None:
    sweep = (
        "quantexp", "-m", "quant=Q8_0", "engine.kv_key=f16,q4_0", "task=long", "task.lengths=[512,640]", "task.limit=8",
        "engine.threads=1", "engine.context=640", "stats.resamples=50", f"model.cache={cache}",
    )  # fmt: skip
    status, _, err = command(tmp_path, *sweep)
    assert status == 0, err
    client = client_of(tmp_path)
    first, second = (
        pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet")) for run in runs_of(tmp_path, "job")
    )
    assert (first["prompt"] == second["prompt"]).all()
    assert first["place"].str.match(r"(512|640) tokens(, \d+%)?$").all()
    [report] = tmp_path.glob("multirun/*/*/report")
    assert (report / "length_depth.png").is_file()
    assert "kv_key=q4_0: loss" in (report / "report.html").read_text()
    status, _, err = command(tmp_path, "quantexp.regrade", "grader=long", files=tmp_path)
    assert "Traceback" not in err
    status, _, err = command(tmp_path, *sweep, "engine.context=512")
    assert status != 0
    assert "task.lengths asks for texts of 640 tokens" in " ".join(err.split())
