"""llama.cpp in this process: how its threads wait, and its log, kept for error messages and off the terminal."""

import ctypes
import logging
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# OpenMP reads this when the library is loaded. By default its threads spin for long while they wait, which on cores
# that another process wants too (a second job, a browser) slows generation tenfold; a short spin costs nothing.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from llama_cpp import llama_cpp

from quantexp.terminal import one_line

# The other modules import llama_cpp from here, so that the line above always comes first.
__all__ = [
    "interrupts_later",
    "last_error",
    "llama_cpp",
    "metadata_of",
    "number_in",
    "piece_of",
    "quiet_llama",
    "tokens_of",
    "without_weights",
]

log = logging.getLogger(__name__)

GGML_LOG_LEVEL_ERROR = 4
"""enum ggml_log_level in ggml.h."""

_errors: deque[str] = deque(maxlen=8)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level == GGML_LOG_LEVEL_ERROR and line:
        _errors.append(line)
    if line:
        log.debug("%s", line)


def quiet_llama() -> None:
    """Take llama.cpp's log from the terminal and forget its earlier errors."""
    _errors.clear()
    llama_cpp.llama_log_set(_keep, ctypes.c_void_p(0))


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
    """What llama.cpp gave as the reason of its last failure."""
    first = [line for line in _errors if not _FOLLOWING.search(line)]
    loading = [line for line in first if "error loading model: " in line]
    header = [line for line in first if line.startswith("gguf_")]
    other = [line for line in _errors if "error" in line or "failed" in line]
    found = next(iter(loading or header or other), "it gave no reason")
    # It quotes the file, which is anybody's.
    return one_line(re.sub(r"^gguf_\w+: |^.*error loading model: ", "", found))


def piece_of(vocabulary: llama_cpp.llama_vocab_p, token: int) -> bytes:
    """The bytes that a token stands for; none for one that controls the model."""
    room = 64
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, room, 0, False)
        if length >= 0:
            return buffer.raw[:length]
        room = -length


def tokens_of(vocabulary: llama_cpp.llama_vocab_p, text: str, *, begin: bool, special: bool) -> tuple[int, ...]:
    """Token ids of a text.

    Args:
        vocabulary: a model's.
        text: any.
        begin: whether BOS comes before it, if the vocabulary adds one.
        special: whether the names of special tokens in it are these tokens; otherwise they are text.
    """
    data = text.encode()
    room = len(data) + 8
    tokens = (llama_cpp.llama_token * room)()
    count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, room, begin, special)
    return tuple(tokens[:count])


def metadata_of(model: llama_cpp.llama_model_p, key: str) -> str | None:
    """A short value from the file's metadata, as text; None when the file has no such key."""
    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def number_in(model: llama_cpp.llama_model_p, key: str) -> int | None:
    """A whole number from 0 in the file's metadata; None when the file has no such key, or something else there."""
    said = metadata_of(model, key) or ""
    return int(said) if re.fullmatch("[0-9]{1,18}", said) else None


@contextmanager
def without_weights(path: str | os.PathLike[str]) -> Iterator[llama_cpp.llama_model_p | None]:
    """A GGUF's header and vocabulary, freed after; None where llama.cpp cannot read it (`last_error` says why).

    It checks that every tensor lies inside the file.
    """
    quiet_llama()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    with interrupts_later():
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    try:
        yield model or None
    finally:
        if model:
            llama_cpp.llama_model_free(model)
