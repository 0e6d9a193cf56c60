"""The task `code`: the code is found in any answer, run in the sandbox, and held to hidden tests."""

import doctest
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.mutants import make_mutants
from tests.tasks.test_bundled import card, closest, everything, items, reference, table

from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.tasks import TASKS, Grade
from quantexp.tasks.code import OUTCOMES
from quantexp.tasks.code_text import find_code
from quantexp.tasks.graders.base import Answer, JointGrading
from quantexp.util.errors import UserError

TASK = TASKS["code"]
PROMPT = 'from math import pi\n\n\ndef double(x):\n    """Return 2 * x."""'
FIELDS: dict[str, Any] = {
    "prompt": PROMPT,
    "function": "double",
    "solution": "    return 2 * x\n",
    "tests": [[[2], 4], [[0.1], 0.2], [["a"], "aa"]],
}
ANSWERS = {
    "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nIt doubles x.": "fence",
    "```\nimport os\n\ndef double(x):\n    return x + x\n\nprint(double(pi))\n```\n```\ndouble(3)\n```": "fence",
    "```\ndouble(3)\n```\nor\n```py\ndef double(x):\n    return x + x\n```": "fence",
    "1. This:\n   ```python\n   def double(x):\n       return x + x\n   ```": "fence",
    "```python\n    return x + x\n```": "fence, body",
    "```python\nreturn x + x\n```": "fence, body",
    "def double(x):\n    return x + x": "function",
    "Here is the function:\n\ndef double(x):\n    return x + x\n\nIt adds x to itself.": "function",
    "    return x + x\n": "body",
    "    return x + x\n\nprint(double(2))\nThat is all.": "body",
    "return x + x": "body",
    "y = x\nreturn y + x": "body",
}


def grade_all(answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> list[Grade]:
    with open_grader(TASK.grader(), ResourceSettings("a test", shows=False)) as opened:
        assert isinstance(opened.grade, JointGrading)
        return [*opened.grade.grade_all(answers)]


def test_code_is_found_in_all_kinds_of_answers() -> None:
    found = {answer: find_code(answer, PROMPT, "double") for answer in ANSWERS}
    assert {answer: each.rule for answer, each in found.items() if each is not None} == ANSWERS

    grades = grade_all([(Answer(answer), FIELDS) for answer in ANSWERS])
    assert {answer: grade.explanation for answer, grade in zip(ANSWERS, grades, strict=True)} == dict.fromkeys(ANSWERS)
    assert {grade.score for grade in grades} == {1.0}


@given(st.text(), st.text(), st.sampled_from(["double", "f", "a.b", "("]))
@example("```", PROMPT, "double")
@example("```python\n", PROMPT, "double")
@example("def double", "", "double")
@example("\x0c\x1c\u2028", "def", "")
def test_any_text_holds_code_unless_it_is_blank(answer: str, prompt: str, function: str) -> None:
    found = find_code(answer, prompt, function)
    assert (found is None) == (not answer.strip())


@given(st.lists(st.sampled_from(["```", "```py", "def double(x):", "    return x", "Prose, and more.", "", "x = 1"])))
def test_code_is_made_of_lines_of_the_answer(lines: list[str]) -> None:
    answer = "\n".join(lines)
    found = find_code(answer, PROMPT, "double")
    if found is not None:
        assert "```" not in found.code or found.rule == "body"
        assert {line.strip() for line in found.code.splitlines()} <= {
            line.strip() for line in [*lines, *PROMPT.split("\n")]
        }


@pytest.mark.parametrize("unit", ["```\n", "``` ", "def double(x):\n", "    \n", "x = ", "(", " ", "import a\n", "\n"])
def test_long_answers_are_read_in_time(unit: str) -> None:
    assert find_code(unit * 20_000 + "x", PROMPT, "double") is not None


def test_failures_are_told_apart() -> None:
    answers = {
        "syntax_error": "def double(x:\n    return x",
        "exception": "def double(x):\n    return y",
        "wrong_result": "def double(x):\n    return x",
    }
    grades = grade_all([(Answer(text), FIELDS) for text in answers.values()])

    assert [grade.score for grade in grades] == [0, 0, 0]
    assert [dict(grade.outcomes) for grade in grades] == [
        {name: float(name == kind) for name in OUTCOMES.values()} for kind in answers
    ]
    syntax, exception, wrong = (grade.explanation or "" for grade in grades)
    assert "never closed" in syntax
    assert exception == "NameError: name 'y' is not defined"
    assert wrong == "double(2) is not 4"


@pytest.mark.slow
def test_code_without_an_end_is_one_of_the_failures() -> None:
    [grade] = grade_all([(Answer("def double(x):\n    while True:\n        pass"), FIELDS)])
    assert grade.outcomes["time_out"] == 1
    assert grade.explanation == "computes for more than 5 seconds"


def test_what_was_cut_off_within_its_code_is_unfinished() -> None:
    cut, closed, blank, body = grade_all(
        [
            (Answer("```python\ndef double(x):\n    return 2 * x\n    y", is_cut=True), FIELDS),
            (Answer("```python\ndef double(x):\n    return 2 * x\n```\nThis", is_cut=True), FIELDS),
            (Answer(" \n"), FIELDS),
            (Answer("    return 2 * x\n\nx = double(3", is_cut=True), FIELDS),
        ]
    )
    assert cut.error is not None
    assert cut.error.startswith("unfinished")
    assert (closed.score, body.score, blank.error) == (1, 1, "no code")


def test_results_are_compared_as_python_has_it() -> None:
    tests = [[[], [1, 2.0]]]
    given = {
        "[1, 2]": 1, "[True, 2.0000000001]": 1, "(1, 2)": 0, "[1, 2.1]": 0, "[1]": 0, "None": 0, "'[1, 2.0]'": 0,
        "iter([1, 2])": 0, "type('L', (list,), {})([1, 2])": 1, "object()": 0,
    }  # fmt: skip
    fields = {"prompt": 'def f():\n    """?"""', "function": "f", "solution": "?", "tests": tests}
    grades = grade_all([(Answer(f"def f():\n    return {value}"), fields) for value in given])
    assert {value: grade.score for value, grade in zip(given, grades, strict=True)} == given


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "def single(x): ..."}, "the head of the function, 'def double\\('"),
        ({"tests": []}, "the field 'tests' must be a list of calls"),
        ({"tests": [[2, 4]]}, "the field 'tests' must be a list of calls"),
        ({"tests": [[[2], 4, 5]]}, "the field 'tests' must be a list of calls"),
        ({"function": " "}, "the field 'function' must be non-blank text"),
    ],
)
def test_items_that_cannot_be_asked_are_refused(changes: dict[str, Any], words: str) -> None:
    TASK.validate(FIELDS)
    with pytest.raises(ValueError, match=words):
        TASK.validate({**FIELDS, **changes})


def test_nothing_is_run_outside_of_the_sandbox() -> None:
    grader = TASK.grader()
    assert grader.grade("", FIELDS).error == "no code"
    with pytest.raises(UserError, match="must be opened with a sandbox"):
        grader.grade("x = 1", FIELDS)
    with pytest.raises(KeyError), grader.open({}):
        pass


# The bundled items


def test_examples_in_docstrings_hold_and_are_not_among_the_hidden_tests() -> None:
    for row in everything("code"):
        space: dict[str, Any] = {}
        exec(row["solution"], space)
        shown = doctest.DocTestParser().get_doctest(row["prompt"].removesuffix('"""'), space, row["id"], None, None)
        assert shown.examples, row["id"]
        assert doctest.DocTestRunner(verbose=False).run(shown).failed == 0, row["id"]
        calls = [f"{row['function']}({', '.join(map(repr, arguments))})" for arguments, _ in row["tests"]]
        assert not {each.source.strip() for each in shown.examples} & set(calls), row["id"]


def test_tests_are_several_and_differ() -> None:
    for row in everything("code"):
        arguments = [json.dumps(arguments) for arguments, _ in row["tests"]]
        assert len(arguments) >= (3 if "example" in row["id"] else 4)
        assert len(set(arguments)) == len(arguments), row["id"]
        assert len({json.dumps(result) for _, result in row["tests"]}) > 1, row["id"]


@pytest.mark.slow
def test_one_small_mistake_fails() -> None:
    mutants = {row["id"]: make_mutants(row["solution"]) for row in items("code")}
    # Three of each, from its beginning, its middle and its end: all of them take minutes.
    asked = [
        (row, mutant)
        for row in items("code")
        for of_row in [mutants[row["id"]]]
        for mutant in dict.fromkeys((of_row[0], of_row[len(of_row) // 2], of_row[-1]))
    ]
    grades = grade_all([(Answer(f"```\n{mutant}\n```"), row) for row, mutant in asked])
    wrong = {row["id"] for (row, _), grade in zip(asked, grades, strict=True) if grade.score == 0}
    assert {row["id"] for row in items("code")} - wrong == set()


@pytest.mark.slow
def test_no_constant_function_is_often_right() -> None:
    rows = items("code")
    for constant in ("None", "True", "0", "''", "[]", "{}"):
        code = "def {}(*_):\n    return {}".format
        grades = grade_all([(Answer(code(row["function"], constant)), row) for row in rows])
        assert sum(grade.score for grade in grades) == 0, constant


def test_levels_are_as_hard_as_the_card_says() -> None:
    rows = items("code")
    counted = {name: [int(cell) for cell in cells] for name, _, *cells in table("code", "Categories")}
    assert counted == {name: [4, 4, 4, 4, 4, 20] for name in dict.fromkeys(row["category"] for row in rows)}
    found = re.search(r"passes (\d+), (\d+), (\d+), (\d+) and (\d+) of 20 \((\d+) of 100\)", card("code"))
    assert found
    *levels, total = map(int, found.groups())
    assert sum(levels) == total
    assert levels == sorted(levels, reverse=True)


def test_no_prompt_is_like_one_of_humaneval() -> None:
    value, *pair = closest(
        [row["prompt"] for row in everything("code")],
        [row["prompt"] for row in reference("humaneval", "HumanEval.jsonl")],
    )
    assert f"against the 164 prompts of HumanEval: {value:.2f}." in card("code"), pair


@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass() -> None:
    rows = [
        {
            "prompt": row["prompt"],
            "function": row["entry_point"],
            "solution": row["canonical_solution"],
            "tests": row["test"],
        }
        for row in reference("humaneval", "HumanEval.jsonl")
    ]
    grades = grade_all([(Answer(row["solution"]), row) for row in rows])
    assert sum(grade.score for grade in grades) == len(grades) == 164
