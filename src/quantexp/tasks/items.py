"""The items of a task: what one is, their identity, and which of them a seed draws."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantexp.tasks.base import Task
from quantexp.tasks.graders.base import Grader
from quantexp.tasks.normalise import fold_words
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

_LEVELS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its gold answer.

    Attributes:
        id: unique within the data.
        fields: what the prompt and the grader read.
        difficulty: 1 (easiest) to 5, or None where the data do not say.
        cluster: the same for items that ask the same, letter case, punctuation and white space aside.
    """

    id: str
    fields: Mapping[str, Any]
    difficulty: int | None
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A task's items and worked examples.

    Attributes:
        name: what reports call the data.
        items: all of them, in the order of the file.
        examples: items of a separate set, for prompts with worked examples.
        fingerprint: sha256 over the items' canonical JSON, in order; the data's identity.
        file: the name of the file that they come from, without its folders; None for data from elsewhere.
        facts: what else scores depend on that came with them, such as the version of a program that made them.
    """

    name: str
    items: tuple[Item, ...]
    examples: tuple[Item, ...]
    fingerprint: str
    file: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The data in a sentence: the file and its rows, if there is one."""
        return data_title(self.name, self.file, len(self.items))

    def count_items(self, count: str) -> str:
        """Words for so many of its items, such as `12 bundled items`."""
        return f"{count} {self.name} items" if self.file is None else f"{count} items of {self.file}"


def data_title(name: str, file: str | None, rows: int) -> str:
    """Name data in a sentence, such as `bundled data` or `quiz.csv (120 rows)`."""
    return f"{name} data" if file is None else f"{one_line(file)} ({rows:,} row{'s' * (rows != 1)})"


def draw_items(items: Sequence[Item], seed: int, limit: int | None) -> tuple[Item, ...]:
    """`limit` of the items without replacement, in random order; all of them when limit is None.

    Items are sorted by the sha256 of seed and id. Unlike a pseudo-random generator's draw, this never changes with
    a library's version, and a larger limit only adds items.

    Raises:
        UserError: there are fewer items than asked for.
    """
    if limit is not None and limit > len(items):
        raise UserError(
            f"task.limit={limit} asks for more items than the {len(items)} there are; "
            "lower it, or set task.limit=null for all."
        )
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{item.id}".encode()).digest())
    return tuple(order[:limit])


def fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    """sha256 over the rows as canonical JSON, one a line."""
    digest = hashlib.sha256()
    for row in rows:
        # What JSON has no form of, such as a date, counts as its text.
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def make_items(rows: Sequence[Mapping[str, Any]], task: Task, where: str) -> tuple[Item, ...]:
    """Make items of the rows, in their order; a row without an id, or with an empty one, gets its number from 1 on.

    Raises:
        UserError: two rows have the same id, or one cannot be asked or graded, or has a difficulty that is none; the
            sentence names it.
    """
    seen: set[str] = set()
    items = []
    for number, row in enumerate(rows, start=1):
        given = row.get("id")
        item_id = str(number if given is None or given == "" else given)
        shown = one_line(item_id)
        if item_id in seen:
            raise UserError(f"{where}: the id {shown} occurs twice; give every item its own.")
        seen.add(item_id)
        try:
            task.validate(row)
            difficulty = _difficulty(row.get("difficulty"))
            json.dumps(row, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where}, item {shown}: it holds half a character ({error.reason}).") from error
        except ValueError as error:
            raise UserError(f"{where}, item {shown}: {one_line(str(error), 400)}.") from error
        fields = {key: value for key, value in row.items() if key not in {"id", "difficulty"}}
        items.append(Item(item_id, fields, difficulty, find_cluster(_join_texts(fields[task.asks]))))
    return tuple(items)


def check_gradable(items: Mapping[str, Mapping[str, Any]], grader: Grader) -> None:
    """Refuse items that a grader cannot grade.

    Args:
        items: the fields of each item by its id.
        grader: who is to grade them.

    Raises:
        UserError: there is one; the sentence names it.
    """
    if grader.check is None:
        return
    for item, fields in items.items():
        try:
            grader.check(fields)
        except ValueError as error:
            raise UserError(
                f"The grader {grader.name} cannot grade item {one_line(item)}: {one_line(str(error), 400)}."
            ) from error


def _difficulty(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value in _LEVELS:  # a cell of a CSV file
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or str(value) not in _LEVELS:
        raise ValueError(
            f"the field 'difficulty' must be null or a whole number from 1 to 5, not {value!r}; to do without it, add "
            "data.columns='{difficulty: null}'"
        )
    return value


def _join_texts(asked: str | Sequence[str]) -> str:
    """Return what is asked as one text, if it is asked in several turns."""
    return asked if isinstance(asked, str) else "\n".join(asked)


def find_cluster(asked: str) -> str:
    """Return 16 hex digits that are the same for the same words: public data sets hold some questions several times."""
    return hashlib.sha256(fold_words(asked).encode()).hexdigest()[:16]
