"""Preparation of a sweep's jobs before the first runs: nothing in them is sure to fail, and what they need is here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import Config, Forced, Method
from quantexp.config.own_data import check_own_data
from quantexp.sweep import worker
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.comparison.prospects import TaskExtent
    from quantexp.tasks import Task
    from quantexp.tasks.items import Dataset


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
