"""Jobs side by side: through joblib, for real; what the other launchers are given, before anything is launched.

Real Slurm and Ray are in tests/integration.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run as RunEntity

from quantexp import worker
from quantexp.errors import UserError
from quantexp.launching import PROCESSES

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., tuple[int, str, str]]

SWEEP = (
    "-m", "hydra/launcher=joblib", "quant=Q8_0,Q3_K_M", "task=triviaqa", "task.shots=0", "task.limit=12",
    "task.max_tokens=32", "engine.lanes=2", "engine.context=256", "stats.resamples=50",
)  # fmt: skip


def runs(folder: Path, kind: str) -> list[RunEntity]:
    """Those in the store, if there is one yet."""
    if not (folder / "mlruns" / "mlflow.db").is_file():
        return []
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    if experiment is None:
        return []
    return list(client.search_runs([experiment.experiment_id], f"tags.`quantexp.kind` = '{kind}'"))


def test_a_killed_process_is_seen_and_the_same_command_goes_on(
    tmp_path: Path, start: Start, command: Command, cache: Path
) -> None:
    sweep = (*SWEEP, f"model.cache={cache}")
    process = start(tmp_path, "quantexp", *sweep)
    deadline = time.monotonic() + 200
    while not (begun := [run for run in runs(tmp_path, "job") if run.info.status == "RUNNING"]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victim = int(begun[0].data.tags["process.id"])
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "2 processes side by side, with 1 threads each" in err
    assert "joblib ended the others; the same command goes on" in err, err
    assert f"{begun[0].info.run_name}: its process was killed" in err
    assert "RUNNING" not in {run.info.status for run in [*runs(tmp_path, "job"), *runs(tmp_path, "sweep")]}

    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 0, err
    assert re.search(r"Q3_K_M .*\d", out)
    [parent] = runs(tmp_path, "sweep")
    assert parent.info.status == "FINISHED"
    finished = [run for run in runs(tmp_path, "job") if run.info.status == "FINISHED"]
    assert sorted(run.data.tags["quant"] for run in finished) == ["Q3_K_M", "Q8_0"]
    assert {run.data.tags["mlflow.parentRunId"] for run in finished} == {parent.info.run_id}
    # Each in a process of its own, which is not the launching one.
    assert len({run.data.tags["process.id"] for run in finished} | {parent.data.tags["process.id"]}) == 3


@pytest.mark.parametrize(
    ("overrides", "needs"),
    [(("stats=sequential",), "stats=sequential"), (("divergence=true",), "divergence")],
)
def test_jobs_that_need_the_baselines_are_not_started_beside_it(
    tmp_path: Path, command: Command, overrides: tuple[str, ...], needs: str
) -> None:
    status, out, err = command(tmp_path, "quantexp", *SWEEP, *overrides)
    assert (status, out) == (2, "")
    assert err == (
        f"quantexp: hydra/launcher=joblib starts all jobs side by side, and {needs} needs the baseline's finished "
        "before the others begin: run this command with quant=Q8_0 alone, then as it is.\n"
    )
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("launcher", ["joblib", "slurm", "ray"])
def test_a_launcher_whose_plugin_is_not_installed(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    hidden = "import sys, hydra_plugins; hydra_plugins.__path__ = []; from quantexp.__main__ import main; "
    code = f"{hidden}sys.argv = ['quantexp', '-m', 'hydra/launcher={launcher}', 'quant=Q8_0']; main()"
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f"quantexp: hydra/launcher={launcher} needs Hydra's plugin for it, which is not installed; "
        f'run: pip install "quantexp[{launcher}]"\n'
    )


def claimed(folder: Path, taken: "multiprocessing.Queue[str]") -> None:
    worker.claim_device("CUDA_VISIBLE_DEVICES", folder)
    taken.put(os.environ["CUDA_VISIBLE_DEVICES"])
    time.sleep(600)


def test_each_process_has_a_gpu_and_a_dead_ones_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    monkeypatch.setenv(PROCESSES, "4")
    fork = multiprocessing.get_context("fork")
    taken = fork.Queue()
    processes = [fork.Process(target=claimed, args=(tmp_path, taken)) for _ in range(4)]
    try:
        for process in processes:
            process.start()
        assert sorted(taken.get(timeout=60) for _ in processes) == ["3", "3", "GPU-5a", "GPU-5a"]
        with pytest.raises(UserError, match="All of CUDA_VISIBLE_DEVICES=3,GPU-5a are taken; raise"):
            worker.claim_device("CUDA_VISIBLE_DEVICES", tmp_path, 0)
        processes[0].kill()
        processes[0].join()
        worker.claim_device("CUDA_VISIBLE_DEVICES", tmp_path, 60).release()
    finally:
        for process in processes:
            process.kill()
            process.join()
