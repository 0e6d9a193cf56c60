"""Tools: from a request and some functions, the calls that it needs, if any.

An item has `prompt`, `tools` (functions with JSON schemas) and `calls`: those that are right, in the form of BFCL's
answers (`tool_calls.comparison`); none if no function fits. BFCL: Patil et al. 2025, "The Berkeley Function Calling
Leaderboard", ICML 2025.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.tool_calls.comparison import OPTIONAL, count_matches, fold_name
from quantexp.tasks.tool_calls.reading import Call, read_calls
from quantexp.tasks.tool_calls.schemas import check_functions, get_function, list_tools

FUNCTIONS, SHARE = "functions", "calls"
"""Fields of a grade: the right functions are called; the share of the calls that are right."""

NO_CALL = "no call"
"""What is read of an answer that makes none."""


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    if not output.strip():
        return Grade.unreadable("empty output", (FUNCTIONS, SHARE))
    reading, wanted = read_calls(output), fields["calls"]
    if not reading.calls:
        if wanted:
            return Grade.unreadable(NO_CALL, (FUNCTIONS, SHARE))
        return Grade(1.0, NO_CALL, {FUNCTIONS: 1.0, SHARE: 1.0})
    matches = count_matches(reading.calls, wanted, _index_schemas(fields))
    most = max(len(wanted), len(reading.calls))
    names = Counter(fold_name(call.name) for call in reading.calls)
    return Grade(
        score=float(matches == most),
        extracted=_format_calls(reading.calls),
        fields={
            FUNCTIONS: float(names == Counter(fold_name(name) for each in wanted for name in each)),
            SHARE: matches / most,
        },
        rule=reading.rule,
    )


def _index_schemas(fields: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    functions = map(get_function, fields["tools"])
    return {fold_name(each["name"]): each.get("parameters") or {} for each in functions}


def _format_calls(calls: Sequence[Call]) -> str:
    """Return calls as JSON; a lone surrogate, which no file can hold, stays the escape that it was."""
    shown = [{"name": call.name, "arguments": call.arguments} for call in calls]
    text = json.dumps(shown, ensure_ascii=False, sort_keys=True, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


TOOLS = Grader(
    name="tools",
    version=1,
    description="the answer makes exactly the calls that are wanted, in any order; none where no function fits",
    grade=_grade,
)
"""The default. Calls are read in any dialect (`tool_calls.reading`), which is the rule, and compared as syntax trees.

A call is right if its function is, each of its arguments has one of the right values and none is missing that may not
be left out. An argument that is not among the wanted ones makes it wrong, as in BFCL. `is_same` says which values are
equal. `functions` is 1 if the right functions are called, each as often as wanted; `calls` is the share of right calls
among the wanted ones, or among those that were made if these are more.
"""


def _target(fields: Mapping[str, Any]) -> str:
    """Return the wanted calls as a list of Python, each argument with the first of its values."""
    calls = []
    for wanted in fields["calls"]:
        for name, arguments in wanted.items():
            given = {each: _pick(values[0]) for each, values in arguments.items() if values[0] != OPTIONAL}
            calls.append(f"{name}({', '.join(f'{each}={_write_python(value)}' for each, value in given.items())})")
    return f"[{', '.join(calls)}]"


def _write_python(value: Any) -> str:
    """Return a value as Python writes it, texts in double quotation marks."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_write_python(key)}: {_write_python(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_write_python, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _pick(value: Any) -> Any:
    """Return a right value with the first of the values of everything within it."""
    if not isinstance(value, Mapping):
        return [_pick(each) for each in value] if isinstance(value, list | tuple) else value
    firsts = {name: each[0] if isinstance(each, list | tuple) else each for name, each in value.items()}
    return {name: _pick(first) for name, first in firsts.items() if first != OPTIONAL}


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "prompt")
    check_functions(fields["tools"])
    calls = fields["calls"]
    if not isinstance(calls, list | tuple):
        raise ValueError(f"the field 'calls' must be a list of calls, an empty one if no function fits, not {calls!r}")
    known = _index_schemas(fields)
    for wanted in calls:
        if not isinstance(wanted, Mapping) or len(wanted) != 1 or not isinstance(next(iter(wanted.values())), Mapping):
            raise ValueError(
                f"a call in 'calls' must have the form {{NAME: {{ARGUMENT: [VALUE, ...]}}}}, not {wanted!r}"
            )
        [(name, arguments)] = wanted.items()
        if fold_name(name) not in known:
            raise ValueError(f"a call in 'calls' is of {name!r}, which is none of the functions in 'tools'")
        for argument, values in arguments.items():
            if not isinstance(values, list | tuple) or not values:
                raise ValueError(f"{argument!r} of a call in 'calls' must be a list of right values, not {values!r}")


TASK = Task(
    name="tools",
    asks="prompt",
    required_fields=("prompt", "tools", "calls"),
    target=_target,
    check=_check,
    graders=index_by_name(TOOLS),
    default_grader=TOOLS.name,
    is_bundled=True,
    list_tools=lambda fields: list_tools(fields["tools"]),
)
"""Requests with functions; a worked example is shown with its calls as a list of Python."""
