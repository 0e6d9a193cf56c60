"""Every grader, on what a model may write: a verdict, in a time that grows with the text and not with its square."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from quantexp.tasks import TASKS, Grader

FIELDS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "?", "answer": "It is 5 + 13.\n#### 18"},
    "triviaqa": {"question": "?", "aliases": ["Paris", "The City of Light"]},
    "extraction": {
        "email": "?",
        "customer_name": "José Pérez",
        "issue_category": "billing",
        "urgency": "low",
        "requested_action": "-",
    },
    "choice": {"question": "?", "choices": ["Paris", "Rome"], "answer": "Paris"},
    "languages": {
        "category": "English",
        "question": "?",
        "choices": ["Paris", "Rom"],
        "answer": "Paris",
        "aliases": ["Paris"],
    },
    "instructions": {
        "prompt": "?",
        "constraints": [
            {"kind": "sentences", "exactly": 2},
            {"kind": "json_object"},
            {"kind": "emphasis", "exactly": 1},
        ],
    },
    "chat": {"turns": ["?"], "replies": [], "answer": "Paris", "checks": [{"has": "Paris"}, {"case": "upper"}]},
    "code": {
        "prompt": 'def double(x):\n    """Return 2 * x."""',
        "function": "double",
        "solution": "def double(x):\n    return 2 * x",
        "tests": [[[2], 4]],
    },
    "long": {"question": "?", "answer": ["12345", "54321"], "candidates": []},
    "summary": {"document": "Paris is a city of 18.", "summary": "-", "must": ["-"], "mentions": [["Paris"], ["18"]]},
    "tools": {"prompt": "?", "tools": [{"name": "f"}], "calls": [{"f": {"x": [18]}}]},
    "qa": {"question": "?", "answer": ["Paris", 18]},
    "text": {"text": "?", "tokens": ["a", "\n"]},
}
GRADERS = [
    (name, each)
    for name, task in TASKS.items()
    for grader in task.graders.values()
    for each in (grader, replace(grader, name=f"{grader.name}-cut", grade=grader.grade_cut or grader.grade))
    if not grader.needs and (each is grader or grader.grade_cut)
]
"""Every grader that needs nothing, and as another one what it does with answers that were cut off."""

LENGTH = 20_000
"""Characters. A square of it is hundreds of millions of steps."""

UNITS = (
    "9", "9,999", "9 * 2 = ", "1 1/2 ", "1/", "1e9", "-$", "$", "^{", "#", "#### ", "####9", "\\boxed{", "{", "}", "[",
    "(", '{"a":', "\\frac{1}{2}", "a ", "the ", "\u0301", "e\u0301", " ", "\n", "```json", "```", '"', "\\u0041",
    "NaN,", "\x00", "İ", "\U0001f600", "\u2028", ".",
)  # fmt: skip
AROUND = (("", ""), ('{"customer_name": "', '"}'), ('{"x": ', "}"), ("#### ", ""))


@pytest.mark.parametrize(
    ("task", "grader"),
    [
        # What was cut off is read by the same rules.
        pytest.param(task, grader, id=grader.id, marks=pytest.mark.slow if grader.name.endswith("-cut") else ())
        for task, grader in GRADERS
    ],
)
@pytest.mark.parametrize("around", [AROUND[:2], pytest.param(AROUND[2:], marks=pytest.mark.slow)], ids=["", "further"])
def test_the_same_thing_over_and_over(task: str, grader: Grader, around: Sequence[tuple[str, str]]) -> None:
    for unit in UNITS:
        for before, after in around:
            output = before + unit * (LENGTH // len(unit)) + after
            started = time.process_time()
            grade = grader.grade(output, FIELDS[task])
            assert time.process_time() - started < 2, (unit, before)
            assert 0 <= grade.score <= 1


@pytest.mark.parametrize(("task", "grader"), GRADERS, ids=[grader.id for _, grader in GRADERS])
@pytest.mark.parametrize(
    "output",
    ["#### 1e999999", "#### " + "9" * 10**6, "[" * 10**5, '{"a":' * 10**5, "-Infinity", f'{{"urgency": {"9" * 5000}}}'],
    ids=["exponent", "long number", "deep", "deep objects", "infinite", "long value"],
)  # fmt: skip
def test_numbers_and_nesting_without_measure(task: str, grader: Grader, output: str) -> None:
    started = time.process_time()
    assert grader.grade(output, FIELDS[task]).score == 0
    assert time.process_time() - started < 2
