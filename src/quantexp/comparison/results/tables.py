"""Tables of results (CSV, TSV, Parquet, JSON, JSON lines) and data frames, with columns that are named or guessed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from quantexp.comparison.results.base import (
    TABLE,
    Selection,
    TaskResults,
    is_score,
    make_table,
    read_score,
)
from quantexp.util.errors import UserError

GUESSES: Mapping[str, tuple[str, ...]] = {
    "score": (
        *("score", "acc", "accuracy", "exact_match", "em", "correct", "is_correct", "passed", "pass", "success"),
        *("acc_norm", "f1", "reward", "grade"),
    ),
    "item": (
        *("item_id", "item", "id", "doc_id", "sample_id", "example_id", "question_id", "task_id", "uid", "qid", "idx"),
        *("index", "key"),
    ),
    "document": ("doc_hash", "document_hash", "item_hash", "hash"),
    "question": ("question", "input", "instruction", "query", "problem"),
    "prompt": ("prompt", "full_prompt"),
    "prompt_hash": ("prompt_hash", "prompt_sha256"),
    "task": ("task", "task_name", "benchmark", "dataset"),
    "sample": ("sample", "epoch", "repeat", "trial", "attempt", "sample_index"),
    "seed": ("seed",),
    "cluster": ("cluster", "cluster_id"),
    "output": ("output", "completion", "response", "model_output", "generated_text", "prediction"),
    "extracted": ("extracted", "parsed", "extracted_answer", "pred"),
    "reference": ("reference", "target", "gold", "expected", "ground_truth", "label", "answer"),
}
"""Names by which a column is known for what it is, whatever their case; of several the first that is there."""


def read_table(rows: Sequence[Mapping[str, Any]], selection: Selection, name: str, task: str) -> list[TaskResults]:
    """Read rows of a table, an answer each.

    Args:
        rows: with the same columns, at least one.
        selection: which columns.
        name: of the condition, for sentences.
        task: what the task is called where no column says it.

    Raises:
        UserError: a column is missing, or a score is none.
    """
    there = list(dict.fromkeys(column for row in rows for column in row))
    columns, guessed = _choose_columns(there, selection, name, rows[0])
    notes = (", ".join(f"the {what} is column {column}" for what, column in guessed.items()),)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        read = _read_row(row, columns, name, number)
        by_task.setdefault(_text(row.get(columns["task"])) or task if "task" in columns else task, []).append(read)
    found = []
    for each, of_task in by_task.items():
        table = make_table(of_task, f"{each} of {name}", columns["score"])
        found.append(
            TaskResults(
                task=each,
                is_named="task" in columns,
                format=TABLE,
                metric=columns["score"],
                table=table,
                settings={"column of the scores": columns["score"]},
                notes=notes if guessed else (),
            )
        )
    return found


def read_frame(frame: pd.DataFrame, selection: Selection, name: str) -> list[TaskResults]:
    """Read a data frame, an answer a row; an index with a name is a column too.

    Raises:
        UserError: it is empty, a column is missing, or a score is none.
    """
    named = [str(each) for each in frame.index.names if each is not None and each not in frame]
    table = frame.reset_index() if named else frame
    if table.empty:
        raise UserError(f"{name} has no rows.")
    # As objects: a gap in a column of numbers would make decimals of all of them, ids among them.
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return read_table([{str(key): value for key, value in row.items()} for row in rows], selection, name, "items")


def _choose_columns(
    there: Sequence[str], selection: Selection, name: str, first: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the column of each thing that is known, and those of them that were guessed under another name."""
    given = dict(selection.columns)
    if selection.metric is not None:
        given.setdefault("score", selection.metric)
    for what, column in given.items():
        if what not in GUESSES:
            raise UserError(f"columns.{what}: there is no such thing; choose one of {', '.join(GUESSES)}.")
        if column not in there:
            key = f"columns.{what}" if what in selection.columns else "metric"
            raise UserError(f"{key}={column}: {name} has no such column; it has {', '.join(there)}.")
    lower = {column.lower(): column for column in reversed(there)}
    columns, guessed = {}, {}
    for what, names in GUESSES.items():
        if what in given:
            columns[what] = given[what]
            continue
        free = [lower[each] for each in names if each in lower and lower[each] not in given.values()]
        if what == "score":
            free = [column for column in free if is_score(first.get(column))] or free
        if free:
            columns[what] = free[0]
            if free[0] != what and what in ("score", "item", "document", "question", "prompt"):
                guessed[what] = free[0]
    if "score" not in columns:
        raise UserError(
            f"{name} has no column that is known as a score: name it with metric=COLUMN; its columns are "
            f"{', '.join(there)}."
        )
    if not {"item", "document", "question", "prompt", "prompt_hash"} & columns.keys():
        raise UserError(
            f"{name} has no column that names its items: name it with columns.item=COLUMN; its columns are "
            f"{', '.join(there)}."
        )
    return columns, guessed


def _read_row(row: Mapping[str, Any], columns: Mapping[str, str], name: str, number: int) -> dict[str, Any]:
    def get(what: str) -> Any:
        return row.get(columns[what]) if what in columns else None

    problem = (
        f"{name} has {get('score')!r} as {columns['score']} in row {number}, which is no number; choose another column "
        "with metric=COLUMN."
    )
    prompt = _text(get("prompt"))
    return {
        "id": _text(get("item")),
        "document": _text(get("document")),
        "question": _text(get("question")),
        "prompt_key": _text(get("prompt_hash")) or prompt,
        "cluster": _text(get("cluster")),
        "seed": _read_number(get("seed"), columns.get("seed", ""), name, number),
        "sample": _read_number(get("sample"), columns.get("sample", ""), name, number),
        "score": read_score(get("score"), problem),
        "output": _text(get("output")),
        "extracted": _text(get("extracted")) or _text(get("output")),
        "reference": _text(get("reference")),
        "prompt": prompt or _text(get("question")),
    }


def _read_number(value: object, column: str, name: str, number: int) -> int:
    """Read a whole number, 0 for a gap.

    Raises:
        UserError: it is none, or 2**63 or more.
    """
    text = _text(value)
    with suppress(ValueError):
        read = 0 if text is None else int(text)
        if abs(read) < 2**63:
            return read
    raise UserError(
        f"{name} has {value!r} as {column} in row {number}, which is no whole number below 2**63; number them, or "
        "rename the column if it is none of answers to one item."
    )


def _text(value: object) -> str | None:
    """Return a value as text; a whole number has no decimals, as where another tool has turned it into a float."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
