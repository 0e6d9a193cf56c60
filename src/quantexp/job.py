"""One job, from top to bottom: a model at one quant answers one task's items, and is graded."""

import hashlib
import json
import logging
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from quantexp import models
from quantexp.config import Config
from quantexp.console import bar
from quantexp.engines import Completion, Engine, Prompt, open_engine
from quantexp.errors import UserError
from quantexp.models import ModelFile
from quantexp.stats import bootstrap_mean
from quantexp.tasks import Grader, Task, get_task
from quantexp.tasks.items import Dataset, Item, drawn, load
from quantexp.tasks.prompts import Prompter
from quantexp.tracking import IDENTITY, Run, Store

log = logging.getLogger(__name__)


def run_job(config: Config, store: Store, sweep: str | None) -> float:
    """Run one job and record it.

    Args:
        config: what to run.
        store: where it is recorded.
        sweep: id of the run that it belongs to, if any.

    Returns:
        The mean score, between 0 and 1.

    Raises:
        UserError: the configuration cannot be run; the run is recorded as FAILED.
    """
    name = f"{config.quant.name} {config.task.name} seed {config.seed}"
    with store.start(name, "job", sweep, _tags(config)) as run:
        started = time.perf_counter()
        run.log_yaml(OmegaConf.to_yaml(OmegaConf.structured(config)), "config.yaml")
        run.log(params=_flat(asdict(config)))

        task = get_task(config.task.name)
        grader = task.grader(config.task.grader)
        data = load(config.data, task)
        items = drawn(data.items, config.seed, config.task.limit)
        file, source = models.resolve(config.model, config.quant)
        engine = open_engine(file, config.model, config.engine)
        prompter = Prompter(task, config.task, config.model, data.examples, engine)
        prompts = [prompter.prompt(item) for item in items]
        _record_identity(run, config, data, prompter, grader, file, source, engine)

        completions: dict[str, Completion] = {}
        with bar(name, len(prompts)) as advance:
            for completion in engine.complete(prompts, prompter.decoding):
                completions[completion.item_id] = completion
                advance()

        rows = [
            _row(task, grader, item, prompt, completions[item.id]) for item, prompt in zip(items, prompts, strict=True)
        ]
        table = pd.DataFrame(rows)
        run.log_items(table)
        metrics = _metrics(config, table, file) | {"wall_seconds": time.perf_counter() - started}
        run.log(metrics=metrics)
        log.info("%s", _line(name, data, table, metrics))
        return metrics["score"]


def _row(task: Task, grader: Grader, item: Item, prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """One line of the per-item table."""
    asked = completion.finish_reason != "context"
    grade = grader.grade(completion.text, item.fields) if asked else None
    return {
        "item_id": item.id,
        "difficulty": item.difficulty,
        "prompt": prompt.text,
        "output": completion.text,
        "reference": task.target(item.fields),
        "extracted": grade.extracted if grade else None,
        "score": grade.score if grade else None,
        **{f"score_{name}": value for name, value in (grade.fields if grade else {}).items()},
        "grading_error": grade.error if grade else "not asked: does not fit the context",
        "finish_reason": completion.finish_reason,
        "prompt_tokens": len(prompt.tokens),
        "completion_tokens": len(completion.tokens),
        "seconds": completion.prompt_seconds + completion.generation_seconds,
        "generation_seconds": completion.generation_seconds,
    }


def _metrics(config: Config, table: pd.DataFrame, file: ModelFile) -> dict[str, float]:
    # In the order of the ids, as the comparison has them: the same resamples, so the same interval.
    scores = table.set_index("item_id")["score"].dropna().astype(float).sort_index()
    if scores.empty:
        raise UserError(
            f"None of the {len(table)} prompts of {config.task.name} fits engine.context={config.engine.context} "
            f"together with task.max_tokens={config.task.max_tokens}; raise the one or lower the other."
        )
    estimate = bootstrap_mean(
        scores.to_numpy(),
        resamples=config.stats.resamples,
        seed=config.stats.seed,
        confidence=config.stats.confidence,
    )
    seconds = float(table["generation_seconds"].sum())
    tokens = int(table["completion_tokens"].sum())
    reasons = table["finish_reason"]
    return {
        "score": estimate.mean,
        "score_low": estimate.low,
        "score_high": estimate.high,
        "items": len(table),
        "items_not_asked": int((reasons == "context").sum()),
        "items_cut_at_max_tokens": int((reasons == "length").sum()),
        "items_unreadable": int(table["grading_error"].notna().sum()),
        "completion_tokens": tokens,
        "tokens_per_second": tokens / seconds if seconds > 0 else 0.0,
        # Of the process, so it includes what earlier jobs of the same process needed.
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bits_per_weight": file.bits_per_weight,
        "model_bytes": file.bytes,
        "parameters": file.parameters,
    }


def _record_identity(
    run: Run,
    config: Config,
    data: Dataset,
    prompter: Prompter,
    grader: Grader,
    file: ModelFile,
    source: ModelFile,
    engine: Engine,
) -> None:
    """Record what the scores depend on besides the quant: what may be compared is decided by this."""
    library = dict(engine.identity)
    system = library.pop("system")
    identity: dict[str, Mapping[str, object]] = {
        "model": {
            "name": config.model.name,
            "architecture": file.architecture,
            "parameters": file.parameters,
            # Quants that were published as files of their own have no common source here.
            "source": source.sha256 if config.model.quantize else "the publisher's files",
        },
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "prompt": {
            "version": config.task.prompt.version,
            "shots": config.task.shots,
            "sha256": prompter.sha256,
        },
        "grader": {"id": grader.id},
        "settings": {"max_tokens": config.task.max_tokens, **library},
    }
    run.log(
        params={"file.sha256": file.sha256, "file.path": file.path},
        tags={IDENTITY + key: json.dumps(value) for key, value in identity.items()} | {"engine.system": system},
    )
    run.log_dataset(f"{data.name}-{config.task.name}", data.fingerprint, len(data.items), data.name)


def _tags(config: Config) -> dict[str, str]:
    """What runs are filtered by in the UI."""
    return {
        "model": config.model.name,
        "quant": config.quant.name,
        "task": config.task.name,
        "data": config.data.name,
        "seed": str(config.seed),
        "config.sha256": _config_hash(config),
    }


def _config_hash(config: Config) -> str:
    """Hash of all that decides a job's answers and grades: not of where things lie or how they are analysed."""
    decisive = {k: v for k, v in asdict(config).items() if k not in {"tracking", "stats"}}
    del decisive["model"]["cache"]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=_plain).encode()).hexdigest()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested keys joined by dots, as they are written on the command line."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _plain(value)
    return flat


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def _line(name: str, data: Dataset, table: pd.DataFrame, metrics: Mapping[str, float]) -> str:
    """The one line that a finished job leaves on the terminal."""
    extras = {
        "items_not_asked": "did not fit the context",
        "items_cut_at_max_tokens": "cut at max_tokens",
        "items_unreadable": "unreadable",
    }
    noted = [f"{metrics[key]:.0f} {words}" for key, words in extras.items() if metrics[key]]
    return (
        f"{name}: score {metrics['score']:.3f} [{metrics['score_low']:.3f}, {metrics['score_high']:.3f}] on "
        f"{len(table)} {data.name} items, {metrics['tokens_per_second']:.0f} tokens/s, "
        f"{metrics['wall_seconds']:.0f} s" + (f" ({', '.join(noted)})" if noted else "")
    )
