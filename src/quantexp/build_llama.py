"""`python -m quantexp.build_llama`: compile llama.cpp for the processor of this machine, and try it.

It runs before anything that quantexp needs is installed, so it imports nothing but Python's own modules.
"""

import argparse
import math
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from quantexp.util.error_reports import fail
from quantexp.util.errors import EXIT_INTERRUPTED, UserError
from quantexp.util.native.library import MEND, try_library
from quantexp.util.native.processor import allowed_cores

PACKAGE = "llama-cpp-python"

SETTINGS = Path(__file__).parent / "util" / "native" / "settings.cmake"
"""What it is compiled with, for CMake."""

MINUTES = 3.5
"""Of one core's computing on a server of 2022; a slower core takes longer."""

AGAIN = ("--force-reinstall", "--no-cache-dir", "--no-deps", "--no-binary", PACKAGE)
"""Options of pip: it would take the file that it has kept, whatever that was compiled for."""


def cmake_arguments() -> str:
    """CMAKE_ARGS for a build: our settings, then what the user has set."""
    return " ".join([shlex.quote(f"-DCMAKE_PROJECT_INCLUDE={SETTINGS}"), os.environ.get("CMAKE_ARGS", "")]).strip()


def build_llama(wanted: str | None = None, constraint: str | None = None, *, again: bool = True) -> None:
    """Install llama-cpp-python, try it, and compile it here if it was not, or if what there is does not work.

    Args:
        wanted: the version; None for the installed one, or else the newest.
        constraint: pip's file of versions, for what llama-cpp-python needs; None for the newest.
        again: compile it even if it is there, in the environment or among the files that pip has kept.

    Raises:
        UserError: it cannot be compiled, or breaks down even so.
    """
    installed = _installed()
    version_asked = wanted or installed
    requirement = f"{PACKAGE}=={version_asked}" if version_asked else PACKAGE
    compiled = again and installed is not None
    if compiled:
        _tell(f"compiling {requirement} for this processor: {_time()}")
        _install(requirement, AGAIN)
    elif installed is None or installed != version_asked:
        _tell(f"installing {requirement}; unless pip has kept an earlier build, llama.cpp is compiled now: {_time()}")
        _install(requirement, ("--constraint", constraint) if constraint else ())
    found = try_library()
    if found.was_killed:
        raise UserError(f"{found.problem}.")
    if found.death and not compiled:
        _tell(f"{found.problem.partition('; compile it')[0]}; compiling it anew: {_time()}")
        _install(requirement, AGAIN)
        found = try_library()
    if found.death:
        raise UserError(
            f"llama.cpp breaks down though it was compiled on this machine ({found.death}); try another compiler: "
            f"CC=clang CXX=clang++ {MEND}"
        )
    _tell("llama.cpp computes on this processor")


def _installed() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def _install(requirement: str, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options, requirement]
    if subprocess.run(command, env=os.environ | {"CMAKE_ARGS": cmake_arguments()}).returncode == 0:
        return
    compilers = [os.environ.get("CXX", "c++"), "g++", "clang++"]
    if not any(map(shutil.which, compilers)):
        raise UserError("llama.cpp cannot be compiled without a C++ compiler; install g++ or clang++, and try again.")
    raise UserError(f"pip could not install {requirement}; its last lines above say why.")


def _time() -> str:
    cores = allowed_cores()
    minutes = math.ceil(MINUTES / cores)
    return f"about {minutes} minute{'s' * (minutes > 1)} on {cores} core{'s' * (cores > 1)} like a server's, once"


def _tell(line: str) -> None:
    print(f"quantexp: {line}", file=sys.stderr, flush=True)  # noqa: T201 - the terminal is where it belongs


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m quantexp.build_llama",
        description="Compile llama.cpp for the processor of this machine, and try it. CMAKE_ARGS, CC, CXX, CFLAGS and "
        "CXXFLAGS count, for example CMAKE_ARGS=-DGGML_CUDA=on.",
    )
    parser.add_argument("--if-needed", action="store_true", help="keep what is installed, or kept by pip, if it works")
    parser.add_argument("--version", metavar="VERSION", help="of llama-cpp-python; the installed one if not given")
    parser.add_argument("--constraint", metavar="FILE", help="pip's file of versions, for what it needs")
    given = parser.parse_args()
    try:
        build_llama(given.version, given.constraint, again=not given.if_needed)
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
