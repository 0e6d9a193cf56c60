"""Rows of a file on this machine. Values stay as they are written: nothing guesses dates or numbers."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quantexp.errors import UserError
from quantexp.terminal import one_line

DEEPEST = 100
"""Levels of lists and objects in one row; Python's own functions give up at some hundreds."""


def read_rows(name: str, key: str, hint: str = "") -> list[dict[str, Any]]:
    """The rows of a JSONL, Parquet or CSV file; a .txt or .raw file is one row, whose only column is "text".

    In a CSV file an empty cell is null, and a cell that is a JSON list is that list; every other cell is text.

    Args:
        name: the file; the end of its name says what it is.
        key: what it is called on the command line.
        hint: what to do where it is not there; ends the sentence.

    Raises:
        UserError: there is no such file, or it is not what its name says; the sentence says where.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={name} is not a file; {hint or f'give a path, absolute or relative to {Path.cwd()}'}.")
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".csv": _csv, ".txt": _plain, ".raw": _plain}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{key}={name}: the file's name must end in one of {', '.join(readers)}.")
    try:
        rows = list(reader(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{key}={name} is not UTF-8 text (byte {error.start}: {error.reason}); convert it.") from error
    except ValueError as error:  # json's, csv's and pyarrow's errors are, or are made to be
        raise UserError(f"{key}={name}: {one_line(str(error)).rstrip('.')}.") from error
    for number, row in enumerate(rows, start=1):
        if _is_deep(row):
            raise UserError(f"{key}={name}: row {number} is nested more than {DEEPEST} levels deep; make it flatter.")
    if not rows:
        raise UserError(f"{key}={name} has no rows.")
    return rows


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except _TwiceError as error:
            raise ValueError(f"line {number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        yield row


class _TwiceError(ValueError):
    """A name that stands twice where each may stand once; readers would drop all but the last."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError(_occurs_twice(_twice([name for name, _ in pairs])))
    return found


def _twice(names: Sequence[str]) -> str | None:
    """The first name that is there again."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _occurs_twice(name: str | None) -> str:
    return f"the column {name!r} occurs twice; give every column its own name"


def _plain(path: Path) -> Iterator[dict[str, Any]]:
    yield {"text": path.read_bytes().decode("utf-8-sig")}  # line ends as they are


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # of the whole process; a cell may hold a long document
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            if (twice := _twice(reader.fieldnames or ())) is not None:
                raise ValueError(_occurs_twice(twice))
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"line {reader.line_num} has not as many cells as the first one")
                yield {column: _cell(value) for column, value in row.items()}
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num} is not CSV ({error})") from error


def _cell(text: str) -> Any:
    if text == "":
        return None
    if text.startswith("[") and text.endswith("]"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    # Only now: pyarrow is a heavy import, and most data are text.
    import pyarrow
    from pyarrow import parquet

    try:
        if (twice := _twice(parquet.read_schema(path).names)) is not None:
            raise _TwiceError(_occurs_twice(twice))
        yield from parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; those of a damaged file have none
            raise
        raise ValueError(f"it is not a whole Parquet file ({str(error).splitlines()[0].rstrip('.')})") from error


def _is_deep(row: dict[str, Any]) -> bool:
    """Whether it is nested too deeply to be worked with."""
    inside: list[Any] = [row]
    for _ in range(DEEPEST):
        inside = [
            each
            for one in inside
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, list | dict)
        ]
        if not inside:
            return False
    return True
