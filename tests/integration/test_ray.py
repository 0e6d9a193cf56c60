"""A sweep through a real Ray that was started in another folder; jobs whose processes are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import free_port, until
from tests.integration.test_slurm import watching
from tests.support.stores import runs_so_far
from tests.support.waiting import read_killed, wait_for_generation

pytestmark = pytest.mark.integration

Start = Callable[..., subprocess.Popen[str]]


STARTS = 3
"""Ray is started so many times at most: on a busy machine its own processes may give each other up."""

PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
"""Ray's processes wait for each other so long; none waits at the end for work that nobody needs."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray with two processors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it would put a token into the home folder
        for name, value in PATIENCE.items():
            patch.setenv(name, value)
        for attempt in range(1, STARTS + 1):
            folder, port = tmp_path_factory.mktemp("ray"), free_port()
            head = start_ray(folder, port)
            try:
                wait_for_ray(folder, head)
            except (RuntimeError, TimeoutError):
                stop(head)
                if attempt == STARTS:
                    raise
            else:
                break
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stop(head)


def start_ray(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a Ray, whose output is in out.txt."""
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}",
        "--num-cpus=2", "--block",
        "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "out.txt").open("w") as out:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)


def wait_for_ray(folder: Path, head: subprocess.Popen[bytes]) -> None:
    """Wait until Ray has started."""

    def read_output() -> str:
        return (folder / "out.txt").read_text()

    until("Ray", lambda: "Ray runtime started" in read_output(), process=head, log=read_output)


def stop(head: subprocess.Popen[bytes]) -> None:
    """End a Ray, which ends all that it has started."""
    head.terminate()
    head.wait(timeout=900)


def test_killed_processes_and_a_ray_elsewhere(address: str, tmp_path: Path, start: Start, cache: Path) -> None:
    command = (
        "-m", "hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}",
        "hydra.launcher.ray.remote.num_cpus=1", "quant=Q8_0,Q3_K_M", "task=gsm8k", "task.limit=8", "engine.lanes=2",
        f"model.cache={cache}",
    )  # fmt: skip
    process = start(tmp_path, "quantexp", *command, "hydra.launcher.ray.remote.max_retries=0")
    killed = wait_for_generation(tmp_path, process, "gsm8k").data.tags
    os.kill(watching(killed), signal.SIGKILL)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err
    assert "Traceback (most recent call last)" not in err
    assert "A job's process was killed" in err
    assert f"{killed['quant']} gsm8k seed 0: its process was killed" in err, err
    assert "RUNNING" not in {
        run.info.status for run in [*runs_so_far(tmp_path, "job"), *runs_so_far(tmp_path, "sweep")]
    }

    process = start(tmp_path, "quantexp", *command)
    again = wait_for_generation(tmp_path, process, "gsm8k")
    writer = again.data.tags["process.id"]
    until(
        "an answer",
        lambda: any(b"\n" in path.read_bytes() for path in tmp_path.rglob(f"completions/*-{writer}-*")),
        process=process,
        log=lambda: read_killed(process),
    )
    os.kill(watching(again.data.tags), signal.SIGKILL)
    out, err = process.communicate(timeout=900)
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


def test_a_folder_of_temporary_files_too_deep_for_sockets(
    tmp_path: Path, start: Start, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    process = start(
        tmp_path, "quantexp", "-m", "hydra/launcher=ray", "quant=Q8_0", "task=gsm8k", "task.limit=2",
        f"model.cache={cache}",
    )  # fmt: skip
    _, err = process.communicate(timeout=900)
    assert process.returncode == 2
    assert "set hydra.launcher.ray.init._temp_dir, or TMPDIR, to a shorter one" in err
    assert "Traceback" not in err
