"""From a model and a quant in the configuration to one file, or a server's checkpoint, that is known by its bytes."""

import logging
from collections.abc import Iterable
from functools import cache

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.checkpoint import check_checkpoint, identify_served
from quantexp.models.gguf import ModelFile, check_label, identify
from quantexp.models.recipe import read_recipe
from quantexp.models.sources import cache_folder, source_path
from quantexp.util.errors import UserError
from quantexp.util.native.library import open_tried_library

__all__ = ["ModelFile", "describe_source", "find_source", "prepare", "resolve"]

log = logging.getLogger(__name__)


def prepare(wanted: Iterable[tuple[ModelConfig, QuantConfig]]) -> None:
    """Have every source file here, before the first of them is used.

    Raises:
        UserError: one is not there and cannot be had, or the configuration names none.
    """
    wanted = list(wanted)
    from_hub = [(model, quant) for model, quant in wanted if model.source == "hub"]
    if from_hub:
        from quantexp.models.hub import fetch  # only now: most of its imports serve nothing else

        fetch(from_hub, cache_folder(from_hub[0][0]))
    for model, quant in wanted:
        if model.source == "server":
            check_checkpoint(model, quant)
        else:
            source_path(model, quant)
            if model.quantize:
                _check_making(model, quant)


def _check_making(model: ModelConfig, quant: QuantConfig) -> None:
    """Have llama.cpp say now what it cannot make, unless only other machines have one that works.

    A source that cannot be read is the job's own failure, which it tells when its turn comes.

    Raises:
        UserError: the recipe cannot be read, or llama.cpp cannot make the quant.
    """
    cache = cache_folder(model)
    recipe = read_recipe(model, quant, cache)
    if not open_tried_library().kernels:
        return
    try:
        source = find_source(model, quant)
    except (UserError, OSError):
        return
    from quantexp.models.quantize import check_quant  # only now: it loads the library

    check_quant(source, recipe, cache)


def find_source(model: ModelConfig, quant: QuantConfig) -> ModelFile:
    """Return the quant's GGUF, or the source it is quantized from; for a server's model, what is known of it.

    Raises:
        UserError: there is no such file, it is not a whole GGUF, or its bytes are not the expected ones.
    """
    if model.source == "server":
        return identify_served(model, quant)
    source = identify(source_path(model, quant), cache_folder(model))
    if model.sha256 is not None and source.sha256 != model.sha256:
        raise UserError(
            f"{source.path} hashes to {source.sha256}, but model.sha256 says {model.sha256}; "
            "fetch the file again, or set model.sha256=null to use it as it is."
        )
    if source.warnings:
        _log_warnings(source)
    return source


@cache
def _log_warnings(file: ModelFile) -> None:
    """Once a process: the jobs of a sweep share files."""
    log.warning("llama.cpp warns of %s: %s", file.path, "; ".join(file.warnings))


def resolve(model: ModelConfig, quant: QuantConfig) -> tuple[ModelFile, ModelFile]:
    """Return the file to load and the source it was made from (the same one when nothing was made).

    Raises:
        UserError: the source cannot be used (see `find_source`), or it holds another type than the quant says.
    """
    source = find_source(model, quant)
    if model.source == "server":
        return source, source
    if not model.quantize:
        return check_label(source, quant), source
    from quantexp.models.quantize import make_quant  # only now: it loads the library

    cache = cache_folder(model)
    return identify(make_quant(source, read_recipe(model, quant, cache), cache), cache), source


def describe_source(model: ModelConfig, quant: QuantConfig, source: ModelFile) -> str:
    """Name what a quant's file is, or is made of and how: its source's hash, and that of the recipe if it has one.

    Raises:
        UserError: the recipe cannot be read.
    """
    recipe = read_recipe(model, quant, cache_folder(model)) if model.quantize else None
    return f"{source.sha256} {recipe.digest}" if recipe is not None and recipe.digest else source.sha256
