"""The MLflow store: runs begun, found and read."""

import getpass
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil
from mlflow.entities import Run as RunEntity
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from quantexp import slurm
from quantexp.config import TrackingConfig
from quantexp.errors import UserError
from quantexp.provenance import provenance
from quantexp.registration import Registration, digest
from quantexp.stored import read_table
from quantexp.tracking.backend import Backend, exists
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
)
from quantexp.tracking.reader import JobRecord, Reader, name_of
from quantexp.tracking.run import FinishedJob, Run

SWEEPS_A_JOB = 100
"""Sweeps whose ids stand in a job's tag."""


class Store:
    """The MLflow store of one configuration.

    Attributes:
        client: MLflow's own, for what is not here.
        experiment: Id of the experiment.
    """

    def __init__(self, config: TrackingConfig) -> None:
        """Make the store and the experiment, if they are not there.

        Raises:
            UserError: The experiment was deleted.
        """
        self._backend = Backend(config)
        self._reader = Reader(self._backend)
        self.client = self._backend.client
        self.experiment = self._backend.experiment

    @classmethod
    def existing(cls, config: TrackingConfig) -> Self | None:
        """The store, if it and its experiment are there already; looking creates nothing."""
        return cls(config) if exists(config) else None

    @property
    def uri(self) -> str:
        """Where it is, as MLflow has it."""
        return self._backend.uri

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return self._backend.shown

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
        run = self.client.create_run(self.experiment, run_name=shown or name, tags=everything)
        return Run(self.client, self._backend.lock, run.info.run_id, name)

    def finished_job(self, fingerprint: str) -> FinishedJob | None:
        """The newest finished run of the same job, if there is one."""
        found = self._reader.newest(f"tags.`{JOB}` = '{fingerprint}' and attributes.status = 'FINISHED'")
        return None if found is None else _finished(found)

    def baseline_of(self, pair: str, quant: str, sweep: str | None) -> JobRecord | None:
        """The finished run of the baseline, named `quant`, that a job with this `PAIR` is compared with.

        That is the one that counts in the sweep; if none does, the newest, which then counts in it too.
        """
        finished = self._reader.search(f"tags.`{PAIR}` = '{pair}' and attributes.status = 'FINISHED'")
        found = [
            run
            for run in finished
            if (run.data.tags.get(KIND), run.data.tags.get("quant")) == ("job", quant) and STOPPED not in run.data.tags
        ]
        if not found:
            return None
        if sweep is None:
            return self._reader.job(found[-1])
        tags = self._reader.entity(sweep).data.tags
        own = [
            run
            for run in found
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == sweep or f"{INCLUDES}{run.info.run_id}" in tags
        ]
        if not own:
            self.include(sweep, _finished(found[-1]))
        return self._reader.job((own or found)[-1])

    def include(self, sweep: str, job: FinishedJob) -> None:
        """Let a job that finished in another sweep count in this one too."""
        if job.sweep != sweep:
            self.client.set_tag(sweep, INCLUDES + job.run_id, "finished before this sweep")
            with self._backend.lock:
                sweeps = self._reader.entity(job.run_id).data.tags.get(OF_SWEEP, job.sweep or "").split()
                if sweep not in sweeps:
                    # A tag has room for many; the oldest go first.
                    self.client.set_tag(job.run_id, OF_SWEEP, " ".join([*sweeps, sweep][-SWEEPS_A_JOB:]))

    def resume_sweep(self, fingerprint: str) -> Run | None:
        """Open the newest sweep of the same jobs again, unless a living process is still at it."""
        found = self._reader.newest(f"tags.`{SWEEP}` = '{fingerprint}' and attributes.status != 'RUNNING'")
        if found is None:
            return None
        run_id = found.info.run_id
        self.client.update_run(run_id, status="RUNNING")
        resumed = Run(self.client, self._backend.lock, run_id, found.info.run_name)
        resumed.log(tags=provenance())
        return resumed

    def register(self, sweep: Run, text: str, jobs: Iterable[str]) -> None:
        """Keep what a sweep declares, unless it has declared something before.

        Args:
            sweep: the open run.
            text: the declaration.
            jobs: the fingerprints of the jobs that it asks for.
        """
        if f"{REGISTERED}sha256" in self._reader.entity(sweep.id).data.tags:
            return
        finished = {
            run.data.tags.get(CONFIG)
            for run in self._reader.search(f"tags.`{KIND}` = 'job' and attributes.status = 'FINISHED'")
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
        tags = self._reader.entity(sweep).data.tags
        with self.file(sweep, DECLARATION) as path:
            if f"{REGISTERED}sha256" not in tags or not path.is_file():
                return None
            text = path.read_text(encoding="utf-8", errors="replace")  # a damaged one is told by its sha256
        sha256, time, commit, late = (tags[REGISTERED + key] for key in ("sha256", "time", "commit", "late"))
        return Registration(text, sha256, time, commit, int(late))

    def close_abandoned(self) -> list[str]:
        """Mark runs as KILLED whose process on this machine is gone, or whose job Slurm has no more; their names.

        Other runs of other machines are left alone: from here nobody can tell whether they live.
        """
        closed: list[str] = []
        running = list(self._reader.search("attributes.status = 'RUNNING'"))
        if not running:
            return closed
        # Asked after the runs were read, so that a job which has begun since is not missing from the answer.
        queue = slurm.queue() if any("slurm.job_id" in run.data.tags for run in running) else None
        for run in running:
            elsewhere = run.data.tags.get("host.name") != platform.node()
            if _is_gone(run.data.tags) or (elsewhere and slurm.is_gone(run.data.tags, queue, _user())):
                self._close_killed(run)
                closed.append(name_of(run))
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
                closed.append(name_of(run))
        return closed

    def asked(self, sweep: str) -> set[str]:
        """The fingerprints (`CONFIG`) of the sweep's jobs that have begun or were finished before."""
        included = [
            tag.removeprefix(INCLUDES) for tag in self._reader.entity(sweep).data.tags if tag.startswith(INCLUDES)
        ]
        runs = [*map(self._reader.entity, included), *self._children(sweep)]
        return {run.data.tags.get(CONFIG, "") for run in runs}

    def latest_sweep(self) -> str:
        """Id of the sweep that was started last.

        Raises:
            UserError: there is none.
        """
        found = self._reader.newest(f"tags.`{KIND}` = 'sweep'")
        if found is None:
            raise UserError(
                f"There is no sweep in {self.shown}; run one first, for example: "
                "python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k"
            )
        return str(found.info.run_id)

    def run(self, run_id: str, name: str | None = None) -> Run:
        """An existing run, to add to; looked up, unless the caller knows its name."""
        return Run(self.client, self._backend.lock, run_id, name or self._reader.entity(run_id).info.run_name)

    def has_jobs(self, sweep: str) -> bool:
        """Whether any job of the sweep has begun."""
        return next(self._children(sweep), None) is not None

    def jobs_of(self, sweep: str) -> tuple[list[JobRecord], list[str]]:
        """The finished jobs of a sweep, and a sentence for each job that did not finish.

        A run that did not finish is passed over where another run of the same job did.
        """
        tags = self._reader.entity(sweep).data.tags
        included = [self._reader.entity(tag.removeprefix(INCLUDES)) for tag in sorted(tags) if tag.startswith(INCLUDES)]
        runs = [*included, *self._children(sweep)]
        done = {run.data.tags.get(CONFIG) for run in runs if run.info.status == "FINISHED"} - {None}
        counting = [run for run in runs if run.info.status == "FINISHED" or run.data.tags.get(CONFIG) not in done]
        return self._reader.jobs(counting)

    def jobs(self, run_ids: Sequence[str]) -> tuple[list[JobRecord], list[str]]:
        """The same for runs named one by one."""
        return self._reader.jobs([self._reader.entity(run_id) for run_id in run_ids])

    def trace(self, run_id: str, seconds: Sequence[float] | None = None) -> None:
        """Record the answers of a job's item table as traces, unless they are there.

        Args:
            run_id: the job's.
            seconds: how long each answer took; None where nobody knows any more.
        """
        run = self._reader.entity(run_id)
        if TRACED in run.data.tags:
            return
        from quantexp.tracking.traces import write_traces  # slow to import, and seldom wanted

        with self.file(run_id, f"{ITEMS}.parquet") as path:
            table = read_table(path)
        tags = {key: run.data.tags[key] for key in ("model", "quant", "task", "data", "seed")}
        grader = json.loads(run.data.tags[f"{IDENTITY}grader"])["id"]
        took = [0.0] * len(table) if seconds is None else seconds
        write_traces(self._backend.uri, self.experiment, run_id, run.info.start_time, tags, grader, table, took)
        self.client.set_tag(run_id, TRACED, str(len(table)))

    def file(self, run_id: str, name: str) -> AbstractContextManager[Path]:
        """A file of a run, fetched for as long as the context lasts; a path where nothing is if the run has none."""
        return self._reader.file(run_id, name)

    def _close_killed(self, run: RunEntity) -> None:
        self.client.set_tag(run.info.run_id, "error", "its process was killed")
        self.client.set_terminated(run.info.run_id, "KILLED")

    def _children(self, sweep: str) -> Iterator[RunEntity]:
        return self._reader.search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep}'")


def _finished(run: RunEntity) -> FinishedJob:
    return FinishedJob(run.info.run_id, run.data.tags.get(MLFLOW_PARENT_RUN_ID), run.data.metrics)


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
