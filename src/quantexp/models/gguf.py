"""What a GGUF file says of itself, read by llama.cpp: sizes from its tensors, never from its name."""

import ctypes
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

from quantexp.errors import UserError
from quantexp.files import write_atomically
from quantexp.llama import interrupts_later, last_error, llama_cpp, quiet_llama

FILE_TYPES = {
    value: name.removeprefix("LLAMA_FTYPE_")
    for name, value in vars(llama_cpp).items()
    if name.startswith("LLAMA_FTYPE_") and isinstance(value, int)
}
"""llama.cpp's numbers for whole-file types, e.g. 15 -> MOSTLY_Q4_K_M (enum llama_ftype in llama.h)."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One GGUF file and its identity.

    Attributes:
        path: where it lies.
        sha256: of all its bytes; this, not the path, is the model's identity.
        bytes: size on disk.
        parameters: number of tensor elements.
        bits_per_weight: bits of all tensors / number of their elements.
        file_type: llama.cpp's label of the whole file, e.g. MOSTLY_Q4_K_M; a label, not a measurement.
        architecture: `general.architecture`.
        training_context: tokens of context that the model was trained for; 0 where the file does not say.
    """

    path: str
    sha256: str
    bytes: int
    parameters: int
    bits_per_weight: float
    file_type: str
    architecture: str
    training_context: int


def identify(path: Path, cache: Path) -> ModelFile:
    """Read and hash the file, or remember what was read from these same bytes before.

    A file is taken as the same while its path, size and modification time are. A note that does not read as one,
    say of another version or torn by a full disk, is written anew.

    Raises:
        UserError: it is not a complete GGUF file.
    """
    status = path.stat()
    remembered = cache / "identity" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    stamp = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if (known := _recalled(remembered, stamp)) is not None:
        return known
    file = _read(path, status.st_size)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(remembered, json.dumps({"stamp": stamp, "file": asdict(file)}, indent=1).encode())
    return file


def _recalled(remembered: Path, stamp: dict[str, int]) -> ModelFile | None:
    """What the note says; None when there is none, it is of other bytes, or it is not such a note."""
    if not remembered.is_file():
        return None
    try:
        note = json.loads(remembered.read_bytes())
        file = ModelFile(**note["file"])
        is_same = note["stamp"] == stamp
    except (ValueError, KeyError, TypeError):
        return None
    well_typed = all(isinstance(getattr(file, each.name), cast(type, each.type)) for each in fields(file))
    return file if is_same and well_typed else None


def _read(path: Path, size: int) -> ModelFile:
    quiet_llama()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True  # header and vocabulary; checks that every tensor lies inside the file
    with interrupts_later():
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise UserError(
            f"{path} is not a complete GGUF file that llama.cpp can read ({last_error()}); fetch or make it again."
        )
    try:
        architecture = _metadata(model, "general.architecture") or "unknown"
        elements = llama_cpp.llama_model_n_params(model)
        file_type = int(_metadata(model, "general.file_type") or -1)
        return ModelFile(
            path=str(path),
            sha256=sha256_of(path),
            bytes=size,
            parameters=elements,
            bits_per_weight=llama_cpp.llama_model_size(model) * 8 / elements,
            file_type=FILE_TYPES.get(file_type, "unknown"),
            architecture=architecture,
            training_context=int(_metadata(model, f"{architecture}.context_length") or 0),
        )
    finally:
        llama_cpp.llama_model_free(model)


def _metadata(model: llama_cpp.llama_model_p, key: str) -> str | None:
    """A short value from the file's metadata, as text; None when the file has no such key."""
    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode() if length >= 0 else None


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
