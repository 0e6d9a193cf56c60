"""Recipes as llama.cpp is given them, and what it could not make of one, found before the work begins."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from quantexp.models.importance_matrix import Weights, read_importance_matrix
from quantexp.models.recipe import Recipe
from quantexp.util.errors import UserError
from quantexp.util.llama_library import (
    check_library,
    interrupts_later,
    llama_cpp,
    number_in,
    quiet_llama,
    read_metadata,
    without_weights,
)
from quantexp.util.native.file_types import list_file_types, list_quants, name_quant

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
"""Tensors that llama.cpp makes of the types that it is told, though it may not be able to."""


@cache
def list_tensor_types() -> dict[str, int]:
    """Map the types that llama.cpp can make of a tensor, e.g. Q4_K, to their numbers.

    Others are intermediate results, such as Q8_K, or whole numbers: those stand in the name of no file type.
    """
    name_of = llama_cpp._lib.ggml_type_name
    name_of.restype = ctypes.c_char_p
    count = llama_cpp.llama_model_quantize_default_params().output_tensor_type  # stands for "none"
    names = {name_of(number).decode().upper(): number for number in range(count)}
    return {
        name: number
        for name, number in names.items()
        if any(f"{quant}_".startswith(f"{name}_") for quant in list_quants())
    }


class Block(NamedTuple):
    """What a type of tensor stores together: numbers, and the bytes that they take."""

    numbers: int
    bytes: int


def measure_block(number: int) -> Block:
    """Return the block of the type with this number, as llama.cpp has it."""
    numbers_of, bytes_of = llama_cpp._lib.ggml_blck_size, llama_cpp._lib.ggml_type_size
    numbers_of.restype, bytes_of.restype = ctypes.c_int64, ctypes.c_size_t
    return Block(numbers_of(number), bytes_of(number))


@contextmanager
def build_parameters(recipe: Recipe) -> Iterator[Any]:
    """Yield the recipe as llama.cpp takes it, as long as what its pointers lead to is held.

    Raises:
        UserError: a type is unknown, or the importance matrix cannot be read.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = next(number for number, name in list_file_types().items() if name == recipe.file_type)
    parameters.allow_requantize = True  # widening a quantized source counts as requantizing
    if recipe.output_type:
        parameters.output_tensor_type = _number_of("model.output_type", recipe.output_type)
    if recipe.embedding_type:
        parameters.token_embedding_type = _number_of("model.embedding_type", recipe.embedding_type)
    if recipe.tensor_types:  # the last one, which is empty, ends the list; so below
        types = (llama_cpp.llama_model_tensor_override * (len(recipe.tensor_types) + 1))()
        for place, (pattern, kind) in zip(types, recipe.tensor_types, strict=False):
            place.pattern, place.type = pattern.encode(), _number_of(f"model.tensor_types.{pattern}", kind)
        parameters.tt_overrides = types
    weights = _read_weights(recipe)
    if weights:
        entries = (llama_cpp.llama_model_imatrix_data * (len(weights) + 1))()
        for entry, (name, values) in zip(entries, weights.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = entries
    yield parameters


def check_recipe(source: Path, recipe: Recipe) -> None:
    """Have llama.cpp go through the recipe without making anything.

    Raises:
        UserError: it cannot make such a file of this model.
    """
    check_library()
    _check_told_types(source, recipe)
    said: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(_level: int, text: bytes, _: ctypes.c_void_p) -> None:
        said.append(text.decode("utf-8", "replace"))

    with build_parameters(recipe) as parameters, interrupts_later():
        parameters.dry_run = True
        llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
        try:
            status = llama_cpp.llama_model_quantize(str(source).encode(), b"", ctypes.byref(parameters))
        finally:
            quiet_llama()
    name = name_quant(recipe.file_type)
    if status != 0:
        reason = " ".join("".join(said).rpartition("failed to quantize: ")[2].split())
        raise UserError(f"llama.cpp cannot make {name} of {source.name}: {reason or 'it gave no reason'}.")
    if "will require an imatrix" in "".join(said) and recipe.calibration is None:
        raise UserError(
            f"llama.cpp makes {name} of {source.name} only with an importance matrix: add model.imatrix=auto, which "
            "makes one here, or give one that llama-imatrix has made of this model, as model.imatrix=FILE."
        )


def _check_told_types(source: Path, recipe: Recipe) -> None:
    """Refuse types of output and embeddings of which llama.cpp does not find out itself that it cannot make them.

    Raises:
        UserError: the rows do not divide into blocks of the type, or it needs an importance matrix.
    """
    told = {"output_type": (recipe.output_type, OUTPUT), "embedding_type": (recipe.embedding_type, EMBEDDING)}
    if not recipe.tensor_types and not any(kind for kind, _ in told.values()):
        return
    weights = _read_weights(recipe)
    width = _read_width(source)
    needs_matrix = llama_cpp._lib.ggml_quantize_requires_imatrix
    needs_matrix.restype = ctypes.c_bool
    for key, (kind, tensor) in told.items():
        if not kind:
            continue
        number = _number_of(f"model.{key}", kind)
        if width % (block := measure_block(number).numbers):
            raise UserError(
                f"model.{key}={kind} needs rows of a multiple of {block} numbers, and those of {source.name} have "
                f"{width}: choose a type with smaller blocks, such as Q8_0."
            )
        if needs_matrix(number) and tensor not in weights:
            raise UserError(_explain_missing(f"model.{key}={kind}", tensor))
    for pattern, kind in recipe.tensor_types:
        for tensor in (EMBEDDING, OUTPUT):
            key = f"model.tensor_types.{pattern}"
            if needs_matrix(_number_of(key, kind)) and tensor not in weights and re.search(pattern, tensor):
                raise UserError(_explain_missing(f"{key}={kind}", tensor))


def _read_width(source: Path) -> int:
    """Return the length of an embedding; 0 if the file cannot be read, which llama.cpp then says itself."""
    with without_weights(source) as model:
        if model is None:
            return 0
        architecture = read_metadata(model, "general.architecture")
        return number_in(model, f"{architecture}.embedding_length") or 0


def _explain_missing(given: str, tensor: str) -> str:
    return f"{given} needs an importance matrix with an entry for {tensor}: choose a wider type."


def _number_of(key: str, kind: str) -> int:
    if kind not in list_tensor_types():
        known = ", ".join(sorted(list_tensor_types()))
        raise UserError(f"{key}={kind} is no type of tensor that llama.cpp can make; choose one of {known}.")
    return list_tensor_types()[kind]


def _read_weights(recipe: Recipe) -> Weights:
    return read_importance_matrix(recipe.imatrix) if recipe.imatrix is not None else {}
