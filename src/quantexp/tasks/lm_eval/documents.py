"""Items from the documents of lm-evaluation-harness, and the identity of what makes and grades them."""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quantexp.tasks.items import Dataset, Item, find_cluster, fingerprint
from quantexp.tasks.lm_eval.harness import FOREIGN, Harness, describe_error, quiet, seeded
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file

DOCUMENT, PLACE, SUBTASK = "doc", "place", "subtask"
"""Fields of an item: the document, its place among the task's, and the name of the task in its group."""

CATEGORY = "category"
"""Field by which reports tell the tasks of a group apart."""


def load_documents(harness: Harness) -> Dataset:
    """Make an item of each document.

    Raises:
        UserError: a task's own code cannot do with a document.
    """
    items: list[Item] = []
    rows: list[Mapping[str, Any]] = []
    several = len(harness.tasks) > 1
    for name, task in harness.tasks.items():
        with seeded(), quiet():
            documents = list(task.eval_docs)
        for place, document in enumerate(documents):
            rows.append({SUBTASK: name, DOCUMENT: document})
            try:
                question, words = _describe_question(task, document)
                target = _describe_target(task, document)
            except FOREIGN as error:
                raise UserError(
                    f"The document {place} of {name} cannot be made a question by its definition "
                    f"({describe_error(error)})."
                ) from error
            fields = {"question": question, "target": target, DOCUMENT: document, PLACE: place, SUBTASK: name}
            if several:
                fields[CATEGORY] = name
            items.append(Item(f"{name}-{place}" if several else str(place), fields, None, find_cluster(words)))
    return Dataset("lm-eval", tuple(items), (), fingerprint(rows), facts=_list_facts(harness))


def _describe_question(task: Any, document: Any) -> tuple[str, str]:
    """Return what a document asks, and all words that two documents must share to ask the same."""
    asked = task.doc_to_text(document)
    choices = _list_choices(task, document)
    question = asked if isinstance(asked, str) else "\n".join(choices)
    if task.OUTPUT_TYPE == "generate_until":
        return question, question
    return question, "\n".join([question, *choices, *([] if choices else [str(task.doc_to_target(document))])])


def _describe_target(task: Any, document: Any) -> str:
    target: Any = task.doc_to_target(document)
    if isinstance(target, list | tuple):
        target = target[0] if target else ""
    choices = _list_choices(task, document)
    if isinstance(target, int) and 0 <= target < len(choices):
        return choices[target]
    return str(target)


def _list_choices(task: Any, document: Any) -> list[str]:
    if getattr(task.config, "doc_to_choice", None) is None:
        return []
    return [str(choice) for choice in task.doc_to_choice(document)]


def _list_facts(harness: Harness) -> dict[str, str]:
    """Return what scores depend on besides documents and model; a task that has moved is not paired with itself."""
    definitions = [(name, _define(task)) for name, task in harness.tasks.items()]
    groups = [(str(group.name), repr(group.aggregate_metric_list)) for group in harness.groups]
    digest = hashlib.sha256(json.dumps([definitions, groups], sort_keys=True, default=_describe_value).encode())
    revisions = sorted({commit for task in harness.tasks.values() for commit in _list_revisions(task)})
    return {
        "lm-eval": version("lm_eval"),
        "definition": digest.hexdigest(),
        **({"revision": " ".join(revisions)} if revisions else {}),
    }


def _define(task: Any) -> list[Any]:
    """Return all that a task's definition says; where on this machine it and its data lie is not a part of it."""
    config = {key: value for key, value in vars(task.config).items() if value is not None}
    arguments = config.get("dataset_kwargs") or {}
    config["dataset_kwargs"] = {key: arguments[key] for key in arguments if key not in {"data_files", "data_dir"}}
    about = config.get("metadata") or {}
    config["metadata"] = {key: about[key] for key in about if key != "config_source"}
    return [type(task), config]


def _describe_value(value: Any) -> Any:
    """Return what JSON has no form of: a function by the file that defines it, any other object by what it holds."""
    if isinstance(value, partial):
        return [value.func, list(value.args), value.keywords]
    if callable(value):
        name = f"{getattr(value, '__qualname__', type(value).__qualname__)}"
        try:
            file = inspect.getsourcefile(value)
        except TypeError:
            file = None
        return [name, _hash_file(file) if file is not None else ""]
    return [type(value).__qualname__, vars(value) if hasattr(value, "__dict__") else str(value)]


@cache
def _hash_file(path: str) -> str:
    return hash_file(Path(path)) if Path(path).is_file() else ""


def _list_revisions(task: Any) -> Iterator[str]:
    """Yield the commits on the Hub that a task's data come from, as far as the library for data sets says them."""
    splits = getattr(task, "dataset", None)
    for split in splits.values() if isinstance(splits, Mapping) else ():
        checksums = getattr(getattr(split, "info", None), "download_checksums", None) or {}
        for address in checksums:
            if found := re.search(r"@([0-9a-f]{40})/", str(address)):
                yield found[1]
