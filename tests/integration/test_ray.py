"""A sweep through a real Ray that was started in another folder; jobs whose processes are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import free_port, until
from tests.integration.test_slurm import running, watching
from tests.support.stores import runs_so_far

pytestmark = pytest.mark.integration

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Ray with two processors."""
    folder = tmp_path_factory.mktemp("ray")
    port = free_port()
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}",
        "--num-cpus=2", "--block",
        "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it would put a token into the home folder
        with (folder / "out.txt").open("w") as out:
            head = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        try:
            until("Ray", lambda: "Ray runtime started" in (folder / "out.txt").read_text())
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()  # and it ends all that it has started
            head.wait(timeout=60)


def test_killed_processes_and_a_ray_elsewhere(address: str, tmp_path: Path, start: Start, cache: Path) -> None:
    command = (
        "-m", "hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}",
        "hydra.launcher.ray.remote.num_cpus=1", "quant=Q8_0,Q3_K_M", "task=gsm8k", "task.limit=8", "engine.lanes=2",
        f"model.cache={cache}",
    )  # fmt: skip
    process = start(tmp_path, "quantexp", *command, "hydra.launcher.ray.remote.max_retries=0")
    killed = running(tmp_path, process, "gsm8k").data.tags
    os.kill(watching(killed), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Traceback (most recent call last)" not in err
    assert "A job's process was killed" in err
    assert f"{killed['quant']} gsm8k seed 0: its process was killed" in err, err
    assert "RUNNING" not in {
        run.info.status for run in [*runs_so_far(tmp_path, "job"), *runs_so_far(tmp_path, "sweep")]
    }

    process = start(tmp_path, "quantexp", *command)
    again = running(tmp_path, process, "gsm8k")
    writer = again.data.tags["process.id"]
    until("an answer", lambda: any(b"\n" in path.read_bytes() for path in tmp_path.rglob(f"completions/*-{writer}-*")))
    os.kill(watching(again.data.tags), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    [sweep] = runs_so_far(tmp_path, "sweep")
    assert sweep.info.status == "FINISHED"
    jobs = runs_so_far(tmp_path, "job")
    assert again.info.run_id in {run.info.run_id for run in jobs if run.info.status == "KILLED"}
    finished = [run for run in jobs if run.info.status == "FINISHED"]
    assert sorted(run.data.tags["quant"] for run in finished) == ["Q3_K_M", "Q8_0"]
    assert sum(run.data.metrics["run.completions_from_store"] for run in finished) > 0
    assert "the baseline" in out
    # Where they were asked for, though Ray's processes began in another folder.
    assert len(list(tmp_path.glob("multirun/*/*/[01]/quantexp.log"))) >= 2
