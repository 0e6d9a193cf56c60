"""Hugging Face's `.eval_results/*.yaml`: scores on public benchmarks, which a model's page and a leaderboard show.

The format: https://huggingface.co/docs/hub/eval-results. A `verifyToken`, which only a run on the Hub's own machines
gets, and `evaluation_framework`, which must be the benchmark's own, are left out.
"""

import re
from collections.abc import Mapping

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from quantexp.comparison.publication import Condition, Job, Publication
from quantexp.util.errors import UserError

FOLDER = ".eval_results"
"""Of a model's repository."""

KNOWN: Mapping[str, str] = {"openai/gsm8k": "gsm8k"}
"""The task of each of the Hub's benchmarks that quantexp has as a task: the data set's id, and the task's in it."""


def list_results(
    publication: Publication, benchmarks: Mapping[str, str], url: str | None
) -> tuple[dict[str, str], list[str]]:
    """Write the files of all conditions whose items are a public benchmark's.

    Args:
        publication: the results.
        benchmarks: of further tasks the benchmark, as DATASET:TASK.
        url: where the results are published, if they are.

    Returns:
        The text of each file by its name, and a sentence for each task without one.

    Raises:
        UserError: a benchmark is not named as DATASET:TASK, or belongs to no task.
    """
    tasks = dict.fromkeys(str(job.settings["task"]["name"]) for job in publication.jobs)
    for name in benchmarks:
        if name not in tasks:
            raise UserError(f"benchmarks.{name}: there is no such task here; choose one of {', '.join(tasks)}.")
    files: dict[str, str] = {}
    left_out: dict[str, None] = {}
    several = len({each.model for each in publication.conditions}) > 1
    for each in publication.conditions:
        place = each.model, each.task, each.condition
        jobs = [job for job in publication.jobs if (job.model, job.task, job.condition) == place]
        found = _find_benchmark(jobs[0], benchmarks)
        if found is None:
            left_out[
                f"{each.task} is in no {FOLDER} file: its items are not a benchmark's of the Hub; if they are, add "
                f"'benchmarks={{{jobs[0].settings['task']['name']}: OWNER/DATASET:TASK}}'."
            ] = None
            continue
        name = "_".join([*([each.model] if several else []), each.task, each.condition])
        files[re.sub(r"[^\w.+-]+", "-", name).strip("-.") + ".yaml"] = _write_entry(each, jobs[0], found, url)
    return files, list(left_out)


def _find_benchmark(job: Job, benchmarks: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the ids of a job's benchmark and of its task; None if its items are nobody's but ours, or the user's."""
    if (named := benchmarks.get(job.settings["task"]["name"])) is not None:
        dataset, _, task = named.rpartition(":")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset) or not task:
            raise UserError(f"benchmarks: {named} is no benchmark; write OWNER/DATASET:TASK, as openai/gsm8k:gsm8k.")
        return dataset, task
    data = job.settings.get("data", {})
    repository = str(data.get("repository")) if data.get("source") == "hub" else ""
    return (repository, KNOWN[repository]) if repository in KNOWN else None


def _write_entry(condition: Condition, job: Job, benchmark: tuple[str, str], url: str | None) -> str:
    data, prompt = job.settings.get("data", {}), job.identity.get("prompt", {})
    revision = str(data.get("revision", ""))
    entry = EvalResultEntry(
        dataset_id=benchmark[0],
        task_id=benchmark[1],
        value=round(100 * condition.score.mean, 2),
        dataset_revision=revision if re.fullmatch("[0-9a-f]{40}", revision) else None,
        date=job.date,
        source_url=url,
        source_name=None if url is None else "quantexp results",
        notes=(
            f"{condition.condition}, {prompt.get('shots')}-shot, {condition.items:,} items, grader {condition.grader}, "
            f"{condition.score.confidence:.0%} interval {100 * condition.score.low:.2f} to "
            f"{100 * condition.score.high:.2f}, quantexp {job.software.quantexp}"
        ),
    )
    text: str = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
    return text
