"""One run in the store, and what is read of a finished one."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

from quantexp.errors import sentence_for
from quantexp.tracking.names import ITEMS
from quantexp.tracking.records import JOBS, facts
from quantexp.tracking.scores import SCORES, write_scores

log = logging.getLogger(__name__)

BELOW = "<!-- Written by quantexp at each comparison; what stands below this line is yours. -->"
"""Ends quantexp's part of a description; pages do not show it."""

METRICS_A_CALL = 1000
"""MLflow's limit."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that needs not be run again.

    Attributes:
        sweep: id of the sweep that it was run in, if any.
    """

    run_id: str
    sweep: str | None
    metrics: Mapping[str, float]


class Run:
    """A run that is open in the store; as a context manager it is never left open."""

    def __init__(self, client: mlflow.MlflowClient, lock: FileLock, run_id: str, name: str) -> None:
        """`lock` is the store's, for what MLflow does not do in one step."""
        self._client, self._lock = client, lock
        self.id = run_id
        self.name = name

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record parameters, metrics and tags in one call."""
        now = pd.Timestamp.now("UTC").value // 1_000_000
        self._client.log_batch(
            self.id,
            metrics=[Metric(key, value, now, 0) for key, value in (metrics or {}).items()],
            params=[Param(key, str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def log_curves(self, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Record metrics at steps; what is there with the same value is not recorded again."""
        now = pd.Timestamp.now("UTC").value // 1_000_000
        new = []
        for name, curve in curves.items():
            newest = sorted(self._client.get_metric_history(self.id, name), key=lambda each: each.timestamp)
            there = {each.step: each.value for each in newest}
            new += [Metric(name, value, now, step) for step, value in curve.items() if there.get(step) != value]
        for first in range(0, len(new), METRICS_A_CALL):
            self._client.log_batch(self.id, metrics=new[first : first + METRICS_A_CALL])

    def rename(self, name: str) -> None:
        """Change what MLflow's pages call it."""
        self._client.update_run(self.id, name=name)

    def describe(self, text: str, tags: Mapping[str, str] | None = None) -> None:
        """Set the description that MLflow's pages show; what people have written there stays, below it.

        Args:
            text: Markdown; one that is too long ends early.
            tags: those of the run, if they have been read.
        """
        before = (self._client.get_run(self.id).data.tags if tags is None else tags).get(MLFLOW_RUN_NOTE, "")
        _, marked, below = before.rpartition(BELOW)
        own = (below if marked else before).strip()
        room = MAX_TAG_VAL_LENGTH - len(BELOW) - len(own) - 2
        shown = text if len(text) <= room else text[: max(room, 0)].rpartition("\n")[0]
        described = f"{shown}\n{BELOW}\n{own}".rstrip()
        if described != before:
            self._client.set_tag(self.id, MLFLOW_RUN_NOTE, described)

    def log_yaml(self, content: str, name: str) -> None:
        """Record a text file; the name may hold folders."""
        self._client.log_text(self.id, content, name)

    def log_files(self, files: Sequence[Path]) -> None:
        """Record files under their own names."""
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def log_items(self, table: pd.DataFrame, name: str = ITEMS) -> None:
        """Record a per-item table, exactly and for MLflow's pages; one of the same name goes."""
        self.log_table(table, name)
        with tempfile.TemporaryDirectory() as folder:
            shown = Path(folder) / f"{name}.json"
            if shown.name in {entry.path for entry in self._client.list_artifacts(self.id)}:
                # MLflow would add the rows to those that are there.
                table.to_json(shown, orient="split", index=False, date_format="iso")
                self._client.log_artifact(self.id, str(shown))
                return
        self._client.log_table(self.id, table, f"{name}.json")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Record a table for programs, exactly: NAME.parquet."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.parquet"
            table.to_parquet(file, index=False)
            self._client.log_artifact(self.id, str(file))

    def log_scores(self, table: pd.DataFrame) -> None:
        """Record what comparisons read of a job, in a small file: the last thing before it ends.

        The file holds all else that is recorded of the run. A copy goes to the sweep's run, where one request lists the
        files of all jobs: a server takes longer to tell of a run than to hand over such a file.
        """
        run = self._client.get_run(self.id)
        sweep = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        with tempfile.TemporaryDirectory() as folder:
            file, copy = Path(folder) / SCORES, Path(folder) / f"{self.id}{Path(SCORES).suffix}"
            write_scores(table, file, facts(run))
            self._client.log_artifact(self.id, str(file))
            if sweep is not None:
                shutil.copy(file, copy)
                self._client.log_artifact(sweep, str(copy), JOBS)
        self.log(tags={SCORES: str(len(table))})

    def log_dataset(self, name: str, fingerprint: str, rows: int, source: str) -> None:
        """Record which data were used, by the hash of their rows."""
        entity = DatasetEntity(
            name=name,
            digest=fingerprint[:36],  # the store's limit
            source_type="quantexp",
            source=json.dumps({"source": source, "sha256": fingerprint}),
            profile=json.dumps({"num_rows": rows}),
        )
        context = [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")]
        # MLflow looks for the data set and then adds it: another process may have added it in between.
        with self._lock:
            self._client.log_inputs(self.id, datasets=[DatasetInput(entity, context)])

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.id, status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if error is None:
            self.close("FINISHED")
            return
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        reason = sentence_for(error) or f"{type(error).__name__}: {error}"
        self.log(tags={"error": "interrupted" if interrupted else reason[:5000]})
        self.close("KILLED" if interrupted else "FAILED")
        if not interrupted:
            log.error("%s failed: %s", self.name, reason, exc_info=sentence_for(error) is None)
