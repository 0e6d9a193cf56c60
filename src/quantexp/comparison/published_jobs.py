"""A comparison and its runs, put together for publication."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isnan
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pandas as pd

from quantexp.comparison import publication as published
from quantexp.comparison.analysis import JobComparison
from quantexp.comparison.summary import Comparison, Condition
from quantexp.config import Config, StatsConfig
from quantexp.config.published import publish_settings, publish_stats
from quantexp.tracking.artifacts import read_config
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.tags import ITEMS, MATRIX, STOPPED, TYPES
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.tracking.store import Store

Label = tuple[str, str, str]
"""Model, task and condition, as a report names them."""

_COLUMNS = ("item_id", "cluster", "prompt", "output", "finish_reason", "completion_tokens", "score")


def publish_comparison(
    compared: JobComparison, stats: StatsConfig, store: "Store", command: str | None
) -> published.Publication:
    """Put together what is published of a comparison.

    Args:
        compared: the comparison, of runs of quantexp.
        stats: how it was made.
        store: where the runs' tables are.
        command: that ran them, if one did.

    Raises:
        UserError: a run's table or configuration is gone or damaged.
    """
    summary = compared.summary
    labels = {run_id: (each.model, each.task, each.quant) for each in summary.conditions for run_id in each.run_ids}
    return published.make_publication(
        title=summary.title,
        baseline=summary.baseline,
        command=command,
        stats=publish_stats(replace(stats, baseline=summary.baseline)),
        protocol=dict(summary.protocol),
        notes=(*summary.notes, *summary.refusals, *summary.failures),
        conditions=tuple(_publish_condition(each, summary.comparison(each)) for each in summary.conditions),
        jobs=tuple(publish_jobs(compared.records, labels, store)),
    )


def publish_jobs(records: Sequence[JobRecord], labels: Mapping[str, Label], store: "Store") -> Iterator[published.Job]:
    """Yield what is published of each run that a report counts.

    Args:
        records: of finished jobs.
        labels: of the runs that count, by their ids.
        store: where their tables are.

    Raises:
        UserError: a run's table or configuration is gone or damaged.
    """
    counting = [record for record in records if record.run_id in labels]
    tables = store.tables([record.run_id for record in counting], ITEMS, _COLUMNS)
    for record, table in zip(counting, tables, strict=True):
        with store.file(record.run_id, "config.yaml") as path:
            config = read_config(path)
        yield _publish_job(record, labels[record.run_id], table, config)


def _publish_job(record: JobRecord, label: Label, table: pd.DataFrame, config: Config) -> published.Job:
    tags, params, metrics = record.tags, record.params, record.metrics
    model, task, condition = label
    settings = record.identity.get("settings", {})
    return published.Job(
        model=model,
        condition=condition,
        task=task,
        seed=int(tags["seed"]),
        settings=publish_settings(config),
        chat_template=_read_template(record, config),
        stopped=tags.get(STOPPED),
        date=datetime.fromtimestamp(record.started / 1000, UTC).isoformat(timespec="seconds"),
        file=published.ModelFile(
            name=PurePath(params.get("file.path", "")).name,
            sha256=params["file.sha256"],
            bytes=int(metrics["model_bytes"]) if "model_bytes" in metrics else None,
            bits_per_weight=_finite(metrics["bits_per_weight"]),
            types=params.get(TYPES),
            imatrix=params.get(MATRIX),
        ),
        identity={aspect: dict(entries) for aspect, entries in record.identity.items()},
        software=published.Software(
            quantexp=tags.get("quantexp.version", "not recorded"),
            commit=tags.get("quantexp.commit", "not recorded"),
            library=str(settings.get("library", settings.get("engine", "not recorded"))),
            build=tags.get("engine.build"),
            revision=tags.get("engine.revision"),
            python=tags.get("python.version", "not recorded"),
        ),
        machine=published.Machine(
            system=tags.get("host.system", "not recorded"),
            processor=tags.get("host.processor", "not recorded"),
            extensions=tags.get("host.extensions", ""),
            features=tags.get("engine.system", ""),
        ),
        prompt_tokens=int(table["prompt_tokens"].sum()) if "prompt_tokens" in table else 0,
        completion_tokens=int(table["completion_tokens"].sum()),
        answers=_publish_answers(table),
    )


def _publish_answers(table: pd.DataFrame) -> published.Answers:
    samples = table["sample"] if "sample" in table else pd.Series(0, index=table.index)
    completions = zip(table["output"], table["finish_reason"], table["completion_tokens"], strict=True)
    return published.Answers(
        item=tuple(map(str, table["item_id"])),
        sample=tuple(map(int, samples)),
        cluster=tuple(map(str, table["cluster"])),
        prompt=tuple(_hash(text) for text in table["prompt"]),
        completion=tuple(_hash([output, reason, int(tokens)]) for output, reason, tokens in completions),
        score=tuple(_finite(score) for score in table["score"]),
    )


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def _finite(value: float | None) -> float | None:
    return None if value is None or isnan(value) else float(value)


def _read_template(record: JobRecord, config: Config) -> str | None:
    """Read the chat template that replaced the file's own.

    Raises:
        UserError: its file is gone.
    """
    if config.model.chat_template is None:
        return None
    path = Path(config.model.chat_template).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{record.name} was asked by the chat template {path.name}, which cannot be read any more; put it back: "
            "nobody could reproduce the run without it."
        ) from error


def _publish_condition(one: Condition, comparison: Comparison | None) -> published.Condition:
    found = one.estimate
    return published.Condition(
        **_take(one, "model", "task", "items", "repeats", "grader", "file_bytes", "tokens_per_second"),
        condition=one.quant,
        bits_per_weight=_finite(one.bits_per_weight),
        score=published.Score(
            **_take(found, "mean", "low", "high", "n", "answers", "confidence"), interval=found.interval_method
        ),
        loss=None if comparison is None else _publish_loss(comparison),
    )


def _publish_loss(comparison: Comparison) -> published.Loss:
    found, decision = comparison.difference, comparison.decision
    return published.Loss(
        **_take(found, "difference", "low", "high", "upper", "n", "p_value"),
        p_adjusted=None if decision is None else decision.p_adjusted,
        margin=None if decision is None else decision.margin,
        verdict=None if decision is None else decision.verdict.value,
        test=found.test_method,
    )


def _take(of: object, *names: str) -> dict[str, Any]:
    """Return attributes by their names, which a part of the publication has too."""
    return {name: getattr(of, name) for name in names}
