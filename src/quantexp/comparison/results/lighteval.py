"""Details of lighteval: `details_TASK_DATE.parquet` (--save-details), and `results_DATE.json` of the same run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

FORMAT = "lighteval"

PATTERN = "details_*.parquet"

Row = Mapping[str, Any]


def is_detail(row: Row) -> bool:
    """Tell if a row is one of lighteval's details."""
    return all(isinstance(row.get(key), dict) for key in ("doc", "metric", "model_response"))


def choose_details(folder: Path, shown: str) -> list[Path]:
    """Choose the details of the newest run in a folder of output.

    Raises:
        UserError: there are several models.
    """
    runs = {path.parent for path in folder.rglob(PATTERN)}
    check_model((run.parent.name for run in runs), shown)
    return sorted(max(runs, key=lambda run: run.name).glob(PATTERN)) if runs else []


def read_details(
    paths: Sequence[Path], selection: Selection, name: str
) -> tuple[list[TaskResults], list[str], list[Path]]:
    """Read files of details.

    Args:
        paths: each of another task.
        selection: which scores.
        name: of the condition, for sentences.

    Returns:
        The tasks, a sentence for each that cannot be compared, and the files that were read.

    Raises:
        UserError: one cannot be read, or none has what is asked for.
    """
    contents = [(path, read_own_rows(path, name, is_detail, f"details of {FORMAT}")) for path in paths]
    metrics = [[key for key, value in rows[0]["metric"].items() if is_score(value)] for _, rows in contents]
    check_choice("metric", selection.metric, metrics, name)
    tasks, left_out, read = [], [], []
    for (path, rows), there in zip(contents, metrics, strict=True):
        full_name = str(rows[0]["doc"].get("task_name") or path.stem)
        task, shots = _split_name(full_name)
        summary, beside = read_summary(_find_summary(path))
        read += [path, *beside]
        if not there:
            left_out.append(f"{task} of {name} has no score of single items.")
            continue
        metric = choose(selection.metric, there)
        config = look_up(summary, "config_tasks", full_name)
        if _is_less_better(config, metric):
            left_out.append(f"{task} of {name} is measured by {metric}, of which less is better; take another.")
            continue
        where = f"{task} of {name}"
        table = make_table([_read_detail(row, metric, where) for row in rows], where, metric)
        version = look_up(config, "version")
        known = {"task version": version, "number of few-shot examples": shots, "metric": metric}
        tasks.append(
            TaskResults(
                task=task,
                is_named=True,
                format=FORMAT,
                metric=metric,
                table=table,
                facts={key: str(value) for key, value in known.items() if value is not None},
                notes=describe_choice("metric", metric, there, selection.metric),
            )
        )
    return tasks, left_out, read


def _split_name(name: str) -> tuple[str, str | None]:
    """Return the task and the number of its examples: of TASK|EXAMPLES, or of SUITE|TASK|EXAMPLES|TRUNCATED."""
    parts = name.split("|")
    if len(parts) == 4:
        return parts[1], parts[2]
    return parts[0], parts[1] if len(parts) == 2 else None


def _find_summary(path: Path) -> Path:
    """Return where a run's file of results is: beside the folder of all details, or beside the details."""
    run = path.parent
    there = run.parents[2] / "results" / run.parent.name if len(run.parents) > 2 else run
    return there / f"results_{run.name}.json"


def _is_less_better(config: object, metric: str) -> bool:
    of_metric = [each for each in as_list(look_up(config, "metrics")) if look_up(each, "metric_name") == metric]
    return any(look_up(each, "higher_is_better") is False for each in of_metric)


def _read_detail(row: Row, metric: str, where: str) -> dict[str, Any]:
    doc, response = row["doc"], row["model_response"]
    choices = [str(each) for each in as_list(doc.get("choices"))]
    gold = doc.get("gold_index")
    golds = [choices[each] for each in ([gold] if isinstance(gold, int) else as_list(gold)) if each < len(choices)]
    prompt = response.get("input") if isinstance(response.get("input"), str) else json.dumps(response.get("input"))
    output, extracted = _read_answer(response, choices, metric)
    problem = f"{where} has no number as {metric} of item {doc.get('id')}."
    return {
        "id": str(doc["id"]) if doc.get("id") else None,
        "document": hash_text(json.dumps([doc.get("query"), choices, gold])),
        "prompt_key": prompt,
        "score": read_score(row["metric"].get(metric), problem),
        "output": output,
        "extracted": extracted,
        "reference": "\n".join(golds),
        "prompt": prompt,
    }


def _read_answer(response: Row, choices: Sequence[str], metric: str) -> tuple[str | None, str | None]:
    """Return what the model wrote or chose, and what was read of it."""
    written = [each for each in as_list(response.get("text")) if isinstance(each, str)]
    if written:
        read = [each for each in as_list(response.get("text_post_processed")) if isinstance(each, str)]
        return written[0], (read or written)[0]
    likelihoods = [each for each in as_list(response.get("logprobs")) if isinstance(each, float)]
    if len(likelihoods) != len(choices) or not choices:
        return None, None
    known = list(zip(likelihoods, choices, strict=True))
    # Other metrics weigh by a length of the choice.
    return "\n".join(f"{value:.4g} {choice}" for value, choice in known), max(known)[1] if metric == "acc" else None
