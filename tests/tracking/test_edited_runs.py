"""Runs that people have edited in MLflow, or that are damaged: each is named and left out, and the rest is compared."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
from mlflow.entities import Run as RunEntity
from pyarrow import parquet
from tests.support.copies import copied
from tests.support.stores import client_of, runs_of

import quantexp
from quantexp.config import StatsConfig, TrackingConfig
from quantexp.tracking.artifacts import LARGEST, read_yaml
from quantexp.tracking.scores import read_scores
from quantexp.tracking.store import Store
from quantexp.tracking.tags import JOB

Command = Callable[..., tuple[int, str, str]]

SWEEP = (
    *("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,extraction", "seed=0"),
    *("task.limit=3", "task.shots=1", "task.max_tokens=64", "engine.threads=1"),
)
"""The sweep that `swept` has run."""


@pytest.fixture
def folder(swept: Path, tmp_path: Path) -> Path:
    """A copy of a finished sweep, with its completions."""
    copied(swept, tmp_path)
    subprocess.run(["cp", "-a", str(swept / "mlruns" / "completions"), str(tmp_path / "mlruns")], check=True)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> mlflow.MlflowClient:
    return client_of(folder)


def sweep_of(folder: Path) -> str:
    [sweep] = runs_of(folder, "sweep")
    return str(sweep.info.run_id)


def job_of(folder: Path, quant: str, task: str) -> RunEntity:
    [job] = [run for run in runs_of(folder, "job") if (run.data.tags["quant"], run.data.tags["task"]) == (quant, task)]
    return job


Edit = Callable[[mlflow.MlflowClient, str], object]

EDITS: dict[str, tuple[Edit, str]] = {
    **{
        f"no {tag}": (lambda client, run, tag=tag: client.delete_tag(run, tag), f"for its tag {tag} is missing")  # type: ignore[misc]
        for tag in ("model", "task", "quant", "seed", "data")
    },
    "seed abc": (lambda client, run: client.set_tag(run, "seed", "abc"), "for its tag seed is abc, which is no whole"),
    "seed 1.5": (lambda client, run: client.set_tag(run, "seed", "1.5"), "for its tag seed is 1.5"),
    **{
        f"identity {text[:9]}": (
            lambda client, run, text=text: client.set_tag(run, "identity.model", text),  # type: ignore[misc]
            "for its tag identity.model is damaged",
        )
        for text in ("no JSON", "[1]", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 5000, "{")
    },
    "no grader": (lambda client, run: client.set_tag(run, "identity.grader", "{}"), "does not say how it was graded"),
    "NaN": (
        lambda client, run: client.log_metric(run, "bits_per_weight", float("nan")),
        "its metric bits_per_weight is",
    ),
    "endless": (lambda client, run: client.log_metric(run, "completion_tokens", float("inf")), "completion_tokens is"),
    "deleted": (lambda client, run: client.delete_run(run), "was deleted in MLflow, so it does not count; restore it"),
    "another sweep's": (
        lambda client, run: client.set_tag(run, "mlflow.parentRunId", "f" * 32),
        "does not belong to this sweep any more: its tag mlflow.parentRunId was changed",
    ),
    "no job": (lambda client, run: client.delete_tag(run, "quantexp.kind"), "is not a job (quantexp.kind: None)"),
}


@pytest.mark.parametrize(("edit", "reason"), EDITS.values(), ids=EDITS)
def test_an_edited_run_is_named_and_left_out(
    folder: Path, client: mlflow.MlflowClient, edit: Edit, reason: str
) -> None:
    store, sweep = Store(TrackingConfig(str(folder / "mlruns"))), sweep_of(folder)
    run = job_of(folder, "Q3_K_M", "triviaqa").info.run_id
    edit(client, run)
    records, [sentence] = store.jobs_of(sweep)
    assert len(records) == 3
    assert run not in {record.run_id for record in records}
    assert run in sentence
    assert reason in sentence
    assert sentence.count("\n") == 0
    assert len(sentence) < 400


def test_what_does_not_matter_changes_nothing(folder: Path, client: mlflow.MlflowClient) -> None:
    store, sweep = Store(TrackingConfig(str(folder / "mlruns"))), sweep_of(folder)
    expected = [(record.run_id, record.scores.to_dict()) for record in store.jobs_of(sweep)[0]]
    for run_id in (sweep, *(run for run, _ in expected)):
        client.update_run(run_id, name="a name of ours")
        client.set_tag(run_id, "note", "ours")
        client.log_metric(run_id, "ours", float("nan"))
        client.log_param(run_id, "ours", "x")
        client.set_tag(run_id, "mlflow.loggedArtifacts", "no JSON")
        client.delete_tag(run_id, "quantexp.commit")
        client.delete_tag(run_id, "process.started")
        client.set_tag(run_id, "process.id", "x")
    run = expected[0][0]
    client.delete_run(run)
    client.restore_run(run)
    records, failures = store.jobs_of(sweep)
    assert ([(record.run_id, record.scores.to_dict()) for record in records], failures) == (expected, [])
    result = quantexp.load(folder=folder / "mlruns", stats=StatsConfig(resamples=100))
    assert "not recorded" in result.summary.protocol["quantexp.commit"]


@pytest.mark.slow
def test_a_damaged_sweep_is_compared_loaded_planned_regraded_and_mended_by_its_own_command(
    folder: Path, client: mlflow.MlflowClient, command: Command, cache: Path
) -> None:
    """Three of four jobs come to harm, and the sweep's own command mends them from the store of completions."""
    harmed = {
        "edited": job_of(folder, "Q3_K_M", "triviaqa"),
        "deleted": job_of(folder, "Q3_K_M", "extraction"),
        "damaged": job_of(folder, "Q8_0", "extraction"),
    }
    ids = {how: run.info.run_id for how, run in harmed.items()}
    client.set_tag(ids["edited"], "seed", "abc")
    client.delete_run(ids["deleted"])
    artifacts = folder / "mlruns" / "artifacts"
    (artifacts / ids["damaged"] / "artifacts" / "scores.arrow").write_bytes(b"ARROW1\0\0 no more")
    (artifacts / sweep_of(folder) / "artifacts" / "registration.yaml").write_text("comparisons: [3]")
    sentences = [*(f"(run {run})" for run in ids.values()), "A sweep's registration.yaml is damaged"]
    status, out, err = command(folder, "quantexp.aggregate", "stats.resamples=100")
    assert (status, "Traceback" in err) == (1, False), err
    shown = " ".join(out.split())
    assert all(sentence in shown for sentence in sentences)
    assert "Q8_0" in out
    [report] = folder.glob("multirun/*/*/report/report.md")
    assert all(sentence in report.read_text() for sentence in sentences)
    result = quantexp.load(folder=folder / "mlruns")
    assert [len(result.conditions), len(result.summary.failures)] == [1, 4]
    status, _, err = command(folder, "quantexp.plan")
    assert (status, "Traceback" in err) == (2, False)
    assert "has no quant to pair with the baseline" in err
    status, _, err = command(folder, "quantexp.regrade", "grader=triviaqa-contains")
    assert (status, "Traceback" in err) == (1, False), err
    assert all(run in err for run in ids.values())
    (artifacts / sweep_of(folder) / "artifacts" / "registration.yaml").unlink()
    status, _, err = command(folder, "quantexp", *SWEEP, f"model.cache={cache}")
    assert (status, err.count("finished before")) == (0, 1), err
    assert "does not count, for its tag seed is abc" in err
    assert len(runs_of(folder, "job")) == 6  # and a deleted one
    again = {run.data.tags[JOB]: run.data.metrics["run.completions_generated"] for run in runs_of(folder, "job")[-3:]}
    assert again == {run.data.tags[JOB]: 0 for run in harmed.values()}
    assert command(folder, "quantexp.aggregate", "stats.resamples=100")[0] == 0


@pytest.mark.slow
def test_a_sweep_whose_runs_were_removed_for_good_stays_readable(
    folder: Path, client: mlflow.MlflowClient, command: Command
) -> None:
    run = job_of(folder, "Q3_K_M", "triviaqa")
    for task in ("triviaqa", "extraction"):  # the one a job of the sweep, the other taken over from an earlier one
        job = job_of(folder, "Q3_K_M", task).info.run_id
        client.delete_run(job)
        if task == "extraction":
            client.set_tag(sweep_of(folder), f"includes.{job}", "finished before this sweep")
            next((folder / "mlruns" / "artifacts" / sweep_of(folder)).rglob(f"{job}.arrow")).unlink()
    address = f"sqlite:///{folder}/mlruns/mlflow.db"
    collect = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", address]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address}
    done = subprocess.run(collect, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    status, out, err = command(folder, "quantexp.aggregate", "stats.resamples=100")
    assert (status, "Traceback" in err) == (1, False), err
    shown = " ".join(out.split())
    assert f"Q3_K_M triviaqa seed 0 (run {run.info.run_id}) is gone from the store, as after mlflow gc" in shown
    assert "which counted in this sweep, is gone; run its job again" in shown
    client.delete_run(sweep_of(folder))
    status, _, err = command(folder, "quantexp.aggregate", f"sweep={run.data.tags['mlflow.parentRunId']}")
    assert status == 2
    assert "was deleted in MLflow; restore it there, or name another." in err


def broken(path: Path) -> None:
    path.write_bytes(b"\0" * 200)


@pytest.mark.parametrize("harm", [Path.unlink, broken])
@pytest.mark.parametrize("name", ["items.parquet", "config.yaml"])
def test_a_file_that_is_lost_costs_no_more_than_its_run(
    folder: Path, command: Command, name: str, harm: Callable[[Path], None]
) -> None:
    run = job_of(folder, "Q3_K_M", "triviaqa")
    harm(folder / "mlruns" / "artifacts" / run.info.run_id / "artifacts" / name)
    result = quantexp.load(folder=folder / "mlruns")
    if name == "config.yaml":  # a comparison does without it, if another says how to compare
        assert len(result.conditions) == 4
        return
    assert {*result.conditions["quant"] + " " + result.conditions["task"]} == {
        "Q8_0 triviaqa", "Q8_0 extraction", "Q3_K_M extraction",
    }  # fmt: skip
    [sentence] = result.summary.failures
    assert sentence.startswith("Q3_K_M triviaqa seed 0 does not count: ")
    assert name in sentence


# Files that others have written


def test_yaml_that_refers_to_itself_is_refused_at_once(folder: Path, command: Command) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "\n".join([*lines, "data: *a9", "stats: *a9"])
    for path in (folder / "mlruns" / "artifacts").rglob("config.yaml"):
        path.write_text(bomb)
    status, _, err = command(folder, "quantexp.regrade", "grader=triviaqa-contains")
    assert (status, "Traceback" in err) == (1, False), err
    assert "it holds an alias, which quantexp never writes" in err
    with pytest.raises(quantexp.UserError, match=r"holds an alias.*Say how to compare"):
        quantexp.load(folder=folder / "mlruns")


@pytest.mark.parametrize(
    "text",
    ["a: &x 1\nb: *x", "a: &x {k: 1}\nb: {<<: *x}", "x" * (LARGEST + 1), "a: " + "[" * 3000, "a: " + "{b: " * 1000],
    ids=["alias", "merge", "huge", "deep", "deep mappings"],
)
def test_yaml_that_quantexp_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(quantexp.UserError, match=r"^It is damaged \(.*\); put it back from a copy\.$"):
        read_yaml(text, "It")


@pytest.mark.parametrize(
    "table",
    [
        {"item_id": [1, 2], "cluster": ["a", "b"], "score": [1.0, 0.0]},
        {"item_id": ["1", None], "cluster": ["a", "b"], "score": [1.0, 0.0]},
        {"item_id": ["1", "2"], "cluster": ["a", "b"], "score": [float("inf"), 0.0]},
        {"item_id": ["1", "2"], "cluster": ["a", "b"], "score": ["right", "wrong"]},
        {"item_id": ["1", "2"], "cluster": ["a", "b"], "score": [[1.0], [0.0]]},
        {"item_id": ["1", "2"], "score": [1.0, 0.0]},
    ],
)
def test_another_program_s_table_is_damage(folder: Path, table: dict[str, list[object]]) -> None:
    run = job_of(folder, "Q8_0", "triviaqa").info.run_id
    path = folder / "mlruns" / "artifacts" / run / "artifacts" / "scores.arrow"
    content = pa.table(table)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, content.schema) as writer:
        writer.write_table(content)
    store = Store(TrackingConfig(str(folder / "mlruns")))
    records, [sentence] = store.jobs_of(sweep_of(folder))
    assert len(records) == 3
    assert "does not count, for its table scores.arrow cannot be read (" in sentence
    parquet.write_table(content, path.with_suffix(".parquet"))
    with pytest.raises((ValueError, TypeError, NotImplementedError)):
        read_scores(path.with_suffix(".parquet").read_bytes(), "scores.parquet")
