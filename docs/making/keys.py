"""The configuration's reference as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from quantexp.config import Config
from quantexp.config.command_line import COMMANDS
from quantexp.config.reference import (
    CONF,
    FILE_TYPES,
    SCHEMAS,
    Key,
    default_option,
    find_dataclass,
    is_group,
    list_keys,
    summary,
)
from quantexp.util.native.file_types import list_quants


def groups() -> str:
    """Markdown of all keys of a job, a section each group."""
    sections = ["## Keys without a group", _table(list_keys(Config, "", [CONF / "config.yaml"]))]
    for field in fields(Config):
        kind = find_dataclass(field.type)
        if kind is None:
            continue
        options = sorted((CONF / field.name).glob("*.yaml"), key=lambda file: file.stem.casefold())
        chosen = default_option(field.name)
        listed = [
            f"| `{option.stem}`{' (default)' if option.stem == chosen else ''} | {escaped(first_sentence(option))} |"
            for option in options
        ]
        if field.name == "quant":
            names = [f"`{name}`{' (default)' if name == chosen else ''}" for name in list_quants()]
            listed.append(f"| {', '.join(names)} | {FILE_TYPES} |")
        sections += [
            f"## {field.name}",
            escaped(summary(kind)),
            "\n".join([f"| `{field.name}=` | |", "|---|---|", *listed]),
            _table(list_keys(kind, field.name, options)),
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


def first_sentence(file: Path) -> str:
    """Read the first sentence of the comment at the head of an option's file."""
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


def commands() -> str:
    """Markdown of the other commands' keys, a section each."""
    sections = []
    for name, kind in SCHEMAS.items():
        if name == "config":
            continue
        shared = [field.name for field in fields(kind) if is_group(field.name, field.type)]
        linked = [f"[`{group}`](configuration.md#{group})" for group in shared]
        and_groups = [f"And the keys of {' and '.join(linked)}."] if linked else []
        sections += [
            f"## quantexp.{name}",
            escaped(COMMANDS[f"quantexp.{name}"].purpose),
            _table(list_keys(kind, "", [CONF / f"{name}.yaml"])),
            *and_groups,
        ]
    return "\n\n".join(sections)


def escaped(text: str) -> str:
    """Text in which Markdown sees no emphasis, no column and no tag, outside backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*|<])", r"\\\1", part) for part in parts)


def _table(rows: Sequence[Key]) -> str:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in rows:
        default = "—" if key.default is None else f"`{key.default}`"
        choices = [f"`{name}`: {escaped(text)}" for name, text in key.choices.items()]
        takes = f"{key.type}, {key.within}" if key.within else key.type
        lines.append(f"| `{key.name}` | {takes} | {default} | {' '.join([escaped(key.text), *choices])} |")
    return "\n".join(lines)
