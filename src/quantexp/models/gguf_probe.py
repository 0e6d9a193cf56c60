"""A first reading of a GGUF by llama.cpp, which what is wrong in one may end with the whole process."""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from quantexp.models.gguf_probe_process import MEMORY, OUT_OF_MEMORY, SECONDS
from quantexp.util.errors import UserError
from quantexp.util.sandbox import describe_end, run_program
from quantexp.util.terminal import one_line

_PROGRAM = Path(__file__).with_name("gguf_probe_process.py")

SMALL = 1 << 30
"""Bytes; weights of no more are computed with as well, which takes a second. Larger ones wait for the job."""

MOST_WARNINGS = 5
"""Kinds of them that are kept of a file; some files have hundreds."""

_DECORATION = re.compile(r"^\W*$")
"""Lines around a warning that say nothing of their own."""

_HARMLESS = re.compile(
    r"^(?:adding \d+ dummy tokens"
    r"|setting token .* attribute to USER_DEFINED"
    r"|'</s>' is a normal token here"
    r"|override '.*' to 'true' for Gemma4"
    r"|special_eog_ids contains both)"
)
"""What llama.cpp does as it should with files that are as they should be."""


def try_reading(parts: Sequence[Path]) -> tuple[str, ...]:
    """Have another process read the file's header and vocabulary, and compute some tokens if it is small.

    Args:
        parts: of a split model, all its files; otherwise the one.

    Returns:
        llama.cpp's warnings about the file, one line each, without repetitions.

    Raises:
        UserError: that process did not survive, wanted too much memory, or found a value that nothing can be computed
            with.
    """
    path = parts[0]
    computes = sum(part.stat().st_size for part in parts) <= SMALL
    tried = run_program(_PROGRAM, str(path), *(["compute"] if computes else []), seconds=SECONDS)
    if tried.returncode == 0:
        found = json.loads(tried.stdout.splitlines()[-1])  # a driver may have its own to say before
        if (wrong := found["wrong"]) is not None:
            raise UserError(f"{path} is damaged: {one_line(wrong)}; fetch or make it again.")
        return distinct_warnings(found["warnings"])
    if tried.returncode == OUT_OF_MEMORY:
        reason = f"it wants more than {MEMORY >> 30} GB of memory for the header alone"
    elif tried.returncode > 0 or tried.returncode == -signal.SIGILL:
        return ()  # not the file's fault: the library is built for another processor, or cannot be imported
    else:
        reason = describe_end(tried.returncode, tried.stderr)
    raise UserError(
        f"{path} makes llama.cpp break down ({reason}): it is damaged, or made to do that; fetch or make it again."
    )


def distinct_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings without llama.cpp's function names; of those that differ in a name or number, the first."""
    kinds: dict[str, list[str]] = {}
    for warning in warnings:
        text = re.sub(r"^\w+:(?: |$)", "", warning).strip()
        if not _DECORATION.search(text) and not _HARMLESS.search(text):
            kinds.setdefault(re.sub(r"'.*'|\S*\d\S*", "", text), []).append(text)
    shown = [
        one_line(first) + (f" (and {len(others)} more like this)" if others else "")
        for first, *others in kinds.values()
    ]
    if len(shown) > MOST_WARNINGS:
        shown = [*shown[:MOST_WARNINGS], f"and {len(shown) - MOST_WARNINGS} other warnings"]
    return tuple(shown)
