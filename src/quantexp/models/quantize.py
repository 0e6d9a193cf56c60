"""Making the quants of a model from one source file, once, in a cache."""

import ctypes
import logging
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from quantexp.models.calibration import read_calibration
from quantexp.models.gguf import ModelFile
from quantexp.models.recipe import FLOATS, Recipe
from quantexp.models.recipe_parameters import build_parameters, check_recipe
from quantexp.util.errors import UserError
from quantexp.util.llama_library import check_library, interrupts_later, last_error, llama_cpp, quiet_llama
from quantexp.util.native.file_types import name_quant

log = logging.getLogger(__name__)

HALF = Recipe("MOSTLY_F16")


def make_quant(source: ModelFile, recipe: Recipe, cache: Path) -> Path:
    """Return the file of this quant, made from the source if the cache has none yet.

    A source that is itself quantized is widened to 16 bits first. The library's version is part of
    the place, because quantizing is not byte-reproducible between versions.

    Raises:
        UserError: llama.cpp cannot make such a file of this model, or could not write it.
    """
    target = _place(source, recipe, cache)
    if target.is_file():
        return target
    check_recipe(Path(source.path), recipe)
    wide = Path(source.path)
    if source.file_type not in FLOATS:
        wide = _made(wide, _place(source, HALF, cache), HALF)
    if recipe.calibration is not None:
        recipe = replace(recipe, imatrix=_measure_matrix(source, wide, recipe.calibration, recipe, cache))
    return wide if wide == target else _made(wide, target, recipe)


def _measure_matrix(source: ModelFile, wide: Path, text: Path, recipe: Recipe, cache: Path) -> Path:
    """Return the importance matrix of the model, made of a text if the cache has none yet."""
    identity = recipe.calibration_sha256.replace(" ", "-")
    folder = _folder(source, cache)
    target = folder / f"imatrix-{identity[:16]}{identity[64:]}.dat"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_file():
            log.info("making an importance matrix of %s (once; kept in %s)", wide.name, folder)
            from quantexp.models.importance_measurement import measure_importance, write_matrix  # NumPy, only now

            write_matrix(target, measure_importance(wide, read_calibration(text), wide.name))
    return target


def check_quant(source: ModelFile, recipe: Recipe, cache: Path) -> None:
    """Find out that the quant is there or can be made, without making it.

    Raises:
        UserError: llama.cpp cannot make such a file of this model.
    """
    if not _place(source, recipe, cache).is_file():
        check_recipe(Path(source.path), recipe)


def _place(source: ModelFile, recipe: Recipe, cache: Path) -> Path:
    """Return where the quant is kept; what needs no making is where it is."""
    if source.file_type == recipe.file_type and not recipe.digest:
        return Path(source.path)
    return _folder(source, cache) / f"{recipe.name}.gguf"


def _folder(source: ModelFile, cache: Path) -> Path:
    """Return where all that is made of a source is kept."""
    return cache / "ladders" / f"{source.sha256[:16]}-{version('llama-cpp-python')}"


def _made(source: Path, target: Path, recipe: Recipe) -> Path:
    """Quantize into a file that appears whole or not at all; wait for another process at the same work."""
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.is_file():
            return target
        log.info("making %s from %s (once; kept in %s)", recipe.name, source.name, target.parent)
        for abandoned in target.parent.glob(f"{target.stem}.*.unfinished"):
            abandoned.unlink()  # whoever holds the lock is the only one at work, so its maker was killed
        unfinished = target.with_suffix(f".{os.getpid()}.unfinished")
        try:
            _quantize(source, unfinished, recipe)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def _quantize(source: Path, target: Path, recipe: Recipe) -> None:
    check_library()
    quiet_llama()
    with build_parameters(recipe) as parameters, interrupts_later():
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    if status != 0:
        if "matrix" in (reason := last_error()):
            made = f"{name_quant(recipe.file_type)} with model.imatrix={recipe.imatrix}"
            raise UserError(f"llama.cpp cannot make {made}: {reason}.")
        free = os.statvfs(target.parent)
        raise UserError(
            f"llama.cpp could not write {recipe.file_type} of {source.name} to {target.parent} ({reason}; "
            f"{free.f_bavail * free.f_frsize / 1e6:.0f} MB free there); make room or set model.cache to another folder."
        )
    with target.open("rb") as stream:  # on disk before the name says so, or a power cut leaves a hollow file
        os.fsync(stream.fileno())
