"""Operations on a run, as values: done at once, or written down and done once the server is there.

Each can be done again without harm, so that after a failure all that may be missing is simply done again.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID
from pydantic import TypeAdapter, ValidationError

from quantexp.tracking.artifacts import read_table
from quantexp.tracking.backend import Backend
from quantexp.tracking.reader import Reader
from quantexp.tracking.scores import SCORES, add_facts
from quantexp.tracking.tags import IDENTITY, ITEMS, JOBS, TRACED

log = logging.getLogger(__name__)

METRICS_A_CALL = 1000
"""MLflow's limit."""


def read_clock() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(pd.Timestamp.now("UTC").value // 1_000_000)


@dataclass(frozen=True, slots=True)
class Record:
    """Parameters, metrics and tags.

    Attributes:
        metrics: name, value and step of each.
        time: when the metrics were measured, in milliseconds since 1970; MLflow passes over a metric that it has with
            the same time, step and value.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[tuple[str, float, int], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    time: int = field(default_factory=read_clock)

    def apply(self, backend: Backend, run_id: str) -> None:
        """Log them in as many calls as MLflow needs."""
        params = [Param(key, value) for key, value in self.params.items()]
        tags = [RunTag(key, value) for key, value in self.tags.items()]
        metrics = [Metric(name, value, self.time, step) for name, value, step in self.metrics]
        for first in range(0, max(len(metrics), 1), METRICS_A_CALL):
            backend.client.log_batch(run_id, metrics[first : first + METRICS_A_CALL], params, tags)
            params, tags = [], []


@dataclass(frozen=True, slots=True)
class File:
    """A file under its own name; one of the same name goes.

    Attributes:
        path: where it is now.
        folder: where it belongs in the run; "" for the top.
        shown: whether MLflow's pages offer it as a table.
    """

    path: str
    folder: str = ""
    shown: bool = False

    def apply(self, backend: Backend, run_id: str) -> None:
        """Upload it."""
        backend.put(run_id, Path(self.path), self.folder)
        if self.shown:
            # As MLflow's log_table does, which would add the rows to those that are there.
            tables = _shown_tables(backend.client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
            entry = {"path": Path(self.path).name, "type": "table"}
            if entry not in tables:
                backend.client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*tables, entry]))


def _shown_tables(tag: str) -> list[Any]:
    """List the tables that MLflow's pages offer; none, if somebody has made something else of the tag."""
    try:
        found = json.loads(tag)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores that comparisons read of a job, in a file that also holds the name and the tags that the run has by then.

    A copy goes to the sweep's run, so that a run that is gone is missed there, and can be named.

    Attributes:
        path: the scores (`scores.write_scores`).
        answers: how many there are.
    """

    path: str
    answers: int

    def apply(self, backend: Backend, run_id: str) -> None:
        """Upload both."""
        run = backend.client.get_run(run_id)
        sweep = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        with tempfile.TemporaryDirectory() as folder:
            file, copy = Path(folder) / SCORES, Path(folder) / f"{run_id}{Path(SCORES).suffix}"
            add_facts(Path(self.path), file, {"run_name": run.info.run_name, "tags": dict(run.data.tags)})
            backend.put(run_id, file)
            if sweep is not None:
                shutil.copy(file, copy)
                backend.put(sweep, copy, JOBS)
        backend.client.set_tag(run_id, SCORES, str(self.answers))


@dataclass(frozen=True, slots=True)
class Data:
    """Data of a run, by the hash of their rows."""

    name: str
    sha256: str
    rows: int
    source: str

    def apply(self, backend: Backend, run_id: str) -> None:
        """Log it as an input of the run."""
        entity = DatasetEntity(
            name=self.name,
            digest=self.sha256[:36],  # the store's limit
            source_type="quantexp",
            source=json.dumps({"source": self.source, "sha256": self.sha256}),
            profile=json.dumps({"num_rows": self.rows}),
        )
        context = [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")]
        # MLflow looks for the data set and then adds it: another process may have added it in between.
        with backend.lock:
            backend.client.log_inputs(run_id, datasets=[DatasetInput(entity, context)])


@dataclass(frozen=True, slots=True)
class Name:
    """Name of the run on MLflow's pages."""

    name: str

    def apply(self, backend: Backend, run_id: str) -> None:
        """Rename the run."""
        backend.client.update_run(run_id, name=self.name)


@dataclass(frozen=True, slots=True)
class Traces:
    """The answers of a job's item table as traces, unless they are there.

    Attributes:
        seconds: how long each answer took; None where nobody knows any more.
    """

    seconds: tuple[float, ...] | None = None

    def apply(self, backend: Backend, run_id: str) -> None:
        """Write them."""
        reader = Reader(backend)
        run = reader.entity(run_id)
        if TRACED in run.data.tags:
            return
        from quantexp.tracking.traces import write_traces  # slow to import, and seldom wanted

        with reader.file(run_id, f"{ITEMS}.parquet") as path:
            table = read_table(path)
        tags = {key: run.data.tags[key] for key in ("model", "quant", "task", "data", "seed")}
        grader = json.loads(run.data.tags[f"{IDENTITY}grader"])["id"]
        took = [0.0] * len(table) if self.seconds is None else self.seconds
        write_traces(backend.uri, backend.experiment, run_id, run.info.start_time, tags, grader, table, took)
        if run.info.status == "FINISHED":
            log.info("%s (run %s): %d traces added, one per answer", run.info.run_name, run_id[:8], len(table))
        backend.client.set_tag(run_id, TRACED, str(len(table)))


@dataclass(frozen=True, slots=True)
class End:
    """The end of the run: as FINISHED, FAILED or KILLED, at a time in milliseconds since 1970."""

    status: str
    time: int = field(default_factory=read_clock)

    def apply(self, backend: Backend, run_id: str) -> None:
        """Set the status and the time."""
        backend.client.set_terminated(run_id, self.status, self.time)


Operation = Record | File | Scores | Data | Name | Traces | End

_KINDS: Mapping[str, type[Operation]] = {kind.__name__: kind for kind in get_args(Operation)}

_CHECKS: Mapping[str, TypeAdapter[Operation]] = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}


def encode(operation: Operation) -> dict[str, Any]:
    """As JSON can hold it."""
    values = {name: getattr(operation, name) for name in operation.__slots__}
    return {"operation": type(operation).__name__, **values}


def decode(line: Mapping[str, Any]) -> Operation:
    """Return the operation of which `encode` made this.

    Raises:
        ValueError: it is none.
    """
    values = {key: value for key, value in line.items() if key != "operation"}
    name = str(line.get("operation"))
    if (kind := _KINDS.get(name)) is None:
        raise ValueError("operation is none")
    if unknown := values.keys() - {*kind.__slots__}:
        raise ValueError(f"{min(unknown)} is none")
    try:
        return _CHECKS[name].validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['loc'][0]} is none") from error
