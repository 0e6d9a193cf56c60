"""llama.cpp's log: kept for error messages, off the terminal."""

import ctypes
import logging
from collections import deque

from llama_cpp import llama_cpp

log = logging.getLogger(__name__)

GGML_LOG_LEVEL_WARN, GGML_LOG_LEVEL_ERROR = 3, 4
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


def last_error() -> str:
    """What llama.cpp gave as the reason of its last failure."""
    reasons = [line for line in _errors if "error" in line or "failed" in line]
    specific = [line for line in reasons if "error loading model" in line] or reasons
    return specific[0].rsplit("error loading model: ", 1)[-1] if specific else "it gave no reason"
