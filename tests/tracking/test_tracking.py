"""What the MLflow store knows of a sweep, read with MLflow's own client, and how the store behaves."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity
from omegaconf import OmegaConf
from tests.support.copies import copied
from tests.support.stores import JOB_METRICS, JOB_TAGS

from quantexp.config import Config, DataConfig, TrackingConfig
from quantexp.config.validation import validated
from quantexp.stats import estimate
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import draw_items
from quantexp.tracking.run import BELOW, Run
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CONFIG, JOB, TRACED
from quantexp.util.errors import UserError
from quantexp.util.provenance import provenance


@pytest.fixture(scope="module")
def client(swept: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{swept / 'mlruns' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client: mlflow.MlflowClient) -> list[RunEntity]:
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def parent(runs: list[RunEntity]) -> RunEntity:
    [found] = [run for run in runs if run.data.tags["quantexp.kind"] == "sweep"]
    return found


@pytest.fixture(scope="module")
def children(runs: list[RunEntity]) -> list[RunEntity]:
    return [run for run in runs if run.data.tags["quantexp.kind"] == "job"]


@pytest.fixture(scope="module")
def tables(client: mlflow.MlflowClient, children: list[RunEntity]) -> dict[str, pd.DataFrame]:
    """The exact table of each job, by run id."""
    return {
        run.info.run_id: pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet"))
        for run in children
    }


def test_one_finished_parent_holds_four_finished_children(parent: RunEntity, children: list[RunEntity]) -> None:
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children] == ["FINISHED"] * 4
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    jobs = {(run.data.tags["quant"], run.data.tags["task"]) for run in children}
    assert jobs == {(quant, task) for quant in ("Q8_0", "Q3_K_M") for task in ("triviaqa", "extraction")}
    assert parent.data.tags["jobs"] == "4"
    assert parent.info.run_name == "sweep of 4: smollm2-135m-instruct"
    command = "python -m quantexp -m quant=Q8_0,Q3_K_M task=triviaqa,extraction seed=0 "
    assert parent.data.tags["command"].startswith(command)


def test_names_sort_by_task_and_bits_and_tags_find_a_sweeps_jobs(
    client: mlflow.MlflowClient, parent: RunEntity, children: list[RunEntity]
) -> None:
    names = sorted(str(run.info.run_name) for run in children)
    assert [re.sub(r"\d\d\.\d\d", "BITS", name) for name in names] == [
        f"{task} BITS {quant} seed 0" for task in ("extraction", "triviaqa") for quant in ("Q3_K_M", "Q8_0")
    ]
    condition = f"tags.sweep LIKE '%{parent.info.run_id[:8]}%' and tags.task = 'triviaqa' and tags.quant = 'Q8_0'"
    [found] = client.search_runs([parent.info.experiment_id], condition)
    assert found.data.tags["model"] == "smollm2-135m-instruct"


def test_descriptions_hold_the_verdict(parent: RunEntity, children: list[RunEntity]) -> None:
    described = parent.data.tags["mlflow.note.content"]
    assert described.startswith("**Q3_K_M: ")
    assert "| extraction | Q8_0 |" in described
    for run in children:
        text = run.data.tags["mlflow.note.content"]
        assert f"Score {100 * run.data.metrics['score']:.1f} [" in text
        assert ("The baseline." in text) == (run.data.tags["quant"] == "Q8_0")
        assert ("points lost against Q8_0" in text) == (run.data.tags["quant"] == "Q3_K_M")


def test_the_sweep_charts_scores_over_bits_per_weight(
    client: mlflow.MlflowClient, parent: RunEntity, children: list[RunEntity]
) -> None:
    for task in ("triviaqa", "extraction"):
        curve = {
            each.step: each.value for each in client.get_metric_history(parent.info.run_id, f"{task} by bits/score")
        }
        jobs = [run.data.metrics for run in children if run.data.tags["task"] == task]
        assert curve == {round(1000 * of["bits_per_weight"]): pytest.approx(of["score"]) for of in jobs}
        [loss] = client.get_metric_history(parent.info.run_id, f"{task} by bits/loss_against_Q8_0")
        steps = sorted(curve)
        assert loss.step == steps[0]
        assert loss.value == pytest.approx(curve[steps[1]] - curve[steps[0]])


def test_the_sweeps_metrics_name_task_and_quant(parent: RunEntity, children: list[RunEntity]) -> None:
    for run in children:
        task, quant = run.data.tags["task"], run.data.tags["quant"]
        assert parent.data.metrics[f"{task}/score {quant}"] == pytest.approx(run.data.metrics["score"])
        assert (f"{task}/loss_against_Q8_0 {quant}" in parent.data.metrics) == (quant != "Q8_0")
    assert not [value for value in parent.data.metrics.values() if 0 < abs(value) < 1e-9]


def test_a_page_of_mlflow_shows_the_sweeps_jobs_with_score_and_verdict(
    swept: Path, client: mlflow.MlflowClient, parent: RunEntity, children: list[RunEntity]
) -> None:
    [key] = re.findall(r"/runs\?viewStateShareKey=(\w+)&", (swept / "out.txt").read_text())
    experiment = client.get_experiment(parent.info.experiment_id)
    state = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    shown = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=["attributes.run_name ASC"])
    assert [run.info.run_id for run in shown] == [
        run.info.run_id for run in sorted(children, key=lambda run: str(run.info.run_name))
    ]
    for column in state["selectedColumns"]:
        kind, name = re.fullmatch(r"(metrics|tags)\.`(\w+)`", column).groups()  # type: ignore[union-attr]
        assert all(name in getattr(run.data, kind) for run in shown)
    assert {run.data.tags["verdict"] for run in shown if run.data.tags["quant"] == "Q8_0"} == {"baseline"}


def test_tags_say_what_ran_with_which_code_where(parent: RunEntity, children: list[RunEntity]) -> None:
    for run in [parent, *children]:
        tags = run.data.tags
        assert re.fullmatch(r"[0-9a-f]{40}|none: not a git checkout", tags["quantexp.commit"])
        assert tags["quantexp.dirty"] in {"true", "false", "unknown"}
        for key in ("quantexp.version", "llama_cpp_python.version", "mlflow.version", "python.version"):
            assert re.match(r"\d+\.\d+", tags[key]), key
        for key in ("host.name", "host.system", "host.processor", "mlflow.user"):
            assert tags[key], key
        assert int(tags["host.cores"]) >= 1
        assert float(tags["host.memory_gb"]) > 0
    for run in children:
        assert run.data.tags["seed"] == "0"
        assert run.data.tags["data"] == "bundled"
        assert run.data.tags["engine.system"]
    hashes = [run.data.tags["job.sha256"] for run in children]
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in hashes)
    assert len(set(hashes)) == 4


def test_params_are_the_configuration_under_the_names_of_the_command_line(children: list[RunEntity]) -> None:
    for run in children:
        params = run.data.params
        assert params["quant.name"] == run.data.tags["quant"]
        assert params["task.limit"] == "3"
        assert params["seed"] == "0"
        assert params["engine.threads"] == "1"
        assert params["stats.baseline"] == "Q8_0"
        assert re.fullmatch(r"[0-9a-f]{64}", params["file.sha256"])
        assert Path(params["file.path"]).stat().st_size == run.data.metrics["model_bytes"]


def test_each_quant_is_one_file_whichever_the_task(children: list[RunEntity]) -> None:
    files = {(run.data.tags["quant"], run.data.params["file.sha256"]) for run in children}
    assert len(files) == 2


def test_metrics_measure_the_file_the_speed_and_the_machine(children: list[RunEntity]) -> None:
    bits = {run.data.tags["quant"]: run.data.metrics["bits_per_weight"] for run in children}
    assert bits["Q8_0"] == pytest.approx(8.5, abs=0.1)
    assert 3 < bits["Q3_K_M"] < bits["Q8_0"]
    for run in children:
        metrics = run.data.metrics
        assert metrics["parameters"] == pytest.approx(134.5e6, rel=0.01)
        assert metrics["model_bytes"] * 8 / metrics["parameters"] == pytest.approx(metrics["bits_per_weight"], rel=0.05)
        assert metrics["items"] == 3
        assert metrics["items_not_asked"] == 0
        assert metrics["run.tokens_per_second"] > 0
        assert metrics["run.peak_memory_mb"] > metrics["model_bytes"] / 2**20 / 2
        assert metrics["run.wall_seconds"] > 0
        assert metrics["run.completions_generated"] == 3
        assert metrics["run.completions_from_store"] == 0


def test_metrics_are_those_of_the_item_table(children: list[RunEntity], tables: dict[str, pd.DataFrame]) -> None:
    for run in children:
        table, metrics = tables[run.info.run_id], run.data.metrics
        # In the order of the ids, as in the report, whose interval must be the same.
        scores = table.sort_values("item_id")["score"].to_numpy()
        found = estimate(scores, resamples=10_000, seed=42, confidence=0.95)
        assert metrics["score"] == pytest.approx(table["score"].mean())
        assert (metrics["score_low"], metrics["score_high"]) == (found.low, found.high)
        assert metrics["completion_tokens"] == table["completion_tokens"].sum()
        assert metrics["items_cut_at_max_tokens"] == (table["finish_reason"] == "length").sum()
        assert metrics["items_unreadable"] == table["grading_error"].notna().sum()


def test_item_tables_hold_prompt_output_and_verdict_of_every_item_drawn(
    children: list[RunEntity], tables: dict[str, pd.DataFrame]
) -> None:
    for run in children:
        table, task = tables[run.info.run_id], get_task(run.data.tags["task"])
        items = draw_items(load(DataConfig("bundled"), task).items, seed=0, limit=3)
        assert list(table["item_id"]) == [item.id for item in items]
        for item, row in zip(items, table.to_dict("records"), strict=True):
            asked = str(item.fields["question" if task.name == "triviaqa" else "email"])
            assert asked in row["question"]
            assert row["question"] in row["prompt"]
            chat = json.loads(row["messages"])
            assert {turn["role"] for turn in chat} == {"user", "assistant"}
            assert row["question"] in chat[-1]["content"]
            assert all(turn["content"] in row["prompt"] for turn in chat)
            assert row["finish_reason"] in {"stop", "length"}
            assert 0 < row["completion_tokens"] <= 64
            assert row["prompt_tokens"] > 10
            assert row["mean_logprob"] < 0
            assert row["score"] == task.grader().grade(row["output"], item.fields).score
        if task.name == "extraction":
            parts = table[[column for column in map(str, table) if column.startswith("score_")]]
            assert parts.shape == (3, 3)
            assert table["score"].to_numpy() == pytest.approx(parts.mean(axis=1).to_numpy())


def test_mlflow_shows_the_same_table(
    swept: Path, client: mlflow.MlflowClient, tables: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id, exact in tables.items():
        shown = json.loads(Path(client.download_artifacts(run_id, "items.json")).read_text())
        assert shown["columns"][:5] == ["item_id", "score", "extracted", "reference", "output"]
        exact = exact.drop(columns="messages")  # which say what the prompt says
        assert sorted(shown["columns"]) == sorted(exact.columns)
        again = pd.DataFrame(shown["data"], columns=shown["columns"])[list(exact.columns)]
        pd.testing.assert_frame_equal(again, exact, check_dtype=False, rtol=1e-9)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{swept / 'mlruns' / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "quantexp")
    read = mlflow.load_table("items.json", run_ids=[*tables], extra_columns=["run_id"])
    assert (len(read), int(read["score"].notna().sum()), read["run_id"].nunique()) == (12, 12, 4)


def test_config_yaml_reloads_to_the_configuration_that_ran(
    client: mlflow.MlflowClient, children: list[RunEntity], cache: Path
) -> None:
    for run in children:
        config = validated(OmegaConf.load(client.download_artifacts(run.info.run_id, "config.yaml")), Config)  # type: ignore[arg-type]
        assert config.quant.name == run.data.tags["quant"]
        assert config.task.name == run.data.tags["task"]
        assert config.task.limit == 3
        assert config.model.cache == str(cache)
        # Every parameter but those of the files is a key of the configuration.
        flat = {key for key in run.data.params if not key.startswith(("file.", "source."))}
        structured = OmegaConf.structured(config)
        assert all(
            OmegaConf.select(structured, key, throw_on_missing=True) is not None or run.data.params[key] == "None"
            for key in flat
        )


def test_the_data_are_an_mlflow_dataset_known_by_their_fingerprint(children: list[RunEntity]) -> None:
    for run in children:
        assert run.inputs is not None
        [entry] = run.inputs.dataset_inputs
        data = load(DataConfig("bundled"), get_task(run.data.tags["task"]))
        assert entry.dataset.name == f"bundled-{run.data.tags['task']}"
        assert entry.dataset.digest == data.fingerprint[:36]
        assert json.loads(entry.dataset.source)["sha256"] == data.fingerprint
        assert json.loads(run.data.tags["identity.data"])["fingerprint"] == data.fingerprint
        assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "evaluation"}


def test_readers_and_a_writer_may_use_the_store_at_once(swept: Path) -> None:
    with closing(sqlite3.connect(swept / "mlruns" / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# The store itself


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    # A folder such as people have, which as a URI needs quoting.
    return Store(TrackingConfig(str(tmp_path_factory.mktemp("mes essais é #1") / "mlruns")))


@pytest.fixture
def run(store: Store) -> Run:
    return store.start("a job", "job", None, {})


def entity(store: Store, run: Run) -> RunEntity:
    return store.client.get_run(run.id)


def test_a_run_is_finished_when_nothing_goes_wrong(store: Store, run: Run) -> None:
    with run:
        run.log(metrics={"score": 0.5})
    assert entity(store, run).info.status == "FINISHED"
    assert "error" not in entity(store, run).data.tags


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("Set this to that."), "Set this to that."),
        (RuntimeError("broken"), "RuntimeError: broken"),
        (FileNotFoundError(2, "no", "x.gguf"), "The system refused: No such file or directory (x.gguf)"),
        (RuntimeError("x" * 9000), "RuntimeError: xxx"),
    ],
)
def test_an_error_leaves_a_failed_run_that_says_why(store: Store, run: Run, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), run:
        raise error
    assert entity(store, run).info.status == "FAILED"
    assert entity(store, run).data.tags["error"].startswith(reason)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupt_leaves_a_killed_run(store: Store, run: Run, interrupt: BaseException) -> None:
    with pytest.raises(type(interrupt)), run:
        raise interrupt
    assert entity(store, run).info.status == "KILLED"
    assert entity(store, run).data.tags["error"] == "interrupted"


def test_what_a_person_has_written_stays_below_each_new_description(store: Store, run: Run) -> None:
    def described() -> str:
        return entity(store, run).data.tags["mlflow.note.content"]

    store.client.set_tag(run.id, "mlflow.note.content", "My words.")
    run.describe("First.")
    assert described().splitlines() == ["First.", BELOW, "My words."]
    run.describe("**Second.**\n\nline\n" + "x" * 9000)
    assert described().splitlines() == ["**Second.**", "", "line", BELOW, "My words."]


def test_curves_are_not_recorded_twice(store: Store, run: Run) -> None:
    for value in (0.5, 0.5, 0.4):
        run.log_curves({"t/score": {8500: value, 4800: 0.3}})
    history = store.client.get_metric_history(run.id, "t/score")
    assert sorted((each.step, each.value) for each in history) == [(4800, 0.3), (8500, 0.4), (8500, 0.5)]


def test_where_there_is_nothing_to_record_nobody_is_asked(store: Store, run: Run) -> None:
    with run, patch.object(mlflow.MlflowClient, "log_batch", side_effect=AssertionError):
        run.log(params={}, tags={})
        run.log_curves({})


def test_a_job_that_counts_in_a_later_sweep_is_found_by_either(store: Store) -> None:
    first, second = (store.start(name, "sweep", None, {}) for name in ("first", "second"))
    with store.start("a job", "job", first.id, JOB_TAGS | {JOB: "f" * 64}) as job:
        job.log(params={"file.sha256": "x"}, metrics=JOB_METRICS)
        job.log_items(pd.DataFrame({"item_id": ["1"], "cluster": ["1"], "score": [1.0]}))
    done = store.finished_job("f" * 64)
    assert done is not None
    for _ in range(2):
        store.include(second.id, done)
    assert entity(store, job).data.tags["sweep"] == f"{first.id} {second.id}"


def test_traces_hold_every_answer_with_its_scores_once(swept: Path, tmp_path: Path, parent: RunEntity) -> None:
    copied(swept, tmp_path)
    store = Store(TrackingConfig(str(tmp_path / "mlruns"), traces=True))
    client = mlflow.MlflowClient(store.uri)
    jobs = store.jobs_of(parent.info.run_id)[0]
    [job] = [each for each in jobs if (each.tags["task"], each.tags["quant"]) == ("extraction", "Q8_0")]
    store.run(job.run_id).trace([0.25] * 3)
    client.delete_tag(job.run_id, TRACED)  # as if the process had died before the end
    store.run(job.run_id).trace()
    store.run(job.run_id).trace()
    found = client.search_traces(locations=[parent.info.experiment_id])
    with store.file(job.run_id, "items.parquet") as path:
        rows = pd.read_parquet(path).set_index("item_id")
    assert sorted(trace.info.tags["item"] for trace in found) == sorted(rows.index)
    for trace in found:
        row = rows.loc[trace.info.tags["item"]]
        [span] = trace.data.spans
        assert (span.inputs, span.outputs) == ({"prompt": row["prompt"]}, {"answer": row["output"]})
        assert span.attributes["finish_reason"] == row["finish_reason"]
        assert trace.info.token_usage == {
            "input_tokens": row["prompt_tokens"],
            "output_tokens": row["completion_tokens"],
            "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
        }
        assert trace.info.execution_duration == 250
        assert trace.info.trace_metadata["mlflow.sourceRun"] == job.run_id
        assert (trace.info.tags["quant"], trace.info.tags["task"]) == ("Q8_0", "extraction")
        given = {each.name: each for each in trace.info.assessments}
        assert given["score"].feedback.value == pytest.approx(row["score"])
        assert given["score"].source.source_id == job.identity["grader"]["id"]
        assert len(given) == 1 + sum(str(column).startswith("score_") for column in rows)
    assert client.get_run(job.run_id).data.tags[TRACED] == "3"


def test_tables_come_back_exactly_from_a_folder_with_an_odd_name(store: Store) -> None:
    ids = ["1", "2"]
    table = pd.DataFrame({"item_id": ids, "cluster": ids, "score": [1 / 3, None], "output": ["\u2028\n\"'", "😀"]})
    with store.start("a job", "job", None, JOB_TAGS) as run:
        run.log(params={"file.sha256": "x"}, metrics=JOB_METRICS)
        run.log_items(table)
    [record], failures = store.jobs([run.id])
    assert failures == []
    assert list(record.scores.index) == ["1", "2"]
    assert record.scores["1"] == 1 / 3
    assert pd.isna(record.scores["2"])


def test_runs_that_are_no_finished_jobs_are_named(store: Store) -> None:
    sweep = store.start("a sweep", "sweep", None, {})
    unfinished = store.start("still going", "job", sweep.id, {})
    failed = store.start("a bad job", "job", sweep.id, {})
    with pytest.raises(UserError), failed:
        raise UserError("Why it failed.")
    records, failures = store.jobs_of(sweep.id)
    assert records == []
    assert failures == ["still going is RUNNING: no reason was recorded", "a bad job: Why it failed."]
    assert store.has_jobs(sweep.id)
    assert not store.has_jobs(unfinished.id)
    [sentence] = store.jobs([sweep.id])[1]
    assert sentence == f"a sweep (run {sweep.id}) is not a job (quantexp.kind: sweep)."


def test_the_latest_sweep_is_the_one_started_last(store: Store) -> None:
    store.start("one", "sweep", None, {})
    last = store.start("two", "sweep", None, {})
    store.start("a job", "job", None, {})
    assert store.latest_sweep() == last.id


def test_a_user_without_a_name_can_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    assert entity(store, store.start("a job", "job", None, {})).data.tags["mlflow.user"] == "54321"


def test_a_deleted_experiment_is_told_with_what_to_do(tmp_path: Path) -> None:
    config = TrackingConfig(str(tmp_path / "mlruns"))
    first = Store(config)
    first.client.delete_experiment(first.experiment)
    with pytest.raises(UserError, match="was deleted; restore it"):
        Store(config)


def test_an_attempt_that_failed_does_not_count_once_another_has_finished(tmp_path: Path) -> None:
    store = Store(TrackingConfig(str(tmp_path)))
    with store.start("sweep", "sweep", None, {}) as sweep:
        for config, error in (("a", "no memory"), ("b", "no file"), ("a", None)):
            seed = str("ab".index(config))
            run = store.start(f"job {config}", "job", sweep.id, JOB_TAGS | {CONFIG: config, "seed": seed})
            if error is None:
                run.log(params={"file.sha256": "x"}, metrics=JOB_METRICS)
                run.log_items(pd.DataFrame({"item_id": ["1"], "cluster": ["1"], "score": [1.0]}))
                run.close("FINISHED")
            else:
                run.log(tags={"error": error})
                run.close("FAILED")
    finished, failures = store.jobs_of(sweep.id)
    assert [record.name for record in finished] == ["Q8_0 t seed 0"]
    assert failures == ["Q8_0 t seed 1: no file"]


def test_runs_whose_process_is_gone_are_closed_and_no_others(tmp_path: Path) -> None:
    store = Store(TrackingConfig(str(tmp_path)))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    own = provenance()
    runs = {
        "ours": store.start("ours", "job", None, {}),
        "gone": store.start("gone", "job", None, {"process.id": str(gone.pid)}),
        "number given again": store.start("again", "job", None, {"process.started": "12345.6"}),
        "elsewhere": store.start("elsewhere", "job", None, {"host.name": "another", "process.id": str(gone.pid)}),
    }
    assert own["process.id"] == str(os.getpid())
    assert sorted(store.close_abandoned()) == ["again", "gone"]
    client = mlflow.MlflowClient(store.uri)
    status = {name: client.get_run(run.id).info.status for name, run in runs.items()}
    assert status == {"ours": "RUNNING", "gone": "KILLED", "number given again": "KILLED", "elsewhere": "RUNNING"}
    assert client.get_run(runs["gone"].id).data.tags["error"] == "its process was killed"


def test_a_store_whose_making_was_cut_off_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mlflow.unfinished").write_bytes(b"half a database")
    store = Store(TrackingConfig(str(tmp_path)))
    store.start("job", "job", None, {}).close("FINISHED")
    assert not list(tmp_path.glob("*unfinished*"))
