"""Extraction: from a customer's e-mail, a JSON object with four fields.

An item has `email` and the gold values of the four fields: `customer_name` (text, or None when the
sender's name appears nowhere), `issue_category` (one of CATEGORIES), `urgency` (one of URGENCIES)
and `requested_action` (free text: shown in worked examples, and graded by graders of its own).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.json_answers import DECODER, parse_json, strip_fence
from quantexp.tasks.normalise import normalize_name
from quantexp.tasks.requested_action import BY_EMBEDDER, BY_JUDGE

CATEGORIES = ("billing", "shipping", "technical", "account", "product")
"""What an e-mail can be about."""

URGENCIES = ("low", "medium", "high")
"""How urgent an e-mail can be."""

GRADED_FIELDS = ("customer_name", "issue_category", "urgency")
"""The fields whose values are compared; each counts for a third of the score."""

ANSWER_FIELDS = (*GRADED_FIELDS, "requested_action")
"""The keys of the JSON object, in the order in which worked examples show them."""

LONGEST_NAME = 1000
"""Characters. What is longer is no name, and canonical ordering takes quadratic time."""


def _same_name(read: object, gold: str | None) -> bool:
    if gold is None or not isinstance(read, str):
        return read is None and gold is None
    if len(read) > LONGEST_NAME:
        return False
    return normalize_name(read) == normalize_name(gold)


def _same_choice(read: object, gold: str) -> bool:
    return isinstance(read, str) and read.strip().casefold() == gold.strip().casefold()


_COMPARISON: Mapping[str, Callable[[object, Any], bool]] = {
    "customer_name": _same_name,
    "issue_category": _same_choice,
    "urgency": _same_choice,
}


_ATTEMPTS = 100
"""Braces in a text that may open no JSON object."""

_BARE, _FENCE, _INSIDE = "bare object", "fenced object", "object inside text"
"""The rules by which an object is found."""


def _canonical(answer: Mapping[str, object]) -> str:
    """Return the four fields on one line, those whose value is text or null.

    A lone surrogate, which no file can hold, stays the escape it was in the output.
    """
    read = {name: answer[name] for name in ANSWER_FIELDS if name in answer and isinstance(answer[name], str | None)}
    line = json.dumps(read, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _last_object(text: str) -> dict[str, object] | None:
    """Return the last JSON object in a text with one of the graded fields in it; None where there is none.

    After `_ATTEMPTS` braces that open none the search ends: each may cost as much as the text is long.
    """
    found = None
    failed, place = 0, text.find("{")
    while place >= 0 and failed < _ATTEMPTS:
        try:
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            failed, place = failed + 1, place + 1
        else:
            found = value if any(name in value for name in GRADED_FIELDS) else found
        place = text.find("{", place)
    return found


def _graded(answer: Mapping[str, object], fields: Mapping[str, Any], rule: str) -> Grade:
    scores = {
        name: 1.0 if name in answer and same(answer[name], fields[name]) else 0.0 for name, same in _COMPARISON.items()
    }
    return Grade(score=sum(scores.values()) / len(scores), extracted=_canonical(answer), fields=scores, rule=rule)


def _grade_json(text: str, fields: Mapping[str, Any], rule: str) -> Grade:
    try:
        answer = parse_json(text)
    except ValueError as error:
        return Grade.unreadable(f"not JSON: {error}", GRADED_FIELDS)
    if not isinstance(answer, dict):
        return Grade.unreadable("not a JSON object", GRADED_FIELDS)
    return _graded(answer, fields, rule)


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    bare, text = output.strip(), strip_fence(output)
    return _grade_json(text, fields, _BARE if text == bare else _FENCE)


def _grade_contains(output: str, fields: Mapping[str, Any]) -> Grade:
    grade = _grade(output, fields)
    if grade.error is None:
        return grade
    answer = _last_object(output)
    if answer is None:
        return Grade.unreadable("no JSON object with one of the fields", GRADED_FIELDS)
    return _graded(answer, fields, _INSIDE)


EXTRACTION = Grader(
    name="extraction",
    version=2,
    description="mean of three fields of the JSON object, with or without a Markdown fence",
    grade=_grade,
)
"""The default: the share of right values among customer_name, issue_category and urgency.

The output, less a Markdown fence around it (see `strip_fence`), must be one JSON object and
nothing else; NaN, Infinity and duplicate keys are refused; an output that does not parse scores 0.
Names are compared in canonical Unicode, without case, white space folded, accents and punctuation
kept; null equals only null. The two others are compared without case and surrounding space.
A missing key, a value of another type and a name of over 1,000 characters are wrong. Further keys
are ignored.

Version 1 did not strip fences, so that a right answer inside ```json scored 0 and the score mixed
a habit of formatting with the quality of extraction. It remains as `extraction-nofence`.
"""

EXTRACTION_NOFENCE = Grader(
    name="extraction-nofence",
    version=1,
    description="mean of three fields of the bare JSON object; a Markdown fence scores 0",
    grade=lambda output, fields: _grade_json(output.strip(), fields, _BARE),
)
"""Version 1 of `extraction`: the same, except that an output inside a Markdown fence scores 0."""

EXTRACTION_CONTAINS = Grader(
    name="extraction-contains",
    version=1,
    description="mean of three fields of the last JSON object in the output, whatever stands around it",
    grade=_grade_contains,
)
"""Lenient: as `extraction` where that can read the output, else by the last JSON object in it that has a graded field.

For models that talk around the object ("Here is the JSON: ... I hope this helps!"), write it twice, or think aloud
first. It cannot tell an answer from a draft. An object that is no strict JSON is passed over.
"""


def _target(fields: Mapping[str, Any]) -> str:
    answer = {name: fields[name] for name in ANSWER_FIELDS}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "email")
    require_text(fields, "requested_action")
    if fields["customer_name"] is not None:
        name = require_text(fields, "customer_name")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the field 'customer_name' must have at most {LONGEST_NAME} characters, not {len(name)}")
    for choice, allowed in (("issue_category", CATEGORIES), ("urgency", URGENCIES)):
        if fields[choice] not in allowed:
            raise ValueError(f"the field {choice!r} must be one of {', '.join(allowed)}, not {fields[choice]!r}")


TASK = Task(
    name="extraction",
    asks="email",
    required_fields=("email", *ANSWER_FIELDS),
    target=_target,
    check=_check,
    graders=index_by_name(EXTRACTION, EXTRACTION_NOFENCE, EXTRACTION_CONTAINS, BY_JUDGE, BY_EMBEDDER),
    default_grader=EXTRACTION.name,
    is_bundled=True,
)
"""Extraction; a worked example is shown as JSON on one line."""
