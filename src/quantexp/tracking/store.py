"""The MLflow store: runs begun, found and read."""

import getpass
import logging
import os
import platform
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Self

import pandas as pd
import psutil
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RunEntity
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from quantexp.config import TrackingConfig
from quantexp.config.condition import UNSET
from quantexp.tracking.backend import Access, Backend, Local, Server, has_database, unwritable_error
from quantexp.tracking.errors import ServerAwayError
from quantexp.tracking.operations import read_clock
from quantexp.tracking.outbox import Beginning, Entry, Sent, fail_entries, few_attempts, send_all
from quantexp.tracking.reader import JobRecord, LeftOut, Reader, name_run
from quantexp.tracking.registration import Registration, digest, read_content, read_time
from quantexp.tracking.run import AtOnce, Run
from quantexp.tracking.tags import (
    CONFIG,
    DECLARATION,
    FACTOR,
    INCLUDES,
    JOB,
    JOBS,
    KIND,
    OF_SWEEP,
    PAIR,
    REGISTERED,
    STOPPED,
    SWEEP,
)
from quantexp.util import slurm
from quantexp.util.errors import UserError
from quantexp.util.provenance import provenance
from quantexp.util.redaction import hide_secrets

log = logging.getLogger(__name__)

OUTBOX = "outbox"
"""Folder, in the tracking folder, of what is on its way to a server."""

SWEEPS_A_JOB = 100
"""Sweeps whose ids stand in a job's tag."""

ASKED_FOR = 200
"""Jobs that are looked for one by one; for more than that all jobs that have ever finished are read."""


class Store:
    """The MLflow store of one configuration.

    Attributes:
        client: MLflow's own, for what is not here.
    """

    def __init__(self, config: TrackingConfig, access: Access = Access.write) -> None:
        """Open the store: a local one and its experiment are made if they are not there; a server is not asked yet.

        Raises:
            UserError: The experiment was deleted, or the store cannot be written or opened.
        """
        self._config, self._access = config, access
        self._folder = Path(config.folder).absolute()
        self._backend = self._backend_of(config.experiment)
        self._reader = Reader(self._backend)
        self.client = self._backend.client
        if config.uri is None and access is Access.write:
            _ = self.experiment

    @classmethod
    def open_existing(cls, config: TrackingConfig, access: Access = Access.read) -> Self | None:
        """Return the store, if it and its experiment are there already; looking creates nothing."""
        if config.uri is None and not has_database(Path(config.folder).absolute()):
            return None
        store = cls(config, Access.record if access is Access.write else access)
        if access is Access.write and not store.is_writable:
            raise unwritable_error(store._folder)
        with few_attempts(), store._backend.translate_errors():
            if store.client.get_experiment_by_name(config.experiment) is None:
                return None
            _ = store.experiment
        return store

    @property
    def experiment(self) -> str:
        """Id of the experiment."""
        return self._backend.experiment

    @property
    def uri(self) -> str:
        """Address as MLflow has it."""
        return self._backend.uri

    @property
    def shown(self) -> str:
        """Address as people have it."""
        return self._backend.shown

    @property
    def is_writable(self) -> bool:
        """If anything can be recorded in it."""
        return self._backend.is_writable

    @property
    def browse(self) -> str:
        """Command to type, or address to open, in order to see it."""
        if self._config.uri is None and not self.is_writable:
            return f"{self._folder} cannot be written, which MLflow has to; copy it, and browse the copy"
        if self._config.uri is None and self.uri != f"sqlite:///{self.shown}":
            # An address with escapes in it would have MLflow make a folder of that name.
            database = Path(self.shown)
            start = f"mlflow ui --backend-store-uri sqlite:///{database.name} --workers 1"
            return f"cd {shlex.quote(str(database.parent))} && {start}"
        if self._config.uri is None:
            return f"mlflow ui --backend-store-uri {shlex.quote(self.uri)} --workers 1"
        return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment}/runs?workflowType=machine_learning"

    def share_view(self, key: str, state: str) -> str:
        """Keep a state of MLflow's run list under a key, as its button for sharing a view does; the page's address."""
        with self._backend.translate_errors():
            self.client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{key}", state)
        server = "http://127.0.0.1:5000" if self._config.uri is None else self.uri.rstrip("/")
        return f"{server}/#/experiments/{self.experiment}/runs?viewStateShareKey={key}&workflowType=machine_learning"

    def check(self) -> None:
        """See whether the server is there, before anything begins.

        Raises:
            UserError: It is not, or it refuses the credentials.
        """
        with few_attempts(), self._backend.translate_errors():
            _ = self.experiment

    def send(self, *, patient: bool) -> Sent:
        """Send to the server what has been kept for it (`outbox.send_all`); nothing, if there is no server."""
        if self._config.uri is None:
            return Sent()
        return send_all(self._folder / OUTBOX, self._config.uri, self._backend_of, patient=patient)

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
        if self._config.uri is None:
            run = self.client.create_run(self.experiment, run_name=shown or name, tags=everything)
            return Run(AtOnce(self._backend, run.info.run_id), name)
        return Run(self._written_down(self._config.uri, shown or name, everything), name)

    def finished_job(self, fingerprint: str) -> JobRecord | None:
        """Return the newest finished run of the same job, if any."""
        try:
            with few_attempts():
                found = self._reader.search(f"tags.`{JOB}` = '{fingerprint}' and attributes.status = 'FINISHED'")
                return self._find_newest_usable(list(found))
        except ServerAwayError as error:
            log.warning("whether this job was finished before is not known, so it runs again: %s", error)
            return None

    def _find_newest_usable(self, runs: Sequence[RunEntity]) -> JobRecord | None:
        """Find the last of these finished jobs that is neither edited nor damaged."""
        for run in reversed(runs):
            try:
                return self._reader.job(run)
            except ServerAwayError:
                raise
            except UserError as error:
                log.warning("%s", error)
        return None

    def find_baseline(self, pair: str, quant: str, levels: Mapping[str, str], sweep: str | None) -> JobRecord | None:
        """Return the finished run of the baseline that a job with this `PAIR` is compared with.

        That is the one that counts in the sweep; if none does, the newest, which then counts in it too.

        Args:
            pair: of the job.
            quant: the baseline's.
            levels: the baseline's of each factor that varies besides (`FACTOR`).
            sweep: id of the sweep's run, if there is one.
        """
        finished = self._reader.search(f"tags.`{PAIR}` = '{pair}' and attributes.status = 'FINISHED'")
        found = [
            run
            for run in finished
            if (run.data.tags.get(KIND), run.data.tags.get("quant")) == ("job", quant)
            and STOPPED not in run.data.tags
            # An argument of the chat template that is not given has no tag.
            and all(run.data.tags.get(FACTOR + name, UNSET) == level for name, level in levels.items())
        ]
        if sweep is None:
            return self._find_newest_usable(found)
        tags = self._reader.entity(sweep).data.tags
        own = [
            run
            for run in found
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == sweep or f"{INCLUDES}{run.info.run_id}" in tags
        ]
        if (usable := self._find_newest_usable(own)) is not None:
            return usable
        usable = self._find_newest_usable([run for run in found if run not in own])
        if usable is not None:
            self.include(sweep, usable)
        return usable

    def reuse(self, job: JobRecord, sweep: str | None, tags: Mapping[str, str], *, traces: bool) -> None:
        """Let a job that has finished before stand for one of a sweep.

        Args:
            job: it.
            sweep: id of the sweep's run, if there is one.
            tags: what it is known by; runs of earlier versions lack some, and people may have deleted others.
            traces: whether its answers are to be there as traces too.
        """
        run = self.run(job.run_id, job.name)
        if lacking := {key: value for key, value in tags.items() if job.tags.get(key) != value}:
            run.log(tags=lacking)
        if sweep is not None:
            self.include(sweep, job)
        if traces:
            run.trace()

    def include(self, sweep: str, job: JobRecord) -> None:
        """Let a job that finished in another sweep count in this one too."""
        own = job.tags.get(MLFLOW_PARENT_RUN_ID)
        if own == sweep:
            return
        with self._backend.translate_errors():
            self.client.set_tag(sweep, INCLUDES + job.run_id, job.tags.get(CONFIG) or "finished before this sweep")
            with self._backend.lock:
                sweeps = self._reader.entity(job.run_id).data.tags.get(OF_SWEEP, own or "").split()
                if sweep not in sweeps:
                    # A tag has room for many; the oldest go first.
                    self.client.set_tag(job.run_id, OF_SWEEP, " ".join([*sweeps, sweep][-SWEEPS_A_JOB:]))

    def resume_sweep(self, fingerprint: str) -> Run | None:
        """Open the newest sweep of the same jobs again, unless a living process is still at it."""
        found = self._reader.newest(f"tags.`{SWEEP}` = '{fingerprint}' and attributes.status != 'RUNNING'")
        if found is None:
            return None
        run_id, name = found.info.run_id, str(found.info.run_name)
        with self._backend.translate_errors():
            self.client.update_run(run_id, status="RUNNING")
        if self._config.uri is None:
            resumed = self.run(run_id, name)
        else:
            resumed = Run(self._written_down(self._config.uri, name, {}, run_id), name)
        resumed.log(tags=provenance())
        return resumed

    def register(self, sweep: Run, text: str, jobs: Iterable[str]) -> float:
        """Keep what a sweep declares, unless it has declared something before.

        Args:
            sweep: the open run.
            text: the declaration.
            jobs: the fingerprints of the jobs that it asks for.

        Returns:
            When it was declared, in seconds since 1970.

        Raises:
            UserError: what it has declared before says no time.
        """
        tags = self._reader.entity(sweep.id).data.tags
        if f"{REGISTERED}sha256" in tags:
            return read_time(tags.get(f"{REGISTERED}time", ""))
        asked, condition = set(jobs), f"tags.`{KIND}` = 'job' and attributes.status = 'FINISHED'"
        if len(asked) <= ASKED_FOR:
            each = {job: self._reader.newest(f"{condition} and tags.`{CONFIG}` = '{job}'") for job in asked}
            late = {job for job, found in each.items() if found is not None}
        else:
            late = asked.intersection(run.data.tags.get(CONFIG, "") for run in self._reader.search(condition))
        sweep.log_yaml(text, DECLARATION)
        facts = {
            "sha256": digest(text),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "commit": provenance()["quantexp.commit"],
            "late": str(len(late)),
        }
        sweep.log(tags={REGISTERED + key: value for key, value in facts.items()})
        return read_time(facts["time"])

    def registration(self, sweep: str) -> Registration | None:
        """Return a sweep's declaration, if it has one.

        Raises:
            UserError: it was edited or damaged.
        """
        tags = self._reader.entity(sweep).data.tags
        with self.file(sweep, DECLARATION) as path:
            if f"{REGISTERED}sha256" not in tags or not path.is_file():
                return None
            text = path.read_text(encoding="utf-8", errors="replace")  # a damaged one is told by its sha256
        facts = [tags.get(REGISTERED + key, "") for key in ("sha256", "time", "commit", "late")]
        if not all(facts) or not facts[3].isdecimal():
            raise UserError(
                f"The declaration of sweep {sweep} does not count, for its tags {REGISTERED}time, commit and late were "
                "edited or deleted; put them back in MLflow."
            )
        registration = Registration(text, facts[0], facts[1], facts[2], int(facts[3]), sweep)
        read_content(registration)  # refuses what is no declaration any more
        return registration

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
                closed.append(name_run(run))
        return closed

    def fail_left(self, process: int, reason: str) -> list[str]:
        """Mark runs as FAILED, with the reason, that a process of this machine had open when it died; their names."""
        of_process = {"host.name": platform.node(), "process.id": str(process)}
        reason = hide_secrets(reason)  # it quotes what a library has written
        failed = []
        if self._config.uri is None:
            condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in of_process.items())
            for found in list(self._reader.search(f"{condition} and attributes.status = 'RUNNING'")):
                run = self.run(found.info.run_id, name_run(found))
                run.log(tags={"error": reason[:5000]})
                run.close("FAILED")
                failed.append(run.name)
        else:
            failed = fail_entries(self._folder / OUTBOX, self._config.uri, of_process, reason, self._backend_of)
        for name in failed:
            log.error("%s failed: %s", name, reason)
        return failed

    def close_jobs(self, sweep: str, *, ended: bool) -> list[str]:
        """Mark runs of a sweep as KILLED that are open though their job has ended; their names.

        Args:
            sweep: the sweep.
            ended: whether all of its jobs are known to have ended, on whatever machine; a process that lives on this
                one counts nevertheless.
        """
        closed = []
        deadline = time.monotonic() + 5
        for run in self._children(sweep):
            elsewhere = run.data.tags.get("host.name") != platform.node()
            # A job whose launcher was killed ends by itself, on a busy machine not at once.
            while (
                ended and run.info.status == "RUNNING" and not _is_gone(run.data.tags) and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            if run.info.status == "RUNNING" and (_is_gone(run.data.tags) or (ended and elsewhere)):
                self._close_killed(run)
                closed.append(name_run(run))
        return closed

    def command(self, sweep: str) -> str | None:
        """Return the command that began a sweep; None if nobody recorded it."""
        return self._reader.entity(sweep).data.tags.get("command")

    def asked(self, sweep: str) -> set[str]:
        """Return the fingerprints (`CONFIG`) of the sweep's jobs that have begun or were finished before."""
        included = self._reader.find_all(_list_included(self._reader.entity(sweep)))
        return {run.data.tags.get(CONFIG, "") for run in (*included.values(), *self._children(sweep))}

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
        """Return an existing run, to add to; look it up, unless the caller knows its name."""
        return Run(AtOnce(self._backend, run_id), name or self._reader.entity(run_id).info.run_name)

    def has_jobs(self, sweep: str) -> bool:
        """Return whether any job of the sweep has begun."""
        return self._reader.newest(_child_of(sweep)) is not None

    def jobs_of(self, sweep: str) -> tuple[list[JobRecord], list[str]]:
        """Return a sweep's finished jobs, and a sentence for each job that did not finish, or does not count any more.

        A run that does not count is passed over where another run of the same job does, or was begun later.
        """
        run = self._reader.entity(sweep)
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise UserError(f"Sweep {sweep} was deleted in MLflow; restore it there, or name another.")
        included, files = _list_included(run), self._backend.names(sweep, JOBS)
        taken = self._reader.find_all(included)
        counting, left_out, known = self._reader.jobs(
            chain(taken.values(), self._children(sweep)), len(taken) + len(files)
        )
        for run_id in included:
            if run_id not in taken:
                what = (
                    f"Run {run_id}, which counted in this sweep, is gone; run its job again, or delete the sweep's tag "
                )
                left_out.append(LeftOut(run.data.tags[INCLUDES + run_id], f"{what}{INCLUDES}{run_id}."))
        left_out += self._reader.find_lost(sweep, files, known)
        done = {record.tags.get(CONFIG) for record in counting} - {None}
        # Of several attempts at a job the last one tells.
        last = {each.config or each.sentence: each for each in left_out if each.config not in done}
        return counting, [each.sentence for each in last.values()]

    def jobs(self, run_ids: Sequence[str]) -> tuple[list[JobRecord], list[str]]:
        """Return the same for runs named one by one."""
        finished, left_out, _ = self._reader.jobs(self._reader.entities(run_ids), len(run_ids))
        return finished, [each.sentence for each in left_out]

    def file(self, run_id: str, name: str) -> AbstractContextManager[Path]:
        """Yield a run's file, fetched for as long as the context lasts; a path where nothing is if it has none."""
        return self._reader.file(run_id, name)

    def tables(self, run_ids: Sequence[str], name: str, needed: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Return a table of each run, in this order, with at least these columns (`Reader.tables`)."""
        return self._reader.tables(run_ids, name, needed)

    def _written_down(self, uri: str, name: str, tags: Mapping[str, str], run_id: str | None = None) -> Entry:
        """Open a run on its way to the server; one that has a `run_id` is there and goes on."""
        beginning = Beginning(uri, self._config.experiment, name, tags, read_clock())
        return Entry.begin(self._folder / OUTBOX, self._backend, beginning, run_id)

    def _backend_of(self, experiment: str) -> Backend:
        if self._config.uri is None:
            return Local(self._folder, experiment, self._access)
        return Server(self._config.uri, self._folder, experiment)

    def _close_killed(self, run: RunEntity) -> None:
        with self._backend.translate_errors():
            self.client.set_tag(run.info.run_id, "error", "its process was killed")
            self.client.set_terminated(run.info.run_id, "KILLED")

    def _children(self, sweep: str) -> Iterator[RunEntity]:
        return self._reader.search(_child_of(sweep))


def _list_included(sweep: RunEntity) -> list[str]:
    """List the ids of the runs of earlier sweeps that a sweep has taken over."""
    return [tag.removeprefix(INCLUDES) for tag in sorted(sweep.data.tags) if tag.startswith(INCLUDES)]


def _child_of(sweep: str) -> str:
    return f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep}'"


def _is_gone(tags: Mapping[str, str]) -> bool:
    """Return whether the process that these tags name ran on this machine and runs no more."""
    if tags.get("host.name") != platform.node() or "process.started" not in tags:
        return False
    try:
        number, began = int(tags["process.id"]), float(tags["process.started"])
    except (KeyError, ValueError):  # edited since: nobody can tell
        return False
    try:
        process = psutil.Process(number)
        started = float(process.create_time())
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and its parent has not looked yet
            return True
    except psutil.NoSuchProcess:
        return True
    # Numbers are given again to later processes. Some systems count from a clock that is set a little now and then.
    return abs(started - began) > 2


def _user() -> str:
    """Return the user who runs this; a container may run under a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())
