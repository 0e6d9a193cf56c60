"""One job, from top to bottom: a model at one quant answers one task's items, and is graded."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from quantexp import models
from quantexp.config import Config, TaskConfig
from quantexp.config.fingerprint import config_fingerprint, job_fingerprint, measures_floor, pair_fingerprint
from quantexp.config.identity import Identity
from quantexp.engines import Completion, Engine, Prompt, open_engine
from quantexp.engines.batch_invariance import second_answers, verify
from quantexp.evaluation.answers import NONE
from quantexp.evaluation.early_stopping import Stopping, stopping_rule, together
from quantexp.evaluation.generation import generate
from quantexp.evaluation.metrics import Meter, description, floor_metrics, measured, metrics_of, summary_line
from quantexp.evaluation.prompts import Prompter
from quantexp.evaluation.scoring import AnswerGrading
from quantexp.models import ModelFile
from quantexp.store import CompletionStore
from quantexp.tasks import Grader, Task, get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Dataset, Item, drawn
from quantexp.tasks.requests import Read
from quantexp.tracking.run import Run
from quantexp.tracking.store import Store
from quantexp.tracking.tags import (
    CONFIG,
    DATA_FILE,
    DATA_ROWS,
    FLOOR,
    FLOOR_BY,
    IDENTITY,
    JOB,
    PAIR,
    SOURCE_BITS,
    SOURCE_TYPE,
    STOPPED,
    WARNINGS,
    job_name,
)
from quantexp.util.environment import DECLARED, SEVERAL_MODELS
from quantexp.util.errors import UserError
from quantexp.util.metric_names import fold_name
from quantexp.util.progress import bar

log = logging.getLogger(__name__)


def run_job(config: Config, store: Store, known: CompletionStore, sweep: str | None) -> float:
    """Run one job and record it, unless the same one has finished before.

    Args:
        config: what to run.
        store: where it is recorded.
        known: the completions that exist already.
        sweep: id of the run that it belongs to, if any.

    Returns:
        The mean score, between 0 and 1.

    Raises:
        UserError: the configuration cannot be run; the run is recorded as FAILED.
    """
    declared = os.environ.get(DECLARED)
    try:
        task = get_task(config.task.name, config.task.module)
        grader = task.grader(config.task.grader)
        data = load(config.data, task)
        # Windows of plain text can only be drawn once there is a tokenizer to cut it.
        items = data.items if task.request is Read else drawn(data.items, config.seed, config.task.limit)
        source = models.source_of(config.model, config.quant)
        facts = {"data": data.fingerprint, "grader": grader.id}
        pair = pair_fingerprint(config, **facts)
        rule = stopping_rule(config, pair, store, sweep)
        baseline = None
        if config.divergence or task.request is Read:
            # Only here: most jobs do without what it imports.
            from quantexp.evaluation import divergence

            baseline = divergence.baseline_job(config, pair, store, sweep)
    except (UserError, OSError):
        with failing(config, store, sweep):
            raise
    name, shown = _names(config)
    facts["source"] = source.sha256
    if rule is not None:
        facts["stopping"] = rule.fingerprint
        items = together(items)
    fingerprint = job_fingerprint(config, **facts)
    if not config.force and (done := store.finished_job(fingerprint)):
        # Runs of earlier versions lack the one, and people may have deleted the other.
        store.run(done.run_id).log(tags={PAIR: pair, CONFIG: config_fingerprint(config)})
        if sweep is not None:
            store.include(sweep, done)
        if config.tracking.traces:
            store.run(done.run_id).trace()
        log.info("%s: finished before (run %s); force=true runs it again", name, done.run_id[:8])
        return done.metrics["score"]

    tags = _tags(config) | {JOB: fingerprint, PAIR: pair}
    with store.start(name, "job", sweep, tags, shown) as run, ExitStack() as held:
        meter = Meter()
        run.log_yaml(OmegaConf.to_yaml(OmegaConf.structured(config)), "config.yaml")
        run.log(params=_flat(asdict(config)))

        file, source = models.resolve(config.model, config.quant)
        engine = open_engine(file, config.model, config.engine)
        record = partial(_record_identity, run, config, data, grader, file, source, engine)
        grade = held.enter_context(grader.open({}))
        if task.request is Read:
            from quantexp.evaluation import plain_text

            given = plain_text.windows_of(engine, data, config)
            record(given.sha256)
            items, prompts, in_data = given.items, given.prompts, given.cut
            grading = AnswerGrading(NONE, grade, items)
            chats = {}
            generated = plain_text.read(config, baseline, run, engine, given)
        else:
            in_data = len({item.cluster for item in data.items})
            prompter = Prompter(task, config.task, config.model, data.examples, engine)
            prompts = tuple(
                replace(prompter.prompt(item), sample=sample)
                for item in items
                for sample in range(config.task.sampling.samples)
            )
            identity = record(prompter.sha256)
            grading = AnswerGrading(NONE, grade, items)
            chats = {item.id: _chat(prompter, item) for item in items}
            if config.engine.verify:
                run.log(metrics=verify(engine, prompts, prompter.decoding).metrics())
            enough = None
            if rule is not None:
                rule.check(identity)
                enough = Stopping(rule, prompts, items, grading)
            about = {"model": config.model.name, "quant": config.quant.name, "task": config.task.name}
            with bar(name, len(prompts)) as advance:
                reuse = config.store.reuse
                generated = generate(
                    engine, prompts, prompter.decoding, known, about, reuse=reuse, advance=advance, enough=enough,
                    before=None if declared is None else float(declared),
                )  # fmt: skip
            if rule is not None and len(generated.completions) < len(prompts):
                prompts = prompts[: len(generated.completions)]
                asked = len({prompt.item_id for prompt in prompts})
                run.log(tags={STOPPED: f"{asked} of {len(items)} items ({rule.words})"})

        of_item = {item.id: item for item in items}

        def graded(completions: Iterable[Completion], grading: AnswerGrading) -> pd.DataFrame:
            return pd.DataFrame(
                _row(task, grading, of_item[prompt.item_id], prompt, completion, chats.get(prompt.item_id, {}))
                for prompt, completion in zip(prompts, completions, strict=True)
            )

        table = graded(generated.completions, grading)
        run.log_items(table)
        if measures_floor(config):
            log.info("%s: answering everything again for the noise floor", name)
            again, how = second_answers(engine, prompts, prompter.decoding)
            run.log(tags={FLOOR_BY: how})
            second = AnswerGrading(NONE, grade, items)
            floor = graded((again[prompt.item_id, prompt.sample] for prompt in prompts), second)
            run.log_items(floor, FLOOR)
            run.log(metrics=floor_metrics(table, floor))
        metrics = metrics_of(config, table, file, in_data)
        if config.divergence and task.request is not Read:
            divergence.measure_divergence(
                config, task, baseline, store, run, engine, of_item, prompts, generated.completions
            )
        run.log(tags=_machine(engine))  # a server may have become another one
        speeds = measured(generated, meter)
        run.log(metrics=metrics | speeds)
        run.describe(description(data, metrics), {})
        if config.tracking.traces:
            run.trace([each.generation_seconds for each in generated.completions])
        run.log_scores(table)
        log.info("%s", summary_line(name, data, len(items), metrics, generated, speeds))
        return metrics["score"]


def failing(config: Config, store: Store, sweep: str | None) -> Run:
    """Open a run for a job that fails before its own has begun."""
    name, shown = _names(config)
    return store.start(name, "job", sweep, _tags(config), shown)


def _names(config: Config) -> tuple[str, str]:
    """Name the job's run for the terminal and for MLflow's pages."""
    shown = f"{config.task.name} {config.quant.name} seed {config.seed}"
    model = config.model.name if SEVERAL_MODELS in os.environ else ""
    return job_name(config.quant.name, config.task.name, config.seed, model), shown


def _chat(prompter: Prompter, item: Item) -> dict[str, str]:
    """Return the columns of the per-item table that say what was asked, without the template's words around it."""
    messages = json.dumps(prompter.chat(item), ensure_ascii=False)
    return {"question": prompter.question(item), "messages": messages}


def _row(
    task: Task, grading: AnswerGrading, item: Item, prompt: Prompt, completion: Completion, chat: Mapping[str, str]
) -> dict[str, Any]:
    """One line of the per-item table."""
    return {
        "item_id": item.id,
        "cluster": item.cluster,
        "sample": prompt.sample,
        "difficulty": item.difficulty,
        **chat,
        "prompt": prompt.text,
        "output": completion.text,
        "reference": task.target(item.fields),
        **grading.verdict(prompt, completion),
        "finish_reason": completion.finish_reason,
        "prompt_tokens": len(prompt.tokens) if completion.counted is None else completion.counted[0],
        "completion_tokens": completion.length,
        "mean_logprob": float(np.mean(completion.logprobs)) if completion.logprobs else None,
    }


def _record_identity(
    run: Run,
    config: Config,
    data: Dataset,
    grader: Grader,
    file: ModelFile,
    source: ModelFile,
    engine: Engine,
    prompt_sha256: str,
) -> Identity:
    """Record what the scores depend on besides the quant: what may be compared is decided by this."""
    identity: Identity = {
        "model": _model(config, file, source),
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "prompt": {
            "version": config.task.prompt.version,
            "shots": config.task.shots,
            "sha256": prompt_sha256,
        },
        "reader": {"id": NONE.id},
        "grader": {"id": grader.id},
        "settings": {
            "max_tokens": config.task.max_tokens,
            "decoding": _decoding(config.task),
            **engine.settings,
        },
    }
    run.log(
        params={"file.sha256": file.sha256, "file.path": file.path} | _of_file(config, file, source),
        tags={IDENTITY + key: json.dumps(value) for key, value in identity.items()} | _machine(engine),
    )
    # In MLflow's list, sorted by name, the quants of a task follow each other from few bits to many.
    run.rename(f"{config.task.name} {file.bits_per_weight:05.2f} {config.quant.name} seed {config.seed}")
    run.log(tags={} if data.file is None else {DATA_FILE: data.file, DATA_ROWS: str(len(data.items))})
    run.log_dataset(f"{data.name}-{config.task.name}", data.fingerprint, len(data.items), data.name)
    return identity


def _model(config: Config, file: ModelFile, source: ModelFile) -> dict[str, object]:
    """Return what the quants of one model have in common."""
    if config.model.source == "server":
        return {"name": config.model.name}  # formats count weights differently, and of some files nothing is here
    return {
        "name": config.model.name,
        "architecture": file.architecture,
        "parameters": file.parameters,
        # Quants that were published as files of their own have no common source here.
        "source": source.sha256 if config.model.quantize else "the publisher's files",
    }


def _of_file(config: Config, file: ModelFile, source: ModelFile) -> dict[str, object]:
    """Describe the file for reports: what it was made from here, and what llama.cpp finds odd about it."""
    facts: dict[str, object] = {}
    if config.model.source != "server" and config.model.quantize:
        facts |= {SOURCE_TYPE: source.file_type, SOURCE_BITS: source.bits_per_weight}
    if file.warnings:
        facts[WARNINGS] = "; ".join(file.warnings)
    return facts


def _machine(engine: Engine) -> dict[str, str]:
    return {f"engine.{key}": value for key, value in engine.machine.items()}


def _decoding(task: TaskConfig) -> str:
    """Describe how answers were chosen and ended."""
    sampling = task.sampling
    words = "greedy"
    if sampling.temperature > 0:
        words = (
            f"temperature {sampling.temperature}, top_p {sampling.top_p}, min_p {sampling.min_p}, "
            f"{sampling.samples} samples an item, seed {sampling.seed}"
        )
    return words + (f"; ends before {json.dumps(task.stop, ensure_ascii=False)}" if task.stop else "")


def _tags(config: Config) -> dict[str, str]:
    """Return the tags that runs are filtered by in the UI."""
    return {
        "model": config.model.name,
        "quant": config.quant.name,
        "task": config.task.name,
        "data": config.data.name,
        "seed": str(config.seed),
        CONFIG: config_fingerprint(config),
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Join nested keys by dots, as they are written on the command line; some are a user's own names."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        name = prefix + fold_name(str(key))
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = _plain(value)
    return flat


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
