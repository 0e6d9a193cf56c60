"""Provenance: the code, libraries and machine a result comes from."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from quantexp.util.native.processor import processor_extensions, processor_name
from quantexp.util.slurm import own_job


@cache
def provenance() -> dict[str, str]:
    """Facts about this process, each under the name of its tag."""
    import psutil  # only now: what merely composes does without it

    commit, dirty = _checkout(Path(__file__).parent)
    return {
        "quantexp.version": version("quantexp"),
        "quantexp.commit": commit,
        "quantexp.dirty": dirty,
        "llama_cpp_python.version": version("llama-cpp-python"),
        "mlflow.version": version("mlflow"),
        "python.version": platform.python_version(),
        "host.name": platform.node(),
        "host.system": platform.platform(),
        "host.processor": processor_name(),
        "host.extensions": " ".join(processor_extensions()),
        "host.cores": str(psutil.cpu_count(logical=False) or os.cpu_count()),
        "host.memory_gb": f"{psutil.virtual_memory().total / 1e9:.1f}",
        "process.id": str(os.getpid()),
        "process.started": str(psutil.Process().create_time()),
    } | own_job()


def _checkout(folder: Path) -> tuple[str, str]:
    """Commit of the checkout that the code runs from, and whether files differ from it."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):  # no git, or installed from a wheel
        return "none: not a git checkout", "unknown"
    return commit, str(bool(changed)).lower()


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
