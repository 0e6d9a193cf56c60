"""Facts about what is inside a GGUF, for people and programs: tensors by role, name, chat template, origin."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantexp.models.contents import (
    EMBEDDING,
    OUTPUT,
    Contents,
    Value,
    describe_misnomer,
    describe_types,
    format_share,
    matrix_facts,
    measure_bits,
    share_types,
)
from quantexp.models.gguf import UNKNOWN
from quantexp.util.terminal import one_line

if TYPE_CHECKING:
    from rich.console import Console

_ORIGIN = re.compile(
    r"general\.(?:name|version|finetune|author|organization|license|repo_url|url|doi|uuid|quantized_by"
    r"|quantization_version|base_model\..+|source\..+)"
    r"|quantize\.(?!imatrix\.).+"
    r"|.*(?:commit|llama_?cpp|build|convert).*"
)
"""Keys that say where a file is from, and what made it."""


@dataclass(frozen=True, slots=True)
class ChatFacts:
    """A chat template in few words.

    Attributes:
        sha256: of its source.
        arguments: names of what it reads and a user may give (`model.template`).
        reasoning: the format of reasoning that `model.reasoning=auto` stands for with this file.
        problem: why it cannot be used; empty if it can.
    """

    sha256: str
    arguments: tuple[str, ...]
    reasoning: str
    problem: str


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """The tensors of one role, or of the whole file.

    Attributes:
        role: its name.
        tensors: how many.
        share: of the file's weights.
        bits_per_weight: of these tensors.
        types: their shares of the role's weights by type.
        summary: the same in words.
    """

    role: str
    tensors: int
    share: float
    bits_per_weight: float
    types: Mapping[str, float]
    summary: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a GGUF holds.

    Attributes:
        files: its paths.
        bytes: of all files.
        architecture: `general.architecture`.
        parameters: number of weights.
        training_context: tokens of context that the model was trained for; None if the file does not say.
        says: the type that the file says it holds.
        misnomer: what it holds if it is mostly of another type; None if it is not.
        split: number of files that the header names.
        roles: the tensors by their role, and all of them last.
        importance_matrix: what the file says of it; empty if nothing.
        chat_template: None if there is none.
        origin: where the file is from, by the header's keys.
    """

    files: tuple[str, ...]
    bytes: int
    architecture: str
    parameters: int
    training_context: int | None
    says: str
    misnomer: str | None
    split: int
    roles: tuple[RoleFacts, ...]
    importance_matrix: Mapping[str, Value]
    chat_template: ChatFacts | None
    origin: Mapping[str, Value]


WHOLE = "all"
"""Role of all tensors together."""


def describe_contents(contents: Contents, chat: ChatFacts | None) -> FileFacts:
    """Collect what there is to say of a file."""
    metadata, weights = contents.metadata, contents.weights
    architecture = str(metadata.get("general.architecture", UNKNOWN))
    context, split = metadata.get(f"{architecture}.context_length"), metadata.get("split.count")
    groups = {**contents.roles, WHOLE: list(contents.tensors)}
    tied = f"{EMBEDDING}, {OUTPUT} too" if OUTPUT not in groups else EMBEDDING
    return FileFacts(
        files=tuple(map(str, contents.paths)),
        bytes=sum(path.stat().st_size for path in contents.paths),
        architecture=architecture,
        parameters=weights,
        training_context=context if isinstance(context, int) else None,
        says=contents.file_type,
        misnomer=describe_misnomer(contents),
        split=split if isinstance(split, int) and split > 0 else 1,
        roles=tuple(
            RoleFacts(
                role=tied if role == EMBEDDING else role,
                tensors=len(tensors),
                share=sum(tensor.elements for tensor in tensors) / weights,
                bits_per_weight=measure_bits(tensors),
                types=share_types(tensors),
                summary=describe_types(tensors),
            )
            for role, tensors in groups.items()
        ),
        importance_matrix=matrix_facts(metadata),
        chat_template=chat,
        origin={key: value for key, value in metadata.items() if _ORIGIN.fullmatch(key) and value != ""},
    )


def print_contents(facts: FileFacts, console: "Console") -> None:
    """Print a table of the tensors by role, and one of everything else."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(one_line(facts.files[0], 1000), "bold"), soft_wrap=True)
    table = Table()
    for column in ("tensors", "number", "share", "bits/weight", "types by share of the weights"):
        right = column in ("number", "share", "bits/weight")
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for role in facts.roles:
        table.add_section() if role.role == WHOLE else None
        numbers = (str(role.tensors), format_share(role.share), f"{role.bits_per_weight:.2f}")
        table.add_row(role.role, *numbers, role.summary)
    console.print(table)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, words in _list_facts(facts):
        grid.add_row(Text(one_line(name)), Text(one_line(words, 500)))
    console.print(grid)
    console.print()


def _list_facts(facts: FileFacts) -> list[tuple[str, str]]:
    """List name and value of what the table does not say."""
    count = len(facts.files)
    size = f"{facts.bytes / 1e6:,.1f} MB" + (f" in {count} files" if count > 1 else "")
    context = "not said" if facts.training_context is None else f"{facts.training_context:,} tokens"
    matrix = ", ".join(f"{name} {value}" for name, value in facts.importance_matrix.items())
    return [
        ("says that it holds", facts.says),
        *([("in fact", facts.misnomer)] if facts.misnomer is not None else []),
        ("architecture", f"{facts.architecture}, {facts.parameters:,} weights, {size}"),
        ("trained for", context),
        ("importance matrix", matrix or "none named in the file"),
        *_list_chat_facts(facts.chat_template),
        *((key, str(value)) for key, value in facts.origin.items()),
    ]


def _list_chat_facts(chat: ChatFacts | None) -> list[tuple[str, str]]:
    if chat is None:
        return [("chat template", "none")]
    reads = chat.problem or (f"reads {', '.join(chat.arguments)}" if chat.arguments else "reads no arguments")
    return [("chat template", f"sha256 {chat.sha256[:12]}, {reads}"), ("reasoning (auto)", chat.reasoning)]
