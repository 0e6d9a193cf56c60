"""What is read of runs that are in the store."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import Run as RunEntity
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from quantexp.console import bar
from quantexp.errors import UserError
from quantexp.identity import Identity
from quantexp.stored import read_table
from quantexp.tracking.backend import Backend
from quantexp.tracking.names import IDENTITY, ITEMS, KIND, job_name


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as the store has it.

    Attributes:
        identity: what the scores depend on besides the quant and the seed; a mapping per aspect.
        scores: score of each item, the mean over its samples, in the order in which the items were asked; NaN for one
            that could not be asked.
        clusters: what items that ask the same share, by item; an item that is not named stands alone.
    """

    run_id: str
    name: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    identity: Identity
    scores: "pd.Series[float]"
    clusters: Mapping[str, str] = field(default_factory=dict)


class Reader:
    """Runs of one experiment, their tables and files."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._artifacts: dict[str, str] = {}  # where the files of each run that was looked up are

    def search(self, condition: str) -> Iterator[RunEntity]:
        """The runs that a condition in MLflow's language holds for; oldest first."""
        token: str | None = None
        while True:
            page = self._backend.client.search_runs(
                [self._backend.experiment],
                condition,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            self._artifacts |= {run.info.run_id: str(run.info.artifact_uri) for run in page}
            yield from page
            token = page.token
            if not token:
                return

    def newest(self, condition: str) -> RunEntity | None:
        """The one of these runs that was started last, if there is any."""
        found = self._backend.client.search_runs(
            [self._backend.experiment], condition, order_by=["attributes.start_time DESC"], max_results=1
        )
        return found[0] if found else None

    def entity(self, run_id: str) -> RunEntity:
        """The run, whose absence is the user's mistake."""
        try:
            return self._backend.client.get_run(run_id)
        except mlflow.MlflowException as error:
            raise UserError(
                f"There is no run {run_id} in {self._backend.shown}; copy an id from the MLflow UI."
            ) from error

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """A file of a run, fetched for as long as the context lasts; a path where nothing is if the run has none."""
        if run_id not in self._artifacts:
            self._artifacts[run_id] = str(self.entity(run_id).info.artifact_uri)
        # Asked by the run's id, MLflow would look the run up several times for each file.
        files = get_artifact_repository(self._artifacts[run_id], tracking_uri=self._backend.uri)
        if isinstance(files, LocalArtifactRepository):
            yield Path(files.artifact_dir) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            if name in {entry.path for entry in files.list_artifacts()}:
                files.download_artifacts(name, folder)  # type: ignore[no-untyped-call]
            yield Path(folder) / name

    def jobs(self, runs: Sequence[RunEntity]) -> tuple[list[JobRecord], list[str]]:
        """The finished jobs among the runs, and a sentence for each of the others."""
        finished, failures = [], []
        with bar("reading the runs", len(runs), "runs") as advance:
            for run in runs:
                if run.info.status == "FINISHED" and run.data.tags.get(KIND) == "job":
                    finished.append(self.job(run))
                elif (kind := run.data.tags.get(KIND)) != "job":
                    failures.append(f"{run.info.run_name} (run {run.info.run_id}) is not a job ({KIND}: {kind}).")
                else:
                    reason = run.data.tags.get("error", "no reason was recorded")
                    status = "" if run.info.status == "FAILED" else f" is {run.info.status}"
                    failures.append(f"{name_of(run)}{status}: {reason}")
                advance(1)
        return finished, failures

    def job(self, run: RunEntity) -> JobRecord:
        """A finished job with its scores."""
        with self.file(run.info.run_id, f"{ITEMS}.parquet") as path:
            table = read_table(path, columns=["item_id", "cluster", "score"])
        identity = {
            key.removeprefix(IDENTITY): json.loads(value)
            for key, value in run.data.tags.items()
            if key.startswith(IDENTITY)
        }
        return JobRecord(
            run_id=run.info.run_id,
            name=name_of(run),
            started=run.info.start_time,
            tags=run.data.tags,
            params=run.data.params,
            metrics=run.data.metrics,
            identity=identity,
            scores=table["score"].astype(float).groupby(table["item_id"], sort=False).mean(),
            clusters=dict(zip(table["item_id"], table["cluster"], strict=True)),
        )


def name_of(run: RunEntity) -> str:
    """What the terminal calls a run: a job by its quant, task and seed, whatever its name in MLflow."""
    tags = run.data.tags
    if tags.get(KIND) == "job" and {"quant", "task", "seed"} <= tags.keys():
        return job_name(tags["quant"], tags["task"], tags["seed"])
    return str(run.info.run_name)
