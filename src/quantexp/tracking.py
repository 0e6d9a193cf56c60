"""Everything that speaks to MLflow; nothing else does."""

import getpass
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

# Set before the import: runs here send nothing to anyone unless the user has asked for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Nor does a bar of MLflow's break into ours for every small file.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Nor do its lines on how it makes the tables of a new store.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as RunEntity
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from quantexp.config import TrackingConfig
from quantexp.errors import UserError, sentence_for
from quantexp.provenance import provenance

log = logging.getLogger(__name__)

ITEMS = "items"
"""Name of the per-item table: items.parquet is exact and what programs read, items.json is what MLflow's pages show."""

KIND = "quantexp.kind"
"""Tag that tells a job from the sweep it belongs to."""

IDENTITY = "identity."
"""Prefix of the tags that say what a job's scores depend on besides the quant; runs are paired by them."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as the store has it.

    Attributes:
        identity: what the scores depend on besides the quant and the seed; a mapping per aspect.
        scores: score of each item; NaN for an item that could not be asked.
    """

    run_id: str
    name: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    identity: Mapping[str, Mapping[str, object]]
    scores: "pd.Series[float]"


class Run:
    """A run that is open in the store; as a context manager it is never left open."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str, name: str) -> None:
        self._client = client
        self.id = run_id
        self._name = name

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

    def log_yaml(self, content: str, name: str) -> None:
        """Record a text file."""
        self._client.log_text(self.id, content, name)

    def log_files(self, files: Sequence[Path]) -> None:
        """Record files under their own names."""
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def log_items(self, table: pd.DataFrame) -> None:
        """Record the per-item table, exactly and for MLflow's pages."""
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / f"{ITEMS}.parquet"
            table.to_parquet(exact, index=False)
            self._client.log_artifact(self.id, str(exact))
        self._client.log_table(self.id, table, f"{ITEMS}.json")

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
            log.error("%s failed: %s", self._name, reason, exc_info=sentence_for(error) is None)


class Store:
    """The MLflow store of one configuration."""

    def __init__(self, config: TrackingConfig) -> None:
        folder = Path(config.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        # Processes that create the tables at the same time break each other.
        with FileLock(folder / "mlflow.lock"):
            self._client = mlflow.MlflowClient(self.uri)
            found = self._client.get_experiment_by_name(config.experiment)
            if found is None:
                artifacts = (folder / "artifacts").as_uri()
                self._experiment = self._client.create_experiment(config.experiment, artifacts)
                with closing(sqlite3.connect(folder / "mlflow.db")) as database:
                    database.execute("PRAGMA journal_mode=wal")  # readers and a writer at once
            else:
                self._experiment = found.experiment_id
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(
                f"The MLflow experiment {config.experiment} was deleted; restore it with `mlflow experiments restore`, "
                "or choose another name with tracking.experiment=..."
            )

    def start(self, name: str, kind: str, parent: str | None, tags: Mapping[str, str]) -> Run:
        """Open a run; `kind` is job, sweep or aggregate."""
        everything = {
            KIND: kind,
            "mlflow.user": _user(),
            "mlflow.source.name": "quantexp",
            **provenance(),
            **tags,
        }
        if parent is not None:
            everything["mlflow.parentRunId"] = parent
        run = self._client.create_run(self._experiment, run_name=name, tags=everything)
        return Run(self._client, run.info.run_id, name)

    def latest_sweep(self) -> str:
        """Id of the sweep that was started last.

        Raises:
            UserError: there is none.
        """
        found = self._client.search_runs(
            [self._experiment],
            f"tags.`{KIND}` = 'sweep'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not found:
            raise UserError(
                f"There is no sweep in {self.uri.removeprefix('sqlite:///')}; run one first, for example: "
                "python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k"
            )
        return str(found[0].info.run_id)

    def run(self, run_id: str) -> Run:
        """An existing run, to add to."""
        return Run(self._client, run_id, self._entity(run_id).info.run_name)

    def has_jobs(self, sweep: str) -> bool:
        """Whether any job of the sweep has begun."""
        return next(self._children(sweep), None) is not None

    def jobs_of(self, sweep: str) -> tuple[list[JobRecord], list[str]]:
        """The finished jobs of a sweep, and a sentence for each job that did not finish."""
        self._entity(sweep)
        return self._read(list(self._children(sweep)))

    def jobs(self, run_ids: Sequence[str]) -> tuple[list[JobRecord], list[str]]:
        """The same for runs named one by one."""
        return self._read([self._entity(run_id) for run_id in run_ids])

    def _children(self, sweep: str) -> Iterator[RunEntity]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`mlflow.parentRunId` = '{sweep}'",
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _entity(self, run_id: str) -> RunEntity:
        """The run, whose absence is the user's mistake."""
        try:
            return self._client.get_run(run_id)
        except mlflow.MlflowException as error:
            raise UserError(
                f"There is no run {run_id} in {self.uri.removeprefix('sqlite:///')}; copy an id from the MLflow UI."
            ) from error

    def _read(self, runs: Sequence[RunEntity]) -> tuple[list[JobRecord], list[str]]:
        finished, failures = [], []
        for run in runs:
            if run.info.status == "FINISHED" and run.data.tags.get(KIND) == "job":
                finished.append(self._record(run))
            elif (kind := run.data.tags.get(KIND)) != "job":
                failures.append(f"{run.info.run_name} (run {run.info.run_id}) is not a job ({KIND}: {kind}).")
            else:
                reason = run.data.tags.get("error", "no reason was recorded")
                status = "" if run.info.status == "FAILED" else f" is {run.info.status}"
                failures.append(f"{run.info.run_name}{status}: {reason}")
        return finished, failures

    def _record(self, run: RunEntity) -> JobRecord:
        with tempfile.TemporaryDirectory() as folder:
            path = self._client.download_artifacts(run.info.run_id, f"{ITEMS}.parquet", folder)
            table = pd.read_parquet(path, columns=["item_id", "score"])
        identity = {
            key.removeprefix(IDENTITY): json.loads(value)
            for key, value in run.data.tags.items()
            if key.startswith(IDENTITY)
        }
        return JobRecord(
            run_id=run.info.run_id,
            name=run.info.run_name,
            started=run.info.start_time,
            tags=run.data.tags,
            params=run.data.params,
            metrics=run.data.metrics,
            identity=identity,
            scores=table.set_index("item_id")["score"].astype(float),
        )


def _user() -> str:
    """Who runs this; a container may run under a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())
