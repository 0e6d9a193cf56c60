"""Questions and answers of the user's own, under a name of their own.

An item has `question` and `answer`: a text, a number, or a list of accepted ones, the best first.
"""

import re
from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.final_number import Reading, read_final_number, read_finished_number
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.normalise import answer_line, fold_punctuation, fold_words, normalize_unicode_answer
from quantexp.tasks.numbers import (
    Quantity,
    find_numbers,
    find_quantities,
    format_number,
    is_same_number,
    read_quantity,
    split_quantity,
    strip_latex,
)

_NO_ANSWER, _NO_NUMBER = "empty output", "no number"

_TEXT, _NUMBER, _MENTION = "first line", "first line as a number", "mention"
"""The rules by which an answer is recognised."""

_BEFORE_NUMBERS, _AFTER_NUMBERS = "-\u2013$<>^%", "%\u2030"
"""Punctuation that says something about a number beside it."""

_BULLET = re.compile(r"^\s*[-\u2013\u2022+] (?=\S)")
"""A list's, at the start of a line."""


def _answers(fields: Mapping[str, Any]) -> list[str]:
    """Return the accepted answers as texts.

    Raises:
        ValueError: there is none, or one is neither a text of one line nor a number.
    """
    given = fields["answer"]
    answers = [*given] if isinstance(given, list | tuple) else [given]
    texts = [text if isinstance(text, str) else format_number(text) for text in answers]
    if not texts or any(text is None or not text.strip() or "\n" in text.strip() for text in texts):
        raise ValueError(f"the field 'answer' must be a text of one line, a number, or a list of such, not {given!r}")
    return [text.strip() for text in texts if text is not None]


def _is_edge(text: str, at: int) -> bool:
    """Tell whether a character before a number is but decoration; a sign, a currency and a decimal point are not."""
    character, following = text[at], text[at + 1 : at + 2]
    if character == ".":
        return not following.isdigit() or text[at - 1 : at] == "."
    return character not in _BEFORE_NUMBERS and not fold_words(fold_punctuation(character))


def _read_quantity(text: str) -> Quantity | None:
    """Read a text that is one number and its unit, whatever punctuation is around it."""
    text = strip_latex(text)
    start = next((at for at in range(len(text)) if not _is_edge(text, at)), len(text))
    end = len(text)
    while end > start and text[end - 1] not in _AFTER_NUMBERS and not fold_punctuation(text[end - 1]).strip():
        end -= 1
    return split_quantity(text[start:end])


def _matched_rule(line: str, accepted: str) -> str | None:
    """Return the rule by which a line is an accepted answer; None where it is not.

    Numbers are right with equal units, or where one side has none. Without punctuation 1-5 is 1.5 and -18 is 18, so
    that a bare number never equals what is no number, and other texts with one only where it is the same in both.
    """
    given, gold = _read_quantity(_BULLET.sub("", line)), _read_quantity(accepted)
    if given is not None and gold is not None:
        is_same_unit = given.unit == gold.unit or not (given.unit and gold.unit)
        return _NUMBER if is_same_unit and is_same_number(given.value, gold.value) else None
    if line.strip() == accepted:
        return _TEXT
    read = [each for each in (given, gold) if each is not None]
    if any(not each.unit or _values(line) != _values(accepted) for each in read):
        return None
    return _TEXT if normalize_unicode_answer(line) == normalize_unicode_answer(accepted) else None


def _values(text: str) -> list[str | None]:
    return [number.value for number in find_numbers(strip_latex(text))]


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    line = answer_line(output)[0] or output
    answer = normalize_unicode_answer(line)
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    number = _read_quantity(_BULLET.sub("", line))
    extracted = answer if number is None else f"{number.value} {number.unit}".rstrip()
    for accepted in _answers(fields):
        if rule := _matched_rule(line, accepted):
            return Grade.right_or_wrong(True, extracted, rule)
    return Grade.right_or_wrong(False, extracted, _TEXT if number is None else _NUMBER)


def _grade_cut(output: str, fields: Mapping[str, Any]) -> Grade:
    _, has_ended = answer_line(output)
    return _grade(output, fields) if has_ended else Grade.unfinished()


def _is_mentioned(accepted: str, output: str) -> bool:
    """Tell whether an answer occurs as whole words; one that is a number and its unit as that number, too."""
    gold = _read_quantity(accepted)
    if gold is None:
        return f" {normalize_unicode_answer(accepted)} " in f" {normalize_unicode_answer(output)} "
    return any(
        is_same_number(each.value, gold.value) and (not gold.unit or f"{each.unit} ".startswith(f"{gold.unit} "))
        for each in find_quantities(strip_latex(output))
    )


def _grade_contains(output: str, fields: Mapping[str, Any]) -> Grade:
    exact = _grade(output, fields)
    if exact.score or exact.error:
        return exact
    found = any(_is_mentioned(accepted, output) for accepted in _answers(fields))
    return Grade.right_or_wrong(True, normalize_unicode_answer(output), _MENTION) if found else exact


def _grade_contains_cut(output: str, fields: Mapping[str, Any]) -> Grade:
    grade = _grade_contains(output, fields)
    return grade if grade.score else Grade.unfinished()


def _numbers(fields: Mapping[str, Any]) -> list[str]:
    return [number for answer in _answers(fields) if (number := read_quantity(answer)) is not None]


def _graded_number(reading: Reading, fields: Mapping[str, Any]) -> Grade:
    if reading.value is None:
        return Grade.unreadable(_NO_NUMBER)
    right = any(is_same_number(reading.value, gold) for gold in _numbers(fields))
    return Grade.right_or_wrong(right, reading.value, reading.rule)


def _grade_number(output: str, fields: Mapping[str, Any]) -> Grade:
    reading = read_final_number(output)
    return Grade.unreadable(_NO_NUMBER) if reading is None else _graded_number(reading, fields)


def _grade_number_cut(output: str, fields: Mapping[str, Any]) -> Grade:
    reading = read_finished_number(output)
    return Grade.unfinished() if reading is None else _graded_number(reading, fields)


def _check_number(fields: Mapping[str, Any]) -> None:
    if not _numbers(fields):
        raise ValueError(
            f"the field 'answer' has no number, as in 18, -18, 18.5, 1,080 or 1/2, but {fields['answer']!r}; choose "
            "another task.grader for such items"
        )


QA = Grader(
    name="qa",
    version=2,
    description="the first line is one of the answers, as a text without punctuation and case, or as the same number",
    grade=_grade,
    grade_cut=_grade_cut,
)
"""The default: right when the first line with more than punctuation on it equals one of the item's answers.

Two numbers are compared as numbers ("1,080 dollars" is 1080, -18 is not 18), and their units as texts where both have
one ("$5" is "5 dollars", "5 km" is not "5 miles", "12 monkeys" not "12 Angry Men"); a bare number equals nothing but
numbers. Everything else is compared as `triviaqa-unicode` does: without case, articles, and the punctuation of all
scripts. Whole sentences never match. A first line that was cut
off at max_tokens is unfinished.
"""

QA_CONTAINS = Grader(
    name="qa-contains",
    version=2,
    description="as qa, or one of the answers occurs in the output as whole words",
    grade=_grade_contains,
    grade_cut=_grade_contains_cut,
)
"""Lenient, for models that answer in sentences. It cannot tell an answer from a mention, and rewards long outputs.

A number is looked for as one: 18 is neither in "-18" nor in "18,000".
"""

QA_NUMBER = Grader(
    name="qa-number",
    version=1,
    description="the final number, found as gsm8k finds it, is one of the answers",
    grade=_grade_number,
    grade_cut=_grade_number_cut,
    check=_check_number,
)
"""For answers that are numbers, of models that calculate before they answer; every item needs a number as an answer.

Units are not compared.
"""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    _answers(fields)


TASK = Task(
    name="qa",
    asks="question",
    required_fields=("question", "answer"),
    target=lambda fields: _answers(fields)[0],
    check=_check,
    graders=index_by_name(QA, QA_CONTAINS, QA_NUMBER),
    default_grader=QA.name,
    is_named_by_user=True,
)
"""Own questions; a worked example is shown with its best answer."""
