"""Memory of one conversation as llama.cpp lays it out, measured without weights and without taking it.

llama.cpp can read a file's header and simulate every allocation (`no_alloc`), as its own tools do to fit a model to a
device. The figures are those of its log, which has no other interface in C.
"""

import os
import re
from collections.abc import Sequence
from functools import cache

from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.models.footprint import CONTEXTS, Footprint
from quantexp.util.errors import UserError
from quantexp.util.llama_library import captured_log, interrupts_later, last_error, llama_cpp, open_model

BATCH = 2048
"""Tokens of a prompt that are given to llama.cpp at once: llama-server's default; 512 of them are computed at once."""

_MIB = r"([0-9.]+) MiB"

_CACHE = re.compile(rf": size = +{_MIB} \(|, size = +{_MIB}$")
"""Lines with the size of a KV cache or of recurrent states: a model may have several."""

_BUFFER = re.compile(rf": +(?P<device>\S+) +(?P<kind>compute|output) buffer size = +{_MIB}$")
"""Lines with the size of a buffer on a device; of two for the same one the later counts."""


def measure_footprints(
    path: str | os.PathLike[str], contexts: Sequence[int], settings: KVCache
) -> tuple[Footprint, ...]:
    """Measure the memory of one conversation beside the weights, as llama-server would take it by default.

    Args:
        path: a GGUF, or the first part of one.
        contexts: tokens of context, each at least 1.
        settings: types of the KV cache, and attention.

    Raises:
        UserError: llama.cpp cannot read the file, or cannot make such a context of it.
    """
    parameters = llama_cpp.llama_model_default_params()
    parameters.no_alloc = True
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE  # llama.cpp maps no file of which it allocates nothing
    with open_model(path, parameters) as model:
        if model is None:
            raise UserError(f"llama.cpp could not lay {path} out: {last_error()}.")
        settings.check(model)
        return tuple(_measure(model, path, context, settings) for context in contexts)


@cache
def recall_footprints(path: str, sha256: str, settings: KVCache) -> tuple[Footprint, ...]:
    """Return the memory that jobs record, measured once in a process for each file and cache.

    Args:
        path: as for `measure_footprints`.
        sha256: of the file's bytes.
        settings: types of the KV cache, and attention.

    Raises:
        UserError: llama.cpp cannot read the file, or cannot make such a context of it.
    """
    return measure_footprints(path, CONTEXTS, settings)


def _measure(
    model: llama_cpp.llama_model_p, path: str | os.PathLike[str], context: int, settings: KVCache
) -> Footprint:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = context
    parameters.n_batch = BATCH
    parameters.n_seq_max = parameters.n_outputs_max = 1
    parameters.swa_full = False  # no cells for what the windows of attention have left behind
    settings.apply(parameters)
    with captured_log() as lines, interrupts_later():
        opened = llama_cpp.llama_init_from_model(model, parameters)
    if not opened:
        raise UserError(f"llama.cpp could not lay out a context of {context} tokens for {path}: {last_error()}.")
    llama_cpp.llama_free(opened)
    return Footprint(context, *read_sizes(lines))


def read_sizes(lines: Sequence[str]) -> tuple[int, int]:
    """Return the bytes of the cache and of the buffers that llama.cpp's log of a context tells.

    Raises:
        UserError: it tells no buffer, as a llama.cpp of other words would.
    """
    caches, buffers = [], {}
    for line in lines:
        if found := _CACHE.search(line):
            caches.append(_count_bytes(found[1] or found[2]))
        elif found := _BUFFER.search(line):
            buffers[found["device"], found["kind"]] = _count_bytes(found[3])
    if not any(kind == "compute" for _, kind in buffers):
        raise UserError(
            "This llama.cpp does not say in its log what a context takes, so memory cannot be measured with it; "
            "install the version of llama-cpp-python that quantexp was tested with."
        )
    return sum(caches), sum(buffers.values())


def _count_bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * 2**20)
