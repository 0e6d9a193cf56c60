"""Rows of a text file, by its format. Values stay as they are written: nothing guesses dates or numbers."""

import codecs
import csv
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

log = logging.getLogger(__name__)

Rows = Iterator[dict[str, Any]]

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between the cells of a CSV file; earlier ones win where several fit."""

_LINE_END = re.compile(r"\r\n?|\n")

_LOOKED_AT = 100
"""Rows of a CSV file by which its separator is told."""


_logged: set[tuple[Path, str]] = set()


def _log_once(path: Path, choice: str) -> None:
    """Log what was chosen for a file, which every job of a sweep reads anew."""
    if (path, choice) not in _logged:
        _logged.add((path, choice))
        log.info("%s: %s", path.name, choice)


class RepeatedColumnError(ValueError):
    """A name that stands twice where each may stand once; readers would drop all but the last."""


def decode(content: bytes) -> str:
    """Decode a text file: by its byte-order mark, or else as UTF-8.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding)
    if b"\0" in content[:4]:  # every second byte of UTF-16
        raise UnicodeDecodeError("utf-8", content, content.index(b"\0"), content.index(b"\0") + 1, "no text, or UTF-16")
    return content.decode("utf-8")


def check_columns(names: Sequence[str]) -> None:
    """Refuse a name that occurs twice.

    Raises:
        RepeatedColumnError: there is one.
    """
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise RepeatedColumnError(f"the column {twice!r} occurs twice; give every column its own name")


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_columns([name for name, _ in pairs])
    return dict(pairs)


def _read_json_lines(text: str, path: Path) -> Rows:
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if not line.strip():
            continue
        try:
            row = _parse(line)
        except RepeatedColumnError as error:
            raise ValueError(f"line {number}: {error}") from error
        except (ValueError, RecursionError) as error:
            if number == 1 and line.lstrip().startswith("[") and text.rstrip().endswith("]"):
                raise ValueError("it is one JSON list and no JSON lines; call it .json") from error
            raise ValueError(f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        yield row


def _read_json(text: str, path: Path) -> Rows:
    """Yield a list of objects; an object with one such list among its values, as {"data": [...]}; or JSON lines."""
    try:
        content = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # more than one JSON value: many tools call a file of JSON lines so
            _log_once(path, "it holds JSON lines")
            yield from _read_json_lines(text, path)
            return
        raise ValueError(f"it is not JSON ({error})") from error
    except RepeatedColumnError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if isinstance(content, dict):
        lists = {key: value for key, value in content.items() if isinstance(value, list) and _are_objects(value)}
        if len(lists) == 1:
            ((key, content),) = lists.items()
            _log_once(path, f"its rows are the list {key!r}")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("it is not a JSON list of objects, nor an object with one such list; write [{...}, {...}]")
    yield from content


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _read_text(text: str, path: Path) -> Rows:
    yield {"text": text}  # line ends as they are


def _read_csv(text: str, path: Path) -> Rows:
    separator = ","
    if text[:4].lower() == "sep=" and text[5:6] in {"\r", "\n"}:  # a spreadsheet's own line
        separator, text = text[4], text[5:].removeprefix("\r").removeprefix("\n")
    elif (found := _find_separator(text)) != separator:
        separator = found
        _log_once(path, f"its cells are separated by {_SEPARATORS[separator]}")
    yield from _read_cells(text, separator)


def _find_separator(text: str) -> str:
    """Find the separator of cells: that by which the rows have equally many, else that by which the first row has most.

    csv.Sniffer counts letters where it finds no pattern, and takes a letter or a space for the separator of prose.
    """
    found = {}
    for separator in _SEPARATORS:
        widths: list[int] = []
        reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
        with suppress(csv.Error):  # whoever reads the whole file says where it is broken
            widths.extend(len(row) for row in islice(reader, _LOOKED_AT) if row)
        if widths and widths[0] > 1:
            found[separator] = (len(set(widths)) == 1, widths[0])
    return max(found, key=found.__getitem__, default=",")


def _read_cells(text: str, separator: str) -> Rows:
    csv.field_size_limit(2**31 - 1)  # of the whole process; a cell may hold a long document
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = reader.fieldnames or ()
        check_columns(names)
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


TEXT_READERS: Mapping[str, Callable[[str, Path], Rows]] = MappingProxyType(
    {
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": lambda text, _: _read_cells(text, "\t"),
        ".txt": _read_text,
        ".raw": _read_text,
    }
)
"""What reads a text, by the end of its file's name: from the text and the file.

Each raises ValueError, in one sentence without the file's name, where the text is not what the name says.
"""
