"""One job, run in this process with the real engine and a real store."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity
from mlflow.entities import Trace

from quantexp.comparison.caveats import list_caveats
from quantexp.comparison.groups import merge_seeds
from quantexp.comparison.pairing import summarise
from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    QuantConfig,
    SamplingConfig,
    StatsConfig,
    TaskConfig,
    TrackingConfig,
)
from quantexp.engines import close_engine
from quantexp.evaluation.job import run_job
from quantexp.models import ModelFile
from quantexp.stats import estimate
from quantexp.store import CompletionStore
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import JOB, TRACED
from quantexp.util.errors import UserError


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def store(tracking: TrackingConfig) -> Store:
    return Store(tracking)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[CompletionStore]:
    """Completions of this test alone."""
    with CompletionStore(tmp_path / "completions") as opened:
        yield opened


@pytest.fixture
def config(demo: ModelConfig, q8_0: ModelFile, tracking: TrackingConfig) -> Config:
    assert q8_0.file_type == "MOSTLY_Q8_0"
    words = PromptConfig(version=1, instructions="Answer with the answer alone.", item="Question: {question}")
    return Config(
        model=demo,
        quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
        task=TaskConfig(name="triviaqa", prompt=words, grader="triviaqa", max_tokens=8, limit=4),
        data=DataConfig("bundled"),
        engine=EngineConfig("llama_cpp", context=512, threads=1, lanes=4),
        force=True,
        tracking=tracking,
    )


@pytest.fixture
def light(config: Config, small: Path) -> Config:
    """The same of a model of random weights, for what does not depend on the answers' content."""
    model = ModelConfig("small", "path", path=str(small), quantize=True, cache=config.model.cache)
    return dataclasses.replace(config, model=model)


@pytest.fixture(autouse=True)
def _engine_goes_away() -> object:
    yield
    close_engine()


def newest(store: Store) -> RunEntity:
    return store.client.search_runs([store.experiment], order_by=["attributes.start_time DESC"], max_results=1)[0]


def items(store: Store, run: RunEntity) -> pd.DataFrame:
    return pd.read_parquet(store.client.download_artifacts(run.info.run_id, "items.parquet"))


def traces(store: Store, run: RunEntity) -> list[Trace]:
    found = store.client.search_traces(locations=[store.experiment], max_results=100)
    return [each for each in found if each.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id]


def record(store: Store) -> JobRecord:
    [found], failures = store.jobs([newest(store).info.run_id])
    assert failures == []
    return found


def test_the_job_returns_and_records_the_mean_score(config: Config, store: Store, known: CompletionStore) -> None:
    score = run_job(config, store, known, None)
    run = newest(store)
    table = items(store, run)
    assert len(table) == 4
    assert score == run.data.metrics["score"] == pytest.approx(table["score"].mean())
    assert run.info.run_name == "triviaqa 08.51 Q8_0 seed 0"
    assert run.data.params["file.types"] == "Q8_0 >99%, F32 <1%"
    assert run.data.metrics["run.kv_bytes_per_token"] == 30 * 3 * (64 + 64) * 2
    assert run.data.params["file.imatrix"] == "none named in the file"
    assert "file.misnomer" not in run.data.params
    # Traces come only where they are asked for, and then to a job that has finished before, too.
    assert TRACED not in run.data.tags
    asked = dataclasses.replace(config.tracking, traces=True)
    for _ in range(2):
        assert run_job(dataclasses.replace(config, tracking=asked, force=False), store, known, None) == score
    assert newest(store).info.run_id == run.info.run_id
    assert newest(store).data.tags[TRACED] == "4"
    assert len(traces(store, run)) == 4


def test_llama_cpps_warnings_about_the_file_are_logged_once_and_recorded(
    light: Config, store: Store, known: CompletionStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.gguf"
    whole = Path(str(light.model.path)).read_bytes()
    path.write_bytes(whole.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.prx", 1))
    model = dataclasses.replace(light.model, name="old", path=str(path), quantize=False)
    task = dataclasses.replace(light.task, limit=1)
    for seed in (0, 1):
        run_job(
            dataclasses.replace(light, model=model, quant=QuantConfig("as-is"), task=task, seed=seed),
            store,
            known,
            None,
        )
        params = newest(store).data.params
        assert params["file.types"] == "F32 100%"
        warned = params["file.warnings"]
        assert warned.startswith("missing pre-tokenizer type, using: 'default'; GENERATION QUALITY WILL BE DEGRADED!")
    path.unlink()
    assert [line for line in caplog.messages if "warns of" in line] == [f"llama.cpp warns of {path}: {warned}"]


def test_an_item_that_does_not_fit_the_context_is_recorded_and_counts_in_no_score(
    light: Config, store: Store, known: CompletionStore, caplog: pytest.LogCaptureFixture
) -> None:
    run_job(light, store, known, None)
    lengths = items(store, newest(store)).set_index("item_id")["prompt_tokens"]
    assert lengths.nunique() > 1
    # Room for all but the longest prompts.
    room = int(lengths.max()) - 1 + light.task.max_tokens
    tight = dataclasses.replace(
        light,
        engine=dataclasses.replace(light.engine, context=room),
        tracking=dataclasses.replace(light.tracking, traces=True),
    )
    with caplog.at_level(logging.INFO):
        score = run_job(tight, store, known, None)
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
    without_score = {trace.info.tags["item"] for trace in traces(store, run) if not trace.info.assessments}
    assert without_score == set(too_long)


def test_when_no_item_fits_the_context_there_is_no_score_but_a_sentence(
    light: Config, store: Store, known: CompletionStore
) -> None:
    tight = dataclasses.replace(light, engine=dataclasses.replace(light.engine, context=16))
    with pytest.raises(UserError, match=r"None of the 4 prompts of triviaqa fits engine\.context=16 .*max_tokens=8"):
        run_job(tight, store, known, None)
    run = newest(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("None of the 4 prompts")
    assert "score" not in run.data.metrics


def test_answers_cut_at_max_tokens_are_counted(light: Config, store: Store, known: CompletionStore) -> None:
    run_job(dataclasses.replace(light, task=dataclasses.replace(light.task, max_tokens=1)), store, known, None)
    run = newest(store)
    table = items(store, run)
    cut = (table["finish_reason"] == "length").sum()
    assert cut > 0
    assert run.data.metrics["items_cut_at_max_tokens"] == cut
    assert (table["completion_tokens"] <= 1).all()


def test_a_finished_job_is_not_run_again(
    light: Config, store: Store, known: CompletionStore, caplog: pytest.LogCaptureFixture
) -> None:
    light = dataclasses.replace(light, seed=9)
    score = run_job(light, store, known, None)
    first = newest(store)
    again = dataclasses.replace(light, force=False)
    with caplog.at_level(logging.INFO):
        assert run_job(again, store, known, None) == score
    assert newest(store).info.run_id == first.info.run_id
    assert f"finished before (run {first.info.run_id[:8]}); force=true runs it again" in caplog.text
    # Neither where things lie, nor how fast they are made, nor how they are analysed makes it another job.
    same = dataclasses.replace(
        again,
        engine=dataclasses.replace(light.engine, threads=2, lanes=16, kv_memory_gb=8.0),
        stats=dataclasses.replace(light.stats, resamples=10),
        store=dataclasses.replace(light.store, folder="elsewhere"),
    )
    run_job(same, store, known, None)
    assert newest(store).info.run_id == first.info.run_id
    run_job(dataclasses.replace(again, seed=10), store, known, None)
    assert newest(store).info.run_id != first.info.run_id


def test_a_job_is_not_looked_for_where_the_caller_has_looked(
    light: Config, store: Store, known: CompletionStore
) -> None:
    light = dataclasses.replace(light, seed=12, force=False)
    score = run_job(light, store, known, None)
    first = newest(store)
    assert run_job(light, store, known, None, unfinished=first.data.tags[JOB]) == score
    second = newest(store)
    assert second.info.run_id != first.info.run_id
    assert run_job(light, store, known, None, unfinished="another") == score
    assert newest(store).info.run_id == second.info.run_id


def test_a_job_that_failed_is_run_again(light: Config, store: Store, known: CompletionStore) -> None:
    light = dataclasses.replace(light, seed=11, force=False)
    with pytest.raises(UserError):
        run_job(dataclasses.replace(light, engine=dataclasses.replace(light.engine, context=16)), store, known, None)
    run_job(light, store, known, None)
    assert newest(store).info.status == "FINISHED"


def test_items_that_are_in_the_store_are_not_generated_again(
    light: Config, store: Store, known: CompletionStore
) -> None:
    run_job(light, store, known, None)
    first = newest(store)
    assert first.data.metrics["run.completions_generated"] == 4
    assert first.data.metrics["run.completions_from_store"] == 0
    six = dataclasses.replace(light, task=dataclasses.replace(light.task, limit=6))
    run_job(six, store, known, None)
    assert newest(store).data.metrics["run.completions_generated"] == 2
    assert newest(store).data.metrics["run.completions_from_store"] == 4
    pd.testing.assert_frame_equal(items(store, newest(store)).iloc[:4], items(store, first))
    # Another grader needs no generation at all, and reuse=false generates everything.
    regraded = dataclasses.replace(light, task=dataclasses.replace(light.task, grader="triviaqa-contains"))
    run_job(regraded, store, known, None)
    assert newest(store).data.metrics["run.completions_generated"] == 0
    afresh = dataclasses.replace(light, store=dataclasses.replace(light.store, reuse=False))
    run_job(afresh, store, known, None)
    assert newest(store).data.metrics["run.completions_generated"] == 4
    pd.testing.assert_frame_equal(items(store, newest(store)), items(store, first))
    assert answers_metrics(newest(store)) == answers_metrics(first)


def answers_metrics(run: RunEntity) -> dict[str, float]:
    """The metrics that follow from the answers, not from when and where they were made."""
    return {key: value for key, value in run.data.metrics.items() if not key.startswith("run.")}


def test_several_samples_of_an_item_count_once_with_their_mean(
    config: Config, store: Store, known: CompletionStore
) -> None:
    sampling = SamplingConfig(temperature=1.0, samples=3)
    task = dataclasses.replace(config.task, sampling=sampling, grader="triviaqa-contains", max_tokens=12)
    run_job(dataclasses.replace(config, task=task), store, known, None)
    table = items(store, newest(store))
    assert list(table["sample"]) == [0, 1, 2] * 4
    assert table["output"].nunique() > 4
    assert newest(store).data.metrics["items"] == 4
    assert newest(store).data.metrics["score"] == pytest.approx(table["score"].mean())
    scores = record(store).scores
    assert len(scores) == 4
    assert scores.to_dict() == table.groupby("item_id")["score"].mean().to_dict()
    # An interval over four items, not over twelve independent ones.
    found = estimate(scores.sort_index().to_numpy(), resamples=10_000, seed=42, confidence=0.95)
    metrics = newest(store).data.metrics
    assert metrics["score_high"] == found.high
    # Three answers each: one alone, and the first two.
    assert metrics["pass_at_1"] == pytest.approx(metrics["score"])
    by_item = table.groupby("item_id")["score"].sum()
    assert metrics["pass_at_2"] == pytest.approx((1 - (3 - by_item) * (2 - by_item) / 6).mean())
    assert metrics["pass_at_2_low"] <= metrics["pass_at_2"] <= metrics["pass_at_2_high"]
    assert "pass_at_4" not in metrics
    [condition] = summarise([record(store)], [], StatsConfig(), "").conditions
    reported = {f"pass_at_{each.k}": each.passed.mean for each in condition.sampled}
    reported |= {f"majority_at_{each.k}_high": each.majority.high for each in condition.sampled}
    assert reported == {key: metrics[key] for key in reported}
    assert len(reported) == 4


def test_the_baseline_is_answered_twice_for_the_noise_floor(
    light: Config, store: Store, known: CompletionStore
) -> None:
    light = dataclasses.replace(light, seed=12, force=False)
    run_job(light, store, known, None)
    twice = dataclasses.replace(light, engine=dataclasses.replace(light.engine, floor=True))
    run_job(twice, store, known, None)  # another job than the one that has finished
    metrics = newest(store).data.metrics
    assert metrics["floor.answers"] == metrics["items"]
    assert "by other kernels of llama.cpp" in newest(store).data.tags["floor.by"]
    # The same kernels would give the same bits and measure nothing; others round otherwise.
    first = items(store, newest(store))
    with store.file(newest(store).info.run_id, "floor.parquet") as path:
        second = pd.read_parquet(path)
    assert (first["mean_logprob"] != second["mean_logprob"]).any()
    np.testing.assert_allclose(first["mean_logprob"], second["mean_logprob"], atol=0.5)
    asked = ["item_id", "sample", "prompt", "reference"]
    pd.testing.assert_frame_equal(first[asked], second[asked])
    [note] = [
        note for note in list_caveats(merge_seeds([record(store)]), light.stats) if note.startswith("Noise floor")
    ]
    assert "answered a second time in the opposite order and by other kernels of llama.cpp" in note
    count = len(store.client.search_runs([store.experiment]))
    other = dataclasses.replace(twice, quant=QuantConfig("Q4_K_M", "MOSTLY_Q4_K_M"))
    run_job(other, store, known, None)
    assert "floor.answers" not in newest(store).data.metrics
    run_job(dataclasses.replace(other, engine=light.engine), store, known, None)  # not the baseline: the same job
    assert len(store.client.search_runs([store.experiment])) == count + 1


def test_task_stop_strings_end_answers(light: Config, store: Store, known: CompletionStore) -> None:
    run_job(light, store, known, None)
    whole = items(store, newest(store)).set_index("item_id")["output"]
    run_job(dataclasses.replace(light, task=dataclasses.replace(light.task, stop=["e"])), store, known, None)
    cut = items(store, newest(store)).set_index("item_id")["output"]
    assert cut.to_dict() == {item: text.partition("e")[0] for item, text in whole.items()}


def test_exactness_is_measured_when_asked_for(light: Config, store: Store, known: CompletionStore) -> None:
    checked = dataclasses.replace(light, engine=dataclasses.replace(light.engine, verify=True))
    run_job(checked, store, known, None)
    metrics = newest(store).data.metrics
    assert metrics["verify.compared"] == metrics["verify.identical"] == 4 + 3


def test_nothing_else_of_mlflow_is_switched_by_a_job(light: Config, store: Store, known: CompletionStore) -> None:
    before = mlflow.get_tracking_uri()
    run_job(dataclasses.replace(light, task=dataclasses.replace(light.task, limit=1)), store, known, None)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
