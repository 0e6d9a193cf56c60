"""Making the quants of a model from one source file, once, in a cache."""

import ctypes
import logging
import os
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from quantexp.config import QuantConfig
from quantexp.models.gguf import ModelFile
from quantexp.util.errors import UserError
from quantexp.util.llama_library import check_library, interrupts_later, last_error, llama_cpp, quiet_llama
from quantexp.util.native.file_types import list_file_types

log = logging.getLogger(__name__)

FLOATS = ("ALL_F32", "MOSTLY_F16", "MOSTLY_BF16")
"""Types whose weights are not quantized: a ladder starts from one of these."""

HALF = "MOSTLY_F16"


def make_quant(source: ModelFile, quant: QuantConfig, cache: Path) -> Path:
    """Return the file of this quant, made from the source if the cache has none yet.

    A source that is itself quantized is widened to 16 bits first. The library's version is part of
    the place, because quantizing is not byte-reproducible between versions.

    Raises:
        UserError: llama.cpp knows no such type or could not write the file.
    """
    file_type = quant.file_type
    if file_type is None or file_type not in list_file_types().values():
        known = ", ".join(sorted(list_file_types().values()))
        raise UserError(f"quant.file_type={file_type} is unknown to llama.cpp; choose one of {known}.")
    if source.file_type == file_type:
        return Path(source.path)
    folder = cache / "ladders" / f"{source.sha256[:16]}-{version('llama-cpp-python')}"
    wide = Path(source.path)
    if source.file_type not in FLOATS:
        wide = _made(wide, folder / f"{HALF}.gguf", HALF)
    return wide if file_type == HALF and wide.parent == folder else _made(wide, folder / f"{file_type}.gguf", file_type)


def _made(source: Path, target: Path, file_type: str) -> Path:
    """Quantize into a file that appears whole or not at all; wait for another process at the same work."""
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.is_file():
            return target
        log.info("making %s from %s (once; kept in %s)", file_type, source.name, target.parent)
        for abandoned in target.parent.glob(f"{target.stem}.*.unfinished"):
            abandoned.unlink()  # whoever holds the lock is the only one at work, so its maker was killed
        unfinished = target.with_suffix(f".{os.getpid()}.unfinished")
        try:
            _quantize(source, unfinished, file_type)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def _quantize(source: Path, target: Path, file_type: str) -> None:
    check_library()
    quiet_llama()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = next(number for number, name in list_file_types().items() if name == file_type)
    parameters.allow_requantize = True  # widening a quantized source counts as requantizing
    with interrupts_later():
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    if status != 0:
        free = os.statvfs(target.parent)
        raise UserError(
            f"llama.cpp could not write {file_type} of {source.name} to {target.parent} ({last_error()}; "
            f"{free.f_bavail * free.f_frsize / 1e6:.0f} MB free there); make room or set model.cache to another folder."
        )
    with target.open("rb") as stream:  # on disk before the name says so, or a power cut leaves a hollow file
        os.fsync(stream.fileno())
