"""Checks of llama.cpp: its build, that it computes, how exactly and how fast. All of it runs in other processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quantexp.evaluation.diagnosis.finding import Finding
from quantexp.util.native.library import MEND, Library, library_build, try_library
from quantexp.util.native.processor import compiled_extensions, processor_extensions, processor_name
from quantexp.util.native.threads import usable_cores
from quantexp.util.terminal import last_line

REFERENCE = 1.0
"""Multiplications and additions a second of reading prompts / those of NumPy's float32 matrices, on the same threads:
0.6 to 1.2 on two busy AVX-512 cores, and 0.04 there with a library that was compiled without vector instructions."""

LEAST = 0.15
"""Share of the reference below which something is amiss; processors differ by less."""

PATIENCE = 120
"""Seconds that the engine may take for what takes ten on an idle machine."""

DEVICES = {"/dev/nvidia0": "GGML_CUDA", "/dev/kfd": "GGML_HIP"}
"""Where Linux has a GPU, and llama.cpp's option for it."""

PROGRAM = "quantexp.evaluation.diagnosis.engine_process"

_LEFT_OUT = {"AMX_INT8"}
"""Extensions that quantexp's settings leave out of a build on purpose."""


def inference_findings(*, quick: bool) -> Iterator[Finding]:
    """All findings about llama.cpp; what needs an earlier one is left out if that is broken.

    Args:
        quick: with a tiny model, which does not tell how fast it is.
    """
    library = try_library()
    yield _build(library)
    yield _gpu(library)
    if library.kernels:
        yield from _engine("tiny" if quick else "demo")


def _build(library: Library) -> Finding:
    try:
        name = f"llama-cpp-python {version('llama-cpp-python')}"
    except PackageNotFoundError:
        return Finding("build", "broken", "llama-cpp-python is not installed", MEND)
    compiled = compiled_extensions(library.system)
    text = f"{name}, build {library_build()}, for {' '.join(compiled) or 'no extensions'}; on {processor_name()}"
    if library.death:
        return Finding("build", "warning" if library.kernels else "broken", f"{text}: {_problem(library)}", MEND)
    unused = [each for each in processor_extensions() if each not in compiled and each not in _LEFT_OUT]
    if any(each.startswith("AVX") for each in unused):
        return Finding("build", "warning", f"{text}, which also has {' '.join(unused)}: slower than need be", MEND)
    return Finding("build", "ok", f"{text}; it computes")


def _problem(library: Library) -> str:
    """Its sentence without the command, which has a place of its own."""
    return library.problem.removesuffix(f"; compile it anew: {MEND}")


def _gpu(library: Library) -> Finding:
    if library.gpu:
        return Finding("gpu", "ok", "llama.cpp was compiled for a GPU: engine.gpu_layers=-1 uses it")
    device = next((path for path in DEVICES if Path(path).exists()), None)
    if device is None:
        return Finding("gpu", "ok", "none is here, and llama.cpp was compiled for the CPU")
    text = f"a GPU is here ({device}), and llama.cpp was compiled for the CPU"
    return Finding("gpu", "warning", text, f'CMAKE_ARGS="-D{DEVICES[device]}=on" {MEND}')


def _engine(choice: str) -> Iterator[Finding]:
    """Yield findings about the engine itself, with the demo's model or the tiny one."""
    try:
        measured = _measured(usable_cores(), choice)
    except subprocess.TimeoutExpired:
        if choice == "tiny":
            yield Finding("inference", "broken", f"quantexp's engine was not through after {PATIENCE} seconds", MEND)
            return
        yield from _engine("tiny")
        text = f"the demo's model has not answered after {PATIENCE} seconds: llama.cpp was compiled for less than the "
        yield Finding("speed", "warning", f"{text}processor has, or others compute", MEND)
        return
    if isinstance(measured, str):
        yield Finding("inference", "broken", f"quantexp's engine breaks down: {measured}", MEND)
        return
    model, compared, identical = measured["model"], measured["compared"], measured["identical"]
    yield Finding("inference", "ok", f"{measured['tokens']} tokens decoded with {model}")
    same = f"{identical} of {compared} answers of {model} are the same beside other neighbours"
    if identical == compared:
        yield Finding("exactness", "ok", same)
    else:
        text = f"{same}: answers on this machine depend on what is written beside them"
        yield Finding("exactness", "warning", text, "add engine.verify=true engine.floor=true to a sweep")
    if choice == "tiny":
        return
    if measured["ratio"] is None:
        yield Finding("speed", "warning", f"{model} is too small to tell", 'python -m pip install "quantexp[demo]"')
        return
    share = measured["ratio"] / REFERENCE
    text = (
        f"{measured['read']:.0f} tokens/s read, {measured['written']:.0f} written, with {model} on {usable_cores()} "
        f"threads; {share:.2f} of the reference beside NumPy's matrices"
    )
    if share < LEAST:
        text += ": llama.cpp was compiled for less than the processor has, or others compute"
        yield Finding("speed", "warning", text, MEND)
    else:
        yield Finding("speed", "ok", text)


def _measured(threads: int, choice: str) -> dict[str, Any] | str:
    """Return what the process has measured, or how it has ended.

    Raises:
        TimeoutExpired: it has not, after `PATIENCE`.
    """
    command = [sys.executable, "-P", "-m", PROGRAM, str(threads), choice]
    # Both computations have the same threads; these variables are read when NumPy is loaded.
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=environment,
        timeout=PATIENCE,
    )  # fmt: skip
    if ended.returncode == 0:
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return found
    if ended.returncode < 0:
        return signal.Signals(-ended.returncode).name
    return last_line(ended.stderr).removeprefix("quantexp: ") or f"exit status {ended.returncode}"
