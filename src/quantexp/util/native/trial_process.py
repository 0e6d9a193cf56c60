"""A process in which the compiled llama.cpp is used for the first time: one that was compiled badly ends it.

Takes the path of a model and whether to use the kernels for repacked weights (`repacked` or `plain`). Prints a line of
JSON once the library is loaded, another once it has computed. It imports nothing of quantexp.
"""

import ctypes
import json
import math
import os
import sys

PROMPT = 40
"""Tokens read at once: more than the rows of any kernel's block, and some left over."""

WRITTEN = 4
"""Tokens written, one at a time."""


def main() -> None:
    """Load, read a prompt, write some tokens."""
    path, kernels = sys.argv[1:]
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    from llama_cpp import llama_cpp  # only now, with what it prints put aside

    errors: list[str] = []

    def keep(level: int, text: bytes, _: object) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            errors.append(text.decode("utf-8", "replace").strip())

    listening = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(listening, ctypes.c_void_p(0))
    _tell(
        answers,
        system=llama_cpp.llama_print_system_info().decode().strip(),
        gpu=bool(llama_cpp.llama_supports_gpu_offload()),
    )
    of_model = llama_cpp.llama_model_default_params()
    of_model.n_gpu_layers = 0
    of_model.use_extra_bufts = kernels == "repacked"
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), of_model)
    of_context = llama_cpp.llama_context_default_params()
    of_context.n_ctx = of_context.n_batch = of_context.n_ubatch = 128
    of_context.n_threads = of_context.n_threads_batch = 2  # each has tile registers of its own
    context = llama_cpp.llama_init_from_model(model, of_context) if model else None
    if not context:
        sys.exit("; ".join(errors[-3:]) or "it refused a model without a reason")
    words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    row = [3 + (7 * place) % 256 for place in range(PROMPT)]
    for _ in range(WRITTEN):
        tokens = (llama_cpp.llama_token * len(row))(*row)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(row))):
            sys.exit("; ".join(errors[-3:]) or "it could not decode")
        scores = llama_cpp.llama_get_logits(context)[:words]
        if not all(map(math.isfinite, scores)):
            sys.exit("it computes scores that are no numbers")
        row = [scores.index(max(scores))]
    _tell(answers, computed=True)
    os._exit(0)  # what its other libraries do at the end does not matter


def _tell(answers: int, **facts: object) -> None:
    os.write(answers, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main()
