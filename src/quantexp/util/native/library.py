"""The trial of the compiled llama.cpp: that it computes on this processor, once for each build and processor."""

import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from quantexp.util.files import write_atomically
from quantexp.util.native.processor import missing_extensions, processor_flags, processor_name
from quantexp.util.native.tiny_model import write_tiny_model
from quantexp.util.sandbox import KILLED, describe_end, run_program

log = logging.getLogger(__name__)

MEND = "python -m quantexp.build_llama"
"""Command that compiles llama.cpp for this machine."""

REVISION = 1
"""Of the trial; raise it with a change that can change its outcome."""

_PROGRAM = Path(__file__).with_name("trial_process.py")

_SECONDS = 120
"""Of computing for the trial, which takes a fraction of one."""


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
        """True if the trial was ended from outside, which says nothing of the library."""
        return self.death == KILLED

    @property
    def problem(self) -> str:
        """One sentence on what does not work and what mends it; empty if everything does."""
        if not self.death:
            return ""
        if self.was_killed:
            return f"The trial of llama.cpp was killed ({KILLED}); free some, and run the same command again"
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
    """Return the shared libraries that compute, in order of their names."""
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
def open_tried_library() -> Library:
    """Return the library, tried in another process unless this build is known to work on this processor."""
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
    tried = run_program(_PROGRAM, str(model), kernels, seconds=_SECONDS)
    facts: dict[str, Any] = {}
    for line in tried.stdout.splitlines():
        facts |= json.loads(line)
    computed = "computed" in facts
    return Library(
        system=facts.get("system", ""),
        gpu=facts.get("gpu", False),
        kernels=kernels if computed else "",
        death="" if computed else describe_end(tried.returncode, tried.stderr),
    )


def _identity() -> str:
    """Name of this build on this processor, from what a look at the files tells."""
    spec = find_spec("llama_cpp")
    package = [Path(spec.origin)] if spec is not None and spec.origin else []
    files = [(path, path.stat()) for path in [*package, *library_files()]]
    stamps = [(str(path), status.st_size, status.st_mtime_ns) for path, status in files]
    parts = [REVISION, processor_name(), sorted(processor_flags()), stamps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _recalled(note: Path) -> Library | None:
    """Return the content of the note; None if there is none, or none that reads as one."""
    try:
        known = Library(**json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return (
        known if all(isinstance(getattr(known, each.name), cast(type, each.type)) for each in fields(known)) else None
    )
