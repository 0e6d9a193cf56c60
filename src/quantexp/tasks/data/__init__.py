"""Sources of items: those that ship with quantexp, the Hugging Face Hub, the user's own files."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from quantexp.config import DataConfig
from quantexp.tasks import Task
from quantexp.tasks.data.columns import rename_columns
from quantexp.tasks.data.files import read_rows
from quantexp.tasks.data.hub import hub_rows
from quantexp.tasks.items import Dataset, fingerprint, make_items
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

__all__ = ["load"]

_loaded: dict[str, Dataset] = {}
"""Jobs of a sweep share their data; what cannot change while a process runs is read once."""


def load(data: DataConfig, task: Task) -> Dataset:
    """Return the items of a task; public data are downloaded the first time.

    Raises:
        UserError: the data are not there, or an item cannot be asked or graded.
    """
    if isinstance(task, OwnWordsTask):
        if data.source != ("bundled" if task.is_bundled else "task"):
            raise UserError(f"{task.name} brings its own items: leave data={data.name} out.")
        return task.load()
    if data.source == "task":
        raise UserError(f"No items come with {task.name}; bring yours: data=files data.path=FILE.")
    key = f"{task.name} {data}"
    if data.source == "files" or key not in _loaded:
        _loaded[key] = _load(data, task)
    return _loaded[key]


def _load(data: DataConfig, task: Task) -> Dataset:
    where = f"{data.name}/{task.name}"
    match data.source:
        case "bundled":
            if not task.is_bundled:
                raise UserError(f"No items of {task.name} ship with quantexp; bring yours: data=files data.path=FILE.")
            rows = _bundled(f"{task.name}.jsonl")
        case "files":
            where = _needed(data, "path")
            rows = _renamed(_join_rows(read_rows(where, "data.path", data.hint), data, where), data, task, where)
        case "hub":
            where = _needed(data, "repository")
            rows = _renamed(hub_rows(data, where, task.required_fields), data, task, where)
        case other:
            raise UserError(f"data.source={other} is unknown; choose bundled, hub or files.")
    examples_from = data.examples or f"bundled/{task.name}"
    if data.examples is not None:
        examples = _renamed(read_rows(data.examples, "data.examples"), data, task, examples_from)
    else:
        examples = _bundled(f"{task.name}_examples.jsonl") if task.is_bundled else []
    return Dataset(
        name=data.name,
        items=make_items(rows, task, where),
        examples=make_items(examples, task, examples_from),
        fingerprint=fingerprint(rows),
        file=Path(where).name if data.source == "files" else None,
    )


def _join_rows(rows: list[dict[str, Any]], data: DataConfig, where: str) -> list[dict[str, Any]]:
    """Return rows with the columns of `data.join`, those of the row with the same id.

    Raises:
        UserError: a row has no such partner, or an id stands there twice.
    """
    if data.join is None:
        return rows
    partners: dict[str, dict[str, Any]] = {}
    for row in read_rows(data.join, "data.join"):
        if partners.setdefault(str(row.get("id")), row) is not row:
            raise UserError(
                f"data.join={data.join}: the id {one_line(str(row.get('id')))} occurs twice; give every row its own."
            )
    for row in rows:
        if str(row.get("id")) not in partners:
            raise UserError(
                f"data.join={data.join} has no row with the id {one_line(str(row.get('id')))}, which {where} has."
            )
    return [partners[str(row.get("id"))] | row for row in rows]


def _renamed(rows: list[dict[str, Any]], data: DataConfig, task: Task, where: str) -> list[dict[str, Any]]:
    # Where rows differ in their columns, an error has to say in which one something is missing.
    alike = len({frozenset(row) for row in rows}) == 1
    return [
        rename_columns(row, task.required_fields, data.columns, where if alike else f"{where}, row {number},")
        for number, row in enumerate(rows, start=1)
    ]


def _bundled(name: str) -> list[dict[str, Any]]:
    text = resources.files("quantexp.tasks").joinpath("bundled", name).read_text(encoding="utf-8")
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    return [json.loads(line) for line in text.split("\n") if line]


def _needed(data: DataConfig, key: str) -> str:
    value = getattr(data, key)
    if not value:
        raise UserError(f"data={data.name} needs data.{key}; add data.{key}=VALUE to the command.")
    return str(value)
