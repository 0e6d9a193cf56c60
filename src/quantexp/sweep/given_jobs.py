"""A sweep of jobs that are given one by one, as a published file has them, not composed from a command."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantexp.config import Config
from quantexp.config.condition import declare_references, find_conditions
from quantexp.config.job_names import check_names
from quantexp.evaluation.finished_jobs import name_job
from quantexp.sweep import worker
from quantexp.sweep.preparation import check_job, prepare_jobs
from quantexp.sweep.sweep import CHECKING, LIBRARY, RUNNING
from quantexp.util import job_process
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError
from quantexp.util.process_death import ProcessDeathError

if TYPE_CHECKING:
    from quantexp.tracking.store import Store

log = logging.getLogger(__name__)


def run_jobs(jobs: Sequence[Config], store: "Store", title: str) -> tuple[str, dict[int, str]]:
    """Run jobs one after the other, as one sweep; what has finished in it before is passed over.

    Args:
        jobs: all of them; their statistics and their tracking are the same.
        store: where they are recorded.
        title: of the sweep's run.

    Returns:
        The id of the sweep's run, and why a job failed, by its place in `jobs`.

    Raises:
        UserError: a job is sure to fail, or what it needs is not here: nothing has run.
    """
    from quantexp.config.fingerprint import sweep_fingerprint
    from quantexp.tracking.tags import SWEEP

    job_process.start(*CHECKING)
    jobs = [check_job(job) for job in jobs]
    declare_references(find_conditions(jobs))
    check_names(jobs)
    job_process.call(prepare_jobs, jobs)
    job_process.call(check_files, jobs)
    job_process.load(LIBRARY)
    job_process.start(*RUNNING)
    store.check()
    store.close_abandoned()
    fingerprint = sweep_fingerprint(jobs, jobs[0].stats)
    models = ", ".join(dict.fromkeys(job.model.name for job in jobs))
    run = store.resume_sweep(fingerprint) or store.start(
        title, "sweep", None, {SWEEP: fingerprint, "jobs": str(len(jobs)), "command": title, "model": models}
    )
    failed: dict[int, str] = {}
    try:
        for place, job in enumerate(jobs):
            try:
                job_process.call(worker.run_here, job, run.id)
            except ProcessDeathError as death:
                failed[place] = str(death)
                log.error("%s failed: %s", name_job(job), death)
            except (UserError, OSError) as error:
                failed[place] = explain_error(error) or str(error)
                log.error("%s failed: %s", name_job(job), failed[place])
    finally:
        run.close("FAILED" if failed else "FINISHED")
    return run.id, failed


def check_files(jobs: Sequence[Config]) -> None:
    """Have every model's file hash to what its job says, before the first job runs.

    Raises:
        UserError: one does not, or cannot be read.
    """
    from quantexp import models

    for model, quant in {repr((job.model, job.quant)): (job.model, job.quant) for job in jobs}.values():
        models.find_source(model, quant)
