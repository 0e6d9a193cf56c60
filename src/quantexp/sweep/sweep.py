"""Sweep: its run, which is opened before the first job of a command."""

import logging
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from quantexp.config import Method
from quantexp.config.composition import compose_jobs, compose_once, job_of, quote_value
from quantexp.config.condition import declare_references, find_conditions, is_baseline, name_condition, read_references
from quantexp.sweep import launchers, worker
from quantexp.sweep.conclusion import OpenSweep, expect_end
from quantexp.sweep.preparation import check_job, prepare_jobs
from quantexp.util import environment, job_process, slurm
from quantexp.util.error_reports import past_hydra
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.tracking.run import Run

log = logging.getLogger(__name__)


CHECKING = ("quantexp.models.gguf", "quantexp.tasks.data")
"""Modules that the jobs' process imports at its start, while this one checks what it was given."""

LIBRARY = "quantexp.util.llama_library"
"""Module whose import refuses a llama.cpp that cannot run here: before a sweep begins."""

RUNNING = ("quantexp.evaluation.job", "quantexp.tracking.store", "quantexp.store", "quantexp.engines.llama_cpp.engine")
"""Modules that it imports besides once there is something to run."""


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
    expect_end(OpenSweep(store, run, jobs, Path(config.hydra.sweep.dir).absolute(), launcher))
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
