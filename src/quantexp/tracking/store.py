"""The MLflow store: runs begun, found and read."""

import getpass
import json
import os
import platform
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import mlflow
import pandas as pd
import psutil
from filelock import FileLock
from mlflow.entities import Run as RunEntity
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from quantexp import slurm
from quantexp.config import TrackingConfig
from quantexp.console import bar
from quantexp.errors import UserError
from quantexp.provenance import provenance
from quantexp.registration import Registration, digest
from quantexp.tracking.names import (
    CONFIG,
    DECLARATION,
    IDENTITY,
    INCLUDES,
    ITEMS,
    JOB,
    KIND,
    OF_SWEEP,
    PAIR,
    REGISTERED,
    STOPPED,
    SWEEP,
    TRACED,
    job_name,
)
from quantexp.tracking.run import FinishedJob, JobRecord, Run

SWEEPS_A_JOB = 100
"""Sweeps whose ids stand in a job's tag."""


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
            self._artifacts: dict[str, str] = {}  # where the files of each run that was looked up are
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

    def start(self, name: str, kind: str, parent: str | None, tags: Mapping[str, str], shown: str | None = None) -> Run:
        """Open a run; `kind` is job, sweep, aggregate or regrade, `shown` its name on MLflow's pages."""
        everything = {
            KIND: kind,
            "mlflow.user": _user(),
            "mlflow.source.name": "quantexp",
            **provenance(),
            **tags,
        }
        if parent is not None:
            everything |= {MLFLOW_PARENT_RUN_ID: parent, OF_SWEEP: parent}
        run = self._client.create_run(self._experiment, run_name=shown or name, tags=everything)
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
            with self._lock:
                sweeps = self._entity(job.run_id).data.tags.get(OF_SWEEP, job.sweep or "").split()
                if sweep not in sweeps:
                    # A tag has room for many; the oldest go first.
                    self._client.set_tag(job.run_id, OF_SWEEP, " ".join([*sweeps, sweep][-SWEEPS_A_JOB:]))

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
        """Mark runs as KILLED whose process on this machine is gone, or whose job Slurm has no more; their names.

        Other runs of other machines are left alone: from here nobody can tell whether they live.
        """
        closed: list[str] = []
        running = list(self._search("attributes.status = 'RUNNING'"))
        if not running:
            return closed
        # Asked after the runs were read, so that a job which has begun since is not missing from the answer.
        queue = slurm.queue() if any("slurm.job_id" in run.data.tags for run in running) else None
        for run in running:
            elsewhere = run.data.tags.get("host.name") != platform.node()
            if _is_gone(run.data.tags) or (elsewhere and slurm.is_gone(run.data.tags, queue, _user())):
                self._close_killed(run)
                closed.append(_name_of(run))
        return closed

    def close_jobs(self, sweep: str, *, ended: bool) -> list[str]:
        """Mark runs of a sweep as KILLED that are open though their job has ended; their names.

        Args:
            sweep: the sweep.
            ended: whether all of its jobs are known to have ended, on whatever machine; a process that lives on this
                one counts nevertheless.
        """
        closed = []
        for run in self._children(sweep):
            elsewhere = run.data.tags.get("host.name") != platform.node()
            if run.info.status == "RUNNING" and (_is_gone(run.data.tags) or (ended and elsewhere)):
                self._close_killed(run)
                closed.append(_name_of(run))
        return closed

    def asked(self, sweep: str) -> set[str]:
        """The fingerprints (`CONFIG`) of the sweep's jobs that have begun or were finished before."""
        included = [tag.removeprefix(INCLUDES) for tag in self._entity(sweep).data.tags if tag.startswith(INCLUDES)]
        runs = [*map(self._entity, included), *self._children(sweep)]
        return {run.data.tags.get(CONFIG, "") for run in runs}

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

    def run(self, run_id: str, name: str | None = None) -> Run:
        """An existing run, to add to; looked up, unless the caller knows its name."""
        return Run(self._client, self._lock, run_id, name or self._entity(run_id).info.run_name)

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

    def trace(self, run_id: str, seconds: Sequence[float] | None = None) -> None:
        """Record the answers of a job's item table as traces, unless they are there.

        Args:
            run_id: the job's.
            seconds: how long each answer took; None where nobody knows any more.
        """
        run = self._entity(run_id)
        if TRACED in run.data.tags:
            return
        from quantexp.tracking.traces import write_traces  # slow to import, and seldom wanted

        with self.file(run_id, f"{ITEMS}.parquet") as path:
            table = pd.read_parquet(path)
        tags = {key: run.data.tags[key] for key in ("model", "quant", "task", "data", "seed")}
        grader = json.loads(run.data.tags[f"{IDENTITY}grader"])["id"]
        took = [0.0] * len(table) if seconds is None else seconds
        write_traces(self.uri, self._experiment, run_id, run.info.start_time, tags, grader, table, took)
        self._client.set_tag(run_id, TRACED, str(len(table)))

    @contextmanager
    def file(self, run_id: str, name: str) -> Iterator[Path]:
        """A file of a run, fetched for as long as the context lasts; a path where nothing is if the run has none."""
        if run_id not in self._artifacts:
            self._artifacts[run_id] = str(self._entity(run_id).info.artifact_uri)
        # Asked by the run's id, MLflow would look the run up several times for each file.
        files = get_artifact_repository(self._artifacts[run_id], tracking_uri=self.uri)
        if isinstance(files, LocalArtifactRepository):
            yield Path(files.artifact_dir) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            if name in {entry.path for entry in files.list_artifacts()}:
                files.download_artifacts(name, folder)  # type: ignore[no-untyped-call]
            yield Path(folder) / name

    def _close_killed(self, run: RunEntity) -> None:
        self._client.set_tag(run.info.run_id, "error", "its process was killed")
        self._client.set_terminated(run.info.run_id, "KILLED")

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
            self._artifacts |= {run.info.run_id: str(run.info.artifact_uri) for run in page}
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
        with bar("reading the runs", len(runs), "runs") as advance:
            for run in runs:
                if run.info.status == "FINISHED" and run.data.tags.get(KIND) == "job":
                    finished.append(self._record(run))
                elif (kind := run.data.tags.get(KIND)) != "job":
                    failures.append(f"{run.info.run_name} (run {run.info.run_id}) is not a job ({KIND}: {kind}).")
                else:
                    reason = run.data.tags.get("error", "no reason was recorded")
                    status = "" if run.info.status == "FAILED" else f" is {run.info.status}"
                    failures.append(f"{_name_of(run)}{status}: {reason}")
                advance(1)
        return finished, failures

    def _record(self, run: RunEntity) -> JobRecord:
        with self.file(run.info.run_id, f"{ITEMS}.parquet") as path:
            table = pd.read_parquet(path, columns=["item_id", "cluster", "score"])
        identity = {
            key.removeprefix(IDENTITY): json.loads(value)
            for key, value in run.data.tags.items()
            if key.startswith(IDENTITY)
        }
        return JobRecord(
            run_id=run.info.run_id,
            name=_name_of(run),
            started=run.info.start_time,
            tags=run.data.tags,
            params=run.data.params,
            metrics=run.data.metrics,
            identity=identity,
            scores=table["score"].astype(float).groupby(table["item_id"], sort=False).mean(),
            clusters=dict(zip(table["item_id"], table["cluster"], strict=True)),
        )


def _name_of(run: RunEntity) -> str:
    """What the terminal calls a run: a job by its quant, task and seed, whatever its name in MLflow."""
    tags = run.data.tags
    if tags.get(KIND) == "job" and {"quant", "task", "seed"} <= tags.keys():
        return job_name(tags["quant"], tags["task"], tags["seed"])
    return str(run.info.run_name)


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
        process = psutil.Process(int(tags["process.id"]))
        started = float(process.create_time())
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and its parent has not looked yet
            return True
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
