"""A process in which llama.cpp reads a GGUF for the first time: a damaged one can end the process that reads it.

Takes the file's path, and `compute` if some tokens are to be computed. Ends with status 0 whether or not llama.cpp
could read the file, which the caller will see for itself, and with `OUT_OF_MEMORY` if it wanted more than it may have.
Writes a line of JSON: `wrong`, a value that nothing can be computed with, in words, or null; `warnings`, llama.cpp's.
It imports nothing of quantexp, so that it starts in a fifth of a second.
"""

import contextlib
import ctypes
import json
import math
import os
import re
import resource
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

SECONDS = 120
"""Of computing, as it is started with; the largest vocabularies take two."""

MEMORY = 4 << 30
"""Bytes beyond what the imports take. Large vocabularies take some hundred MB; a header of 1 kB can ask for 21 GB."""

OUT_OF_MEMORY = 3
"""Exit status."""

WARNING = 3
"""enum ggml_log_level in ggml.h."""

TOKENS = 4
"""How many are computed; attention has something to attend to from the second on."""

_RANGES = (
    (re.compile(r".*_epsilon"), "from 0 to 1", lambda value: 0 <= value < 1),
    (re.compile(r".*rope_freq_base|rope\.freq_base(?:_swa)?"), "above 0", lambda value: value > 0),
    (re.compile(r"rope\.scale_linear|rope\.scaling\.factor"), "0 or above", lambda value: value >= 0),
    (re.compile(r".*"), "finite", math.isfinite),
)
"""What numbers of a header must be; the last holds for all. llama.cpp checks whole numbers itself, and no others."""


def main() -> None:
    """Read the vocabulary, then what the tensors are said to be, then compute."""
    import psutil  # only now, both: this module is imported by the process that starts the program, too

    llama_cpp = import_functions()
    # Of data: addresses that are only reserved, as drivers of GPUs do, do not count.
    own = getattr(psutil.Process().memory_info(), "data", 0)
    with contextlib.suppress(ValueError):  # a lower limit holds already
        resource.setrlimit(resource.RLIMIT_DATA, (own + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    path, computes = os.fsencode(sys.argv[1]), sys.argv[2:] == ["compute"]
    said: list[tuple[int, bytes]] = []
    listening = llama_cpp.llama_log_callback(lambda level, text, __: said.append((level, text)))
    llama_cpp.llama_log_set(listening, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.use_extra_bufts = False  # weights stay where the file is, and are not arranged anew in memory
    load_mode = parameters.load_mode
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    wrong, model = None, None
    for part in ("vocab_only", "no_alloc"):
        setattr(parameters, part, True)
        model = llama_cpp.llama_model_load_from_file(path, parameters)
        if not model:
            if any(b"bad_alloc" in text for _, text in said):
                sys.exit(OUT_OF_MEMORY)
            break
        wrong = wrong or find_wrong(llama_cpp, model)
        llama_cpp.llama_model_free(model)
        setattr(parameters, part, False)
    warnings = [text.decode("utf-8", "replace").strip() for level, text in said if level == WARNING]
    if model:
        parameters.load_mode = load_mode
        if computes and wrong is None and (model := llama_cpp.llama_model_load_from_file(path, parameters)):
            wrong = _compute(llama_cpp, model)
    print(json.dumps({"wrong": wrong, "warnings": list(dict.fromkeys(warnings))}))  # noqa: T201 - the answer


def import_functions() -> Any:
    """Import llama.cpp's functions alone; the package around them imports NumPy and more, for ten times as long."""
    package, spec = ModuleType("llama_cpp"), find_spec("llama_cpp")
    package.__path__ = [] if spec is None else spec.submodule_search_locations or []
    sys.modules["llama_cpp"] = package
    return import_module("llama_cpp.llama_cpp")


def find_wrong(llama_cpp: Any, model: Any) -> str | None:
    """Return the first number of the header that is outside its range, in words."""
    header = dict(_header(llama_cpp, model))
    architecture = header.get("general.architecture", "")
    for key, value in header.items():
        if not key.startswith(f"{architecture}."):
            continue
        with contextlib.suppress(ValueError):  # no number
            number, name = float(value), key.removeprefix(f"{architecture}.")
            for pattern, needed, is_usable in _RANGES:
                if pattern.fullmatch(name) and not is_usable(number):
                    return f"its header says {key}={value}, which must be {needed}"
    return None


def _header(llama_cpp: Any, model: Any) -> Iterator[tuple[str, str]]:
    """Keys and values, as text, of all that is no list."""
    key, value = ctypes.create_string_buffer(256), ctypes.create_string_buffer(64)
    for number in range(llama_cpp.llama_model_meta_count(model)):
        llama_cpp.llama_model_meta_key_by_index(model, number, key, len(key))
        llama_cpp.llama_model_meta_val_str_by_index(model, number, value, len(value))
        yield key.value.decode("utf-8", "replace"), value.value.decode("utf-8", "replace")


def _compute(llama_cpp: Any, model: Any) -> str | None:
    """Find what is wrong with the logits after the first tokens of the vocabulary, in words."""
    if llama_cpp.llama_model_has_encoder(model):
        return None  # it wants its encoder to be asked first
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 32
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.offload_kqv = parameters.op_offload = False
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        return None
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    tokens = (llama_cpp.llama_token * TOKENS)(*(number % vocabulary for number in range(TOKENS)))
    if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, TOKENS)) != 0:
        return None
    logits = llama_cpp.llama_get_logits_ith(context, -1)
    if logits and not any(math.isfinite(logits[number]) for number in range(vocabulary)):
        return "none of its logits is a number (NaN), whatever it is asked"
    return None


if __name__ == "__main__":
    main()
