"""Everything that speaks to MLflow; nothing else does."""

import getpass
import json
import logging
import os
import platform
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
import psutil
from filelock import FileLock
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as RunEntity
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from quantexp.config import TrackingConfig
from quantexp.errors import UserError, sentence_for
from quantexp.identity import Identity
from quantexp.provenance import provenance
from quantexp.registration import Registration, digest

log = logging.getLogger(__name__)

ITEMS = "items"
"""Name of the per-item table: items.parquet is exact and what programs read, items.json is what MLflow's pages show."""

FLIPS = "flips"
"""Name of a comparison's table of changed answers, kept likewise."""

FLOOR = "floor"
"""Name of the table of the baseline's second answers, and of the metrics that count what changed."""

DIVERGENCE = "divergence"
"""Name of a quant's table of tokens, how far its distributions are from the baseline's, and of the metric, their
mean."""

PARTED = "parted"
"""Name of the table that says where a quant's answers leave the baseline's."""

ANSWERS = "answers"
"""Name of the table of the tokens that the baseline wrote, over which divergence is measured."""

REFERENCE = "divergence.reference"
"""Tag of a baseline's job with the file that holds its distributions."""

KIND = "quantexp.kind"
"""Tag that tells a job from the sweep it belongs to."""

CONFIG = "config.sha256"
"""Tag with the fingerprint of what a job asks for; an attempt that failed does not count once another has finished."""

PAIR = "pair.sha256"
"""Tag with the fingerprint of what a job and the baseline's that it is compared with have in common."""

STOPPED = "stopped"
"""Tag of a job that ended once its verdict was known: after how many of its items."""

JOB = "job.sha256"
"""Tag with the fingerprint of all that decides a job's results: a job is finished when a run with it is."""

SWEEP = "sweep.sha256"
"""Tag with the fingerprint of the jobs that a sweep asks for and their analysis."""

REGISTERED = "registration."
"""Prefix of a sweep's tags that say when its declaration was made: before its jobs had begun, or how many had ended."""

DECLARATION = "registration.yaml"
"""What a sweep declares before its first answer."""

INCLUDES = "includes."
"""Prefix of a sweep's tags that name runs of earlier sweeps which it takes over instead of running the job again."""

IDENTITY = "identity."
"""Prefix of the tags that say what a job's scores depend on besides the quant; runs are paired by them."""


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


class Store:
    """The MLflow store of one configuration."""

    def __init__(self, config: TrackingConfig) -> None:
        folder = Path(config.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / "mlflow.db"
        self.uri = f"sqlite:///{database}"
        self._lock = FileLock(folder / "mlflow.lock")
        # Processes that create the tables at the same time break each other.
        with self._lock:
            if not database.is_file():
                _create(database)
            self._client = mlflow.MlflowClient(self.uri)
            found = self._client.get_experiment_by_name(config.experiment)
            if found is None:
                artifacts = (folder / "artifacts").as_uri()
                self._experiment = self._client.create_experiment(config.experiment, artifacts)
            else:
                self._experiment = found.experiment_id
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(
                f"The MLflow experiment {config.experiment} was deleted; restore it with `mlflow experiments restore`, "
                "or choose another name with tracking.experiment=..."
            )

    @classmethod
    def existing(cls, config: TrackingConfig) -> Self | None:
        """The store, if it and its experiment are there already; looking creates nothing."""
        database = Path(config.folder).absolute() / "mlflow.db"
        if not database.is_file():
            return None
        found = mlflow.MlflowClient(f"sqlite:///{database}").get_experiment_by_name(config.experiment)
        return None if found is None else cls(config)

    def start(self, name: str, kind: str, parent: str | None, tags: Mapping[str, str]) -> Run:
        """Open a run; `kind` is job, sweep, aggregate or regrade."""
        everything = {
            KIND: kind,
            "mlflow.user": _user(),
            "mlflow.source.name": "quantexp",
            **provenance(),
            **tags,
        }
        if parent is not None:
            everything[MLFLOW_PARENT_RUN_ID] = parent
        run = self._client.create_run(self._experiment, run_name=name, tags=everything)
        return Run(self._client, self._lock, run.info.run_id, name)

    def finished_job(self, fingerprint: str) -> FinishedJob | None:
        """The newest finished run of the same job, if there is one."""
        found = self._client.search_runs(
            [self._experiment],
            f"tags.`{JOB}` = '{fingerprint}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not found:
            return None
        return _finished(found[0])

    def baseline_of(self, pair: str, quant: str, sweep: str | None) -> JobRecord | None:
        """The finished run of the baseline, named `quant`, that a job with this `PAIR` is compared with.

        That is the one that counts in the sweep; if none does, the newest, which then counts in it too.
        """
        finished = self._search(f"tags.`{PAIR}` = '{pair}' and attributes.status = 'FINISHED'")
        found = [
            run
            for run in finished
            if (run.data.tags.get(KIND), run.data.tags.get("quant")) == ("job", quant) and STOPPED not in run.data.tags
        ]
        if not found:
            return None
        if sweep is None:
            return self._record(found[-1])
        tags = self._entity(sweep).data.tags
        own = [
            run
            for run in found
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == sweep or f"{INCLUDES}{run.info.run_id}" in tags
        ]
        if not own:
            self.include(sweep, _finished(found[-1]))
        return self._record((own or found)[-1])

    def include(self, sweep: str, job: FinishedJob) -> None:
        """Let a job that finished in another sweep count in this one too."""
        if job.sweep != sweep:
            self._client.set_tag(sweep, INCLUDES + job.run_id, "finished before this sweep")

    def resume_sweep(self, fingerprint: str) -> Run | None:
        """Open the newest sweep of the same jobs again, unless a living process is still at it."""
        found = self._client.search_runs(
            [self._experiment],
            f"tags.`{SWEEP}` = '{fingerprint}' and attributes.status != 'RUNNING'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not found:
            return None
        run_id = found[0].info.run_id
        self._client.update_run(run_id, status="RUNNING")
        resumed = Run(self._client, self._lock, run_id, found[0].info.run_name)
        resumed.log(tags=provenance())
        return resumed

    def register(self, sweep: Run, text: str, jobs: Iterable[str]) -> None:
        """Keep what a sweep declares, unless it has declared something before.

        Args:
            sweep: the open run.
            text: the declaration.
            jobs: the fingerprints of the jobs that it asks for.
        """
        if f"{REGISTERED}sha256" in self._entity(sweep.id).data.tags:
            return
        finished = {
            run.data.tags.get(CONFIG)
            for run in self._search(f"tags.`{KIND}` = 'job' and attributes.status = 'FINISHED'")
        }
        sweep.log_yaml(text, DECLARATION)
        facts = {
            "sha256": digest(text),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": provenance()["quantexp.commit"],
            "late": str(len(finished.intersection(jobs))),
        }
        sweep.log(tags={REGISTERED + key: value for key, value in facts.items()})

    def registration(self, sweep: str) -> Registration | None:
        """What a sweep has declared, if it has."""
        tags = self._entity(sweep).data.tags
        with self.file(sweep, DECLARATION) as path:
            if f"{REGISTERED}sha256" not in tags or not path.is_file():
                return None
            text = path.read_text(encoding="utf-8")
        sha256, time, commit, late = (tags[REGISTERED + key] for key in ("sha256", "time", "commit", "late"))
        return Registration(text, sha256, time, commit, int(late))

    def close_abandoned(self) -> list[str]:
        """Mark runs as KILLED whose process on this machine is gone; their names.

        Runs of other machines are left alone: from here nobody can tell whether they live.
        """
        closed = []
        for run in self._search("attributes.status = 'RUNNING'"):
            if _is_gone(run.data.tags):
                self._client.set_tag(run.info.run_id, "error", "its process was killed")
                self._client.set_terminated(run.info.run_id, "KILLED")
                closed.append(str(run.info.run_name))
        return closed

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
        return Run(self._client, self._lock, run_id, self._entity(run_id).info.run_name)

    def has_jobs(self, sweep: str) -> bool:
        """Whether any job of the sweep has begun."""
        return next(self._children(sweep), None) is not None

    def jobs_of(self, sweep: str) -> tuple[list[JobRecord], list[str]]:
        """The finished jobs of a sweep, and a sentence for each job that did not finish.

        A run that did not finish is passed over where another run of the same job did.
        """
        tags = self._entity(sweep).data.tags
        included = [self._entity(tag.removeprefix(INCLUDES)) for tag in sorted(tags) if tag.startswith(INCLUDES)]
        runs = [*included, *self._children(sweep)]
        done = {run.data.tags.get(CONFIG) for run in runs if run.info.status == "FINISHED"} - {None}
        counting = [run for run in runs if run.info.status == "FINISHED" or run.data.tags.get(CONFIG) not in done]
        return self._read(counting)

    def jobs(self, run_ids: Sequence[str]) -> tuple[list[JobRecord], list[str]]:
        """The same for runs named one by one."""
        return self._read([self._entity(run_id) for run_id in run_ids])

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """A file of a run, fetched for as long as the context lasts; a path where nothing is if the run has none."""
        with tempfile.TemporaryDirectory() as folder:
            if name in {entry.path for entry in self._client.list_artifacts(run_id)}:
                self._client.download_artifacts(run_id, name, folder)
            yield Path(folder) / name

    def _children(self, sweep: str) -> Iterator[RunEntity]:
        return self._search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep}'")

    def _search(self, condition: str) -> Iterator[RunEntity]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                condition,
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
            table = pd.read_parquet(path, columns=["item_id", "cluster", "score"])
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
            scores=table["score"].astype(float).groupby(table["item_id"], sort=False).mean(),
            clusters=dict(zip(table["item_id"], table["cluster"], strict=True)),
        )


def _finished(run: RunEntity) -> FinishedJob:
    return FinishedJob(run.info.run_id, run.data.tags.get(MLFLOW_PARENT_RUN_ID), run.data.metrics)


def _create(database: Path) -> None:
    """Make the tables in a file of another name first: MLflow cannot mend ones that were cut off half made."""
    unfinished = database.with_suffix(".unfinished")
    for left in unfinished.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    SqlAlchemyStore(f"sqlite:///{unfinished}", database.parent.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # readers and a writer at once
    unfinished.replace(database)


def _is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that these tags name ran on this machine and runs no more."""
    if tags.get("host.name") != platform.node() or "process.started" not in tags:
        return False
    try:
        started = float(psutil.Process(int(tags["process.id"])).create_time())
    except psutil.NoSuchProcess:
        return True
    # Numbers are given again to later processes. Some systems count from a clock that is set a little now and then.
    return abs(started - float(tags["process.started"])) > 2


def _user() -> str:
    """Who runs this; a container may run under a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())
