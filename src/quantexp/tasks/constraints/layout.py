"""Constraints on layout: lists, headings, sections, tables, JSON, code."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from quantexp.tasks.constraints.base import (
    CHARACTERS,
    COUNT,
    RANGE,
    TEXT,
    TEXTS,
    Arguments,
    Kind,
    counting,
    is_within,
    one_of,
    optional,
)
from quantexp.tasks.constraints.measures import is_bullet, list_lines
from quantexp.tasks.json_answers import strip_fence

_NUMBER = re.compile(r"[ \t]*+(?:\*\*)?(\d{1,3})[.)][ \t*]")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]++\S")
_EMPHASIS = re.compile(r"(?<!\*)\*\*(?=[^\s*])[^*\n]++\*\*(?!\*)|(?<!\*)\*(?=[^\s*])[^*\n]++\*(?!\*)")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]++\]")
_DELIMITER = re.compile(r":?-++:?")
_FENCE = re.compile(r"^```[ \t]*+([\w+#-]*+)[ \t]*+$", re.MULTILINE)
_LABEL_EDGES = "#*_ \t"


def _count_numbered(text: str) -> int:
    """Count the entries of a numbered list; -1 if the numbers do not run from 1 on."""
    found = [int(mark[1]) for line in list_lines(text) if (mark := _NUMBER.match(line))]
    return len(found) if found == list(range(1, len(found) + 1)) else -1


def _keeps_numbered(text: str, arguments: Arguments) -> bool:
    return is_within(_count_numbered(text), {"at_least": 1, **arguments})


def _keeps_sections(text: str, arguments: Arguments) -> bool:
    """Look for each label at the beginning of a line, in their order, with words on the line or under it."""
    lines = [line.strip(_LABEL_EDGES) for line in list_lines(text)]
    labels = [label.strip(_LABEL_EDGES) for label in arguments["labels"]]
    places: list[int] = []
    for label in labels:
        start = places[-1] + 1 if places else 0
        place = next((place for place in range(start, len(lines)) if _begins(lines[place], label)), None)
        if place is None:
            return False
        places.append(place)
    ends = [*places[1:], len(lines)]
    return all(
        end - place > 1 or bool(lines[place].removeprefix(label).strip(f":{_LABEL_EDGES}"))
        for label, place, end in zip(labels, places, ends, strict=True)
    )


def _begins(line: str, label: str) -> bool:
    """Return whether a line begins with a label that does not go on as a word."""
    return line.startswith(label) and not line[len(label) : len(label) + 1].isalnum()


def _keeps_title(text: str, arguments: Arguments) -> bool:
    opens, closes = arguments["opens"], arguments["closes"]
    first = next(iter(list_lines(text)), "").strip().lstrip("# ")
    inside = first.removeprefix(opens).removesuffix(closes)
    return (
        first.startswith(opens) and first.endswith(closes) and len(first) > len(opens + closes) and bool(inside.strip())
    )


def _read_json(text: str) -> Any:
    """Return what the text is as JSON, alone or in a fence; None if it is none."""
    try:
        return json.loads(strip_fence(text))
    except (ValueError, RecursionError):
        return None


def _keeps_json_object(text: str, arguments: Arguments) -> bool:
    value = _read_json(text)
    return isinstance(value, dict) and ("keys" not in arguments or sorted(value) == sorted(arguments["keys"]))


_OF: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
}


def _keeps_json_list(text: str, arguments: Arguments) -> bool:
    value = _read_json(text)
    return isinstance(value, list) and is_within(len(value), arguments) and all(map(_OF[arguments["of"]], value))


def _read_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _keeps_table(text: str, arguments: Arguments) -> bool:
    """Look for one Markdown table: a head, a line of dashes, and the rows."""
    tables: list[list[list[str]]] = []
    before = False
    for line in text.splitlines():
        if inside := "|" in line:
            if not before:
                tables.append([])
            tables[-1].append(_read_cells(line))
        before = inside
    if len(tables) != 1 or len(tables[0]) < 2:
        return False
    [[head, dashes, *rows]] = tables
    widths = {len(row) for row in (head, dashes, *rows)}
    return (
        all(map(_DELIMITER.fullmatch, dashes))
        and widths == {arguments.get("columns", len(head))}
        and len(rows) == arguments.get("rows", len(rows))
    )


def _keeps_separated(text: str, arguments: Arguments) -> bool:
    lines = list_lines(text)
    entries = lines[0].split(arguments["separator"]) if len(lines) == 1 else []
    return bool(entries) and all(map(str.strip, entries)) and is_within(len(entries), arguments)


def _keeps_code_block(text: str, arguments: Arguments) -> bool:
    """Look for exactly one fenced block with something in it."""
    fences = list(_FENCE.finditer(text))
    if len(fences) != 2 or fences[1][1] or not text[fences[0].end() : fences[1].start()].strip():
        return False
    around = text[: fences[0].start()] + text[fences[1].end() :]
    return arguments.get("language", fences[0][1]).lower() == fences[0][1].lower() and not (
        arguments.get("alone") == "yes" and around.strip()
    )


def _keeps_divided(text: str, arguments: Arguments) -> bool:
    parts = text.strip().split(arguments["divider"])
    return all(map(str.strip, parts)) and is_within(len(parts), arguments)


_YES_NO = optional(one_of("yes", "no"))

KINDS = (
    counting("bullets", "a list with so many bullets", lambda text: sum(map(is_bullet, list_lines(text)))),
    Kind("numbered", "a list numbered from 1 on, with so many entries", _keeps_numbered, RANGE),
    counting(
        "headings", "so many Markdown headings", lambda text: sum(map(bool, map(_HEADING.match, list_lines(text))))
    ),
    Kind("sections", "sections that begin with these labels, in order", _keeps_sections, {"labels": TEXTS}),
    Kind("title", "a first line between these marks", _keeps_title, {"opens": TEXT, "closes": TEXT}),
    counting("emphasis", "so many parts in *italics* or **bold**", lambda text: len(_EMPHASIS.findall(text))),
    counting("placeholders", "so many [placeholders]", lambda text: len(_PLACEHOLDER.findall(text))),
    Kind(
        "json_object",
        "one JSON object with exactly these keys, alone or fenced",
        _keeps_json_object,
        {"keys": optional(TEXTS)},
    ),
    Kind("json_list", "one JSON list of so many values", _keeps_json_list, {**RANGE, "of": one_of(*_OF)}),
    Kind(
        "table",
        "one Markdown table of so many columns, and of so many rows under its head",
        _keeps_table,
        {"columns": optional(COUNT), "rows": optional(COUNT)},
    ),
    Kind(
        "separated",
        "one line of so many entries with a separator between them",
        _keeps_separated,
        {**RANGE, "separator": CHARACTERS},
    ),
    Kind(
        "code_block",
        "one fenced block of code, with nothing around it if it is to be alone",
        _keeps_code_block,
        {"language": optional(TEXT), "alone": _YES_NO},
    ),
    Kind("divided", "so many parts with a divider between them", _keeps_divided, {**RANGE, "divider": TEXT}),
)
