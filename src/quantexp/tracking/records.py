"""What MLflow knows of a job, in the file of its scores: a sweep of many jobs is read without asking for each run."""

from collections.abc import Mapping
from sys import intern
from typing import Any

from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag
from mlflow.entities import Run as RunEntity

JOBS = "jobs"
"""Folder of a sweep's run with a file for each of its jobs that has finished."""

MANY = 1000
"""Jobs from which on a sweep is read from these files; fewer are asked for, which also sees what was edited since."""


def facts(run: RunEntity) -> dict[str, Any]:
    """What MLflow knows of a run, as JSON has it."""
    return {
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "run_name": run.info.run_name,
        "start_time": run.info.start_time,
        "artifact_uri": run.info.artifact_uri,
        "tags": dict(run.data.tags),
        "params": dict(run.data.params),
        "metrics": dict(run.data.metrics),
    }


def run_of(told: Mapping[str, Any], status: str = "FINISHED") -> RunEntity:
    """The run again, which has this status by now; equal names and values of many runs are held once.

    Raises:
        KeyError: something is not told.
    """
    return RunEntity(
        RunInfo(
            run_id=told["run_id"],
            experiment_id=told["experiment_id"],
            user_id="",
            status=status,
            start_time=told["start_time"],
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=told["artifact_uri"],
            run_name=told["run_name"],
        ),
        RunData(
            metrics=[Metric(intern(key), value, 0, 0) for key, value in told["metrics"].items()],
            params=[Param(intern(key), intern(value)) for key, value in told["params"].items()],
            tags=[RunTag(intern(key), intern(value)) for key, value in told["tags"].items()],
        ),
    )
