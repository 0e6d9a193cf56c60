"""The smoke experiment through a real Slurm: jobs that are cancelled, killed, and put back into the queue."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from running import until
from tests.support.slurm_cluster import SlurmCluster, missing_programs
from tests.support.stores import runs_so_far
from tests.support.waiting import wait_for_generation

from quantexp.util import slurm

pytestmark = pytest.mark.integration

Start = Callable[..., subprocess.Popen[str]]

SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    assert not missing_programs(), "run tests/integration/install.sh, or make integration"
    with pytest.MonkeyPatch.context() as patch, SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        for variable in ("SLURM_CONF", "PATH"):
            patch.setenv(variable, running.environment[variable])
        yield running


def watching(tags: Mapping[str, str]) -> int:
    """The number of the process that a scheduler has started, and that watches a job's."""
    return int(psutil.Process(int(tags["process.id"])).ppid())


def stopped(process: int) -> bool:
    """Keep a process from finishing in the seconds that a cancelled job is left; whether it is there yet."""
    try:
        os.kill(process, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    return True


def stored(folder: Path) -> list[int]:
    """Answers in each segment of the completion store; two jobs write one each."""
    counts = [path.read_bytes().count(b"\n") for path in (folder / "mlruns" / "completions").glob("*.jsonl")]
    return counts if len(counts) == 2 else [0]


def test_the_smoke_experiment_with_a_job_cancelled_and_one_killed(
    cluster: SlurmCluster, tmp_path: Path, start: Start, cache: Path
) -> None:
    command = (
        "experiment=quant-cliff-smoke", *SLURM, "seed=0", "data.limit=4", "engine.lanes=2", f"model.cache={cache}",
    )  # fmt: skip
    process = start(tmp_path, "quantexp", *command)
    tags = wait_for_generation(tmp_path, process, "gsm8k").data.tags
    cancelled = tags["slurm.job_id"]
    cluster.command("scancel", cancelled)
    until("its end", lambda: not stopped(int(tags["process.id"])))
    killed = wait_for_generation(tmp_path, process, "gsm8k", cancelled).data.tags
    os.kill(watching(killed), signal.SIGKILL)
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "A Slurm job was killed or ended without a result: Job " in err
    assert "waiting for the jobs that Slurm still has" in err
    by_job = {run.data.tags["slurm.job_id"]: run for run in runs_so_far(tmp_path, "job")}
    assert {job for job, run in by_job.items() if run.info.status == "KILLED"} == {cancelled, killed["slurm.job_id"]}
    assert len([run for run in by_job.values() if run.info.status == "FINISHED"]) == 10
    assert out.count("is KILLED: its process was killed") == 2
    assert {run.info.status for run in runs_so_far(tmp_path, "sweep")} == {"FAILED"}
    [where] = {line.rpartition("output: ")[2] for line in err.splitlines() if "their output: " in line}
    assert (
        "score"
        in (tmp_path / where / f"{cancelled.partition('_')[0]}_11")
        .joinpath(f"{cancelled.partition('_')[0]}_11_0_log.err")
        .read_text()
    )

    process = start(tmp_path, "quantexp", *command)
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert "continuing the sweep that was started with the same jobs" in err
    [sweep] = runs_so_far(tmp_path, "sweep")
    assert sweep.info.status == "FINISHED"
    finished = [run for run in runs_so_far(tmp_path, "job") if run.info.status == "FINISHED"]
    assert len(finished) == 12
    assert len({(run.data.tags["quant"], run.data.tags["task"]) for run in finished}) == 12
    assert {run.data.tags["mlflow.parentRunId"] for run in finished} == {sweep.info.run_id}
    assert out.count("Claim: ") == 2
    assert not slurm.queue().names  # type: ignore[union-attr]


def test_the_launching_process_dies_and_a_job_runs_out_of_time(
    cluster: SlurmCluster, tmp_path: Path, start: Start, cache: Path
) -> None:
    command = (
        "-m", *SLURM, "quant=Q8_0,Q3_K_M", "task=gsm8k", "task.limit=24", "engine.lanes=2", f"model.cache={cache}",
    )  # fmt: skip
    process = start(tmp_path, "quantexp", *command)
    first = wait_for_generation(tmp_path, process, "gsm8k")
    process.kill()
    process.communicate()
    [sweep] = runs_so_far(tmp_path, "sweep")
    until("some answers of both jobs", lambda: all(answers >= 2 for answers in stored(tmp_path)))
    # What Slurm does some time before a job's time is up.
    cluster.command("scancel", "--signal=USR2", first.data.tags["slurm.job_id"])
    until("the run's end", lambda: "KILLED" in {run.info.status for run in runs_so_far(tmp_path, "job")})

    process = start(tmp_path, "quantexp", *command)
    out, err = process.communicate(timeout=900)
    assert (process.returncode, out) == (2, "")
    assert "Slurm still has jobs of this sweep, whose launching process has ended (" in err
    assert f"scancel --name=quantexp-{sweep.info.run_id}" in err
    assert len(runs_so_far(tmp_path, "job")) <= 2

    until("the second attempt", lambda: len(runs_so_far(tmp_path, "job")) == 3)
    assert slurm.wait_for(sweep.info.run_id)

    process = start(tmp_path, "quantexp", *command)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    [sweep] = runs_so_far(tmp_path, "sweep")
    assert sweep.info.status == "FINISHED"
    jobs = runs_so_far(tmp_path, "job")
    assert sorted(run.info.status for run in jobs) == ["FINISHED", "FINISHED", "KILLED"]
    again = jobs[2]
    assert again.info.status == "FINISHED"
    assert again.data.tags["slurm.job_id"] == first.data.tags["slurm.job_id"]
    assert again.data.metrics["run.completions_from_store"] > 0
