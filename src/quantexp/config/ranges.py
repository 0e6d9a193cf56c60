"""Ranges of the configuration's values, which stand beside its keys as `Annotated[float, Gt(0), Lt(1)]`."""

import operator
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, cast

from annotated_types import Ge, Gt, Le, Lt

_WORDS: Mapping[type, tuple[str, str, Callable[[Any, Any], bool]]] = {
    Gt: ("gt", "above", operator.gt),
    Ge: ("ge", "at least", operator.ge),
    Lt: ("lt", "below", operator.lt),
    Le: ("le", "at most", operator.le),
}
"""A bound's attribute, its words before the number, and the comparison with that; a NaN is on no side of one."""


@dataclass(frozen=True, slots=True)
class Example:
    """A value inside the range, and what it means, to end a sentence."""

    text: str


def find_range_problems(config: object, prefix: str = "") -> Iterator[str]:
    """Give a sentence for each value outside its range.

    Args:
        config: a dataclass of the configuration; nested ones are searched too.
        prefix: of its keys, as typed; empty for the whole configuration.
    """
    assert is_dataclass(config)
    for name, hint in _hints(cast(Hashable, type(config))).items():
        key, value = f"{prefix}{name}", getattr(config, name)
        if is_dataclass(value):
            yield from find_range_problems(value, f"{key}.")
            continue
        for place, each in value.items() if isinstance(value, dict) else [("", value)]:
            bounds = _bounds(hint)
            if each is not None and not all(_holds(bound, each) for bound in bounds):
                where = f"{key}.{place}" if place else key
                yield f"{where}={each} {_refusal(bounds, hint)}."


def range_in_words(hint: object) -> str:
    """Describe the range of a type, such as `above 0 and below 1`; empty if it has none."""
    return " and ".join(_in_words(bound) for bound in _bounds(hint))


def _refusal(bounds: Iterable[object], hint: object) -> str:
    words = " and ".join(map(_in_words, bounds))
    if words.startswith("at least") and " and " not in words:
        return f"is too small; it must be {words}"
    example = next((f", such as {each.text}" for each in _annotations(hint) if isinstance(each, Example)), "")
    return f"must be {words}{example}"


def _in_words(bound: object) -> str:
    attribute, words, _ = _WORDS[type(bound)]
    return f"{words} {getattr(bound, attribute)}"


def _holds(bound: object, value: Any) -> bool:
    attribute, _, compare = _WORDS[type(bound)]
    return compare(value, getattr(bound, attribute))


def _bounds(hint: object) -> list[object]:
    return [each for each in _annotations(hint) if type(each) in _WORDS]


@cache
def _annotations(hint: Any) -> tuple[object, ...]:
    """List what is noted at a type, at the types that it is one of, or at the values of a mapping."""
    if typing.get_origin(hint) is typing.Annotated:
        return tuple(hint.__metadata__)
    if typing.get_origin(hint) in (typing.Union, UnionType, dict):
        return tuple(note for each in typing.get_args(hint) for note in _annotations(each))
    return ()


@cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    assert isinstance(kind, type)
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}
