"""What a GGUF holds, by its header: types of tensors by their role, and what its makers say of it."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from quantexp.models.gguf import UNKNOWN, list_parts
from quantexp.models.gguf_header_process import SECONDS, TYPES
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_file_types, name_quant
from quantexp.util.sandbox import describe_end, run_program
from quantexp.util.terminal import one_line

Value = str | int | float
"""Of a header, if it is no list; true and false among them."""

_PROGRAM = Path(__file__).with_name("gguf_header_process.py")

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of weights that are not quantized."""

MIXED = {
    **{"IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "MXFP4_MOE": "MXFP4"},
    **{"Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K"},
    **{"Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K"},
}
"""The type that llama.cpp gives most tensors of such a file; other files are named after theirs."""

MOST_TYPES = 10
"""That are named of a file; a mix of llama.cpp has up to seven."""

NAMED_SHARE = 0.5
"""A name that stands for less than this share of the quantized weights says little of the file."""

EMBEDDING, OUTPUT = "token embedding", "output"

_ROLES = (
    (re.compile(r"norm"), "norms"),
    (re.compile(r"_(?:ch|sh)?exps?\.|_exps\b"), "experts"),
    (re.compile(r"(?:^|\.)token_embd\b|per_layer_token_embd"), EMBEDDING),
    (re.compile(r"^output\."), OUTPUT),
    (re.compile(r"\.attn_"), "attention"),
    (re.compile(r"\.ffn_(?!gate_inp)"), "feed-forward"),
)
"""Roles by the names of tensors; the first that fits."""

OTHERS = "others"
"""Tensors of no role above, such as routers and recurrent layers."""

ROLES = (EMBEDDING, OUTPUT, "attention", "feed-forward", "experts", "norms", OTHERS)
"""Roles in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a GGUF, without its numbers.

    Attributes:
        name: as the file has it.
        type: ggml's name of its type, or `type N`.
        elements: the weights that it stands for.
        bytes: in the file.
    """

    name: str
    type: str
    elements: int
    bytes: int

    @property
    def role(self) -> str:
        """What it is for, by its name."""
        return next((role for pattern, role in _ROLES if pattern.search(self.name)), OTHERS)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF holds; of a split model, all its parts.

    Attributes:
        paths: its files.
        metadata: values of the first file that are no lists, by their keys.
        special: written forms of the tokens that are no text.
        tensors: those of all files.
        vocabulary: the number of tokens and a hash of their written forms; None if the file has none.
    """

    paths: tuple[Path, ...]
    metadata: Mapping[str, Value]
    special: tuple[str, ...]
    tensors: tuple[TensorInfo, ...]
    vocabulary: tuple[int, str] | None = None

    @property
    def weights(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """The type that the file says it holds, without `MOSTLY_`; `unknown` if it does not say."""
        number = self.metadata.get("general.file_type")
        if not isinstance(number, int):
            return UNKNOWN
        return name_quant(list_file_types().get(number, f"type {number}"))

    @property
    def roles(self) -> dict[str, list[TensorInfo]]:
        """The tensors by their role, in the order of `ROLES`."""
        found: dict[str, list[TensorInfo]] = {role: [] for role in ROLES}
        for tensor in self.tensors:
            found[tensor.role].append(tensor)
        return {role: tensors for role, tensors in found.items() if tensors}


def read_contents(path: Path) -> Contents:
    """Read the headers of a GGUF and its other parts, in another process.

    Raises:
        UserError: a file is missing or is no complete GGUF, or has no tensors.
    """
    parts = list_parts(path.absolute())
    for part in parts:
        if not part.is_file():
            if len(parts) == 1:
                raise UserError(f"{part} is not a file; give the path of a GGUF.")
            raise UserError(f"{part} is missing: {path.name} is one of {len(parts)} parts; put them all in one folder.")
    return _read_parts(tuple((part, part.stat().st_size, part.stat().st_mtime_ns) for part in parts))


@cache
def _read_parts(stamped: tuple[tuple[Path, int, int], ...]) -> Contents:
    """Read files that have that size and time of change: jobs of a sweep share them."""
    paths = tuple(path for path, *_ in stamped)
    ended = run_program(_PROGRAM, *map(str, paths), seconds=SECONDS)
    if ended.returncode != 0:
        slow = ended.returncode == -signal.SIGXCPU
        reason = "its header is too long" if slow else describe_end(ended.returncode, ended.stderr)
        raise UserError(f"{paths[0]} cannot be read: {reason}.")
    answer = json.loads(ended.stdout)
    if answer["wrong"] is not None:
        number, reason = answer["wrong"]
        raise UserError(f"{paths[number]} is not a complete GGUF file ({one_line(reason)}); fetch or make it again.")
    first, *_ = files = answer["files"]
    tensors = tuple(
        TensorInfo(name, TYPES[kind][0] if kind in TYPES else f"type {kind}", elements, held)
        for file in files
        for name, kind, elements, held in file["tensors"]
    )
    if not any(tensor.elements for tensor in tensors):
        raise UserError(f"{paths[0]} has no tensors, so it is a vocabulary and no model; give a model's GGUF.")
    vocabulary = first["vocabulary"] and (first["vocabulary"][0], first["vocabulary"][1])
    return Contents(paths, first["metadata"], tuple(first["special"]), tensors, vocabulary)


def measure_bits(tensors: Iterable[TensorInfo]) -> float:
    """Return bits per weight of the tensors; 0 if they have no elements."""
    elements = bits = 0
    for tensor in tensors:
        elements, bits = elements + tensor.elements, bits + 8 * tensor.bytes
    return bits / elements if elements else 0.0


def share_types(tensors: Iterable[TensorInfo]) -> dict[str, float]:
    """Return the share of the weights that each type holds, the largest first."""
    count: Counter[str] = Counter()
    for tensor in tensors:
        count[tensor.type] += tensor.elements
    whole = count.total() or 1
    return {kind: held / whole for kind, held in count.most_common()}


def describe_types(tensors: Iterable[TensorInfo]) -> str:
    """Name the types by their share of the weights, such as `Q4_K 62%, Q6_K 30%, F32 8%`."""
    shares = [f"{kind} {format_share(share)}" for kind, share in share_types(tensors).items()]
    more = len(shares) - MOST_TYPES
    return ", ".join([*shares[:MOST_TYPES], *([f"and {more} more types"] if more > 0 else [])])


def format_share(share: float) -> str:
    """Format a share as a whole percentage that says 0% or 100% of nothing else."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def describe_misnomer(contents: Contents) -> str | None:
    """Say what a file holds that is mostly of another type than it says, such as `Q8_0, of which 98% MXFP4`.

    None if its name describes it: the type behind it holds half of the quantized weights or more, and no other type
    most of all weights; or if it has none.
    """
    said = contents.file_type
    if said.startswith((UNKNOWN, "type ", "GUESSED")):
        return None
    named = MIXED.get(said, said)
    shares = share_types(contents.tensors)
    quantized = {kind: share for kind, share in shares.items() if kind not in FLOATS}
    counted = shares if named in FLOATS or not quantized else quantized
    most = next(iter(shares))
    is_named = counted.get(named, 0.0) >= NAMED_SHARE * sum(counted.values())
    if is_named and (most == named or shares[most] <= NAMED_SHARE):
        return None
    other = most if most != named else next(kind for kind in counted if kind != named)
    return f"{said}, of which {format_share(shares[other])} {other}"


def describe_matrix(contents: Contents) -> str:
    """Say in a few words by which importance matrix the file was quantized, as its metadata has it."""
    facts = matrix_facts(contents.metadata)
    if not facts:
        return "none named in the file"
    words = [_base(str(facts["file"]))] if "file" in facts else []
    words += [f"over {_base(str(facts['dataset']))}"] if "dataset" in facts else []
    words += [f"{facts[key]} {what}" for key, what in (("entries", "entries"), ("chunks", "chunks")) if key in facts]
    return one_line(", ".join(words))


def matrix_facts(metadata: Mapping[str, Value]) -> dict[str, Value]:
    """Return what the metadata says of the importance matrix."""
    keys = {"file": "file", "dataset": "dataset", "entries": "entries_count", "chunks": "chunks_count"}
    found = {name: metadata.get(f"quantize.imatrix.{key}") for name, key in keys.items()}
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _base(path: str) -> str:
    """Return a file's name without the folders of the machine that it was on."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
