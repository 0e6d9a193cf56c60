"""`experiment=quant-cliff-smoke`, whole: what CI runs to see the published experiment from end to end."""

import csv
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity


def jobs(folder: Path) -> list[RunEntity]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], "tags.`quantexp.kind` = 'job'"))


@pytest.mark.smoke
def test_the_whole_experiment_and_that_it_is_not_run_twice(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(tmp_path, "quantexp", "experiment=quant-cliff-smoke")
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    finished = jobs(tmp_path)
    assert {run.info.status for run in finished} == {"FINISHED"}
    each = Counter((run.data.tags["quant"], run.data.tags["task"]) for run in finished)
    assert len(each) == 12
    assert set(each.values()) == {3}
    for run in finished:
        path = Path(run.info.artifact_uri.removeprefix("file://")) / "items.parquet"
        assert pd.read_parquet(path)["score"].notna().sum() == 8
    assert "Declared before the first answer, on " in out
    assert out.count("Claim: ") == 2
    [comparisons] = (tmp_path / "multirun").glob("*/*/report/comparisons.csv")
    assert len(list(csv.DictReader(comparisons.read_text().splitlines()))) == 9

    process = start(tmp_path, "quantexp", "experiment=quant-cliff-smoke")
    again, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert err.count("finished before") == 36
    assert len(jobs(tmp_path)) == 36
    assert again.partition("\nreport ")[0] == out.partition("\nreport ")[0]
