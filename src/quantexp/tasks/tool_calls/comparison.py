"""Comparison of calls with those that were wanted: names, and arguments by the types of their schemas.

Wanted calls have BFCL's form: {NAME: {ARGUMENT: [VALUE, ...]}}. The list has an argument's right values, and "" if it
may be left out. A right value that is an object has such lists of values itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quantexp.tasks.constraints.measures import fold_quotes
from quantexp.tasks.tool_calls.reading import Call

Wanted = Mapping[str, Mapping[str, Sequence[Any]]]
"""A wanted call: one function's name, and its arguments with their right values."""

OPTIONAL = ""
"""Stands among an argument's values if it may be left out."""

_FRACTIONAL = frozenset({"number", "float", "double"})
"""Types of numbers of which 1 and 1.0 are the same; of an integer they are not."""


def count_matches(calls: Sequence[Call], wanted: Sequence[Wanted], schemas: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many wanted calls can be matched with calls, each call once, in any order.

    Args:
        calls: that were made.
        wanted: that are right.
        schemas: the functions' parameters by `fold_name` of their names.
    """
    fits = [[place for place, call in enumerate(calls) if is_match(call, each, schemas)] for each in wanted]
    taken: dict[int, int] = {}
    return sum(_assign(number, fits, taken, set()) for number in range(len(wanted)))


def _assign(number: int, fits: Sequence[Sequence[int]], taken: dict[int, int], tried: set[int]) -> bool:
    """Give a wanted call one of the calls that fit it, moving others if need be (augmenting paths)."""
    for place in fits[number]:
        if place not in tried:
            tried.add(place)
            if place not in taken or _assign(taken[place], fits, taken, tried):
                taken[place] = number
                return True
    return False


def fold_name(name: str) -> str:
    """Return a function's name as it is compared: templates and servers write underscores for dots."""
    return name.replace(".", "_")


def is_match(call: Call, wanted: Wanted, schemas: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a call is the wanted one."""
    [(name, arguments)] = wanted.items()
    if fold_name(call.name) != fold_name(name):
        return False
    return _is_same_object(call.arguments, arguments, schemas.get(fold_name(name), {}))


def _is_same_object(given: Mapping[str, Any], wanted: Mapping[str, Sequence[Any]], schema: Mapping[str, Any]) -> bool:
    if not given.keys() <= wanted.keys():
        return False
    properties = schema.get("properties") or {}
    for name, values in wanted.items():
        if name not in given:
            if OPTIONAL not in values:
                return False
        elif not any(is_same(given[name], value, properties.get(name) or {}) for value in values):
            return False
    return True


def is_same(given: Any, wanted: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value is the wanted one.

    Numbers are equal by value; a whole one with a decimal point only if the schema says number. Texts are equal without
    regard to letter case, white space and the form of quotation marks. Lists are equal in order.
    """
    if isinstance(wanted, bool) or isinstance(given, bool):
        return given is wanted
    if isinstance(wanted, int | float) and isinstance(given, int | float):
        is_written_alike = isinstance(given, int) or isinstance(wanted, float) or schema.get("type") in _FRACTIONAL
        return given == wanted and is_written_alike
    if isinstance(wanted, str) and isinstance(given, str):
        return fold_quotes(given).casefold() == fold_quotes(wanted).casefold()
    if isinstance(wanted, list | tuple) and isinstance(given, list | tuple):
        within = schema.get("items") or {}
        return len(given) == len(wanted) and all(
            is_same(one, other, within) for one, other in zip(given, wanted, strict=True)
        )
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        return _is_same_object(given, {name: _as_values(each) for name, each in wanted.items()}, schema)
    return given is None and wanted is None


def _as_values(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]
