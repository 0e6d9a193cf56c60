"""The trial of the compiled llama.cpp: that it computes on this processor, once for each build and processor."""

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from quantexp.util.files import write_atomically
from quantexp.util.native.processor import missing_extensions, processor_flags, processor_name
from quantexp.util.native.tiny_model import write_tiny_model
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)

ASSERTION = r"[\w.-]+\.\w+:\d+: .+"
"""The line in which llama.cpp says what has failed, with file and line, before it ends its process."""

MEND = "python -m quantexp.build_llama"
"""Command that compiles llama.cpp for this machine."""

REVISION = 1
"""Of the trial; raise it with a change that can change its outcome."""

_KILLED = "SIGKILL, by hand or for want of memory"

_DEATHS: dict[int, str] = {
    signal.SIGILL: "SIGILL, an instruction that the processor does not know",
    signal.SIGKILL: _KILLED,
}
"""What a signal says of a process that it has ended."""

_PROGRAM = Path(__file__).with_name("trial_process.py")


@dataclass(frozen=True, slots=True)
class Library:
    """The compiled llama.cpp on this processor.

    Attributes:
        system: what it was compiled with, in llama.cpp's words; empty if it cannot be loaded.
        gpu: it can use a GPU.
        kernels: `repacked` if everything works; `plain`, which is slower, if only without the kernels for repacked
            weights, AMX among them; empty if it cannot compute.
        death: how the trial ended; empty if everything works.
    """

    system: str
    gpu: bool
    kernels: str
    death: str

    @property
    def was_killed(self) -> bool:
        """Whether the trial was ended from outside, which says nothing of the library."""
        return self.death == _KILLED

    @property
    def problem(self) -> str:
        """One sentence on what does not work and what mends it; empty if everything does."""
        if not self.death:
            return ""
        if self.was_killed:
            return f"The trial of llama.cpp was killed ({_KILLED}); free some, and run the same command again"
        if not self.system:
            what = "llama-cpp-python's library cannot be loaded on this machine"
        elif self.kernels:
            what = "llama.cpp's kernels for repacked weights break down on this processor; without them it is slower"
        else:
            what = "llama.cpp breaks down on this processor as soon as it computes"
        return f"{what} ({self.death}): {self._cause}; compile it anew: {MEND}"

    @property
    def _cause(self) -> str:
        if missing := missing_extensions(self.system):
            return f"it was compiled for a processor with {', '.join(missing)}, which this one lacks"
        if "AMX_INT8 = 1" in self.system:
            return "its AMX kernels were probably compiled by gcc 12 or earlier, which leaves out a part of them"
        return "it was probably compiled for another processor or system"


def library_folder() -> Path | None:
    """Folder of the shared libraries that `import llama_cpp` would load; None if there is none."""
    if (chosen := os.environ.get("LLAMA_CPP_LIB_PATH")) is not None:  # llama-cpp-python's own variable
        return Path(chosen)
    spec = find_spec("llama_cpp")
    return Path(spec.origin).parent / "lib" if spec is not None and spec.origin else None


def library_files() -> list[Path]:
    """The shared libraries that compute, in order of their names."""
    folder = library_folder()
    found = folder.glob("lib*") if folder is not None else []
    return sorted(path for path in found if re.fullmatch(r"lib(llama|ggml).*\.(so|dylib)", path.name))


@cache
def library_build() -> str:
    """Hash of the shared libraries that compute: the same version built otherwise may round otherwise."""
    digest = hashlib.sha256()
    for path in library_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def tried_library() -> Library:
    """The library, tried in another process unless this build is known to work on this processor."""
    from platformdirs import user_cache_path  # only here: `build_llama` runs before it is installed

    note = user_cache_path("quantexp") / "library" / f"{_identity()}.json"
    if (known := _recalled(note)) is not None:
        return known
    library = try_library()
    if library.kernels:  # what breaks down may have been killed for another reason, so it is tried again
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps(asdict(library), indent=1).encode())
        except OSError as error:
            log.info("%s cannot be written (%s), so each process tries llama.cpp again", note, error.strerror)
    return library


def try_library() -> Library:
    """Have another process load the library and compute, and one more without repacked weights if it breaks down."""
    with tempfile.TemporaryDirectory(prefix="quantexp-") as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model)
        found = _try(model, "repacked")
        if found.kernels or not found.system or found.was_killed:
            return found
        plain = _try(model, "plain")
        return replace(found, kernels=plain.kernels)


def _try(model: Path, kernels: str) -> Library:
    # -P: the folder of the program, in which modules may be named like Python's own, is not to be searched.
    command = [sys.executable, "-P", str(_PROGRAM), str(model), kernels]
    # A session of its own: Ctrl-C is for the command, and would look like the library's failure.
    tried = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", start_new_session=True
    )
    facts: dict[str, Any] = {}
    for line in tried.stdout.splitlines():
        facts |= json.loads(line)
    computed = "computed" in facts
    return Library(
        system=facts.get("system", ""),
        gpu=facts.get("gpu", False),
        kernels=kernels if computed else "",
        death="" if computed else _death(tried.returncode, tried.stderr),
    )


def _death(status: int, said: str) -> str:
    """How a process ended, in few words."""
    if status == -signal.SIGXCPU:
        return "it did not come to an end"
    asserted = re.search(ASSERTION, said)
    if asserted and status < 0:
        return one_line(asserted[0])
    if status < 0:
        return _DEATHS.get(-status) or signal.strsignal(-status) or f"signal {-status}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else f"exit status {status}"


def _identity() -> str:
    """Name of this build on this processor, from what a look at the files tells."""
    spec = find_spec("llama_cpp")
    package = [Path(spec.origin)] if spec is not None and spec.origin else []
    files = [(path, path.stat()) for path in [*package, *library_files()]]
    stamps = [(str(path), status.st_size, status.st_mtime_ns) for path, status in files]
    parts = [REVISION, processor_name(), sorted(processor_flags()), stamps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _recalled(note: Path) -> Library | None:
    """What the note says; None if there is none, or none that reads as one."""
    try:
        known = Library(**json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return (
        known if all(isinstance(getattr(known, each.name), cast(type, each.type)) for each in fields(known)) else None
    )
