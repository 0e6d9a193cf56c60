"""One job, run in this process with the real engine and a real store."""

import dataclasses
import logging
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity

from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    QuantConfig,
    TaskConfig,
    TrackingConfig,
)
from quantexp.engines import close_engine
from quantexp.errors import UserError
from quantexp.job import run_job
from quantexp.models import ModelFile
from quantexp.tracking import JobRecord, Store


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def store(tracking: TrackingConfig) -> Store:
    return Store(tracking)


@pytest.fixture
def config(demo: ModelConfig, q8_0: ModelFile, tracking: TrackingConfig) -> Config:
    assert q8_0.file_type == "MOSTLY_Q8_0"
    words = PromptConfig(version=1, instructions="Answer with the answer alone.", item="Question: {question}")
    return Config(
        model=demo,
        quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
        task=TaskConfig(name="triviaqa", prompt=words, grader="triviaqa", max_tokens=8, limit=4),
        data=DataConfig("bundled"),
        engine=EngineConfig("llama_cpp", context=512, threads=1),
        tracking=tracking,
    )


@pytest.fixture(autouse=True)
def _engine_goes_away() -> object:
    yield
    close_engine()


def newest(store: Store) -> RunEntity:
    return store._client.search_runs([store._experiment], order_by=["attributes.start_time DESC"], max_results=1)[0]


def items(store: Store, run: RunEntity) -> pd.DataFrame:
    return pd.read_parquet(store._client.download_artifacts(run.info.run_id, "items.parquet"))


def record(store: Store) -> JobRecord:
    [found], failures = store.jobs([newest(store).info.run_id])
    assert failures == []
    return found


def test_the_job_returns_and_records_the_mean_score(config: Config, store: Store) -> None:
    score = run_job(config, store, None)
    run = newest(store)
    table = items(store, run)
    assert len(table) == 4
    assert score == run.data.metrics["score"] == pytest.approx(table["score"].mean())
    assert run.info.run_name == "Q8_0 triviaqa seed 0"


def test_an_item_that_does_not_fit_the_context_is_recorded_and_counts_in_no_score(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run_job(config, store, None)
    lengths = items(store, newest(store)).set_index("item_id")["prompt_tokens"]
    assert lengths.nunique() > 1
    # Room for all but the longest prompts.
    room = int(lengths.max()) - 1 + config.task.max_tokens
    tight = dataclasses.replace(config, engine=dataclasses.replace(config.engine, context=room))
    with caplog.at_level(logging.INFO):
        score = run_job(tight, store, None)
    run = newest(store)
    table = items(store, run).set_index("item_id")
    too_long = lengths[lengths == lengths.max()].index
    left_out = table.loc[too_long]
    assert set(left_out["finish_reason"]) == {"context"}
    assert left_out["score"].isna().all()
    assert set(left_out["grading_error"]) == {"not asked: does not fit the context"}
    asked = table.drop(too_long)
    assert asked["score"].notna().all()
    assert score == pytest.approx(asked["score"].mean())
    assert run.data.metrics["items"] == 4
    assert run.data.metrics["items_not_asked"] == len(too_long)
    assert f"{len(too_long)} did not fit the context" in caplog.text
    assert record(store).scores.isna().sum() == len(too_long)


def test_when_no_item_fits_the_context_there_is_no_score_but_a_sentence(config: Config, store: Store) -> None:
    tight = dataclasses.replace(config, engine=dataclasses.replace(config.engine, context=16))
    with pytest.raises(UserError, match=r"None of the 4 prompts of triviaqa fits engine\.context=16 .*max_tokens=8"):
        run_job(tight, store, None)
    run = newest(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("None of the 4 prompts")
    assert "score" not in run.data.metrics


def test_answers_cut_at_max_tokens_are_counted(config: Config, store: Store) -> None:
    run_job(dataclasses.replace(config, task=dataclasses.replace(config.task, max_tokens=1)), store, None)
    run = newest(store)
    table = items(store, run)
    cut = (table["finish_reason"] == "length").sum()
    assert cut > 0
    assert run.data.metrics["items_cut_at_max_tokens"] == cut
    assert (table["completion_tokens"] <= 1).all()


def test_the_config_hash_is_of_what_decides_the_scores(config: Config, store: Store, tmp_path: Path) -> None:
    def hashed(changed: Config) -> str:
        with pytest.raises(UserError):
            # Hashed before anything runs: a task that does not exist ends the job right there.
            run_job(dataclasses.replace(changed, task=dataclasses.replace(changed.task, name="none")), store, None)
        return newest(store).data.tags["config.sha256"]

    same = hashed(config)
    elsewhere = dataclasses.replace(config.model, cache=str(tmp_path))
    assert hashed(dataclasses.replace(config, model=elsewhere)) == same
    assert hashed(dataclasses.replace(config, seed=1)) != same
    assert hashed(dataclasses.replace(config, quant=QuantConfig("Q3_K_M", "MOSTLY_Q3_K_M"))) != same


def test_nothing_else_of_mlflow_is_switched_by_a_job(config: Config, store: Store) -> None:
    before = mlflow.get_tracking_uri()
    run_job(dataclasses.replace(config, task=dataclasses.replace(config.task, limit=1)), store, None)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
