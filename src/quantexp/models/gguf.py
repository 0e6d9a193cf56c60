"""GGUF metadata, read by llama.cpp: sizes from the tensors, never from the file's name."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import cast

from quantexp.config import QuantConfig
from quantexp.models.gguf_probe import try_reading
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file, write_atomically
from quantexp.util.native.file_types import list_file_types, list_quants, name_quant

UNKNOWN = "unknown"
"""Stands for a whole-file type that the file does not say."""

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
"""One file of a model that llama.cpp has split: NAME-00001-of-00003.gguf."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One GGUF file, or a server's checkpoint, and its identity.

    Attributes:
        path: where it lies; of a split model, its first part, which is what llama.cpp is given; of a checkpoint, the
            folder; empty for a model of which nothing is here.
        sha256: of all its bytes; this, not the path, is the model's identity. Of a split model, the sha256 over its
            parts' hex digests in order, one a line. Of a model of which nothing is here, words that say so, with the
            names of model and quant.
        bytes: size on disk, of all parts; 0 where it is not known.
        parameters: number of tensor elements; of a checkpoint, of the weights that they stand for; 0 where it is not
            known.
        bits_per_weight: bits of all tensors / number of their elements.
        file_type: llama.cpp's label of the whole file, e.g. MOSTLY_Q4_K_M, or a checkpoint's, e.g. awq; a label, not a
            measurement; "unknown" where there is none, with its number where that has no name here.
        architecture: `general.architecture`.
        training_context: tokens of context that the model was trained for; 0 where the file does not say.
        warnings: what llama.cpp finds odd about the file, a line each.
    """

    path: str
    sha256: str
    bytes: int
    parameters: int
    bits_per_weight: float
    file_type: str
    architecture: str
    training_context: int
    warnings: tuple[str, ...] = ()


def identify(path: Path, cache: Path) -> ModelFile:
    """Read and hash the file, or remember what was read from these same bytes before.

    A file is taken as the same while its path, size and modification time are. A note that does not read as one,
    say of another version or torn by a full disk, is written anew.

    Raises:
        UserError: it is not a complete GGUF file, or a part of it is missing.
    """
    parts = list_parts(path)
    for part in parts:
        if not part.is_file():
            raise UserError(f"{part} is missing: {path.name} is one of {len(parts)} parts; put them all in one folder.")
    remembered = _note(path, cache, "identity")
    stamp = [_stamp(part) for part in parts]
    if (known := _recalled(remembered, stamp)) is not None:
        return known
    file = _read(parts, cache)
    _write_note(remembered, {"stamp": stamp, "file": asdict(file)})
    return file


def check_label(file: ModelFile, quant: QuantConfig) -> ModelFile:
    """Return the file, if it is what the quant says.

    A file sold as one quant and swept as another would put a wrong name on every result.

    Raises:
        UserError: it is something else.
    """
    if quant.file_type is None or file.file_type == quant.file_type:
        return file
    make = f"model.quantize=true to make {quant.name} from it"
    if file.file_type.startswith(UNKNOWN):
        number = file.file_type.removeprefix(UNKNOWN).strip()
        says = f"says that it holds type {number}, for which {_library()} has no name" if number else "does not say"
        raise UserError(
            f"{file.path} {says} (general.file_type), so whether it is {quant.name} cannot be told; "
            f"set quant=as-is quant.name={quant.name} to call it that and use it as it is, or {make}."
        )
    held = name_quant(file.file_type)
    choice = f"quant={held}" if held in list_quants() else f"quant=as-is quant.name={held}"
    raise UserError(f"{file.path} holds {held}, not {quant.name}; set {choice} to use it as it is, or {make}.")


def list_parts(path: Path) -> list[Path]:
    """All parts of a split model, of which `path` is one; otherwise the file alone."""
    part = PART.fullmatch(str(path))
    if part is None:
        return [path]
    count = int(part["count"])
    return [Path(f"{part['stem']}-{number:05}-of-{part['count']}.gguf") for number in range(1, count + 1)]


def hashed(path: Path, cache: Path) -> str:
    """sha256 of the file; read again only if its size or modification time has changed since it was last hashed."""
    note = _note(path, cache, "sha256")
    try:
        known = json.loads(note.read_bytes())
        if known["stamp"] == _stamp(path) and isinstance(known["sha256"], str):
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is no such note, or none that reads as one: it is written anew
    digest = hash_file(path)
    remember(path, cache, digest)
    return digest


def remember(path: Path, cache: Path, digest: str) -> None:
    """Note what the file's bytes were just found to hash to."""
    _write_note(_note(path, cache, "sha256"), {"stamp": _stamp(path), "sha256": digest})


def _note(path: Path, cache: Path, kind: str) -> Path:
    return cache / kind / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def _write_note(note: Path, content: dict[str, object]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps(content, indent=1).encode())


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _recalled(remembered: Path, stamp: Sequence[dict[str, int]]) -> ModelFile | None:
    """Return the content of the note; None if there is none, it is of other bytes, or it is not such a note."""
    if not remembered.is_file():
        return None
    try:
        note = json.loads(remembered.read_bytes())
        file = ModelFile(**note["file"] | {"warnings": tuple(note["file"]["warnings"])})
        is_same = note["stamp"] == stamp
    except (ValueError, KeyError, TypeError):
        return None
    typed = [each for each in fields(file) if each.name != "warnings"]
    well_typed = all(isinstance(getattr(file, each.name), cast(type, each.type)) for each in typed)
    well_typed = well_typed and all(isinstance(warning, str) for warning in file.warnings)
    return file if is_same and well_typed else None


def _read(parts: Sequence[Path], cache: Path) -> ModelFile:
    # Only now: a file that was read before is known without it.
    from quantexp.util.llama_library import (
        check_library,
        last_error,
        llama_cpp,
        number_in,
        read_metadata,
        without_weights,
    )

    path = parts[0]
    check_library()  # a library that does not work here would be taken for a damaged file
    warnings = try_reading(parts)
    with without_weights(path) as model:
        if model is None:
            raise UserError(_explain_refusal(path, last_error()))
        architecture = read_metadata(model, "general.architecture") or "unknown"
        elements = llama_cpp.llama_model_n_params(model)
        if elements == 0:
            raise UserError(f"{path} has no tensors, so it is a vocabulary and no model; give a model's GGUF.")
        file_type = number_in(model, "general.file_type")
        return ModelFile(
            path=str(path),
            sha256=combine_digests([hashed(part, cache) for part in parts]),
            bytes=sum(part.stat().st_size for part in parts),
            parameters=elements,
            bits_per_weight=llama_cpp.llama_model_size(model) * 8 / elements,
            file_type=UNKNOWN if file_type is None else list_file_types().get(file_type, f"{UNKNOWN} {file_type}"),
            architecture=architecture,
            training_context=number_in(model, f"{architecture}.context_length") or 0,
            warnings=warnings,
        )


_NEEDED = {
    r"unknown model architecture: '(.+)'": "the architecture {}",
    r"unknown pre-tokenizer type: '(.+)'": "the pre-tokenizer {}",
    r"unknown tokenizer: '(.+)'": "the tokenizer {}",
    r"has invalid ggml type (\d{1,3})\b": "tensors of type {}",
    r"GGUF file is version (\d{1,3}) but": "version {} of the format",
}
"""What a file may have that is newer than the library, by llama.cpp's words."""

_NO_MODEL = {
    "CLIP cannot be used as main model": "is a projector of images or sound (mmproj)",
    "unknown model architecture: ''": "names no architecture (as a file with an importance matrix)",
}
"""What else GGUF files hold, likewise."""


def _explain_refusal(path: Path, reason: str) -> str:
    """Return the sentence for a file that llama.cpp refuses to read."""
    for sign, kind in _NO_MODEL.items():
        if sign in reason:
            return f"{path} {kind} and is no language model; give the model's GGUF."
    for pattern, what in _NEEDED.items():
        if found := re.search(pattern, reason):
            fork = ", or only a fork of llama.cpp such as ik_llama.cpp" if "tensors" in what else ""
            return (
                f"{path} needs {what.format(found[1])}, and this {_library()} does not know it; a newer one may "
                f"(pip install --upgrade llama-cpp-python){fork}."
            )
    return f"{path} is not a complete GGUF file that llama.cpp can read ({reason}); fetch or make it again."


def _library() -> str:
    return f"llama-cpp-python ({version('llama-cpp-python')})"


def combine_digests(digests: Sequence[str]) -> str:
    """Return the digest of the only part, or the sha256 over those of several."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
