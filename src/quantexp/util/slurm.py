"""Slurm's knowledge of jobs, asked through its commands."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

JOB_NAME = "quantexp-{sweep}"
"""What the jobs of a sweep are called in Slurm (conf/hydra/launcher/slurm.yaml)."""

SECONDS = 5.0
"""Between two questions."""

PATIENCE = 60
"""How many questions in a row may stay without an answer: a controller that restarts is away for minutes."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The jobs of this user that a cluster holds, waiting, running, or just ending.

    Attributes:
        cluster: the cluster's name.
        names: name of each job by its id, such as 1234, or 1234_5 for a task of an array.
    """

    cluster: str
    names: Mapping[str, str]

    def list_jobs(self, sweep: str) -> list[str]:
        """Ids of the jobs that belong to a sweep."""
        return [job for job, name in self.names.items() if name == JOB_NAME.format(sweep=sweep)]


def queue() -> Queue | None:
    """Return the queue as it is now; None where there is no Slurm, or it does not answer."""
    settings = _answer("scontrol", "show", "config")
    jobs = _answer("squeue", "--me", "--noheader", "--array", "--format=%i|%j")
    if settings is None or jobs is None:
        return None
    found = dict(line.partition("=")[::2] for line in settings.splitlines())
    cluster = next((value.strip() for key, value in found.items() if key.strip() == "ClusterName"), "")
    return Queue(cluster, dict(line.partition("|")[::2] for line in jobs.splitlines()))


def wait_for(sweep: str) -> bool:
    """Wait until no job of the sweep is left; whether that is known, because Slurm has said so."""
    unanswered = 0
    while unanswered < PATIENCE:
        now = queue()
        if now is not None and not now.list_jobs(sweep):
            return True
        unanswered = unanswered + 1 if now is None else 0
        time.sleep(SECONDS)
    return False


def own_job() -> dict[str, str]:
    """Tags with the Slurm job that this process belongs to, and its cluster; none outside of Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return {}
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return {"slurm.job_id": job, "slurm.cluster": os.environ.get("SLURM_CLUSTER_NAME", "")}


def is_gone(tags: Mapping[str, str], now: Queue | None, user: str) -> bool:
    """Return whether a run belongs to a job of this user that this cluster no longer holds; unknown for others."""
    if now is None or "slurm.job_id" not in tags:
        return False
    is_ours = (tags.get("slurm.cluster"), tags.get("mlflow.user")) == (now.cluster, user)
    return is_ours and tags["slurm.job_id"] not in now.names


def _answer(*command: str) -> str | None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None
