"""A repository's files by their names: those that are a quant, and those that only look like it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.gguf import PART
from quantexp.util.errors import UserError

_QUANT = re.compile(
    r"(?:^|[-._])(I?Q\d\w*|TQ\d\w*|MXFP4\w*|NVFP4\w*|BF16|F16|F32|FP16|FP32)(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE
)

_ALIASES = {"F16": "FP16", "F32": "FP32"}
"""Other names under which publishers offer the same type."""

_OPTIONS = {alias: name for name, alias in _ALIASES.items()}

_BESIDE = re.compile(
    r"(?:^|[-._/])mmproj(?=[-._/])|(?:^|/)(?:imatrix|mtp|eagle3?|dflash|dspark|draft)(?=[-._/])", re.IGNORECASE
)
"""What lies beside a model: projectors of images or sound, matrices, and drafts for speculative decoding."""

_PIECE = re.compile(r"\.gguf[-._]?(?:part|split|\d)", re.IGNORECASE)
"""A file that was cut without a header for each piece: NAME.gguf.part1of2."""

MOST_SHOWN = 5
"""Names in a sentence."""


def select_files(model: ModelConfig, quant: QuantConfig, names: Sequence[str]) -> list[str]:
    """Those of a repository's files that are the quant: one, or all parts in order; none if it is not whole there.

    Args:
        model: with `file`, or without: then files count that end in the quant's name and .gguf, in any letter case, and
            are no projector, matrix or draft.
        quant: the quant.
        names: the files there are.

    Raises:
        UserError: files of different names fit, and none of them exactly; or `file` is no GGUF.
    """
    stem = None
    if model.file is not None:
        if not model.file.lower().endswith(".gguf"):
            raise UserError(
                f"model.file={model.file} is not a GGUF; name a file that ends in .gguf, or leave model.file out, and "
                "the quant chooses."
            )
        stem = re.sub(r"-\d{5}-of-\d{5}\.gguf$|\.gguf$", "", model.file, flags=re.IGNORECASE)
        fits = re.compile(rf"{re.escape(stem)}(?:-\d{{5}}-of-\d{{5}})?\.gguf", re.IGNORECASE)
    else:
        fits = re.compile(rf"(?:.*[-._/])?{_label(quant)}(?:-\d{{5}}-of-\d{{5}})?\.gguf", re.IGNORECASE)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if fits.fullmatch(name) and (model.file is not None or not _BESIDE.search(name)):
            part = PART.fullmatch(name)
            groups[part["stem"] if part else name].append(name)
    whole = {stem: parts for stem, parts in groups.items() if _is_whole(parts)}
    for exact in (model.file, stem):
        if exact in whole:
            return whole[exact]
    if len(whole) > 1:
        choices = ", ".join(parts[0] for parts in whole.values())
        raise UserError(
            f"Several files of {model.repository} are named after {quant.name} ({choices}); "
            "choose one with model.file=NAME."
        )
    return next(iter(whole.values()), [])


def describe_others(quant: QuantConfig, names: Iterable[str]) -> str:
    """Describe the repository's files besides the quant, and those that only look like it, without a full stop."""
    names = sorted(names)
    labels = {found[1].upper() for name in names if not _BESIDE.search(name) and (found := _QUANT.search(name))}
    have = sorted({_OPTIONS.get(label, label) for label in labels})
    said = [f"it has {', '.join(have)}" if have else "none of its files is named after a quant; set model.file=NAME"]
    alike = [name for name in names if re.search(rf"(?:^|[-._/]){_label(quant)}(?!\w)", name, re.IGNORECASE)]
    alike = [name for name in alike if ".gguf" in name.lower()]
    pieces = [name for name in alike if _PIECE.search(name)]
    beside = [name for name in alike if _BESIDE.search(name) and name not in pieces]
    other = [name for name in alike if name not in pieces and name not in beside]
    if pieces:
        first = re.match(r"(.*\.gguf)[-._]?[a-z]*", PurePosixPath(pieces[0]).name, re.IGNORECASE)
        assert first is not None, "as _PIECE says"
        said.append(
            f"{_shown(pieces)} are pieces of one file: download them, join them (cat {first[0]}* > {first[1]}) and "
            "give that with model=local model.path=FILE"
        )
    if beside:
        said.append(f"left out as no model (a projector, draft or matrix): {_shown(beside)}")
    if other:
        said.append(f"named otherwise, or not whole: {_shown(other)} (model.file=NAME chooses one)")
    return "; ".join(said)


def _label(quant: QuantConfig) -> str:
    """Return a pattern for the names of a quant."""
    alias = _ALIASES.get(quant.name.upper())
    return f"(?:{'|'.join(re.escape(name) for name in (quant.name, alias) if name)})"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _is_whole(parts: Sequence[str]) -> bool:
    """Return whether these are all the parts, and one file is one file."""
    first = PART.fullmatch(parts[0])
    return len(parts) == (int(first["count"]) if first else 1)
