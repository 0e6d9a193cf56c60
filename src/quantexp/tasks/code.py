"""Python functions that a model completes, held to hidden tests in the sandbox.

An item has `prompt`, the function's head and docstring with what it needs before them; `function`, its name;
`solution`, one that passes: the function, or its body; and `tests`: calls with what they return, as in
`[[[2, 3], 5]]` for 2 and 3 giving 5, or Python in which `check(candidate)` is defined, as in HumanEval (Chen et al.
2021, "Evaluating large language models trained on code", arXiv:2107.03374), or which calls the function by its name.

The tests are never where the code is. Of calls only the arguments reach its process, and what comes back is compared
here; Python that tests runs in another process, which calls the code's.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.code_text import find_code
from quantexp.tasks.graders.base import Answer, Grade, Grader, JointGrading, Need
from quantexp.util.code_sandbox import CallCheck, Check, Outcome, Sandbox, TestCheck
from quantexp.util.errors import UserError

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {"syntax": "syntax_error", "exception": "exception", "wrong": "wrong_result", "time-out": "time_out"}
)
"""Outcomes of answers, by the kinds of failures in the sandbox."""

_NO_CODE = "no code"


def make_check(code: str, fields: Mapping[str, Any]) -> Check:
    """Return what holds code to an item's tests."""
    function, tests = fields["function"], fields["tests"]
    if not isinstance(tests, str):
        return CallCheck(code, function, [(arguments, result) for arguments, result in tests])
    if re.search(r"^def check\(", tests, re.MULTILINE):
        tests += f"\ncheck({function})\n"
    return TestCheck(code, tests, frozenset({function}), before=fields["prompt"].rstrip() + "\n    pass\n")


class _CodeGrading(JointGrading):
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def grade_all(self, answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Iterator[Grade]:
        found = [find_code(answer.text, fields["prompt"], fields["function"]) for answer, fields in answers]
        runs = [
            each is not None and (each.is_whole or not answer.is_cut)
            for each, (answer, _) in zip(found, answers, strict=True)
        ]
        checks = [
            make_check(each.code, fields)
            for each, (_, fields), run in zip(found, answers, runs, strict=True)
            if run and each is not None
        ]
        ends = self._sandbox.run(checks)
        for each, (answer, _), run in zip(found, answers, runs, strict=True):
            if run and each is not None:
                yield _make_grade(next(ends), each.code, each.rule)
            else:
                yield Grade.unfinished() if answer.is_cut else Grade.unreadable(_NO_CODE)


def _make_grade(end: Outcome, code: str, rule: str) -> Grade:
    return Grade(
        score=float(end.kind == "passed"),
        extracted=code,
        rule=rule,
        explanation=end.words or None,
        outcomes={name: float(kind == end.kind) for kind, name in OUTCOMES.items()},
    )


def _grade_without_running(output: str, _: Mapping[str, Any]) -> Grade:
    if not output.strip():
        return Grade.unreadable(_NO_CODE)
    raise UserError("The grader code runs code, for which it must be opened with a sandbox.")


@dataclass(frozen=True, slots=True)
class CodeGrader(Grader):
    """A grader that runs what it grades."""

    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[_CodeGrading]:
        """Make it ready to grade in the sandbox."""
        yield _CodeGrading(resources["sandbox"])


CODE = CodeGrader(
    name="code",
    version=1,
    description="the code in the answer passes all tests, run in the sandbox",
    grade=_grade_without_running,
    needs=frozenset({"sandbox"}),
)
"""Right if the code passes all of an item's tests; pass@k over several samples follows from it.

The code is that of the first fenced block which defines the function, else of the first block; without a fence the
definition within the text, else the text as the body that goes on from the prompt. An answer that was cut off within
its code is unfinished. A wrong answer has one of four outcomes, in this order of trying: no Python (`syntax_error`), an
`exception`, a `time_out` (5 seconds of computing, or 10 of waiting), a `wrong_result`. Results are compared as Python's
== has it, and in calls floats may differ by a millionth.
"""


def _target(fields: Mapping[str, Any]) -> str:
    solution = str(fields["solution"])
    if not re.search(rf"^def {re.escape(fields['function'])}\b", solution, re.MULTILINE):
        solution = f"{fields['prompt'].rstrip()}\n{solution}"
    return f"```python\n{solution.strip()}\n```"


def _check(fields: Mapping[str, Any]) -> None:
    function = require_text(fields, "function")
    if not re.search(rf"^def {re.escape(function)}\(", require_text(fields, "prompt"), re.MULTILINE):
        raise ValueError(f"the field 'prompt' must hold the head of the function, 'def {function}('")
    require_text(fields, "solution")
    tests = fields["tests"]
    is_calls = isinstance(tests, list) and all(
        isinstance(test, list) and len(test) == 2 and isinstance(test[0], list) for test in tests
    )
    if not tests or not (isinstance(tests, str) or is_calls):
        raise ValueError(
            "the field 'tests' must be a list of calls, as in [[[2, 3], 5]] for 2 and 3 giving 5, or Python code, not "
            f"{tests!r}"
        )


TASK = Task(
    name="code",
    asks="prompt",
    required_fields=("prompt", "function", "solution", "tests"),
    target=_target,
    check=_check,
    graders=index_by_name(CODE),
    default_grader=CODE.name,
    is_bundled=True,
)
"""Functions in Python; an example is shown with its solution in a fenced block."""
