"""Results of a task as every reader hands them over."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from quantexp.tasks.data.files import read_rows
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file

KEYS = {
    "document": "the hash of the document",
    "question": "the question",
    "prompt_key": "the prompt",
    "id": "the id",
}
"""Columns by which items can be paired, the best first: the content of an item, and last a name that somebody gave."""

COLUMNS = (
    *KEYS,
    *("cluster", "seed", "sample", "score", "output", "extracted", "reference", "prompt"),
)
"""Columns of a table of results; a text that a file does not have is None."""

TABLE = "a table"
"""Format of a file that names no harness."""

_WORDS = {
    **dict.fromkeys(("c", "true", "correct", "yes", "pass", "passed", "right"), 1.0),
    **dict.fromkeys(("i", "n", "false", "incorrect", "no", "fail", "failed", "wrong"), 0.0),
    "p": 0.5,
}
"""Scores in words; the single letters are Inspect's: correct, incorrect, no answer, partially correct."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The scores that are asked for among those that a file holds.

    Attributes:
        metric: name of the score; None: the task's first.
        filter: name of the filter between output and score; None: the task's first.
        columns: the name of a table's column, by what it is (`tables.GUESSES`).
    """

    metric: str | None = None
    filter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResults:
    """Results of one task, one row an answer.

    Attributes:
        task: name of the task.
        is_named: whether the file says so; otherwise its own name stands there.
        format: what wrote the file.
        metric: what the scores are.
        table: the columns `COLUMNS`; scores from 0 to 1, NaN for an item without one.
        facts: what must be the same on both sides of a pair, in words; one that is not known is left out.
        settings: what may differ, and is told.
        notes: clauses on what was chosen or guessed; several tasks may share one.
        items_in_data: items that the data have; None where that is not known.
    """

    task: str
    is_named: bool
    format: str
    metric: str
    table: pd.DataFrame
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    items_in_data: int | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All that was read of one condition.

    Attributes:
        name: of the condition.
        tasks: each once.
        sha256: of the content of its files.
        left_out: a sentence for each task that cannot be compared.
        notes: sentences on what was chosen among the files.
    """

    name: str
    tasks: tuple[TaskResults, ...]
    sha256: str
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_table(rows: Sequence[Mapping[str, Any]], where: str, metric: str) -> pd.DataFrame:
    """Make a table of results, with every column, that can be compared.

    Args:
        rows: an answer each.
        where: they are from, for sentences.
        metric: what their scores are.

    Raises:
        UserError: nothing names an answer's item, there is no score, or one does not lie between 0 and 1.
    """
    columns = {name: [_clean(row.get(name)) for row in rows] for name in COLUMNS}
    table = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    for name in ("seed", "sample"):
        table[name] = table[name].fillna(0).astype(int)
    table["score"] = table["score"].astype(float)
    _check_keys(table, where)
    _check_scores(table, where, metric)
    return table


def _clean(value: Any) -> Any:
    """Return a value without half characters, which JSON can hold and no file can."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _check_keys(table: pd.DataFrame, where: str) -> None:
    """Refuse answers that nothing names: they could be paired with none.

    Raises:
        UserError: every key has a gap.
    """
    if table[[*KEYS]].notna().all().any():
        return
    row = int(table["id"].isna().to_numpy().argmax()) + 1
    raise UserError(
        f"{where} does not say of every answer which item it is to, as in row {row}: fill the column in, leave such "
        "rows out, or name another column with columns.item=COLUMN."
    )


def _check_scores(table: pd.DataFrame, where: str, metric: str) -> None:
    """Refuse scores that no comparison can take.

    Raises:
        UserError: there is none, or they do not lie between 0 and 1.
    """
    scores = table["score"].dropna()
    if scores.empty:
        raise UserError(f"{where} has no item with a score ({metric}).")
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high > 1:
        raise UserError(
            f"{where} has scores from {low:g} to {high:g} ({metric}), and they must lie between 0 and 1: divide "
            "them by the largest that there can be, or choose another with metric=NAME."
        )


def read_score(value: object, problem: str) -> float:
    """Read one score: a number, a truth value, or one of the words for right and wrong; NaN for a gap.

    Raises:
        UserError: it is none of these, which `problem` says.
    """
    try:
        return _parse_score(value)
    except (TypeError, ValueError):
        raise UserError(problem) from None


def _parse_score(value: object) -> float:
    if value is None or value is pd.NA:
        return nan
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("", "nan", "null", "none"):
            return nan
        return _WORDS[word] if word in _WORDS else float(word)
    if isinstance(value, Real) or hasattr(value, "__float__"):
        return float(value)
    raise ValueError(f"{value!r} is no number")


def is_score(value: object) -> bool:
    """Tell if a value can be read as a score."""
    try:
        return not isnan(_parse_score(value))
    except (TypeError, ValueError):
        return False


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text; half a character, which JSON can hold, counts as it is."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_files(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file, or that of the hashes of several."""
    hashes = list(map(hash_file, sorted(files)))
    return hashes[0] if len(hashes) == 1 else hash_text(" ".join(hashes))


def check_model(found: Iterable[str], shown: str) -> None:
    """Refuse results of several models, each of which has its own in a folder.

    Raises:
        UserError: there are several.
    """
    models = sorted(set(found))
    if len(models) > 1:
        raise UserError(f"{shown} has the results of {len(models)} models ({', '.join(models)}); give one's folder.")


def choose(wanted: str | None, there: Sequence[str]) -> str:
    """Return the wanted one if it is there, else the first."""
    return wanted if wanted is not None and wanted in there else there[0]


def check_choice(key: str, wanted: str | None, there: Sequence[Sequence[str]], where: str) -> None:
    """Refuse a choice that no task of a file has.

    Raises:
        UserError: none has it.
    """
    if wanted is not None and there and not any(wanted in each for each in there):
        known = dict.fromkeys(name for each in there for name in each)
        raise UserError(f"{key}={wanted}: {where} has no such {key}; choose one of {', '.join(known)}.")


def describe_choice(key: str, chosen: str, there: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    """Return a clause on a choice that nobody made, if there was one to make."""
    others = [each for each in there if each != chosen]
    if not others or chosen == wanted:
        return ()
    return (f"the {key} is {chosen}, the first there is; {key}={others[0]} takes another",)


def read_summary(path: Path) -> tuple[Mapping[str, Any], list[Path]]:
    """Read what a run says of itself in its file of results, and return that file; nothing if it is not there.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return {}, []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); put back the file, or move it away.") from error
    return (content if isinstance(content, dict) else {}), [path]


def read_own_rows(path: Path, name: str, is_own: Callable[[Mapping[str, Any]], bool], own: str) -> list[dict[str, Any]]:
    """Read the rows of a file of a harness.

    Args:
        path: of the file.
        name: of the condition, for sentences.
        is_own: if a row is one of the harness's.
        own: such rows, for sentences.

    Raises:
        UserError: it cannot be read, or has other rows.
    """
    rows = read_rows(str(path), name)
    if not all(map(is_own, rows)):
        raise UserError(f"{name}={path} has rows that are no {own}.")
    return rows


def begins_with(path: Path, *keys: str) -> bool:
    """Tell if a path is a JSON file with an object that has these keys near its beginning."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return start.lstrip().startswith(b"{") and all(f'"{key}"'.encode() in start for key in keys)


def as_text(value: object) -> str | None:
    """Return a text as it is, and anything else as JSON; None for nothing."""
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def read_number(value: object, key: str, where: str) -> int:
    """Read which answer to an item it is: a whole number from 0; 0 for nothing.

    Args:
        value: any.
        key: that holds it, for the sentence.
        where: it is from.

    Raises:
        UserError: it is none.
    """
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**31:
        raise UserError(f"{where} has {value!r} as {key}, which is no number of an answer.")
    return value


def as_list(value: object) -> list[Any]:
    """Return a list as it is, or what an object holds: some harnesses write lists as objects with numbered keys."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def look_up(content: object, *keys: str) -> object:
    """Return what stands under keys within keys; None if it is not there."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
