"""A process in which llama.cpp reads a GGUF for the first time: a damaged one can end the process that reads it.

Takes the file's path; ends with status 0 whether or not llama.cpp could read it, which the caller will see for itself,
and with `OUT_OF_MEMORY` if it wanted more than it may have. It imports nothing of quantexp, so that it starts in half a
second.
"""

import contextlib
import ctypes
import os
import resource
import sys

import psutil

SECONDS = 120
"""Of computing; the largest vocabularies take two."""

MEMORY = 4 << 30
"""Bytes beyond what the imports take. Large vocabularies take some hundred MB; a header of 1 kB can ask for 21 GB."""

OUT_OF_MEMORY = 3
"""Exit status."""


def main() -> None:
    """Read the vocabulary, then what the tensors are said to be; their bytes stay where they are."""
    os.environ["GGML_NO_BACKTRACE"] = "1"  # it would call a debugger, and fill the terminal
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_CPU, SECONDS)
    from llama_cpp import llama_cpp  # only now: it reads the variable

    # Of data: addresses that are only reserved, as drivers of GPUs do, do not count.
    own = getattr(psutil.Process().memory_info(), "data", 0)
    _limit(resource.RLIMIT_DATA, own + MEMORY)
    said: list[bytes] = []
    listening = llama_cpp.llama_log_callback(lambda _, text, __: said.append(text))
    llama_cpp.llama_log_set(listening, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    for part in ("vocab_only", "no_alloc"):
        setattr(parameters, part, True)
        model = llama_cpp.llama_model_load_from_file(os.fsencode(sys.argv[1]), parameters)
        if not model:
            if any(b"bad_alloc" in text for text in said):
                sys.exit(OUT_OF_MEMORY)
            return
        llama_cpp.llama_model_free(model)
        setattr(parameters, part, False)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    with contextlib.suppress(ValueError):  # a lower limit holds already
        resource.setrlimit(what, (most, hard))


if __name__ == "__main__":
    main()
