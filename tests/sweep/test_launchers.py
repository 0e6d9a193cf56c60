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
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from running import until
from tests.support.forking import Forker
from tests.support.stores import runs_so_far

from quantexp import models
from quantexp.config import Config, EngineConfig, ModelConfig, QuantConfig, TrackingConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.memory import free_memory, kv_bytes, needed_bytes
from quantexp.models import ModelFile
from quantexp.sweep import worker
from quantexp.sweep.launchers import memory_gb
from quantexp.tracking.store import Store
from quantexp.util.environment import PROCESSES
from quantexp.util.errors import UserError
from quantexp.util.native.threads import THREADS, usable_cores

Command = Callable[..., tuple[int, str, str]]

SWEEP = (
    "-m", "hydra/launcher=joblib", "quant=Q8_0,Q3_K_M", "task=triviaqa", "task.shots=0", "task.limit=12",
    "task.max_tokens=32", "engine.lanes=2", "engine.context=256", "stats.resamples=50",
)  # fmt: skip


@pytest.mark.slow
def test_a_killed_process_is_seen_and_the_same_command_goes_on(
    tmp_path: Path, forker: Forker, command: Command, cache: Path
) -> None:
    sweep = (*SWEEP, f"model.cache={cache}")
    process = forker.start(tmp_path, "quantexp", *sweep)
    begun = until(
        "a job",
        lambda: [run for run in runs_so_far(tmp_path, "job") if run.info.status == "RUNNING"],
        process=process,
        log=lambda: process.err,
    )
    job = psutil.Process(int(begun[0].data.tags["process.id"]))
    victim = job.ppid()  # joblib's, which watches the job's
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    job.wait(300)
    status, _, err = process.communicate(900)
    assert status == 1
    assert "Traceback" not in err
    assert "2 processes side by side, with 1 threads each" in err
    assert "joblib ended the others; the same command goes on" in err, err
    tags = begun[0].data.tags
    assert f"{tags['quant']} {tags['task']} seed {tags['seed']}: its process was killed" in err
    assert "RUNNING" not in {
        run.info.status for run in [*runs_so_far(tmp_path, "job"), *runs_so_far(tmp_path, "sweep")]
    }

    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 0, err
    assert re.search(r"Q3_K_M .*\d", out)
    [parent] = runs_so_far(tmp_path, "sweep")
    assert parent.info.status == "FINISHED"
    finished = [run for run in runs_so_far(tmp_path, "job") if run.info.status == "FINISHED"]
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


# Slurm, as far as one knows it by its commands


@pytest.fixture
def slurm_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stand-ins for squeue and scontrol, and what the first one prints."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def program(name: str, output: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\ncat <<END\n{output}\nEND\n")
        (folder / name).chmod(0o755)

    program("scontrol", "Configuration data\nClusterName             = big\nControlMachine = head")
    return lambda lines: program("squeue", lines)


@pytest.mark.slow
def test_the_run_of_a_slurm_job_on_another_node_is_closed_once_slurm_has_it_no_more(
    tmp_path: Path, slurm_holds: Callable[[str], None]
) -> None:
    store = Store(TrackingConfig(folder=str(tmp_path / "mlruns")))
    elsewhere = {"host.name": "node7", "process.id": "1", "process.started": "1.0", "slurm.cluster": "big"}
    sweep = store.start("sweep", "sweep", None, {})
    for name, tags in {
        "waiting again": {"slurm.job_id": "12_1"},
        "gone": {"slurm.job_id": "12_3"},
        "on another cluster": {"slurm.job_id": "12_3", "slurm.cluster": "other"},
        "somebody else's": {"slurm.job_id": "12_3", "mlflow.user": "somebody"},
        "without Slurm": {},
    }.items():
        store.start(name, "job", sweep.id, elsewhere | tags)
    slurm_holds("12_1|quantexp-abc\n12_2|quantexp-abc\n9|other")
    assert store.close_abandoned() == ["gone"]
    slurm_holds("")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")  # the controller is away: nobody can tell
    assert store.close_abandoned() == []
    # The launching process knows that all have ended, wherever they ran.
    assert store.close_jobs(sweep.id, ended=False) == []
    assert len(store.close_jobs(sweep.id, ended=True)) == 4


def test_jobs_that_slurm_has_yet_are_not_started_again(
    tmp_path: Path, command: Command, cache: Path, slurm_holds: Callable[[str], None]
) -> None:
    quick = ("task.limit=1", "task.shots=0", "task.max_tokens=1")
    sweep = ("-m", "quant=Q8_0", "task=triviaqa", *quick, f"model.cache={cache}")
    assert command(tmp_path, "quantexp", *sweep)[0] == 0
    [parent] = runs_so_far(tmp_path, "sweep")
    slurm_holds(f"12_1|quantexp-{parent.info.run_id}")
    status, out, err = command(tmp_path, "quantexp", *sweep, environment={"PATH": os.environ["PATH"]})
    assert (status, out) == (2, "")
    assert "quantexp: Slurm still has jobs of this sweep, whose launching process has ended (12_1): wait" in err


def test_memory_is_asked_for_what_a_job_takes(demo: ModelConfig, q8_0: ModelFile, engine: LlamaCpp) -> None:
    small = Config(
        model=demo, quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"), engine=EngineConfig("llama_cpp", 1024, lanes=8)
    )
    source = models.find_source(demo, small.quant)
    needed = needed_bytes(source, small)
    cache = 8 * kv_bytes(engine.model, 1024)
    assert q8_0.bytes + cache <= needed <= 1.5 * q8_0.bytes + cache
    many = replace(small, engine=replace(small.engine, lanes=64))
    assert needed_bytes(source, many) - needed == 7 * cache
    assert memory_gb([small, many]) == memory_gb([many]) > memory_gb([small])
    assert needed_bytes(source, replace(many, engine=replace(many.engine, gpu_layers=-1))) == needed - cache
    assert needed_bytes(source, replace(many, engine=replace(many.engine, kv_memory_gb=0.1))) == needed - cache + 10**8


def test_a_job_keeps_to_the_memory_and_the_threads_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = psutil.Process().memory_info().rss // 2**20  # by the other tests of this process
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(taken + 512))
    assert 0 < free_memory() < 2**30
    monkeypatch.setenv(THREADS, "1")
    assert usable_cores() == 1
