"""The configuration's reference: every key, from the dataclasses and the strings below their fields."""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import omegaconf
from omegaconf import OmegaConf
from sphinx.pycode import ModuleAnalyzer

from quantexp.config import AggregateConfig, Config, MaintenanceConfig, PlanConfig, RegradeConfig, SyncConfig
from quantexp.emails.config import GenerateConfig, ReviewConfig

CONF = Path(str(files("quantexp.conf")))

COMMANDS: Mapping[str, type] = {
    "aggregate": AggregateConfig,
    "regrade": RegradeConfig,
    "plan": PlanConfig,
    "store": MaintenanceConfig,
    "sync": SyncConfig,
    "generate_extraction": GenerateConfig,
    "review_extraction": ReviewConfig,
}
"""The other commands: the name of each is that of its file in conf/."""

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
    """What is said of one key.

    Attributes:
        name: as typed on the command line.
        type: what it takes, in words.
        default: as YAML; None where there is none.
        text: what it means.
        choices: of an enumeration, with what each means.
    """

    name: str
    type: str
    default: str | None
    text: str
    choices: Mapping[str, str]


def groups() -> str:
    """Markdown of all keys of a job, a section each group."""
    sections = ["## Keys without a group", _table(keys(Config, "", [CONF / "config.yaml"]))]
    for field in fields(Config):
        kind = _dataclass(field.type)
        if kind is None:
            continue
        options = sorted((CONF / field.name).glob("*.yaml"), key=lambda file: file.stem.casefold())
        chosen = _default_option(field.name)
        listed = [
            f"| `{option.stem}`{' (default)' if option.stem == chosen else ''} | {escaped(first_sentence(option))} |"
            for option in options
        ]
        sections += [
            f"## {field.name}",
            escaped(summary(kind)),
            "\n".join([f"| `{field.name}=` | |", "|---|---|", *listed]),
            _table(keys(kind, field.name, options)),
        ]
    experiments = sorted((CONF / "experiment").glob("*.yaml"))
    sections += ["## experiment", "A whole sweep under one name; what else stands on the command line wins over it."]
    sections += [
        "\n".join(
            ["| `experiment=` | |", "|---|---|"]
            + [f"| `{file.stem}` | {escaped(first_sentence(file))} |" for file in experiments]
        )
    ]
    return "\n\n".join(sections)


def commands() -> str:
    """Markdown of the other commands' keys, a section each."""
    sections = []
    for name, kind in COMMANDS.items():
        shared = [field.name for field in fields(kind) if _is_group(field.name, field.type)]
        linked = [f"[`{group}`](configuration.md#{group})" for group in shared]
        and_groups = [f"And the keys of {' and '.join(linked)}."] if linked else []
        sections += [
            f"## quantexp.{name}",
            escaped(first_sentence(CONF / f"{name}.yaml")),
            _table(keys(kind, "", [CONF / f"{name}.yaml"])),
            *and_groups,
        ]
    return "\n\n".join(sections)


def keys(kind: type, prefix: str, option_files: Sequence[Path]) -> list[Key]:
    """The keys of a dataclass, those of nested ones included, in their order; of whole groups, none.

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
        inner = _dataclass(hints[field.name])
        if inner is not None:
            if prefix or not _is_group(field.name, inner):
                within = [each.get(field.name) for each in settings]
                yield from _keys(inner, name, [each for each in within if isinstance(each, Mapping)])
            continue
        choices = documented_choices(hints[field.name])
        takes = ", ".join(f"`{choice}`" for choice in choices) or in_words(hints[field.name])
        yield Key(name, takes, _default(field, settings), documented(kind, field.name), choices)
        members = [_dataclass(each) for each in typing.get_args(hints[field.name])]
        for member in members:
            if member is not None:
                yield from _keys(member, f"{name}.NAME", [])


def documented(kind: type, attribute: str) -> str:
    """The string below a dataclass's field; of an inherited field, where it was declared.

    Raises:
        LookupError: there is none.
    """
    for each in kind.__mro__:
        lines = _attribute_docs(each.__module__).get((each.__qualname__, attribute)) if each is not object else None
        if lines:
            return " ".join(line for line in lines if line)
    raise LookupError(f"{kind.__module__}.{kind.__name__}.{attribute} has no string below it that says what it is.")


def documented_choices(hint: object) -> dict[str, str]:
    """The values of an enumeration, and what each means; empty for other types."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {member.name: documented(hint, member.name) for member in hint}
    return {}


def in_words(hint: object) -> str:
    """A type as people call it."""
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return "keys"
    inner = typing.get_args(hint)
    if isinstance(hint, UnionType):
        return " or ".join(in_words(each) for each in inner)
    if typing.get_origin(hint) is list:
        return f"list of {in_words(inner[0])}s"
    if typing.get_origin(hint) is dict:
        return "`{NAME: …}`"
    raise TypeError(f"{hint} has no words yet; add them to docs/making/keys.py.")


def summary(kind: type) -> str:
    """The first sentence of a class's docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def first_sentence(file: Path) -> str:
    """What an option's file says of itself first."""
    said: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#")
        if text == line or text.startswith(("   ", " Run: ", " @package")) or not text.strip():
            if said or text == line:
                break
            continue
        said.append(text.strip())
    sentence, *further = re.split(r"(?<=[.;])\s", " ".join(said))
    for part in further:
        if sentence.count("(") == sentence.count(")"):
            break
        sentence += f" {part}"
    return sentence.rstrip(":;")


def escaped(text: str) -> str:
    """Text in which Markdown sees no emphasis, no column and no tag, outside backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*|<])", r"\\\1", part) for part in parts)


@cache
def _attribute_docs(module: str) -> Mapping[tuple[str, str], list[str]]:
    return ModuleAnalyzer.for_module(module).find_attr_docs()


def _is_group(name: str, hint: object) -> bool:
    """Whether a field is a group of conf/, whose keys have a section of their own."""
    return _dataclass(hint) is not None and any(field.name == name and field.type is hint for field in fields(Config))


def _dataclass(hint: object) -> type | None:
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


def _default_option(group: str) -> str:
    composed = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    assert isinstance(composed, dict)
    chosen: dict[str, str] = {}
    for each in composed["defaults"]:
        chosen |= each if isinstance(each, dict) else {}
    return chosen[group]


def _table(rows: Sequence[Key]) -> str:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in rows:
        default = "—" if key.default is None else f"`{key.default}`"
        choices = [f"`{name}`: {escaped(text)}" for name, text in key.choices.items()]
        lines.append(f"| `{key.name}` | {key.type} | {default} | {' '.join([escaped(key.text), *choices])} |")
    return "\n".join(lines)
