"""Sweep: a parent run before the first job of a command, the comparison after the last."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from quantexp.config import Config, Forced, Method
from quantexp.config.composition import compose_jobs, compose_once, job_of, quote_value
from quantexp.config.condition import declare_references, find_conditions, is_baseline, name_condition, read_references
from quantexp.config.own_data import check_own_data
from quantexp.sweep import launchers, worker
from quantexp.util import environment, job_process, slurm
from quantexp.util.error_reports import past_hydra
from quantexp.util.errors import UserError
from quantexp.util.launcher_errors import sentence_of_launcher
from quantexp.util.redaction import hide_secrets

if TYPE_CHECKING:
    from quantexp.comparison.prospects import TaskExtent
    from quantexp.tasks import Task
    from quantexp.tasks.items import Dataset
    from quantexp.tracking.run import Run
    from quantexp.tracking.store import Store

log = logging.getLogger(__name__)


CHECKING = ("quantexp.models.gguf", "quantexp.tasks.data")
"""Modules that the jobs' process imports at its start, while this one checks what it was given."""

LIBRARY = "quantexp.util.llama_library"
"""Module whose import refuses a llama.cpp that cannot run here: before a sweep begins."""

RUNNING = ("quantexp.evaluation.job", "quantexp.tracking.store", "quantexp.store", "quantexp.engines.llama_cpp.engine")
"""Modules that it imports besides once there is something to run."""


class _OpenSweep:
    """The sweep that this process launched."""

    def __init__(self, store: "Store", run: "Run", jobs: Sequence[Config], folder: Path, launcher: str) -> None:
        self.store, self.run, self.jobs, self.folder, self.launcher = store, run, jobs, folder, launcher


_open: _OpenSweep | None = None


class SweepCallback(Callback):
    """Checks what is to run before anything is written, and opens the parent run of a multirun."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one job's configuration."""
        with past_hydra():
            job_process.start(*CHECKING, *RUNNING)
            job = check_job(job_of(config))
            declare_references(find_conditions([job]))
            job_process.call(prepare_jobs, [job])
            if job.tracking.uri is not None:
                from quantexp.tracking.store import Store

                Store(job.tracking).check()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every job's configuration, then open the run that they all belong to."""
        with past_hydra():
            _start(config)


def _start(config: DictConfig) -> None:
    global _open
    job_process.start(*CHECKING)
    compose_once()
    jobs = [check_job(job) for job in compose_jobs(config)]
    if not jobs:
        raise UserError("This sweep has no jobs: a pattern such as glob(...) fits no option; --help lists the options.")
    from quantexp.config.job_names import check_names
    from quantexp.evaluation.early_stopping import check_sequential

    if any(job.stats != jobs[0].stats for job in jobs):
        raise UserError(
            "stats must be the same for all jobs of a sweep, which is analysed in one way; compare in another one "
            "afterwards with: python -m quantexp.aggregate stats=..."
        )
    for key in ("divergence_over", "divergence_base", "divergence_write"):
        if len({getattr(job, key) for job in jobs}) > 1:
            raise UserError(f"{key} must be the same for all jobs of a sweep; make two sweeps of it.")
    declare_references(find_conditions(jobs))
    check_names(jobs)
    check_sequential(jobs)
    launcher = launchers.name_launcher(config)
    # Jobs of other launchers run in processes that look for themselves.
    titles, extents, facts, template = job_process.call(prepare_jobs, jobs, launcher == "basic")
    if template is not None:
        config.hydra.overrides.task.append(f"model.chat_template={quote_value(str(template))}")
        jobs = [replace(job, model=replace(job.model, chat_template=str(template))) for job in jobs]
    launchers.check_order(launcher, jobs)
    first = jobs[0]
    names = list(dict.fromkeys(name_condition(job) for job in jobs))
    models = list(dict.fromkeys(job.model.name for job in jobs))
    takes_earlier = first.stats.method is Method.sequential  # the baseline's run then joins the sweep
    has_baseline = any(is_baseline(job) for job in jobs)
    if len(names) > 1 and not has_baseline and not takes_earlier:
        log.warning(
            "the baseline %s is not among the %s of this sweep (%s): nothing will be compared; "
            "add it, or set stats.baseline", first.stats.baseline, "conditions" if read_references() else "quants",
            ", ".join(names),
        )  # fmt: skip
    from quantexp.comparison.preregistration import write_declaration
    from quantexp.config.fingerprint import config_fingerprint, sweep_fingerprint
    from quantexp.tracking.store import Store
    from quantexp.tracking.tags import SWEEP

    store = Store(first.tracking)
    store.check()
    if sent := store.send(patient=False).sent:
        log.info("%d runs that were kept for %s are there now", len(sent), store.shown)
    tasks = ", ".join(dict.fromkeys(job.task.name for job in jobs))
    data = ", ".join(dict.fromkeys(job.data.name for job in jobs))
    program = Path(sys.argv[0]).name
    command = ["python", "-m", "quantexp"] if program == "__main__.py" else [program]
    for abandoned in store.close_abandoned():
        log.info("%s was RUNNING, but its process is gone: marked as KILLED", abandoned)
    fingerprint = sweep_fingerprint(jobs, first.stats)
    run = None if first.force else store.resume_sweep(fingerprint)
    if run is not None:
        _refuse_twice(run)
        log.info("continuing the sweep that was started with the same jobs (run %s)", run.id[:8])
    else:  # a new sweep has something to run, most likely
        job_process.load(LIBRARY)
        job_process.start(*RUNNING)
    run = run or store.start(
        f"sweep of {len(jobs)}: {', '.join(models)}",
        "sweep",
        None,
        {
            SWEEP: fingerprint,
            "jobs": str(len(jobs)),
            "command": shlex.join([*command, *sys.argv[1:]]),
            "model": ", ".join(models),
            "data": data,
        },
    )
    declared_at = store.register(run, write_declaration(jobs, first.stats), [config_fingerprint(job) for job in jobs])
    _open = _OpenSweep(store, run, jobs, Path(config.hydra.sweep.dir).absolute(), launcher)
    os.environ[environment.PARENT] = run.id
    os.environ[environment.DECLARED] = str(declared_at)
    os.environ.pop(environment.SEVERAL_MODELS, None)
    if len(models) > 1:
        os.environ[environment.SEVERAL_MODELS] = str(len(models))
    log.info(
        "%d jobs: %s%s on %s (%s), tracked in %s",
        len(jobs), ", ".join(names), f" of {', '.join(models)}" if len(models) > 1 else "", tasks,
        ", ".join(titles), store.shown,
    )  # fmt: skip
    is_compared = len(names) > 1 and (has_baseline or takes_earlier)
    if is_compared and first.stats.method is not Method.bootstrap:
        from quantexp.comparison.prospects import describe_prospects

        for sentence in describe_prospects(extents, first.stats):
            log.warning("%s", sentence)
    launchers.configure_launcher(config, jobs)
    if launcher != "basic":
        job_process.stop()  # each of the launcher's processes has one of its own
    else:
        worker.remember_facts(jobs, facts, store)


def _refuse_twice(run: "Run") -> None:
    """Refuse to go on with a sweep of which Slurm has jobs yet: they would run beside their own repetition.

    Raises:
        UserError: there are some.
    """
    queue = slurm.queue()
    if queue is None or not (left := queue.list_jobs(run.id)):
        return
    run.close("KILLED")
    raise UserError(
        f"Slurm still has jobs of this sweep, whose launching process has ended ({', '.join(left)}): wait for them, or "
        f"end them with scancel --name={slurm.JOB_NAME.format(sweep=run.id)}, and then repeat this command."
    )


def check_job(job: Config) -> Config:
    """Return the job; nothing in it is sure to fail once it runs.

    Raises:
        UserError: its engine cannot run it, its task has no such grader, what that needs is not there, or it asks for
            what only answers can have.
    """
    from quantexp.engines.registry import check_engine
    from quantexp.evaluation.resources import check_resources
    from quantexp.tasks.requests import Choose, Read

    task = _task_of(job)
    check_engine(job, task.request.needs)
    check_resources(task.grader(job.task.grader), job.judge, job.embedder)
    _check_files(job, task.request is Read)
    if task.request is Read:
        _check_unanswered(job, "read, not answered", {"stats.method=sequential": job.stats.method is Method.sequential})
    elif task.request is Choose:
        not_scored = {
            "divergence_over=gold": job.divergence and job.divergence_over is Forced.gold,
            "task.prompt.system": job.task.prompt.system is not None,
            "task.stop": bool(job.task.stop),
            "task.sampling.temperature above 0": job.task.sampling.temperature > 0,
        }
        _check_unanswered(job, "scored, not answered", not_scored)
    return job


def _check_files(job: Config, reads: bool) -> None:
    """Refuse llama-perplexity's files where they are of no use.

    Raises:
        UserError: the task reads no plain text, one file is to be read and another written, or one cannot be.
    """
    given = {"divergence_base": job.divergence_base, "divergence_write": job.divergence_write}
    for key, path in given.items():
        if path is not None and not reads:
            raise UserError(
                f"{key}={path} is a file of llama-perplexity, which reads plain text: add task=text data=files "
                "data.path=TEXT, or leave it out."
            )
    if None not in given.values():
        raise UserError(
            "With divergence_base nothing is measured from the baseline, whose distributions divergence_write would "
            "write: leave one of them out."
        )
    if job.divergence_write is not None and job.engine.name != "llama_cpp":
        raise UserError(
            "divergence_write needs whole distributions, and a server tells of the likeliest tokens only: set "
            "engine=llama_cpp, or leave it out."
        )
    if job.divergence_base is not None:
        from quantexp.evaluation.kl_divergence.llama_file import open_base

        open_base(job.divergence_base, job.task.window)
    if job.divergence_write is not None and not Path(job.divergence_write).expanduser().absolute().parent.is_dir():
        raise UserError(f"divergence_write={job.divergence_write} is in no folder that there is: make it first.")


def _task_of(job: Config) -> "Task":
    from quantexp.tasks import open_task  # only now: a wrong key or type is told at once, without this import

    return open_task(job.task)


def _check_unanswered(config: Config, what: str, further: Mapping[str, bool]) -> None:
    """Refuse what can be asked of answers only, and `further` keys that do not go with `what` is done instead.

    Raises:
        UserError: it is asked of items that are not answered.
    """
    asked = {
        **further,
        # Of a server it is on unless somebody says otherwise, and does nothing to what is read.
        "engine.floor=true": config.engine.floor and config.engine.name == "llama_cpp",
        "engine.verify=true": config.engine.verify,
        "task.sampling.samples above 1": config.task.sampling.samples > 1,
    }
    if wrong := [key for key, is_asked in asked.items() if is_asked]:
        raise UserError(f"task={config.task.name} is {what}, so it cannot have {wrong[0]}: leave that out.")


def prepare_jobs(
    jobs: Sequence[Config], looks_here: bool = False
) -> tuple[list[str], list["TaskExtent"], list[dict[str, str]], Path | None]:
    """Load the data of each job and have the models here, all of them before the first job runs.

    What a download cannot get is told now, not hours later, and jobs on machines without a network find everything.

    Args:
        jobs: all of them.
        looks_here: whether the launching process is to look which of them have finished before.

    Returns:
        What the data are called in a sentence, how many items there are of each task, and for each job what is needed
        to look whether it has finished before; empty if only the job itself knows, or nobody looks here. Last, a chat
        template that all jobs are to use, if any.

    Raises:
        UserError: data or a model are not there and cannot be had.
    """
    from quantexp import models
    from quantexp.comparison.prospects import count_items
    from quantexp.sweep.file_review import review_files
    from quantexp.tasks.data import load
    from quantexp.tasks.items import check_gradable, draw_items
    from quantexp.tasks.requests import Read

    check_own_data(jobs)
    ready: list[Dataset] = []
    known: dict[tuple[str, str], Dataset] = {}  # the same rows are held once
    for job in jobs:
        task = _task_of(job)
        rows = load(job.data, task)
        ready.append(known.setdefault((job.task.name, rows.fingerprint), rows))
        check_gradable({item.id: item.fields for item in rows.items}, task.grader(job.task.grader))
        if task.request is not Read:
            draw_items(ready[-1].items, job.seed, job.task.limit)
    models.prepare((job.model, job.quant) for job in jobs)
    if (template := review_files(jobs)) is not None:
        jobs = [replace(job, model=replace(job.model, chat_template=str(template))) for job in jobs]
    facts = [_facts_of(job, rows) if looks_here else {} for job, rows in zip(jobs, ready, strict=True)]
    answered = [job for job in zip(jobs, ready, strict=True) if _task_of(job[0]).request is not Read]
    return list(dict.fromkeys(rows.title for rows in ready)), count_items(answered), facts, template


def _facts_of(job: Config, rows: "Dataset") -> dict[str, str]:
    """Look up what a job's fingerprint is made of besides its config; empty if only the job itself can know.

    A file that cannot be read is that job's own failure, which it tells when its turn comes.
    """
    from quantexp import models
    from quantexp.evaluation.job_identity import pairing_facts
    from quantexp.tasks.requests import Read

    task = _task_of(job)
    if job.force or not worker.needs_only_facts(job) or task.request is Read:
        return {}
    try:
        source = models.describe_source(job.model, job.quant, models.find_source(job.model, job.quant))
    except (UserError, OSError):
        return {}
    return {**pairing_facts(job, rows, task.grader(job.task.grader)), "source": source}


class Conclusion:
    """Around the whole command: when the jobs of a sweep have ended, however they ended, compare them.

    Leaves with exit status 1 when a job failed or a pair could not be compared.
    """

    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, _exit)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, _exit)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if _open is None:
            return
        if error is not None:
            launchers.end_others(_open.launcher)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            _close_killed(_open)
            if _open.launcher == "slurm":
                log.info("Slurm's jobs go on; scancel --name=%s ends them", slurm.JOB_NAME.format(sweep=_open.run.id))
            log.info(
                "the same command goes on from here; compare what has finished with: %s",
                _AGAIN.format(sweep=_open.run.id),
            )
            return
        if error is not None and (sentence := sentence_of_launcher(error)) is not None:
            log.error("%s", sentence)
        ended = True
        if _open.launcher == "slurm" and error is not None:
            log.info("waiting for the jobs that Slurm still has")  # submitit waits for none after one that was killed
            ended = slurm.wait_for(_open.run.id)
        complete = False
        try:
            if not _all_there(_open):
                raise SystemExit(1)
            for name in _open.store.close_jobs(_open.run.id, ended=ended):
                log.warning("%s: its process was killed", name)
            if error is not None and not _open.store.has_jobs(_open.run.id):
                _open.run.log(tags={"error": hide_secrets(str(error))[:5000]})
                return
            complete = _compare(_open)
            if not complete:
                log.info("once that is mended, compare with: %s", _AGAIN.format(sweep=_open.run.id))
        finally:
            _open.run.close("FINISHED" if complete else "FAILED")
        if not complete:
            raise SystemExit(1)


_AGAIN = "python -m quantexp.aggregate sweep={sweep}"


def _close_killed(sweep: _OpenSweep) -> None:
    """Mark what was interrupted; nobody who has pressed Ctrl-C waits for a server, and the next command does it too."""
    from quantexp.tracking.errors import ServerAwayError
    from quantexp.tracking.outbox import few_attempts

    try:
        with few_attempts():
            sweep.store.close_jobs(sweep.run.id, ended=False)
    except ServerAwayError as error:
        log.warning("%s", error)
    sweep.run.close("KILLED")


def _all_there(sweep: _OpenSweep) -> bool:
    """Return whether the tracking server has all that the jobs have written down for it; it is given some minutes."""
    kept = sweep.store.send(patient=True)
    if kept.waiting:
        log.error(
            "the tracking server %s %s, so %d runs are kept here (%s); once it is there: python -m quantexp.sync, and "
            "then: %s", sweep.store.shown, kept.reason, len(kept.waiting), ", ".join(kept.waiting),
            _AGAIN.format(sweep=sweep.run.id),
        )  # fmt: skip
    return not kept.waiting and sweep.run.send(patient=True)


def _compare(sweep: _OpenSweep) -> bool:
    from quantexp.aggregate import aggregate
    from quantexp.config.fingerprint import config_fingerprint
    from quantexp.evaluation.finished_jobs import name_job

    asked = sweep.store.asked(sweep.run.id)
    missing = [job for job in sweep.jobs if config_fingerprint(job) not in asked]
    if missing:
        names = ", ".join(map(name_job, missing))
        log.error("%d of %d jobs have not begun: %s", len(missing), len(sweep.jobs), names)
    try:
        complete, compared = aggregate(sweep.jobs[0].stats, sweep.store, sweep.run.id, [], sweep.folder / "report")
    except UserError as error:
        log.error("%s", error)
        return False
    # Who runs one condition alone has asked for its scores.
    wanted = len({name_condition(job) for job in sweep.jobs}) > 1
    return complete and not missing and (compared or not wanted)


_ended_by: list[int] = []
"""Numbers of the signals that have asked this process to end."""


def _exit(number: int, _: FrameType | None) -> None:
    """SIGTERM, or the end of the terminal, as an exception, so that open runs are closed on the way out."""
    _ended_by.append(number)
    raise SystemExit(128 + number)


def obey_lost_signal() -> None:
    """Leave if a signal has asked for it and nobody has seen its exception.

    Python calls handlers wherever it is. What is raised in a finalizer, or beside a fork, goes no further.

    Raises:
        SystemExit: one has.
    """
    if _ended_by:
        raise SystemExit(128 + _ended_by[0])
