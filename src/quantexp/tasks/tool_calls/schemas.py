"""Functions of an item: their JSON schemas, as chat templates and servers take them, and as signatures in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""Names of types in BFCL's data that JSON Schema has another name for."""


def list_tools(functions: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return functions in the form that chat templates and servers take."""
    return tuple({"type": "function", "function": _translate(each)} for each in map(get_function, functions))


def describe_function(tool: Mapping[str, Any]) -> str:
    """Return a function as a line of words: its signature, what it does, and what its parameters are.

    As in `get_weather(city: string, days?: integer): Weather in a city. city: name of the city; days: how many`. A
    question mark stands after what may be left out.

    Args:
        tool: in the form that chat templates and servers take.
    """
    function = tool["function"]
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {}
    told = [f"{name}: {each['description']}" for name, each in properties.items() if each.get("description")]
    words = [str(function.get("description") or "").strip(), "; ".join(told)]
    return ": ".join(filter(None, [f"{function['name']}({_describe_fields(schema)})", " ".join(filter(None, words))]))


def _describe_fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required") or ()
    fields = (schema.get("properties") or {}).items()
    return ", ".join(f"{name}{'' if name in required else '?'}: {_describe_type(each)}" for name, each in fields)


def _describe_type(schema: Mapping[str, Any]) -> str:
    """Return a type as TypeScript writes it."""
    if schema.get("enum"):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"{_describe_type(schema.get('items') or {})}[]"
        case "object" if schema.get("properties"):
            return f"{{{_describe_fields(schema)}}}"
        case str(name):
            return name
    return "any"


def get_function(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a function, which may stand within an object as servers take it."""
    inside = given.get("function")
    return inside if isinstance(inside, Mapping) else given


def check_functions(functions: object) -> None:
    """Refuse what are no functions.

    Raises:
        ValueError: one has no name, or no object for its parameters; or two have the same name.
    """
    if not isinstance(functions, list | tuple) or not functions:
        raise ValueError(f"the field 'tools' must be a list of one function or more, not {functions!r}")
    names = []
    for each in functions:
        function = get_function(each) if isinstance(each, Mapping) else {}
        name, parameters = function.get("name"), function.get("parameters", {})
        if not isinstance(name, str) or not name.strip() or not isinstance(parameters, Mapping):
            raise ValueError(
                f"a function in 'tools' must be an object with a 'name' and 'parameters' (a JSON schema), not {each!r}"
            )
        names.append(name)
    if len(set(names)) < len(names):
        raise ValueError(f"the field 'tools' has two functions of the same name: {', '.join(names)}")


def _translate(value: Any) -> Any:
    """Return a schema in which types are called as JSON Schema does."""
    if isinstance(value, Mapping):
        return {
            name: _TYPES.get(each, each) if name == "type" and isinstance(each, str) else _translate(each)
            for name, each in value.items()
        }
    return [_translate(each) for each in value] if isinstance(value, list | tuple) else value
