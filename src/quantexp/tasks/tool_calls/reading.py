"""Calls of functions in an answer, in any of the dialects that models write.

- `<tool_call>` and its like around JSON (Qwen, Hermes, Phi-4-mini), or around `<function=NAME>` (Qwen3-Coder),
- JSON with `name` and `arguments` or `parameters`, bare or fenced, alone, in a list or one after the other (Llama 3.x);
  after `<|python_tag|>`, `[TOOL_CALLS]` or nothing, since texts leave special tokens out,
- `NAME[ARGS]{...}` or `NAME{...}` (Mistral from 2025 on),
- a call, or a list of calls, of Python (Llama 4, Gemma, LFM2, BFCL's own prompt),
- harmony's `to=functions.NAME` before JSON (gpt-oss).
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function.

    Attributes:
        name: of the function.
        arguments: by their names.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """The calls of an answer.

    Attributes:
        calls: in their order; none if it makes none.
        rule: the dialect by which they were found; None if there are none.
    """

    calls: tuple[Call, ...] = ()
    rule: str | None = None


_TAG = r"(?:tool_call|tool_call_start|tool_call_end|functioncall|START_ACTION|END_ACTION)"
_TAGGED = re.compile(rf"<\|?{_TAG}\|?>(.*?)(?:<\|?/?{_TAG}\|?>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_HARMONY = re.compile(r"to=functions\.([\w.-]+)[^{]{0,80}+(?=\{)")
_NAMED = re.compile(r"\s*+(?:\[TOOL_CALLS\])?\s*+([A-Za-z_][\w.-]*+)(?:\[CALL_ID\]\w++)?(?:\[ARGS\])?\s*+(?=\{)")
_FENCE = re.compile(r"```[ \t]*+[\w-]*+[ \t]*+\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_MARKS = re.compile(r"<\|python_tag\|>|<\|python_start\|>|<\|python_end\|>|\[TOOL_CALLS\]|\[/TOOL_CALLS\]")
_PYTHON = re.compile(r"\s*+\[?\s*+[A-Za-z_][\w.]*+\s*+\(")
_OPENING = re.compile(r'\{\s*+"|\[\s*+\{')
_BETWEEN = re.compile(r"[\s;,]*+")

_LONGEST_PYTHON = 10_000
"""Characters of Python that are parsed."""

_ATTEMPTS = 50
"""Braces and brackets in a text that may begin no call."""

_MOST = 64
"""Calls that are read of an answer; no request needs so many."""

_DECODER = json.JSONDecoder()


def read_calls(answer: str) -> Reading:
    """Read the calls that an answer makes; pure, and total.

    An answer in words makes none. JSON that stands in the midst of words counts if it has the form of a call.
    """
    for rule, read in _DIALECTS.items():
        if calls := tuple(read(answer))[:_MOST]:
            return Reading(calls, rule)
    return Reading()


def _read_tagged(answer: str) -> Iterator[Call]:
    for block in _TAGGED.finditer(answer) if "<" in answer else ():
        yield from _read_functions(block[1]) if "<function=" in block[1] else _read_plain(block[1])


def _read_functions(answer: str) -> Iterator[Call]:
    for found in _FUNCTION.finditer(answer):
        whole = _parse(found[2])
        values = {name: _read_value(value) for name, value in _PARAMETER.findall(found[2])}
        yield Call(found[1], whole if isinstance(whole, dict) else values)


def _read_value(text: str) -> Any:
    """Return a value that is written without quotation marks if it is text."""
    value = _parse(text)
    return text if value is None and text.strip() != "null" else value


def _read_harmony(answer: str) -> Iterator[Call]:
    for found in _HARMONY.finditer(answer):
        arguments, _ = _decode(answer, found.end())
        if isinstance(arguments, dict):
            yield Call(found[1], arguments)


def _read_named(answer: str) -> Iterator[Call]:
    """Read names, each with an object after it, and nothing else."""
    calls: list[Call] = []
    place = 0
    while (found := _NAMED.match(answer, place)) is not None and len(calls) < _MOST:
        arguments, place = _decode(answer, found.end())
        if not isinstance(arguments, dict):
            return
        calls.append(Call(found[1], arguments))
    if not answer[place:].strip():
        yield from calls


def _read_fenced(answer: str) -> Iterator[Call]:
    for block in _FENCE.finditer(answer) if "```" in answer else ():
        yield from _read_plain(block[1])


def _read_plain(text: str) -> Iterator[Call]:
    """Read a text that is calls and nothing else: JSON, or Python."""
    yield from list(_read_json(text)) or list(_read_named(text)) or list(_read_python(text))


def _read_json(text: str) -> Iterator[Call]:
    """Read JSON values, one after the other, all of which are calls."""
    text = _MARKS.sub(" ", text).strip()
    calls: list[Call] = []
    place = 0
    while place < len(text) and len(calls) < _MOST:
        value, end = _decode(text, place)
        found = _find_calls(value)
        if found is None:
            return
        calls += found
        separator = _BETWEEN.match(text, end)
        place = separator.end() if separator else end
    yield from calls


def _read_python(text: str) -> Iterator[Call]:
    text = _MARKS.sub(" ", text).strip()
    if len(text) > _LONGEST_PYTHON or not _PYTHON.match(text):
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return
    calls: list[Call] = []
    for statement in tree.body:
        if not isinstance(statement, ast.Expr):
            return
        value = statement.value
        for each in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            call = _read_python_call(each)
            if call is None:
                return
            calls.append(call)
    yield from calls


def _read_python_call(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or node.args or not isinstance(node.func, ast.Name | ast.Attribute):
        return None
    try:
        arguments = {each.arg: _read_literal(each.value) for each in node.keywords if each.arg is not None}
        return Call(ast.unparse(node.func), arguments) if len(arguments) == len(node.keywords) else None
    except (ValueError, RecursionError):  # a number of too many digits, or too deep
        return None


_CONSTANTS = {"true": True, "false": False, "null": None}


def _read_literal(node: ast.expr) -> Any:
    """Return a literal's value; of any other expression its text."""
    match node:
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_read_literal(each) for each in elements]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            pairs = zip(keys, values, strict=True)
            return {str(key.value): _read_literal(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
    return ast.unparse(node)


def _read_inside(answer: str) -> Iterator[Call]:
    """Read objects and lists in a text that have the form of calls, whatever stands around them."""
    failed, calls = 0, 0
    place = _find_opening(answer, 0)
    while place >= 0 and failed < _ATTEMPTS and calls < _MOST:
        value, end = _decode(answer, place)
        found = _find_calls(value) or []
        yield from found
        calls += len(found)
        failed += not found
        place = _find_opening(answer, end if found else place + 1)


def _find_opening(text: str, start: int) -> int:
    found = _OPENING.search(text, start)
    return found.start() if found else -1


def _decode(text: str, place: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place, and where it ends; None if there is none."""
    try:
        value, end = _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None, place + 1
    return value, end


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _find_calls(value: Any) -> list[Call] | None:
    """Return the calls that a JSON value is; an empty list is none at all, and None stands for any other value."""
    if isinstance(value, list):
        each = [_find_calls(one) if isinstance(one, dict) else None for one in value[:_MOST]]
        return None if None in each else [call for calls in each if calls is not None for call in calls]
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("tool_calls"), list):
        return _find_calls(value["tool_calls"])
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = next((value[key] for key in ("name", "tool_name", "function") if isinstance(value.get(key), str)), None)
    given = next((value[key] for key in ("arguments", "parameters") if key in value), None)
    if isinstance(given, str):
        parsed = _parse(given) if given.strip() else {}
        given = parsed if isinstance(parsed, dict) else {"": given}  # a call, but of nothing that was wanted
    if name is None or (given is None and not value.keys() <= {"name", "type", "id", "arguments", "parameters"}):
        return None
    return [Call(name.removeprefix("functions."), given or {})] if isinstance(given or {}, dict) else None


_DIALECTS: Mapping[str, Callable[[str], Iterator[Call]]] = {
    "tags": _read_tagged,
    "functions": _read_functions,
    "harmony": _read_harmony,
    "json": _read_json,
    "names": _read_named,
    "python": _read_python,
    "fence": _read_fenced,
    "inside text": _read_inside,
}
"""The dialects by name, in the order in which they are tried."""
