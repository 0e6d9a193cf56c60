"""Logs of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, and `results_DATE.json` beside them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from quantexp.comparison.results.base import (
    Selection,
    TaskResults,
    as_list,
    check_choice,
    check_model,
    choose,
    describe_choice,
    hash_text,
    is_score,
    look_up,
    make_table,
    read_own_rows,
    read_score,
    read_summary,
)

FORMAT = "lm-evaluation-harness"

PATTERN = "samples_*.jsonl"

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d{2}-\d{2}T[\d.-]+))?\.jsonl")

_DESCRIBES = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_DESCRIBES |= {"doc_hash", "prompt_hash", "target_hash", "task_id", "schema_version"}
"""Keys of a sample that are no score."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file of samples.

    Attributes:
        task: as its name says; None where it has another name.
        date: of its run, as its name says.
    """

    path: Path
    task: str | None
    date: str


def is_sample(row: Row) -> bool:
    """Tell if a row is a sample of this harness."""
    return {"doc_id", "resps"} <= row.keys()


def parse_name(path: Path) -> SampleFile:
    """Read what the name of a file says."""
    found = _NAME.fullmatch(path.name)
    return SampleFile(path, None, "") if found is None else SampleFile(path, found["task"], found["date"] or "")


def choose_files(folder: Path, shown: str) -> tuple[list[SampleFile], list[str]]:
    """Choose each task's newest samples in a folder, or in the folder of a model that is in it.

    Returns:
        The files, and a sentence if there were several of a task.

    Raises:
        UserError: there are several models.
    """
    found = sorted(folder.glob(PATTERN)) or sorted(folder.glob(f"*/{PATTERN}"))
    check_model((path.parent.name for path in found), shown)
    newest: dict[str, SampleFile] = {}
    older: dict[str, int] = {}
    for each in sorted(map(parse_name, found), key=lambda file: file.date):
        task = each.task or each.path.stem
        if task in newest:
            older[task] = older.get(task, 0) + 1
        newest[task] = each
    several = [f"{task} ({count + 1})" for task, count in older.items()]
    notes = [f"{shown} has several runs of {', '.join(several)}: the newest of each counts."] if several else []
    return list(newest.values()), notes


def read_samples(
    files: Sequence[SampleFile], selection: Selection, name: str
) -> tuple[list[TaskResults], list[str], list[Path]]:
    """Read files of samples.

    Args:
        files: each of another task.
        selection: which scores.
        name: of the condition, for sentences.

    Returns:
        The tasks, a sentence for each that cannot be compared, and the files that were read.

    Raises:
        UserError: one cannot be read, or none has what is asked for.
    """
    contents = [(file, read_own_rows(file.path, name, is_sample, f"samples of {FORMAT}")) for file in files]
    filters = [list(dict.fromkeys(_filter_of(row) for row in rows)) for _, rows in contents]
    metrics = [_list_metrics(rows[0]) for _, rows in contents]
    check_choice("filter", selection.filter, filters, name)
    check_choice("metric", selection.metric, metrics, name)
    tasks, left_out, read = [], [], []
    for (file, rows), of_filters, of_metrics in zip(contents, filters, metrics, strict=True):
        summary, beside = read_summary(_find_summary(file))
        read += [file.path, *beside]
        task = file.task or file.path.stem
        if not of_metrics:
            left_out.append(f"{task} of {name} has no score of single items.")
            continue
        metric, chosen = choose(selection.metric, of_metrics), choose(selection.filter, of_filters)
        if look_up(summary, "higher_is_better", task, metric) is False:
            left_out.append(f"{task} of {name} is measured by {metric}, of which less is better; take another.")
            continue
        of_filter = [row for row in rows if _filter_of(row) == chosen]
        where = f"{task} of {name}"
        table = make_table([_read_sample(row, metric, where) for row in of_filter], where, metric)
        tasks.append(
            TaskResults(
                task=task,
                is_named=file.task is not None,
                format=FORMAT,
                metric=metric if len(of_filters) == 1 else f"{metric} ({chosen})",
                table=table,
                facts=_list_facts(summary, task) | {"metric": metric, "filter": chosen},
                settings=_list_settings(summary, of_filter[0]),
                notes=describe_choice("filter", chosen, of_filters, selection.filter)
                + describe_choice("metric", metric, of_metrics, selection.metric),
                items_in_data=_count_items(summary, task, table),
            )
        )
    return tasks, left_out, read


def _filter_of(row: Row) -> str:
    return str(row.get("filter", "none"))


def _list_metrics(row: Row) -> list[str]:
    """List the metrics of a sample that are one number each."""
    named = [key for key in as_list(row.get("metrics")) if isinstance(key, str)]
    named = named or [key for key in row if key not in _DESCRIBES]
    return [key for key in named if is_score(row.get(key)) and not isinstance(row[key], str)]


def _read_sample(row: Row, metric: str, where: str) -> dict[str, Any]:
    doc, arguments = row.get("doc"), _list_arguments(row)
    prompt = str(arguments[0][0]) if arguments and arguments[0] else None
    output, extracted = _read_answer(row, arguments, metric)
    problem = f"{where} has no number as {metric} of item {row['doc_id']}."
    return {
        "id": str(row["doc_id"]),
        "document": _as_hash(row.get("doc_hash")) or (None if doc is None else hash_document(doc)),
        "prompt_key": _as_hash(row.get("prompt_hash")) or (None if prompt is None else hash_text(prompt)),
        "score": read_score(row.get(metric), problem),
        "output": output,
        "extracted": extracted,
        "reference": None if row.get("target") is None else str(row["target"]),
        "prompt": prompt,
    }


def hash_document(doc: object) -> str:
    """Return the hash that the harness makes of a document; its earlier versions did not record it."""
    return hash_text(json.dumps(doc, indent=2, ensure_ascii=False))


def _list_arguments(row: Row) -> list[list[Any]]:
    """List the arguments of each request."""
    return [as_list(each) for each in as_list(row.get("arguments"))]


def _as_hash(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _read_answer(row: Row, arguments: Sequence[Sequence[Any]], metric: str) -> tuple[str | None, str | None]:
    """Return what the model wrote or chose, and what was read of it."""
    filtered = as_list(row.get("filtered_resps"))
    likelihoods = [_log_likelihood(each) for each in filtered]
    if len(likelihoods) > 1 and all(each is not None for each in likelihoods) and len(arguments) == len(likelihoods):
        choices = [str(request[1]).strip() if len(request) > 1 else "" for request in arguments]
        known = [(value, choice) for value, choice in zip(likelihoods, choices, strict=True) if value is not None]
        shown = "\n".join(f"{value:.4g} {choice}" for value, choice in known)
        # Other metrics weigh by a length of the choice that the file does not say.
        best = max(known)[1] if metric == "acc" else None
        return shown, best
    responses = as_list(row.get("resps"))
    written = responses[0] if responses else None
    while isinstance(written, list) and written:
        written = written[0]
    read = filtered[0] if filtered else None
    return (None if written is None else str(written)), (None if read is None else str(read))


def _log_likelihood(response: object) -> float | None:
    """Return the log-likelihood of a pair with a truth value, as the harness has it; None for anything else."""
    if not isinstance(response, list) or len(response) != 2 or str(response[1]) not in ("True", "False"):
        return None
    return float(response[0]) if is_score(response[0]) else None


def _find_summary(file: SampleFile) -> Path:
    """Return where the file of results of the same run is."""
    return file.path.with_name(f"results_{file.date}.json" if file.date else "results.json")


def _list_facts(summary: Mapping[str, Any], task: str) -> dict[str, str]:
    known = {
        "task version": look_up(summary, "versions", task),
        "number of few-shot examples": look_up(summary, "n-shot", task),
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _count_items(summary: Mapping[str, Any], task: str, table: pd.DataFrame) -> int | None:
    """Count the items that the data have, those that ask the same once as far as they were asked."""
    there = look_up(summary, "n-samples", task, "original")
    return there - int(table["document"].duplicated().sum()) if isinstance(there, int) else None


def _list_settings(summary: Mapping[str, Any], row: Row) -> dict[str, str]:
    arguments = _list_arguments(row)
    generation = arguments[0][1] if arguments and len(arguments[0]) > 1 else None
    known = {
        "version of the harness": summary.get("lm_eval_version"),
        "generation settings": json.dumps(generation, sort_keys=True) if isinstance(generation, dict) else None,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
