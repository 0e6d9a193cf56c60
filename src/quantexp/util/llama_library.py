"""llama.cpp in this process: a trial before it is loaded, how its threads wait, and its log, off the terminal."""

import ctypes
import logging
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryFile
from types import FrameType

from quantexp.util.errors import UserError
from quantexp.util.native.library import Library, library_folder, open_tried_library
from quantexp.util.terminal import one_line

# OpenMP reads this when the library is loaded. By default its threads spin for long while they wait, which on cores
# that another process wants too (a second job, a browser) slows generation tenfold; a short spin costs nothing.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# One that was compiled for another system or processor may end the process that loads it.
_library = open_tried_library()
if not _library.system:
    raise UserError(f"{_library.problem}.")

from llama_cpp import llama_cpp  # noqa: E402

# The other modules import llama_cpp from here, so that the lines above always come first.
__all__ = [
    "captured_log",
    "check_library",
    "has_refused_amx",
    "interrupts_later",
    "last_error",
    "llama_cpp",
    "number_in",
    "open_model",
    "quiet_llama",
    "read_metadata",
    "read_piece",
    "tokenize_text",
    "without_weights",
]

log = logging.getLogger(__name__)

GGML_LOG_LEVEL_ERROR = 4
"""enum ggml_log_level in ggml.h."""

GGML_BACKEND_DEVICE_TYPE_CPU = 0
"""enum ggml_backend_dev_type in ggml-backend.h."""

_errors: deque[str] = deque(maxlen=8)

_listeners: list[list[str]] = []
"""Those who want the lines of the log, see `captured_log`."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level == GGML_LOG_LEVEL_ERROR and line:
        _errors.append(line)
    if line:
        log.debug("%s", line)
        for lines in _listeners:
            lines.append(line)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Lines that llama.cpp logs meanwhile; `quiet_llama` must have been called."""
    lines: list[str] = []
    _listeners.append(lines)
    try:
        yield lines
    finally:
        _listeners[:] = [each for each in _listeners if each is not lines]


def quiet_llama() -> None:
    """Take what llama.cpp says from the terminal and forget its earlier errors."""
    _errors.clear()
    llama_cpp.llama_log_set(_keep, ctypes.c_void_p(0))
    has_refused_amx()


@cache
def check_library() -> Library:
    """Return the library that has been loaded, once it is certain that it computes; a warning if it does so slowly.

    Raises:
        UserError: it does not compute on this processor.
    """
    if not _library.kernels:
        raise UserError(f"{_library.problem}.")
    if _library.problem:
        log.warning("%s", _library.problem)
    return _library


@cache
def has_refused_amx() -> bool:
    """Tell whether the system keeps a library with AMX kernels from using them; others then compute in their place.

    llama.cpp asks when it lists its kernels for the first time, and prints the refusal past its log. So it is asked to
    list them here, where that can be kept off the terminal.
    """
    folder = library_folder()
    if "AMX_INT8 = 1" not in _library.system or folder is None:
        return False
    ggml = ctypes.CDLL(str(folder / "libllama.so"))  # through which its parts are found
    for name in ("dev_by_type", "dev_backend_reg", "reg_get_proc_address"):
        getattr(ggml, f"ggml_backend_{name}").restype = ctypes.c_void_p
    device = ctypes.c_void_p(ggml.ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU))
    registry = ctypes.c_void_p(ggml.ggml_backend_dev_backend_reg(device))
    listing = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    with _captured_stderr() as said:
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(listing)(device)
    return any("AMX is not ready" in line for line in said)


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Lines that anything in this process, C included, writes to standard error meanwhile; they go to the debug log."""
    said: list[str] = []
    with TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            said += file.read().decode("utf-8", "replace").splitlines()
            for line in said:
                log.debug("%s", line)


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Around a long call of llama.cpp: Ctrl-C, SIGTERM and SIGHUP take effect when it has returned.

    Python would run their handlers inside the log callback, and an exception cannot leave a callback: the interrupt
    would be printed and lost, and the sweep would go on.
    """
    arrived: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        if not arrived:
            log.warning("stopping as soon as llama.cpp has finished with this file")
        arrived.append(number)

    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    raising = {number: handler for number, handler in held.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        raising = {}  # handlers run in the main thread only, and only it may set them
    for number in raising:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


_FOLLOWING = re.compile(r"failed to load model(?!:)|: failed to read ")
"""Errors that only follow from an earlier one."""


def last_error() -> str:
    """Return llama.cpp's reason for its last failure."""
    first = [line for line in _errors if not _FOLLOWING.search(line)]
    loading = [line for line in first if "error loading model: " in line]
    header = [line for line in first if line.startswith("gguf_")]
    other = [line for line in _errors if "error" in line or "failed" in line]
    found = next(iter(loading or header or other or first), "it gave no reason")
    # It quotes the file, which is anybody's.
    return one_line(re.sub(r"^gguf_\w+: |^llama_init_from_model: |^.*error loading model: ", "", found))


def read_piece(vocabulary: llama_cpp.llama_vocab_p, token: int) -> bytes:
    """Return the bytes that a token stands for; none for one that controls the model."""
    room = 64
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, room, 0, False)
        if length >= 0:
            return buffer.raw[:length]
        room = -length


def tokenize_text(vocabulary: llama_cpp.llama_vocab_p, text: str, *, begin: bool, special: bool) -> tuple[int, ...]:
    """Token ids of a text.

    Args:
        vocabulary: a model's.
        text: any.
        begin: whether BOS comes before it, if the vocabulary adds one.
        special: whether the names of special tokens in it are these tokens; otherwise they are text.
    """
    data = text.encode()
    room = len(data) + 8
    while True:
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, room, begin, special)
        if count >= 0:
            return tuple(tokens[:count])
        room = -count  # more tokens than bytes: a vocabulary without U+2581 writes each space in three


def read_metadata(model: llama_cpp.llama_model_p, key: str) -> str | None:
    """Return a short value from the file's metadata, as text; None when the file has no such key."""
    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def number_in(model: llama_cpp.llama_model_p, key: str) -> int | None:
    """Read a whole number from 0 in the file's metadata; None if the file has no such key, or something else."""
    said = read_metadata(model, key) or ""
    return int(said) if re.fullmatch("[0-9]{1,18}", said) else None


@contextmanager
def open_model(
    path: str | os.PathLike[str], parameters: llama_cpp.llama_model_params
) -> Iterator[llama_cpp.llama_model_p | None]:
    """Yield what these parameters read of a GGUF, freed after; None if llama.cpp cannot read it (see `last_error`)."""
    quiet_llama()
    with interrupts_later():
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    try:
        yield model or None
    finally:
        if model:
            llama_cpp.llama_model_free(model)


@contextmanager
def without_weights(path: str | os.PathLike[str]) -> Iterator[llama_cpp.llama_model_p | None]:
    """Yield a GGUF's header and vocabulary, as `open_model`; every tensor is known to lie in the file."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    with open_model(path, parameters) as model:
        yield model
