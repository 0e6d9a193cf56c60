"""Waits for what a command that a test has started brings about."""

import subprocess
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from running import until
from tests.support.stores import runs_so_far


def read_killed(process: subprocess.Popen[Any]) -> str:
    """Kill a command, and return all that it has written; for the error of a wait that was in vain."""
    process.kill()
    return "\n".join(str(part) for part in process.communicate())


def wait_for_generation(folder: Path, process: subprocess.Popen[Any], task: str = "", besides: str = "") -> Run:
    """Wait for a job that generates, one that has an identity already, and return its run.

    Args:
        folder: the command's.
        process: the command.
        task: the job's; any by default.
        besides: the number of a Slurm job that is not meant.
    """

    def look() -> Run | None:
        for run in runs_so_far(folder, "job"):
            tags = run.data.tags
            is_meant = tags["task"] == (task or tags["task"]) and tags.get("slurm.job_id", "none") != besides
            if run.info.status == "RUNNING" and "identity.settings" in tags and is_meant:
                return run
        return None

    found = until("a job that generates", look, process=process, log=lambda: read_killed(process))
    assert found is not None
    return found
