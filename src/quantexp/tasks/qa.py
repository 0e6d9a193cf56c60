"""Questions and answers of the user's own, under a name of their own.

An item has `question` and `answer`: a text, a number, or a list of accepted ones, the best first.
"""

from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, by_name, require_text
from quantexp.tasks.final_number import Reading, read_final_number, read_finished_number
from quantexp.tasks.grading import Grade, Grader
from quantexp.tasks.numbers import format_number, is_same_number, read_quantity, strip_latex
from quantexp.tasks.text import answer_line, normalize_unicode_answer

_NO_ANSWER, _NO_NUMBER = "empty output", "no number"

_TEXT, _NUMBER, _MENTION = "first line", "first line as a number", "mention"
"""The rules by which an answer is recognised."""


def _answers(fields: Mapping[str, Any]) -> list[str]:
    """The accepted answers as texts.

    Raises:
        ValueError: there is none, or one is neither a text of one line nor a number.
    """
    given = fields["answer"]
    answers = [*given] if isinstance(given, list | tuple) else [given]
    texts = [text if isinstance(text, str) else format_number(text) for text in answers]
    if not texts or any(text is None or not text.strip() or "\n" in text.strip() for text in texts):
        raise ValueError(f"the field 'answer' must be a text of one line, a number, or a list of such, not {given!r}")
    return [text.strip() for text in texts if text is not None]


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    line, _ = answer_line(output)
    answer = normalize_unicode_answer(line or output)
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    number = read_quantity(strip_latex(line))
    for accepted in _answers(fields):
        gold = read_quantity(accepted)
        # As texts, without punctuation, 18 and -18 are the same.
        if number is not None and gold is not None:
            if is_same_number(number, gold):
                return Grade.right_or_wrong(True, number, _NUMBER)
        elif answer == normalize_unicode_answer(accepted):
            return Grade.right_or_wrong(True, answer, _TEXT)
    return Grade.right_or_wrong(False, answer if number is None else number, _TEXT if number is None else _NUMBER)


def _grade_cut(output: str, fields: Mapping[str, Any]) -> Grade:
    _, has_ended = answer_line(output)
    return _grade(output, fields) if has_ended else Grade.unfinished()


def _grade_contains(output: str, fields: Mapping[str, Any]) -> Grade:
    exact = _grade(output, fields)
    if exact.score or exact.error:
        return exact
    answer = f" {normalize_unicode_answer(output)} "
    found = any(f" {normalize_unicode_answer(accepted)} " in answer for accepted in _answers(fields))
    return Grade.right_or_wrong(found, answer.strip(), _MENTION) if found else exact


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
    version=1,
    description="the first line is one of the answers, as a text without punctuation and case, or as the same number",
    grade=_grade,
    grade_cut=_grade_cut,
)
"""The default: right when the first line with more than punctuation on it equals one of the item's answers.

Two numbers are compared as numbers ("1,080 dollars" is 1080, -18 is not 18), everything else as `triviaqa-unicode`
does: without case, articles, and the punctuation of all scripts. Whole sentences never match. A first line that was cut
off at max_tokens is unfinished.
"""

QA_CONTAINS = Grader(
    name="qa-contains",
    version=1,
    description="as qa, or one of the answers occurs in the output as whole words",
    grade=_grade_contains,
    grade_cut=_grade_contains_cut,
)
"""Lenient, for models that answer in sentences. It cannot tell an answer from a mention, and rewards long outputs."""

QA_NUMBER = Grader(
    name="qa-number",
    version=1,
    description="the final number, found as gsm8k finds it, is one of the answers",
    grade=_grade_number,
    grade_cut=_grade_number_cut,
    check=_check_number,
)
"""For answers that are numbers, of models that calculate before they answer; every item needs a number as an answer."""


def _target(fields: Mapping[str, Any]) -> str:
    return _answers(fields)[0]


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    _answers(fields)


TASK = Task(
    name="qa",
    asks="question",
    required_fields=("question", "answer"),
    target=_target,
    check=_check,
    graders=by_name(QA, QA_CONTAINS, QA_NUMBER),
    default_grader=QA.name,
    is_named_by_user=True,
)
"""Own questions; a worked example is shown with its best answer."""
