"""`python -m quantexp.regrade` on a copy of a real sweep: what it prints, its exit status, and what it does without."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from tests.support.copies import copied

from quantexp.config import DataConfig, TrackingConfig
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tracking.store import Store

Start = Callable[..., subprocess.Popen[str]]


def test_the_command_grades_a_real_sweep_again_without_llama_cpp(
    swept: Path, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(swept, tmp_path)
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "llama_cpp.py").write_text("raise RuntimeError('llama.cpp is not needed here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    process = start(tmp_path, "quantexp.regrade", "grader=extraction-nofence")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    lines = [line.partition(" ")[2] for line in err.splitlines()]
    assert lines[0] == "triviaqa has no grader extraction-nofence: left out (2 jobs)"
    assert [line.partition(":")[0] for line in lines[1:]] == ["Q8_0 extraction seed 0", "Q3_K_M extraction seed 0"]
    [folder] = (tmp_path / "multirun").glob("*/*-regrade/report")
    assert {"changes.diff", "report.md", "comparisons.csv"} <= {path.name for path in folder.iterdir()}
    assert f"report  {folder / 'report.html'}\n" in out
    assert "extraction-nofence-v1" in out
    grader = get_task("extraction").grader("extraction-nofence")
    fields = {item.id: item.fields for item in load(DataConfig("bundled"), get_task("extraction")).items}
    store = Store(TrackingConfig(str(tmp_path / "mlruns")))
    records = [record for record in store.jobs_of(store.latest_sweep())[0] if record.tags["task"] == "extraction"]
    assert len(records) == 2

    def table(run_id: str, name: str) -> pd.DataFrame:
        with store.file(run_id, f"{name}.parquet") as path:
            return pd.read_parquet(path)

    for record in records:
        new = table(record.run_id, "items.extraction-nofence-v1")
        assert list(new) == list(table(record.run_id, "items"))
        for row in new.to_dict("records"):
            assert row["score"] == grader.grade(row["output"], fields[row["item_id"]]).score


def test_a_mistake_ends_with_status_2_and_a_job_that_cannot_be_graded_with_1(
    swept: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    copied(swept, tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        database.execute("""UPDATE tags SET value = '{"fingerprint": "0123456789"}' WHERE key = 'identity.data'""")
        database.commit()
    status, out, err = command(tmp_path, "quantexp.regrade", "grader=nope")
    assert (status, out) == (2, "")
    assert err == (
        "quantexp: grader=nope: no task of these jobs has such a grader; choose one that it has: "
        "triviaqa has lm-eval, triviaqa, triviaqa-contains, triviaqa-unicode; "
        "extraction has extraction, extraction-contains, extraction-nofence, requested-action-embedding, "
        "requested-action-judge.\n"
    )
    status, out, err = command(tmp_path, "quantexp.regrade", "grader=extraction-nofence")
    assert (status, out) == (1, "")
    assert err.count(") is not graded again: the bundled data of extraction have changed since it ran (") == 2
    assert "Traceback" not in err
