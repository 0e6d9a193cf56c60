"""What the benchmarks share: the demo's configuration, and llama.cpp's own tools built from the vendored source."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module

from quantexp import models
from quantexp.build_llama import SETTINGS
from quantexp.config import Config
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.validation import validated
from quantexp.models import ModelFile

BUILD = Path(__file__).parents[1] / "build"


def config(*overrides: str) -> Config:
    """Return the default configuration, with what the command line would change."""
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        return validated(compose("config", list(overrides)), Config)


def model_file(composed: Config) -> ModelFile:
    """Return the file that a job of this configuration loads."""
    return models.resolve(composed.model, composed.quant)[0]


@cache
def llama_tool(name: str) -> Path:
    """Return a command-line tool of llama.cpp, built from the source that this version of llama-cpp-python carries.

    The wheel has the libraries only. Building takes some minutes, once; needs pip, cmake and a compiler.
    """
    folder = BUILD / f"llama.cpp-{version('llama-cpp-python')}"
    tool = folder / "bin" / name
    if not tool.is_file():
        source = _source(folder)
        configure = ["cmake", "-S", str(source), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF"]
        configure += [f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "UI")]
        # The settings with which the library was compiled, or else the two would not compute alike.
        configure += ["-DLLAMA_BUILD_SERVER=ON", f"-DCMAKE_PROJECT_INCLUDE={SETTINGS}"]
        subprocess.run(configure, check=True, stdout=sys.stderr)
        at_once = ["--parallel", str(os.cpu_count())]  # without a number, all files
        subprocess.run(["cmake", "--build", folder, "--target", name, *at_once], check=True, stdout=sys.stderr)
    return tool


def _source(folder: Path) -> Path:
    sdist = f"llama-cpp-python=={version('llama-cpp-python')}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"]
    subprocess.run([*pip, "--dest", str(folder), sdist], check=True, stdout=sys.stderr)
    [archive] = folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"


def json_lines(command: Sequence[str]) -> list[dict[str, Any]]:
    """Return the JSON objects that a command prints, one per line."""
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
