"""Requests with functions: exactly the wanted calls, none if no function fits, and BFCL's own files."""

import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from quantexp.config import DataConfig
from quantexp.tasks.data import load
from quantexp.tasks.tool_calls.schemas import describe_function
from quantexp.tasks.tools import TASK
from quantexp.util.errors import UserError

LIGHT = {"name": "turn_on", "parameters": {"type": "object", "properties": {"room": {"type": "string"}}}}
HEAT = {"name": "heat", "parameters": {"properties": {"room": {"type": "string"}, "degrees": {"type": "number"}}}}
FIELDS = {
    "prompt": "Light and 20 degrees in the hall, please.",
    "tools": [LIGHT, {"type": "function", "function": HEAT}],
    "calls": [{"turn_on": {"room": ["hall", "the hall"]}}, {"heat": {"room": ["hall"], "degrees": [20]}}],
}
ON, WARM = '{"name": "turn_on", "arguments": {"room": "Hall"}}', 'heat(room="hall", degrees=20.0)'


@pytest.mark.parametrize(
    ("output", "score", "functions", "share", "rule"),
    [
        (f"[{ON}, {json.dumps({'name': 'heat', 'arguments': {'room': 'hall', 'degrees': 20}})}]", 1, 1, 1, "json"),
        (f'[{WARM}, turn_on(room="the hall")]', 1, 1, 1, "python"),
        (ON, 0, 0, 0.5, "json"),
        (f'[{WARM}, turn_on(room="kitchen")]', 0, 1, 0.5, "python"),
        (f'[{WARM}, turn_on(room="hall"), turn_on(room="hall")]', 0, 0, 2 / 3, "python"),
    ],
)
def test_exactly_the_wanted_calls_are_right(
    output: str, score: float, functions: float, share: float, rule: str
) -> None:
    grade = TASK.grader().grade(output, FIELDS)
    assert (grade.score, grade.rule, grade.error) == (score, rule, None)
    assert grade.fields == {"functions": functions, "calls": pytest.approx(share)}


def test_no_call_is_right_where_no_function_fits() -> None:
    none = {**FIELDS, "calls": []}
    for output in ("I cannot do that.", "[]"):
        grade = TASK.grader().grade(output, none)
        assert (grade.score, grade.extracted, grade.fields) == (1, "no call", {"functions": 1, "calls": 1})
        wanted = TASK.grader().grade(output, FIELDS)
        assert (wanted.score, wanted.error) == (0, "no call")
    called = TASK.grader().grade(ON, none)
    assert (called.score, called.fields) == (0, {"functions": 0, "calls": 0})
    assert called.extracted == '[{"arguments": {"room": "Hall"}, "name": "turn_on"}]'
    assert TASK.grader().grade(" \n", none).error == "empty output"


def test_the_target_has_the_first_right_values() -> None:
    calls = [{"heat": {"room": ["", "hall"], "degrees": [20], "at": [{"hour": [7], "day": ["", 1]}]}}]
    assert TASK.target({**FIELDS, "calls": calls}) == '[heat(degrees=20, at={"hour": 7})]'
    assert TASK.target({**FIELDS, "calls": []}) == "[]"


def test_a_function_is_described_by_its_signature() -> None:
    schema = {
        "properties": {
            "city": {"type": "string", "description": "which one"},
            "unit": {"enum": ["c", "f"]},
            "stops": {"type": "array", "items": {"type": "number"}},
            "at": {"type": "object", "properties": {"zip": {}, "day": {"type": "integer"}}, "required": ["zip"]},
        },
        "required": ["city", "at"],
    }
    function = {"name": "go", "description": "Go there.", "parameters": schema}
    assert describe_function({"type": "function", "function": function}) == (
        'go(city: string, unit?: "c" | "f", stops?: number[], at: {zip: any, day?: integer}): Go there. city: which one'
    )
    assert describe_function({"type": "function", "function": {"name": "stop"}}) == "stop()"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": ""}, "'prompt' must be non-blank text"),
        ({"tools": []}, "'tools' must be a list of one function or more"),
        ({"tools": [{"parameters": {}}]}, "must be an object with a 'name' and 'parameters'"),
        ({"tools": [LIGHT, LIGHT]}, "two functions of the same name: turn_on, turn_on"),
        ({"calls": None}, "'calls' must be a list of calls, an empty one if no function fits"),
        ({"calls": ["turn_on"]}, "must have the form {NAME: {ARGUMENT: [VALUE, ...]}}"),
        ({"calls": [{"off": {}}]}, "is of 'off', which is none of the functions in 'tools'"),
        ({"calls": [{"turn_on": {"room": "hall"}}]}, "'room' of a call in 'calls' must be a list of right values"),
    ],
)
def test_an_item_that_cannot_be_asked_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TASK.validate({**FIELDS, **change})


def write_bfcl(folder: Path) -> DataConfig:
    """Write data in the form of BFCL's simple and parallel Python categories: questions, and answers beside them."""
    area = {
        "name": "geometry.area",
        "description": "Area of a triangle.",
        "parameters": {
            "type": "dict",
            "properties": {"base": {"type": "integer"}, "height": {"type": "float"}, "unit": {"type": "string"}},
            "required": ["base", "height"],
        },
    }
    rows = [
        {"id": "simple_0", "question": [[{"role": "user", "content": "Base 10, height 5?"}]], "function": [area]},
        {"id": "parallel_0", "question": [[{"role": "user", "content": "Both 1, both 2?"}]], "function": [area]},
    ]
    answers = [
        {"id": "parallel_0", "ground_truth": [{"geometry.area": {"base": [n], "height": [n]}} for n in (1, 2)]},
        {"id": "simple_0", "ground_truth": [{"geometry.area": {"base": [10], "height": [5], "unit": ["units", ""]}}]},
    ]
    for name, each in (("questions", rows), ("answers", answers)):
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in each))
    columns = {"prompt": "question.0.0.content", "tools": "function", "calls": "ground_truth"}
    path, join = (str(folder / f"{name}.json") for name in ("questions", "answers"))
    return DataConfig("files", "files", path=path, join=join, columns=columns)


def test_bfcls_files_are_read(tmp_path: Path) -> None:
    simple, parallel = load(write_bfcl(tmp_path), TASK).items
    assert (simple.id, simple.fields["prompt"]) == ("simple_0", "Base 10, height 5?")
    grade = TASK.grader().grade
    assert grade("geometry_area(base=10, height=5.0)", simple.fields).score == 1
    assert grade("geometry.area(base=10.0, height=5)", simple.fields).score == 0
    assert grade("[geometry.area(base=2, height=2), geometry.area(base=1, height=1)]", parallel.fields).score == 1
    assert TASK.list_tools is not None
    [tool] = TASK.list_tools(simple.fields)
    assert tool["type"] == "function"
    assert tool["function"]["parameters"]["type"] == "object"
    assert tool["function"]["parameters"]["properties"]["height"] == {"type": "number"}


def test_rows_without_a_partner_are_refused(tmp_path: Path) -> None:
    data = write_bfcl(tmp_path)
    answers = tmp_path / "answers.json"
    first, second = answers.read_text().splitlines()
    answers.write_text(first + "\n" + second.replace("simple_0", "simple_1"))
    with pytest.raises(UserError, match=r"data\.join=.* has no row with the id simple_0"):
        load(data, TASK)
    answers.write_text("\n".join([first, second, second]))
    with pytest.raises(UserError, match=r"data\.join=.*the id simple_0 occurs twice"):
        load(data, TASK)


def test_the_card_counts_its_items() -> None:
    bundled = files("quantexp.tasks") / "bundled"
    text = " ".join((bundled / "tools.md").read_text(encoding="utf-8").split())
    rows = [json.loads(line) for line in (bundled / "tools.jsonl").read_text(encoding="utf-8").splitlines()]
    functions = {tool["name"] for row in rows for tool in row["tools"]}
    called = {name for row in rows for call in row["calls"] for name in call}
    assert len(called) >= 40
    assert f"{len(functions)} functions, {len(called)} of which are called" in text
    counted = Counter((row["category"], row["difficulty"]) for row in rows)
    for category in ("single", "choice", "parallel", "none"):
        found = [counted[category, level] for level in range(1, 6)]
        counts = " | ".join(map(str, [*found, sum(found)]))
        assert re.search(rf"\| {category} \|[^|]+{re.escape(f'| {counts} |')}", text)
    for row in rows:
        assert (row["category"] == "none") == (row["calls"] == [])
        assert (len(row["calls"]) > 1) == (row["category"] == "parallel")
        assert (len(row["tools"]) > 1) >= (row["category"] == "choice")
        schemas = {tool["name"]: tool["parameters"] for tool in row["tools"]}
        for call in row["calls"]:
            [(name, arguments)] = call.items()
            assert arguments.keys() == schemas[name]["properties"].keys() | arguments.keys(), row["id"]
            assert not [each for each in schemas[name]["required"] if "" in arguments[each]], row["id"]
