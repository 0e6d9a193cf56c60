"""The reference of the configuration: every key with what it takes and means, read from the source of its types."""

import ast
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from inspect import cleandoc, getsource
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import omegaconf
from omegaconf import OmegaConf

from quantexp.config import commands
from quantexp.config.emails import GenerateConfig, ReviewConfig
from quantexp.config.ranges import range_in_words
from quantexp.config.schema import Config

SCHEMAS: Mapping[str, type] = {
    "config": Config,
    **commands.SCHEMAS,
    "generate_extraction": GenerateConfig,
    "review_extraction": ReviewConfig,
}
"""The keys of every command by its file in conf/; `config` is that of `quantexp` itself."""

CONF = Path(str(files("quantexp.conf")))

FILE_TYPES = "a GGUF of one of the types that the installed llama.cpp knows"
"""What those options of quant are that have no file in conf/."""

_WORDS: Mapping[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    NoneType: "`null`",
    Any: "anything",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration.

    Attributes:
        name: as typed on the command line.
        type: what it takes, in words.
        default: as YAML; None where there is none.
        text: what it means.
        choices: of an enumeration, with what each means.
        within: the range of a number, such as `at least 1`; empty if it has none.
    """

    name: str
    type: str
    default: str | None
    text: str
    choices: Mapping[str, str]
    within: str


def list_keys(kind: type, prefix: str, option_files: Sequence[Path]) -> list[Key]:
    """List the keys of a dataclass in their order, nested ones included, whole groups left out.

    A default is what every one of the files sets alike; otherwise, what the dataclass says.

    Args:
        kind: the dataclass.
        prefix: of the keys, as typed; empty for those without a group.
        option_files: the options of the group.
    """
    settings = [OmegaConf.to_container(OmegaConf.load(file)) for file in option_files]
    return list(_keys(kind, prefix, [each for each in settings if isinstance(each, dict)]))


def _keys(kind: type, prefix: str, settings: Sequence[Mapping[Any, Any]]) -> Iterator[Key]:
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        name = f"{prefix}.{field.name}" if prefix else field.name
        inner = find_dataclass(hints[field.name])
        if inner is not None:
            if prefix or not is_group(field.name, inner):
                within = [each.get(field.name) for each in settings]
                yield from _keys(inner, name, [each for each in within if isinstance(each, Mapping)])
            continue
        choices = documented_choices(hints[field.name])
        takes = ", ".join(f"`{choice}`" for choice in choices) or in_words(hints[field.name])
        bounds = range_in_words(typing.get_type_hints(kind, include_extras=True)[field.name])
        yield Key(name, takes, _default(field, settings), read_description(kind, field.name), choices, bounds)
        members = [find_dataclass(each) for each in typing.get_args(hints[field.name])]
        for member in members:
            if member is not None:
                yield from _keys(member, f"{name}.NAME", [])


def read_description(kind: type, attribute: str) -> str:
    """Read the string below a dataclass's field; of an inherited field, where it was declared.

    Raises:
        LookupError: there is none.
    """
    for each in kind.__mro__:
        text = _attribute_docs(each.__module__).get((each.__qualname__, attribute)) if each is not object else None
        if text:
            return text
    raise LookupError(f"{kind.__module__}.{kind.__name__}.{attribute} has no string below it that says what it is.")


def documented_choices(hint: object) -> dict[str, str]:
    """Map the values of an enumeration to their meanings; other types have none."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {member.name: read_description(hint, member.name) for member in hint}
    return {}


def in_words(hint: object) -> str:
    """Name a type as people do."""
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return "keys"
    inner = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return " or ".join(in_words(each) for each in inner)
    if typing.get_origin(hint) is list:
        return f"list of {in_words(inner[0])}s"
    if typing.get_origin(hint) is dict:
        return "`{NAME: …}`"
    raise TypeError(f"{hint} has no words yet; add them to quantexp/config/reference.py.")


def summary(kind: type) -> str:
    """Return the first sentence of a class's docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


@cache
def _attribute_docs(module: str) -> Mapping[tuple[str, str], str]:
    """Read the strings below the attributes of a module's classes, by class and attribute."""
    documented = {}
    for node in ast.parse(getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for attribute, below in zip(node.body, node.body[1:], strict=False):
            targets = (
                [attribute.target] if isinstance(attribute, ast.AnnAssign) else getattr(attribute, "targets", [None])
            )
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(targets[0], ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                documented[node.name, targets[0].id] = " ".join(cleandoc(text.value).split())
    return documented


def is_group(name: str, hint: object) -> bool:
    """Tell if a field is a group of conf/, whose keys have a section of their own."""
    return find_dataclass(hint) is not None and any(
        field.name == name and field.type is hint for field in fields(Config)
    )


def find_dataclass(hint: object) -> type | None:
    """Return the type if it is a dataclass."""
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def _default(field: "Field[Any]", settings: Sequence[Mapping[Any, Any]]) -> str | None:
    set_there = [each[field.name] for each in settings if field.name in each]
    if set_there and len(set_there) == len(settings) and all(each == set_there[0] for each in set_there):
        value = set_there[0]
    elif field.default_factory is not NO_DEFAULT:
        value = field.default_factory()
    else:
        value = field.default
    if value in (omegaconf.MISSING, NO_DEFAULT):
        return None
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return value or '""'
    return OmegaConf.to_yaml(OmegaConf.create({"v": value})).strip().removeprefix("v: ")


def default_option(group: str, file: str = "config.yaml") -> str:
    """Name the option of a group that a command's file in conf/ chooses."""
    composed = OmegaConf.to_container(OmegaConf.load(CONF / file))
    assert isinstance(composed, dict)
    chosen: dict[str, str] = {}
    for each in composed["defaults"]:
        chosen |= each if isinstance(each, dict) else {}
    return chosen[group]
