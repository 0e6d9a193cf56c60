"""Logs of Inspect (`.eval`, `.json`), through its own reader."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from quantexp.comparison.results.base import (
    Selection,
    TaskResults,
    check_choice,
    choose,
    describe_choice,
    hash_text,
    make_table,
    read_score,
)
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

FORMAT = "Inspect"


def read_logs(
    paths: Sequence[Path], selection: Selection, name: str
) -> tuple[list[TaskResults], list[str], list[Path], list[str]]:
    """Read logs, of each task the newest.

    Args:
        paths: of the logs.
        selection: which scores; a scorer with several values has metrics such as SCORER/VALUE.
        name: of the condition, for sentences.

    Returns:
        The tasks, a sentence for each that cannot be compared, the files that count, and sentences on the choice.

    Raises:
        UserError: inspect-ai is not installed, a log cannot be read, or none has what is asked for.
    """
    newest: dict[str, tuple[Path, Any]] = {}
    several: dict[str, None] = {}
    for path, log in sorted(((path, _read_log(path, name)) for path in paths), key=lambda each: each[1].eval.created):
        if log.eval.task in newest:
            several[log.eval.task] = None
        newest[log.eval.task] = path, log
    notes = [f"{name} has several logs of {', '.join(several)}: the newest of each counts."] if several else []
    metrics = [_list_metrics(log) for _, log in newest.values()]
    check_choice("metric", selection.metric, [each for each in metrics if each], name)
    tasks, left_out = [], []
    for (_, log), there in zip(newest.values(), metrics, strict=True):
        if there:
            tasks.append(_read_task(log, there, selection, name))
        else:
            left_out.append(f"{log.eval.task} of {name} has no scored sample (status {log.status}).")
    return tasks, left_out, [path for path, _ in newest.values()], notes


def _read_log(path: Path, name: str) -> Any:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        cure = 'pip install "quantexp[inspect]"'
        raise UserError(f"{name}={path} is a log of Inspect, which Inspect's own package reads: {cure}.") from error
    try:
        return read_eval_log(str(path), resolve_attachments=True)
    except (ValueError, LookupError, OSError, EOFError, BadZipFile) as error:  # pydantic's and json's are ValueErrors
        raise UserError(f"{name}={path} is no log that inspect-ai can read ({one_line(str(error))[:200]}).") from error


def _list_metrics(log: Any) -> list[str]:
    """List the scorers in their order; one with several values is taken apart."""
    scored = [sample.scores for sample in log.samples or [] if sample.scores]
    found: dict[str, None] = {}
    for scorer in [*(each.name for each in log.eval.scorers or []), *(name for scores in scored for name in scores)]:
        values = [scores[scorer].value for scores in scored if scorer in scores]
        names = [f"{scorer}/{key}" for value in values if isinstance(value, dict) for key in value]
        found |= dict.fromkeys(names or ([scorer] if values else []))
    return list(found)


def _read_task(log: Any, metrics: Sequence[str], selection: Selection, name: str) -> TaskResults:
    task, metric = log.eval.task, choose(selection.metric, metrics)
    where = f"{task} of {name}"
    table = make_table([_read_sample(sample, metric, where) for sample in log.samples], where, metric)
    notes = list(describe_choice("metric", metric, metrics, selection.metric))
    if log.status != "success":
        notes.append(f"the log of {name} ended with the status {log.status}, with {len(log.samples)} samples")
    return TaskResults(
        task=task,
        is_named=True,
        format=FORMAT,
        metric=metric,
        table=table,
        facts=_list_facts(log) | {"metric": metric},
        settings=_list_settings(log),
        notes=tuple(notes),
        items_in_data=log.eval.dataset.samples if log.eval.config.limit is None else None,
    )


def _read_sample(sample: Any, metric: str, where: str) -> dict[str, Any]:
    scorer, _, key = metric.partition("/")
    score = (sample.scores or {}).get(scorer)
    value = None if score is None else score.value
    if isinstance(value, dict):
        value = value.get(key)
    problem = f"{where} has {value!r} as {metric} of sample {sample.id}, which is no number."
    asked = _as_text(sample.input)
    prompt = _read_prompt(sample) or asked
    target = sample.target if isinstance(sample.target, str) else "\n".join(sample.target)
    return {
        "id": str(sample.id),
        "document": hash_text(json.dumps([asked, sample.choices, target])),
        "question": asked,
        "prompt_key": prompt,
        "sample": sample.epoch - 1,
        "score": read_score(value, problem),
        "output": sample.output.completion,
        "extracted": sample.output.completion if score is None or score.answer is None else score.answer,
        "reference": target,
        "prompt": prompt,
    }


def _as_text(messages: Any) -> str:
    if isinstance(messages, str):
        return messages
    return "\n\n".join(f"{message.role}: {message.text}" for message in messages)


def _read_prompt(sample: Any) -> str:
    """Return what the model was sent first: all messages before its own."""
    sent = []
    for message in sample.messages:
        if message.role == "assistant" and getattr(message, "source", None) != "input":
            break
        sent.append(message)
    return _as_text(sent)


def _list_facts(log: Any) -> dict[str, str]:
    steps = [f"{step.solver}({_as_json(step.params)})" for step in log.plan.steps]
    return {
        "task version": str(log.eval.task_version),
        "task arguments": _as_json(log.eval.task_args),
        "solver": ", ".join(steps),
    }


def _list_settings(log: Any) -> dict[str, str]:
    given = {key: value for key, value in log.eval.model_generate_config.model_dump().items() if value is not None}
    return {
        "version of the harness": str(log.eval.packages.get("inspect_ai", "not recorded")),
        "generation settings": _as_json(given),
    }


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
