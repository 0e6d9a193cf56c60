"""Plain values as JSON and back, between processes of which one may lie.

Values of Python's own types go across by content. Of anything else only a reference does, so that no object of a
program's own ever takes part in a comparison. Imported by path in the sandbox: only the standard library.
"""

from collections.abc import Callable, Iterator
from typing import Any

MOST = 20_000
"""Values in a message, at most."""

DEEPEST = 50
"""Containers around a value, at most."""

_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_BARE = (bool, str, type(None))


class Reference:
    """Something that stays in the other process.

    Attributes:
        number: by which that knows it.
    """

    def __init__(self, number: int) -> None:
        self.number = number


def encode_value(value: Any, keep: Callable[[Any], int]) -> Any:
    """Return a value as JSON has it.

    Args:
        value: anything.
        keep: keeps what only a reference can be made to, and returns its number.

    Raises:
        ValueError: it is too large or too deep.
    """
    count = 0

    def encode(each: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MOST or depth > DEEPEST:
            raise ValueError(f"more than {MOST} values, or {DEEPEST} around one another")
        kind = next((base for base in _KINDS if isinstance(each, base)), None)
        if kind in _BARE:
            return str.__str__(each) if kind is str else each
        if kind is None:
            return {"reference": each.number if isinstance(each, Reference) else keep(each)}
        return {_KINDS[kind]: _PARTS[_KINDS[kind]](each, lambda part: encode(part, depth + 1))}

    return encode(value, 0)


_KINDS: dict[type, str] = {
    bool: "",
    type(None): "",
    str: "",
    int: "int",
    float: "float",
    complex: "complex",
    bytes: "bytes",
    bytearray: "bytes",
    range: "range",
    **{kind: name for name, kind in _SEQUENCES.items()},
    dict: "dict",
    Iterator: "iterator",
}
"""Names of types in messages; an instance of a type of one's own counts as what it is derived from."""

_PARTS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "int": lambda value, _: hex(value),
    "float": lambda value, _: float.hex(value),
    "complex": lambda value, _: [float.hex(value.real), float.hex(value.imag)],
    "bytes": lambda value, _: value.hex(),
    "range": lambda value, _: [hex(value.start), hex(value.stop), hex(value.step)],
    **dict.fromkeys([*_SEQUENCES, "iterator"], lambda value, encode: [encode(part) for part in value]),
    "dict": lambda value, encode: [[encode(key), encode(held)] for key, held in dict.items(value)],
}


def decode_value(given: Any, find: Callable[[int], Any] = Reference) -> Any:
    """Return the value that a message holds.

    Args:
        given: what `encode_value` returned, or whatever else came.
        find: returns what a reference's number stands for.

    Raises:
        ValueError: it is none.
    """
    try:
        return _decode(given, find, 0)
    except (TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"no value: {error}") from error


def _decode(given: Any, find: Callable[[int], Any], depth: int) -> Any:
    if isinstance(given, _BARE):
        return given
    if depth > DEEPEST:
        raise ValueError("too deep")
    ((kind, held),) = given.items()
    if kind in _SEQUENCES or kind == "iterator":
        parts = [_decode(part, find, depth + 1) for part in held]
        return iter(parts) if kind == "iterator" else _SEQUENCES[kind](parts)
    match kind:
        case "int":
            return int(held, 16)
        case "float":
            return float.fromhex(held)
        case "complex":
            return complex(*map(float.fromhex, held))
        case "bytes":
            return bytes.fromhex(held)
        case "range":
            return range(*(int(number, 16) for number in held))
        case "dict":
            return {_decode(key, find, depth + 1): _decode(part, find, depth + 1) for key, part in held}
        case "reference":
            return find(int(held))
    raise ValueError(f"no value: {kind!r}")
