"""One job: a model at one quant answers one task's items, and is graded.

`prepare` settles what the job is before any model is loaded, `run` answers and grades, `record` writes down the result.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from quantexp import models
from quantexp.config import Config
from quantexp.config.condition import name_condition
from quantexp.config.fingerprint import config_fingerprint, job_fingerprint, measures_floor, pair_fingerprint
from quantexp.engines import Completion, open_engine
from quantexp.evaluation.asking import Loaded, Responses, ask
from quantexp.evaluation.early_stopping import group_duplicates, make_stopping_rule
from quantexp.evaluation.finished_jobs import adopt, name_job, tag_levels
from quantexp.evaluation.job_identity import describe_machine, pairing_facts
from quantexp.evaluation.job_plan import JobPlan
from quantexp.evaluation.judge_engine import ModelUnderTest
from quantexp.evaluation.metrics import (
    Meter,
    collect_measures,
    compute_metrics,
    description,
    floor_metrics,
    measure_reading,
    summary_line,
)
from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.evaluation.scoring import AnswerGrading, drop_unbounded
from quantexp.store import CompletionStore
from quantexp.tasks import Task, open_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Item, draw_items
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.tasks.requests import Read
from quantexp.tracking.run import Run
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CATEGORY, CONFIG, FLOOR, FLOOR_BY, JOB, PAIR, PLACE, PLACES
from quantexp.util.errors import UserError
from quantexp.util.metric_names import fold_name
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job: graded answers, and what was measured.

    Attributes:
        plan: the job.
        responses: of the model.
        table: one row an answer, graded.
        floor: the same of a second pass over the prompts, and how that was made; None if there was none.
        metrics: what follows from the answers and the file alone.
        speeds: what was measured of this run of it.
        machine: the engine's tags.
    """

    plan: JobPlan
    responses: Responses
    table: pd.DataFrame
    floor: tuple[pd.DataFrame, str] | None
    metrics: Mapping[str, float]
    speeds: Mapping[str, float]
    machine: Mapping[str, str]


def run_job(
    config: Config, store: Store, known: CompletionStore, sweep: str | None, unfinished: str | None = None
) -> float:
    """Run one job and record it, unless the same one has finished before.

    Args:
        config: what to run.
        store: where it is recorded.
        known: the completions that exist already.
        sweep: id of the run that it belongs to, if any.
        unfinished: fingerprint of a job of which the caller has looked for a finished run, and found none.

    Returns:
        The mean score, between 0 and 1.

    Raises:
        UserError: the configuration cannot be run; the run is recorded as FAILED.
    """
    try:
        plan = prepare(config, store, sweep)
    except (UserError, OSError):
        with open_failed_run(config, store, sweep):
            raise
    looks = not config.force and plan.fingerprint != unfinished
    if looks and (done := store.finished_job(plan.fingerprint)) is not None:
        return adopt(config, plan.pair, done, store, sweep)
    name, shown = _names(config)
    tags = _tags(config) | {JOB: plan.fingerprint, PAIR: plan.pair}
    with store.start(name, "job", sweep, tags, shown) as tracked:
        return record(run(plan, store, known, tracked), tracked)


def prepare(config: Config, store: Store, sweep: str | None) -> JobPlan:
    """Settle what a job is: its items, its grader, what it is compared with while it runs, its fingerprint.

    Args:
        config: what to run.
        store: where the baseline's job is looked up.
        sweep: id of the run that it belongs to, if any.

    Raises:
        UserError: the configuration cannot be run.
    """
    task = open_task(config.task)
    asked = config
    if isinstance(task, OwnWordsTask):
        asked = replace(config, task=replace(config.task, **task.settings))
    grader = task.grader(config.task.grader)
    data = load(config.data, task)
    # Windows of plain text can only be drawn once there is a tokenizer to cut it.
    items = data.items if task.request is Read else draw_items(data.items, config.seed, config.task.limit)
    source = models.find_source(config.model, config.quant)
    facts = pairing_facts(config, data, grader)
    pair = pair_fingerprint(config, **facts)
    rule = make_stopping_rule(config, pair, store, sweep)
    baseline = None
    if (config.divergence or task.request is Read) and config.divergence_base is None:
        # Only here: most jobs do without what it imports.
        from quantexp.evaluation import divergence

        baseline = divergence.baseline_job(config, pair, store, sweep)
    facts["source"] = models.describe_source(config.model, config.quant, source)
    if rule is not None:
        facts["stopping"] = rule.fingerprint
        items = group_duplicates(items)
    return JobPlan(asked, task, grader, data, items, pair, job_fingerprint(config, **facts), rule, baseline)


def run(plan: JobPlan, store: Store, known: CompletionStore, tracked: Run) -> JobResult:
    """Load the model, ask, grade the answers, and measure what else the job asks for.

    Args:
        plan: the job.
        store: where the baseline's distributions are looked up.
        known: the completions that exist already; new ones are added one by one.
        tracked: the job's run, which learns at once what the job is: one that is killed says so too.

    Raises:
        UserError: the model cannot be loaded, an item cannot be asked, or no prompt fits the context.
    """
    config, meter = plan.config, Meter()
    tracked.log_yaml(OmegaConf.to_yaml(OmegaConf.structured(config)), "config.yaml")
    tracked.log(params=_params(config))
    file, source = models.resolve(config.model, config.quant)
    engine = open_engine(file, plan.model, config.engine)
    url, served = engine.machine.get("url", ""), engine.machine.get("model", "")
    tested = ModelUnderTest(config.model.name, file.sha256, file.architecture, url, served)
    resources = ResourceSettings(
        plan.name, config.judge, config.embedder, known, tested, unsafe_code=config.task.unsafe_code
    )
    with open_grader(plan.grader, resources) as opened:
        tracked.log(tags=opened.facts)
        responses = ask(plan, Loaded(engine, file, source, opened), known, tracked)
        table = _table(plan.task, responses, responses.generated.completions, responses.grading)
        floor = None
        if measures_floor(config) and responses.repeat is not None:
            log.info("%s: answering everything again for the noise floor", plan.name)
            again = responses.repeat()
            second = replace(responses, prompts=again.prompts)
            floor = _table(plan.task, second, again.completions, responses.grading.start_over()), again.how
    metrics = compute_metrics(config, table, file, responses.unique_items)
    if config.divergence and plan.task.request is not Read:
        from quantexp.evaluation.divergence import measure_divergence  # only here, as in `prepare`

        of_item = {item.id: item for item in responses.items}
        measure_divergence(
            config, plan.task, plan.baseline, store, tracked, engine, of_item, responses.prompts, responses.answers,
        )  # fmt: skip
    speeds = collect_measures(responses.generated, meter)
    speeds |= {f"run.{name}": size for name, size in engine.sizes.items()}
    reading = measure_reading(responses.prompts, responses.generated.completions, shares=engine.shares_beginnings)
    speeds |= {} if reading is None else {"run.prompt_tokens_per_second": reading}
    # The machine only now: a server may have become another one.
    return JobResult(plan, responses, table, floor, metrics, speeds, describe_machine(engine))


def record(result: JobResult, tracked: Run) -> float:
    """Write down what a job found.

    Args:
        result: of the job.
        tracked: the job's run.

    Returns:
        The mean score, between 0 and 1.
    """
    data, generated = result.plan.data, result.responses.generated
    tracked.log_items(result.table)
    if result.floor is not None:
        floor, how = result.floor
        tracked.log_items(floor, FLOOR)
        tracked.log(tags={FLOOR_BY: how}, metrics=floor_metrics(result.table, floor))
    tracked.log(tags=result.machine, metrics={**result.metrics, **result.speeds})
    tracked.describe(description(data, result.metrics), {})
    if result.plan.config.tracking.traces:
        tracked.trace([each.generation_seconds for each in generated.completions])
    tracked.log_scores(result.table)
    items = len(result.responses.items)
    log.info("%s", summary_line(result.plan.name, data, items, result.metrics, generated, result.speeds))
    return result.metrics["score"]


def open_failed_run(config: Config, store: Store, sweep: str | None) -> Run:
    """Open a run for a job that fails before its own has begun."""
    name, shown = _names(config)
    return store.start(name, "job", sweep, _tags(config), shown)


def _table(task: Task, responses: Responses, completions: Iterable[Completion], grading: AnswerGrading) -> pd.DataFrame:
    """Make the per-item table: a row per prompt, in order."""
    of_item = {item.id: item for item in responses.items}
    completions = tuple(completions)
    grading.grade_all(responses.prompts, completions)
    table = pd.DataFrame(
        {
            "item_id": prompt.item_id,
            "cluster": of_item[prompt.item_id].cluster,
            "sample": prompt.sample,
            "difficulty": of_item[prompt.item_id].difficulty,
            **_describe_item(of_item[prompt.item_id]),
            **responses.columns(prompt),
            "prompt": prompt.text,
            "output": grading.output(prompt, completion).text,
            "reference": task.target(of_item[prompt.item_id].fields),
            **grading.verdict(prompt, completion),
            "finish_reason": completion.finish_reason,
            "prompt_tokens": len(prompt.tokens) if completion.counted is None else completion.counted[0],
            "completion_tokens": completion.length,
            "mean_logprob": float(np.mean(completion.logprobs)) if completion.logprobs else None,
        }
        for prompt, completion in zip(responses.prompts, completions, strict=True)
    )
    return drop_unbounded(table)


def _describe_item(item: Item) -> dict[str, str]:
    """Return the columns of the per-item table for what the data say of an item: its category, and where it asks."""
    category, place = item.fields.get(CATEGORY), item.fields.get(PLACE)
    told = {CATEGORY: one_line(category, 60)} if isinstance(category, str) and category.strip() else {}
    return told | ({PLACE: place} if isinstance(place, str) and PLACES.fullmatch(place) else {})


def _names(config: Config) -> tuple[str, str]:
    """Name the job's run for the terminal and for MLflow's pages."""
    shown = f"{config.task.name} {name_condition(config)} seed {config.seed}"
    return name_job(config), shown


def _tags(config: Config) -> dict[str, str]:
    """Return the tags that runs are filtered by in the UI."""
    return {
        "model": config.model.name,
        "quant": config.quant.name,
        "task": config.task.name,
        "data": config.data.name,
        "seed": str(config.seed),
        CONFIG: config_fingerprint(config),
        **tag_levels(config),
    }


def _params(config: Config) -> dict[str, object]:
    """Return every key of the configuration, but those of what is not there, such as a judge or a recommendation."""
    flat = _flat(asdict(config))
    absent = tuple(f"{name}." for name in ("judge", "embedder") if flat[f"{name}.name"] == "none")
    return {
        key: value
        for key, value in flat.items()
        if (value is not None or not key.startswith("model.sampling.")) and not key.startswith(absent)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Join nested keys by dots, as they are written on the command line; some are a user's own names."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        name = prefix + fold_name(str(key))
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value.value if isinstance(value, Enum) else value
    return flat
