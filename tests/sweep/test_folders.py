"""The folders of a command: what it is relative to, and what a refused one leaves."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.copies import copied
from tests.support.stores import runs_of

Command = Callable[..., tuple[int, str, str]]

OWN = {"out.txt", "err.txt", "status.txt"}
"""What the fixture `command` leaves."""


@pytest.mark.slow
def test_a_job_s_own_folder_changes_no_path(swept: Path, tmp_path: Path, command: Command, cache: Path) -> None:
    copied(swept, tmp_path)
    subprocess.run(["cp", "-a", str(swept / "mlruns" / "completions"), str(tmp_path / "mlruns")], check=True)
    sweep = (
        *("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa", "seed=0", "task.limit=3", "task.shots=1", "task.max_tokens=64"),
        *("engine.threads=1", f"model.cache={cache}", "hydra.job.chdir=true"),
    )
    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert (status, err.count("finished before"), "have not begun" in err) == (0, 2, False), err
    assert "report  " in out
    status, _, err = command(tmp_path, "quantexp", *sweep, "force=true")
    assert status == 0, err
    assert len(runs_of(tmp_path, "job")) == 6
    assert {run.data.metrics["run.completions_generated"] for run in runs_of(tmp_path, "job")[-2:]} == {0}
    for module in ("quantexp.aggregate", "quantexp.plan"):
        status, _, err = command(tmp_path, module, "hydra.job.chdir=true")
        assert status == 0, err
    assert [path.parent for path in tmp_path.rglob("mlruns")] == [tmp_path]


@pytest.mark.parametrize("module", ["quantexp.aggregate", "quantexp.regrade", "quantexp.plan", "quantexp.sync"])
def test_a_refused_command_leaves_nothing(tmp_path: Path, command: Command, module: str) -> None:
    status, _, err = command(tmp_path, module)
    assert (status, err.count("\n")) == (2, 1), err
    assert {path.name for path in tmp_path.iterdir()} == OWN


def test_a_refused_command_leaves_what_is_there(tmp_path: Path, command: Command) -> None:
    (tmp_path / "multirun" / "earlier").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert command(tmp_path, "quantexp.aggregate")[0] == 2
    assert command(tmp_path, "quantexp.aggregate", "hydra.run.dir=mine")[0] == 2
    assert {path.name for path in tmp_path.iterdir()} == OWN | {"multirun", "mine"}
    assert [path.name for path in (tmp_path / "multirun").iterdir()] == ["earlier"]
