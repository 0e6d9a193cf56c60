"""From a model and a quant in the configuration to one file, or a server's checkpoint, that is known by its bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from quantexp.config import ModelConfig, QuantConfig
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.models.gguf import ModelFile

__all__ = ["ModelFile", "prepare", "resolve", "source_of"]

log = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    """Import `ModelFile` when it is asked for.

    Python imports this module before the command of its package begins, and a llama.cpp that cannot be loaded is for
    that command to report.
    """
    if name != "ModelFile":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from quantexp.models.gguf import ModelFile

    return ModelFile


def prepare(wanted: Iterable[tuple[ModelConfig, QuantConfig]]) -> None:
    """Have every source file here, before the first of them is used.

    Raises:
        UserError: one is not there and cannot be had, or the configuration names none.
    """
    from quantexp.models.checkpoint import check_checkpoint
    from quantexp.models.hub import fetch
    from quantexp.models.sources import cache_folder, source_path

    wanted = list(wanted)
    from_hub = [(model, quant) for model, quant in wanted if model.source == "hub"]
    if from_hub:
        fetch(from_hub, cache_folder(from_hub[0][0]))
    for model, quant in wanted:
        if model.source == "server":
            check_checkpoint(model, quant)
        else:
            source_path(model, quant)


def find_source(model: ModelConfig, quant: QuantConfig) -> ModelFile:
    """Return the quant's GGUF, or the source it is quantized from; for a server's model, what is known of it.

    Raises:
        UserError: there is no such file, it is not a whole GGUF, or its bytes are not the expected ones.
    """
    from quantexp.models.checkpoint import identify_served
    from quantexp.models.gguf import identify
    from quantexp.models.sources import cache_folder, source_path

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
    from quantexp.models.gguf import check_label, identify
    from quantexp.models.quantize import make_quant
    from quantexp.models.sources import cache_folder

    source = find_source(model, quant)
    if model.source == "server":
        return source, source
    if not model.quantize:
        return check_label(source, quant), source
    if quant.file_type is None:
        raise UserError(
            f"quant={quant.name} names no file type to quantize {model.name} to; "
            "choose a quant such as Q4_K_M, or set model.quantize=false."
        )
    cache = cache_folder(model)
    return identify(make_quant(source, quant, cache), cache), source
