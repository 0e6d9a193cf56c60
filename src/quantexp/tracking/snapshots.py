"""Snapshots of MLflow's knowledge of a job, beside its scores: many jobs are read without asking for each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from sys import intern
from typing import Any

import pyarrow as pa
from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag
from mlflow.entities import Run as RunEntity

JOBS = "jobs"
"""Folder of a sweep's run with a file for each of its jobs that has finished."""

MERGED = "merged"
"""Folder of a sweep's run with files that hold many of those."""

MANY = 1000
"""Jobs from which on a sweep is read from these files; fewer are asked for, which also sees what was edited since."""


def facts(run: RunEntity) -> dict[str, Any]:
    """Return what MLflow knows of a run, as JSON has it."""
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
    """Return the run again, which has this status by now; equal names and values of many runs are held once.

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


def write_merged(files: Mapping[str, bytes], path: Path) -> None:
    """Put files into one.

    Args:
        files: the content of each, by name.
        path: of the one.

    Raises:
        OSError: it cannot be written.
    """
    table = pa.table({"name": pa.array(files, pa.string()), "content": pa.array(files.values(), pa.binary())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_merged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files in such a one: name and content.

    Raises:
        OSError, ValueError: it is damaged.
        KeyError: it is something else.
    """
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    for batch in table.select(["name", "content"]).to_batches():
        for name, each in zip(batch["name"], batch["content"], strict=True):
            yield name.as_py(), each.as_py()
