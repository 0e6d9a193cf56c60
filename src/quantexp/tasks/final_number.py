"""The final number of an answer: which of its numbers a model means, and the rule that found it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from quantexp.tasks.numbers import Number, find_numbers, match_number, negate, strip_latex

MARKER, BOX, ANSWER_LINE, LAST_NUMBER = "marker", "box", "answer line", "last number"
"""The rules, in the order in which they are tried."""

_MARKER = re.compile("#{4,}")
"""Stands before the final number of every solution published with GSM8K, as "#### N"."""

_WINDOW = 200
"""Characters read after a marker: more than any final number with its decoration needs."""

_BOX = r"\boxed{"
_BOX_WINDOW = 1000
"""Characters searched for the end of a box."""

_DECORATION = r"""[\s*_`"'~(\[{:=≈\\$]{0,12}"""
_SLOT = re.compile(rf"{_DECORATION}(?:(?:the[ ])?(?:final[ ])?answer(?:[ ]is)?)?{_DECORATION}", re.IGNORECASE)
"""What may stand before a final number: "#### **$18**", "#### The answer is 18", "#### Final answer" and a new line."""

_DASH = re.compile(r"[-\u2212\u2013][ ](?=[$£€¥₹]?[0-9.])")
_BULLET = re.compile(r"^[-\u2212\u2013\u2022+][ ]")
_ENDING = re.compile(r"[\s*_`\"'~)\]}.\\$%°£€¥₹]*")
_HEADING = re.compile(r"[.):][*_]{0,3}\s+[*_\"'(]{0,3}[^\W\d]")
"""What follows the number of a heading: "#### 1. Eggs left"."""

_CALCULATION = re.compile(r"\s{0,3}(?:=|[-+*/×÷·x\u2212]\s{0,3}[0-9$(])")
"""What follows the first number of "#### 9 * 2 = 18"."""

_NEXT_QUESTION = re.compile(
    r"^[ \t*_#>]{0,12}(?:(?:(?:next|new|another)[ ])?(?:question|problem|exercise)|q)"
    r"[ *_]{0,4}[0-9]{0,4}[ *_]{0,4}[:.)]"
    r"|^(?:human|user|<\|im_start\|>)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""Where a model that runs on asks itself the next question."""

_ANSWER = re.compile(
    r"^[ \t*_#>`(\[-]{0,12}(?:(?:the|my)[ ])?(?:final[ ]|correct[ ])?answer[ *_]{0,4}[:=]|\banswer[ ](?:is|=)[ ]?:?",
    re.IGNORECASE | re.MULTILINE,
)
"""What announces an answer in words: "Answer: Tom has 91 trees", "so the answer is 18"."""

_REASON = re.compile(r"\b(?:because|since)\b|[(;]|[.!?]\s", re.IGNORECASE)
"""Where the statement of an answer ends and its reason begins."""

_CIRCUMSTANCE = re.compile(
    r"\b(?:in|after|for|per|within|at|on|by|every|each|during|from|than|over)[ ]"
    r"(?:(?:the|his|her|their|those|these|all)[ ])?$",
    re.IGNORECASE,
)
"""What stands before a number that is not the answer: "after 10 years"."""

_LONGEST_CIRCUMSTANCE = 20
"""Characters before a number that are searched for one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Number that was read from an answer, and the rule that found it.

    Attributes:
        value: the number, canonical; None where there is something else where it should be.
        rule: which rule found the place.
    """

    value: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class _Slot:
    """A number at a place for a final one, and what it looks like there."""

    value: str | None
    end: int
    is_alone: bool
    is_heading: bool


def read_final_number(output: str) -> Reading | None:
    r"""Read the final number: after a marker "####", else in a `\boxed{}`, else of an answer line, else the last one.

    - Marker: the last one with a number alone on its line, else the last one with a number and words. The number of
      a heading ("#### 1. Eggs left") counts only where nothing follows.
    - Box: the last one with a number.
    - Answer line: of the last statement that begins "Answer:" or with "the answer is"; of several numbers the one after
      the last "=", else the last one that is no circumstance ("after 10 years").
    - What follows the next question, of a model that runs on, is not its answer.

    Returns:
        None where there is no number at all.
    """
    text = strip_latex(output)
    text = text[: _end(text)]
    return _read_marker(text) or _read_box(text) or _read_answer_line(text) or _read_last(text)


def read_marked_number(output: str) -> Reading | None:
    """Read the number after a marker "####", and nothing else."""
    text = strip_latex(output)
    return _read_marker(text[: _end(text)])


def read_finished_number(output: str, *, boxes: bool = True) -> Reading | None:
    r"""Read the final number of an answer that was cut off: on a whole line after "####", or in a box that is closed.

    Args:
        output: the answer as far as it goes.
        boxes: whether a box counts.
    """
    text = strip_latex(output)
    text = text[: _end(text)]
    return _read_marker(text, cut=True) or (_read_box(text, closed=True) if boxes else None)


def _end(text: str) -> int:
    """Return where the next question begins, after the first place that has an answer."""
    first = min(_first_ends(text), default=None)
    following = None if first is None else _NEXT_QUESTION.search(text, first)
    return len(text) if following is None else following.start()


def _first_ends(text: str) -> Iterator[int]:
    """Yield the ends of the first marked number, the first box and the first answer line."""
    if marked := next((slot for slot in _slots(text) if not slot.is_heading), None):
        yield marked.end
    if (box := text.find(_BOX)) >= 0:
        yield box
    if answer := _ANSWER.search(text):
        yield answer.end()


def _slots(text: str) -> Iterator[_Slot]:
    """Yield the numbers after markers."""
    for marker in _MARKER.finditer(text):
        slot = _slot(text[marker.end() : marker.end() + _WINDOW], marker.end())
        if slot is not None:
            yield slot


def _slot(text: str, offset: int = 0) -> _Slot | None:
    """Return the number with which a text begins, decoration aside; the result if a calculation begins there."""
    found, value = _opening_number(text)
    if found is None:
        return None
    line = text[found.end :].partition("\n")[0]
    if _CALCULATION.match(line) and "=" in line:
        result, of_result = _opening_number(line.rpartition("=")[2])
        if result is not None:
            return _Slot(of_result, offset + found.end, is_alone=True, is_heading=False)
    return _Slot(
        value,
        offset + found.end,
        is_alone=_ENDING.fullmatch(line) is not None,
        is_heading=_HEADING.match(line) is not None,
    )


def _opening_number(text: str) -> tuple[Number | None, str | None]:
    """Read the number with which a text begins, decoration aside, and its value; "- 18" on one line is negative."""
    slot = _SLOT.match(text)
    start = slot.end() if slot else 0
    dash = _DASH.match(text, start)
    found = match_number(text, dash.end() if dash else start)
    if found is None or found.value is None or dash is None or "\n" in text[:start]:  # a bullet of a list, there
        return found, found.value if found else None
    return found, negate(found.value)


def _read_marker(text: str, *, cut: bool = False) -> Reading | None:
    end = text.rfind("\n") if cut else len(text)
    slots = [slot for slot in _slots(text) if slot.end <= end and not (cut and slot.is_heading)]
    alone = [slot for slot in slots if slot.is_alone]
    last_line = text.rstrip().rfind("\n")
    worded = [slot for slot in slots if not slot.is_heading or slot.end > last_line]
    chosen = alone or worded
    return Reading(chosen[-1].value, MARKER) if chosen else None


def _read_box(text: str, *, closed: bool = False) -> Reading | None:
    r"""Return the number in the last `\boxed{...}`; after its last "=" if it has one."""
    _, box, rest = text.rpartition(_BOX)
    if not box:
        return None
    depth = 1
    content = rest[:_BOX_WINDOW]
    for position, character in enumerate(content):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            content = content[:position]
            break
    found = next(find_numbers(content.rpartition("=")[2]), None)
    return None if found is None or (closed and depth) else Reading(found.value, BOX)


def _read_answer_line(text: str) -> Reading | None:
    answers = list(_ANSWER.finditer(text))
    if not answers:
        return None
    rest = text[answers[-1].end() :]
    statement = rest.lstrip(" \t\r\n*_:").partition("\n")[0]
    if "\n" in rest[: rest.find(statement)]:
        statement = _BULLET.sub("", statement)
    slot = _slot(statement[:_WINDOW])
    if slot is not None and (slot.is_alone or statement[slot.end : slot.end + 1] in {",", ";"}):
        return Reading(slot.value, ANSWER_LINE)
    numbers = list(find_numbers(statement))
    if not numbers:
        return None
    equals = statement.rfind("=")
    if equals >= 0 and (after := [number for number in numbers if number.start > equals]):
        return Reading(after[0].value, ANSWER_LINE)
    reason = _REASON.search(statement, numbers[0].end)
    stated = [number for number in numbers if reason is None or number.end <= reason.start()]
    main = [number for number in stated if not _is_circumstance(statement, number)] or stated
    return Reading(main[-1].value, ANSWER_LINE)


def _is_circumstance(statement: str, number: Number) -> bool:
    before = statement[max(number.start - _LONGEST_CIRCUMSTANCE, 0) : number.start]
    return _CIRCUMSTANCE.search(before) is not None


def _read_last(text: str) -> Reading | None:
    """Return the last number; a time of the day that is none is passed over."""
    last = None
    for number in find_numbers(text):
        if number.value is not None or not number.is_time:
            last = number
    return None if last is None else Reading(last.value, LAST_NUMBER)
