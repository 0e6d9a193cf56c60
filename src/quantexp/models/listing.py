"""A repository's files by their names: those that are a quant, and those that only look like it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import PurePosixPath

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.gguf import PART
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_file_types
from quantexp.util.terminal import list_some

_WIDTH = r"\d+(?:\.\d+)?bpw"
_FLOAT = r"BF16(?:_R\d+)?|FP?16|FP?32"
_TYPE = rf"(?:I?Q|P?TQ|PQ)\d+(?:_(?!imat|{_WIDTH})[0-9A-Z]+)*|(?:MX|NV)FP4(?:_MOE)?|{_FLOAT}|I2_S|TL[12]"
_ENDING = re.compile(
    r"(?:^|[-._ ])(?P<label>(?:(?:UD|i1|smol|imat)-)?"
    rf"(?P<type>{_TYPE})(?:[-_.](?:imat|{_WIDTH}|{_FLOAT}))*)$",
    re.IGNORECASE,
)
"""A label, which ends a name: a type, and what publishers write around it to tell their recipes apart."""

_ANYWHERE = re.compile(rf"(?<![0-9a-z])(?:{_TYPE})(?![0-9a-z])", re.IGNORECASE)

_PAIRS = (("F16", "FP16"), ("F32", "FP32"), ("MXFP4_MOE", "MXFP4"))
"""Two names of one type: llama.cpp's, and one that publishers use too."""

_ALIASES = {name: other for pair in _PAIRS for name, other in (pair, pair[::-1])}
_USUAL = {other: name for name, other in _PAIRS[:2]}

_BESIDE = re.compile(
    r"mmproj|imatrix|(?:^|[-._])(?:eagle3|dflash\d*|dspark\d*|(?-i:mtp))[-._]|^(?:mtp|draft)[-._]", re.IGNORECASE
)
"""Base names of projectors, matrices and drafts for speculative decoding.

An MTP in capitals inside a name, as in Ornith-1.5-9B-MTP-IQ2_M.gguf, is a whole model that drafts for itself.
"""

_BESIDE_FOLDERS = frozenset({"mmproj", "mtp", "eagle3", "dflash", "dspark", "draft"})

_PIECE = re.compile(r"\.gguf[-._]?(?:part|split|\d)", re.IGNORECASE)
"""A file that was cut without a header for each piece: NAME.gguf.part1of2."""

_IK = "a type of ik_llama.cpp, a fork, which llama.cpp cannot read"
_FOREIGN = {
    r"IQ\d_(?:K|KL|KS|KSS|KT|BN)(?:_\w+)?|\w+_R\d+|Q8_KV\w*|Q6_0": _IK,
    r"I2_S|TL[12]": "a type of bitnet.cpp, a fork, which llama.cpp cannot read",
    r"P(?:TQ|Q)\d\w*": "a type of PrismML's fork, which llama.cpp cannot read",
    r"TQ(?![12]_0$)\w+": "a type of a fork, which llama.cpp cannot read",
    r"Q4_0_\d_\d": "a type that llama.cpp has given up (it rearranges Q4_0 itself)",
}
"""Types that llama.cpp had no name for at the time of writing, and whose they are; `list_file_types` overrules it."""

MOST_SHOWN = 5
"""Names in a sentence."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One file, or all parts there are of a split one.

    Attributes:
        stem: its path without the number of a part and without .gguf.
        count: parts that a whole copy has.
        parts: the files, in order.
    """

    stem: str
    count: int
    parts: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Return whether all parts are there."""
        return len(self.parts) == self.count

    @property
    def base(self) -> str:
        """The stem without its folders."""
        return PurePosixPath(self.stem).name

    @property
    def text(self) -> str:
        """The end of the path that may be labelled: the base name, or its folder if the base name has no type."""
        if _ANYWHERE.search(self.base):
            return self.base
        return next((folder for folder in self._folders() if _ANYWHERE.search(folder)), self.base)

    @property
    def label(self) -> re.Match[str] | None:
        """The label at the end of the name, and the type within it."""
        return _ENDING.search(self.text)

    @property
    def is_beside(self) -> bool:
        """Return whether it lies beside a model: a projector, a matrix, a draft."""
        return bool(_BESIDE.search(self.base)) or not _BESIDE_FOLDERS.isdisjoint(map(str.lower, self._folders()))

    def rank(self, asked: str) -> int | None:
        """Return how well the label fits: 0 the very name, 1 its alias, 2 and 3 the same with a recipe, None not."""
        label = self.label
        names = [name for name in (asked, _ALIASES.get(asked.upper())) if name]
        for rank, name in enumerate(names):
            exact = re.search(rf"(?:^|[-._ ]){re.escape(name)}$", self.text, re.IGNORECASE)
            if exact and (label is None or len(label["label"]) <= len(name)):
                return rank
        for rank, name in enumerate(names, 2):
            if label is not None and label["type"].upper() == name.upper():
                return rank
        return None

    def _folders(self) -> list[str]:
        return [folder.name for folder in PurePosixPath(self.stem).parents if folder.name]


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One of several files, under a label that no other of them has.

    Attributes:
        label: what it is called.
        parts: its name, or those of all parts in order.
        shared: the label in its name that others have too; empty if its name has none, None if that is its own.
    """

    label: str
    parts: tuple[str, ...]
    shared: str | None = None


def label_files(names: Iterable[str]) -> tuple[list[LabelledFile], dict[str, str]]:
    """Label the files that are quants by their names.

    A file whose name has no label, or one that others have too, is called by its name without its ending.

    Args:
        names: the files there are, with the folders they are in.

    Returns:
        The quants, and why each other GGUF is none.
    """
    names = list(names)
    copies = _list_copies(names)
    left_out = {copy.parts[0]: flaw for copy in copies if (flaw := _find_flaw(copy, copies)) is not None}
    left_out |= {name: "a piece of a file, or an unfinished download" for name in names if _PIECE.search(name)}
    kept = [copy for copy in copies if copy.parts[0] not in left_out]
    labels = [_read_label(copy) for copy in kept]
    count = Counter(label.upper() for label in labels if label is not None)
    taken = {label for label, times in count.items() if times == 1}
    found = []
    for copy, label in zip(kept, labels, strict=True):
        if label is not None and count[label.upper()] == 1:
            found.append(LabelledFile(label, copy.parts))
            continue
        is_alone = sum(_are_same(each, copy) for each in kept) == 1
        own = next(name for name in _list_names(copy.base if is_alone else copy.stem) if name.upper() not in taken)
        taken.add(own.upper())
        found.append(LabelledFile(own, copy.parts, label or ""))
    return found, left_out


def is_named_after_quant(folder: str) -> bool:
    """Return whether a folder's name ends in the label of a quant, as those of split files do."""
    return _ENDING.search(folder) is not None


def _list_names(stem: str) -> Iterator[str]:
    """List what a file may be called by its name."""
    yield (name := re.sub(r"[^\w.+-]+", "-", stem).strip("-") or "file")
    yield from (f"{name}-{number}" for number in count_from(2))


def _find_flaw(copy: _Copy, copies: Iterable[_Copy]) -> str | None:
    """Return why a copy is none of a model's quants, if it is not."""
    if copy.is_beside:
        found = _BESIDE.search(copy.base)
        kinds = {"mmproj": "a projector", "imatrix": "an importance matrix"}
        return kinds.get(found[0].lower() if found else "", "a draft for speculative decoding")
    if not copy.is_whole:
        return f"{len(copy.parts)} of {copy.count} parts"
    if any(each.is_whole and _are_same(each, copy) and each.count < copy.count for each in copies):
        return "there in fewer parts too"
    held = copy.label["type"].upper() if copy.label else ""
    fault = _find_fault(held)
    return None if fault is None else f"{held}, {fault}"


def select_files(model: ModelConfig, quant: QuantConfig, names: Sequence[str]) -> list[str]:
    """Those of a repository's files that are the quant: one, or all parts in order; none if it is not whole there.

    Args:
        model: with `file`, or without: then files count whose label, in any letter case, is the quant's name, and if
            there are none, those whose label has it within (UD-Q4_K_M for Q4_K_M), but no projector, matrix or draft.
        quant: the quant.
        names: the files there are.

    Raises:
        UserError: files of different names fit, and none of them exactly; or `file` is no GGUF.
    """
    copies = _list_copies(names)
    fits = _fit_label(quant, copies) if model.file is None else _fit_name(model.file, copies)
    whole = [copy for copy in fits if copy.is_whole]
    merged = [copy for copy in whole if copy.count == min(each.count for each in whole if _are_same(each, copy))]
    if len(merged) > 1:
        raise UserError(_describe_choices(model, quant, merged))
    return list(merged[0].parts) if merged else []


def describe_choice(model: ModelConfig, quant: QuantConfig, chosen: Sequence[str], names: Iterable[str]) -> list[str]:
    """Describe what is not obvious about the choice of files; a sentence each, without a full stop."""
    if model.file is not None:
        return []
    notes = []
    copies = _list_copies(names)
    copy = next(copy for copy in copies if list(copy.parts) == list(chosen))
    asked = _read_asked(quant)
    if copy.rank(asked) in {2, 3} and copy.label:
        kept = f"quant=as-is quant.name={copy.label['label']}"
        kept = f"weights={model.repository}:{copy.label['label']}" if quant.label else kept
        notes.append(
            f"taking {copy.parts[0]} for {asked}, as no file is plainly named so ({kept} keeps its label in reports)"
        )
    for other in copies:
        if other.is_whole and _are_same(other, copy) and other.count > copy.count:
            notes.append(
                f"taking {copy.parts[0]}, which is there in {other.count} parts too "
                f"({_file_override(other)} takes those)"
            )
    return notes


def explain_foreign_type(name: str, names: Iterable[str]) -> str | None:
    """Explain why llama.cpp cannot read the file, if its label says so, and what there is instead."""
    [copy] = _list_copies([name])
    held = copy.label["type"].upper() if copy.label else ""
    if (reason := _find_fault(held)) is None:
        return None
    readable = _list_labels(names)
    instead = f"choose another of its quants: {', '.join(readable)}" if readable else "choose another repository"
    return f"{name} is {held}, {reason}; {instead}"


def describe_others(quant: QuantConfig, names: Iterable[str]) -> str:
    """Describe the repository's files besides the quant, and those that only look like it, without a full stop."""
    names = sorted(names)
    have = _list_labels(names)
    said = [f"it has {', '.join(have)}" if have else "none of its files is named after a quant; set model.file=NAME"]
    alike = [name for name in names if _is_alike(name, _read_asked(quant))]
    pieces = [name for name in alike if _PIECE.search(name)]
    whole = [copy for copy in _list_copies(alike) if copy.is_beside]
    beside = [part for copy in whole for part in copy.parts]
    other = [name for name in alike if name not in pieces and name not in beside]
    if pieces:
        first = re.match(r"(.*\.gguf)[-._]?[a-z]*", PurePosixPath(pieces[0]).name, re.IGNORECASE)
        assert first is not None, "as _PIECE says"
        said.append(
            f"{list_some(pieces, MOST_SHOWN)} are pieces of one file: download them, join them "
            f"(cat {first[0]}* > {first[1]}) and give that with model=local model.path=FILE"
        )
    if beside:
        said.append(f"left out as no model (a projector, draft or matrix): {list_some(beside, MOST_SHOWN)}")
    if doubtful := [
        copy for copy in whole if (found := _BESIDE.search(copy.base)) and found.start() and found[0] != "mmproj"
    ]:
        said[-1] += f" (if one is a model after all, choose it: {_file_override(doubtful[0])})"
    if other:
        said.append(f"named otherwise, or not whole: {list_some(other, MOST_SHOWN)} (model.file=NAME chooses one)")
    return "; ".join(said)


def _read_asked(quant: QuantConfig) -> str:
    """Return the label that the quant's file is to have."""
    return quant.label or quant.name


def _list_copies(names: Iterable[str]) -> list[_Copy]:
    """Return the GGUF files by their names, the parts of each put together."""
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        part = PART.fullmatch(name)
        if part and 1 <= int(part["number"]) <= int(part["count"]):
            groups[part["stem"], int(part["count"])].append(name)
        elif name.lower().endswith(".gguf") and not part:
            groups[name[: -len(".gguf")], 1].append(name)
    return [_Copy(stem, count, tuple(parts)) for (stem, count), parts in groups.items()]


def _fit_label(quant: QuantConfig, copies: Iterable[_Copy]) -> list[_Copy]:
    """Return the copies whose label fits best."""
    ranked = [(copy.rank(_read_asked(quant)), copy) for copy in copies if not copy.is_beside]
    best = min((rank for rank, _ in ranked if rank is not None), default=None)
    return [copy for rank, copy in ranked if rank == best and best is not None]


def _fit_name(file: str, copies: Iterable[_Copy]) -> list[_Copy]:
    """Return the copies of this name: of this very name, of its stem, or in other letters, the first there are."""
    if not file.lower().endswith(".gguf"):
        raise UserError(
            f"model.file={file} is not a GGUF; name a file that ends in .gguf, or leave model.file out, and "
            "the quant chooses."
        )
    stem = re.sub(r"-\d{5}-of-\d{5}\.gguf$|\.gguf$", "", file, flags=re.IGNORECASE)
    whole = [copy for copy in copies if copy.is_whole]
    return (
        [copy for copy in whole if file in copy.parts]
        or [copy for copy in whole if copy.stem == stem]
        or [copy for copy in whole if copy.stem.lower() == stem.lower()]
    )


def _are_same(one: _Copy, other: _Copy) -> bool:
    """Return whether they are one model's quant, in whatever number of parts and in whatever folder."""
    return one.base.lower() == other.base.lower()


def _describe_choices(model: ModelConfig, quant: QuantConfig, copies: Sequence[_Copy]) -> str:
    asked = _read_asked(quant) if model.file is None else f"model.file={model.file}"
    ways = [_file_override(copy) for copy in copies[:MOST_SHOWN]]
    if quant.label is not None:
        ways = [f"weights={model.repository}:{copy.parts[0]}" for copy in copies[:MOST_SHOWN]]
    more = f" or {len(copies) - MOST_SHOWN} more" if len(copies) > MOST_SHOWN else ""
    labels = [copy.label["label"] for copy in copies[:MOST_SHOWN] if copy.label]
    sentence = f"Several files of {model.repository} are named after {asked}; choose one with {' or '.join(ways)}{more}"
    if model.file is None and quant.label is None and len({label.lower() for label in labels}) == len(ways) > 1:
        sentence += f", or by its label, with quant=as-is quant.name={' or quant.name='.join(labels)}"
    return f"{sentence}."


def _file_override(copy: _Copy) -> str:
    """Return what chooses this copy on a command line."""
    name = copy.parts[0]
    if re.fullmatch(r"[\w./+%@:-]+", name):
        return f"model.file={name}"
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"\"model.file='{escaped}'\""


def _list_labels(names: Iterable[str]) -> list[str]:
    """Return the labels of the repository's models; a type's usual name instead of its alias."""
    labels = {}
    for copy in _list_copies(names):
        label = _read_label(copy)
        if copy.label and label and not copy.is_beside and _find_fault(copy.label["type"].upper()) is None:
            labels[label.upper()] = label
    return sorted(labels.values())


def _read_label(copy: _Copy) -> str | None:
    """Return the label at the end of the name; a bare type by its usual name."""
    if (found := copy.label) is None:
        return None
    usual = found["type"].upper()
    return _USUAL.get(usual, usual) if found["label"] == found["type"] else found["label"]


def _find_fault(held: str) -> str | None:
    """Return why llama.cpp cannot read files of this type, if it cannot."""
    fault = next((fault for types, fault in _FOREIGN.items() if re.fullmatch(types, held)), None)
    return None if fault is None or f"MOSTLY_{held}" in list_file_types().values() else fault


def _is_alike(name: str, asked: str) -> bool:
    """Return whether a GGUF's name has the quant's name somewhere."""
    names = "|".join(re.escape(each) for each in (asked, _ALIASES.get(asked.upper())) if each)
    return ".gguf" in name.lower() and bool(re.search(rf"(?:^|[-._/])(?:{names})(?!\w)", name, re.IGNORECASE))
