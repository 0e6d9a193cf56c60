"""A job on a model that reasons: what is graded, what is recorded, and what regrade makes of older outputs."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.support.reasoning_models import THINK_NAMES, THINKING, write_renamed

from quantexp.comparison.groups import label_groups, merge_seeds
from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    QuantConfig,
    StatsConfig,
    TaskConfig,
    TrackingConfig,
)
from quantexp.config.choices import ReasoningEnd
from quantexp.engines import close_engine
from quantexp.evaluation.job import run_job
from quantexp.models import ModelFile
from quantexp.regrade import Grading
from quantexp.store import CompletionStore
from quantexp.tasks.graders.base import ENDED_IN_REASONING
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store

ITEMS = 4


@pytest.fixture(scope="module")
def config(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    folder = tmp_path_factory.mktemp("reasoning")
    path = write_renamed(q8_0.path, folder / "think.gguf", THINK_NAMES, THINKING)
    words = PromptConfig(version=1, system="Be brief", instructions="Answer.", item="{question}")
    yield Config(
        model=ModelConfig("m", "path", path=str(path), template={"opened": True}),
        quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
        task=TaskConfig(name="gsm8k", prompt=words, grader="gsm8k", max_tokens=12, reasoning_tokens=24, limit=ITEMS),
        data=DataConfig("bundled", "bundled"),
        engine=EngineConfig("llama_cpp", context=512, threads=1, lanes=4),
        tracking=TrackingConfig(str(folder / "mlruns")),
        stats=StatsConfig(),
    )
    close_engine()


@pytest.fixture(scope="module")
def of_anything(
    config: Config, make_small: Callable[[str], ModelFile], tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """The same with a model that writes anything, for what does not depend on it."""
    path = tmp_path_factory.mktemp("anything") / "think.gguf"
    write_renamed(make_small("Q8_0").path, path, THINK_NAMES, THINKING)
    return replace(config, model=replace(config.model, path=str(path)))


def run(config: Config, **task: Any) -> tuple[Store, JobRecord, pd.DataFrame]:
    """The job's record and table; completions are shared between the tests."""
    changed = replace(config, task=replace(config.task, **task))
    store = Store(changed.tracking)
    with CompletionStore(Path(changed.tracking.folder) / "completions") as known:
        run_job(changed, store, known, None)
    newest = store.client.search_runs([store.experiment], order_by=["attributes.start_time DESC"], max_results=1)[0]
    [record], _ = store.jobs([newest.info.run_id])
    return store, record, pd.read_parquet(store.client.download_artifacts(newest.info.run_id, "items.parquet"))


def test_reasoning_is_a_column_of_its_own_and_only_the_answer_is_graded(config: Config) -> None:
    _, record, table = run(config)
    assert record.identity["reader"] == {"id": "think-v1"}
    assert (table["prompt"].str.count("Be brief") == 1).all()
    ended = table["grading_error"].ne(ENDED_IN_REASONING)
    assert ended.any(), "some reasoning has ended"
    whole = table[ended]
    for row in whole.to_dict("records"):
        assert row["reasoning"]
        assert row["reasoning"] in row["output"]
        assert row["output"].endswith(row["answer"])
        assert "</think>" not in row["reasoning"]
        assert 0 < row["reasoning_tokens"] < row["completion_tokens"]
        assert row["completion_tokens"] - row["reasoning_tokens"] <= 12
    assert (table.loc[~ended, "score"] == 0).all()
    assert table.loc[~ended, "extracted"].isna().all()
    assert record.metrics["items_ended_in_reasoning"] == (~ended).sum()
    assert json.loads(table["messages"][0])[0] == {"role": "system", "content": "Be brief"}


def test_reasoning_without_an_end_scores_nothing_and_is_counted_apart(of_anything: Config) -> None:
    _, record, table = run(of_anything, reasoning_tokens=2)
    assert (table["grading_error"] == ENDED_IN_REASONING).all()
    assert (table["answer"] == "").all()
    assert record.metrics["score"] == 0
    assert record.metrics["items_ended_in_reasoning"] == ITEMS
    assert record.metrics["items_unreadable"] == record.metrics["items_cut_at_max_tokens"] == 0

    _, record, table = run(of_anything, reasoning_tokens=2, reasoning_end=ReasoningEnd.force)
    assert (table["grading_error"] != ENDED_IN_REASONING).all()
    assert record.metrics["items_ended_in_reasoning"] == 0
    assert (table["completion_tokens"] - table["reasoning_tokens"] <= 12).all()


def test_old_outputs_are_read_again_without_the_model(config: Config) -> None:
    blind = replace(config, model=replace(config.model, reasoning="none"))
    store, record, before = run(blind, max_tokens=36)
    assert record.identity["reader"] == {"id": "none-v1"}
    assert "reasoning" not in before
    # The prompt had opened the reasoning, which nobody recorded then: its end tells.
    again = Grading(store, config.stats).grade(record, None, "think")
    assert again is not None
    assert again.record.identity["reader"] == {"id": "think-v1"}
    path = store.client.download_artifacts(record.run_id, "items.gsm8k-v2.think-v1.parquet")
    after = pd.read_parquet(path)
    split = after[after["output"].str.contains("</think>")]
    assert len(split)
    for row in split.to_dict("records"):
        reasoning, _, answer = row["output"].partition("</think>")
        assert (row["reasoning"], row["answer"]) == (reasoning.strip(), answer.lstrip())
    assert list(after.columns)[-5:] == list(before.columns)[-5:]
    assert Grading(store, config.stats).grade(again.record, None) is None


def test_another_reader_looks_for_its_own_marks(config: Config) -> None:
    store, record, before = run(config)
    other = Grading(store, config.stats).grade(record, None, "<reason>...so")
    assert other is not None
    [name] = [
        each.path
        for each in store.client.list_artifacts(record.run_id)
        if ".own-" in each.path and "json" not in each.path
    ]
    after = pd.read_parquet(store.client.download_artifacts(record.run_id, name))
    for row in after.to_dict("records"):
        if "so" in row["output"]:
            assert row["reasoning"] == row["output"].partition("so")[0].strip()
        else:
            assert row["answer"] == row["output"]
    assert len(after) == len(before)


def test_template_arguments_and_system_turn_set_runs_apart_in_words(of_anything: Config) -> None:
    _, opened, _ = run(of_anything, limit=3)
    model = replace(of_anything.model, template={"enable_thinking": False})
    _, closed, table = run(replace(of_anything, model=model), limit=3)
    assert opened.identity["prompt"]["template.opened"] is True
    assert closed.identity["prompt"]["template.enable_thinking"] is False
    assert closed.identity["prompt"]["system"] == "Be brief"
    assert (table["reasoning"] == "").all()
    assert (table["answer"] == table["output"]).all()
    names = {group.task for group in label_groups(merge_seeds([opened, closed]))}
    assert names == {
        "gsm8k (prompt.template.opened=True, prompt.template.enable_thinking=not recorded)",
        "gsm8k (prompt.template.enable_thinking=False, prompt.template.opened=not recorded)",
    }
