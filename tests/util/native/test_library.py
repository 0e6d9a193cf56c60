"""The trial of the compiled llama.cpp, with the real one and with stand-ins that break down."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from tests.support import native_stubs as stubs

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.util import llama_library as llama
from quantexp.util.native import library as module
from quantexp.util.native import processor, threads
from quantexp.util.native.library import Library, library_build, open_tried_library, try_library
from quantexp.util.native.tiny_model import write_tiny_model

MEND = "compile it anew: python -m quantexp.build_llama"
SIGILL = "SIGILL, an instruction that the processor does not know"
FLAGS = frozenset({"pni", "ssse3", "avx", "avx2", "fma", "f16c", "bmi2"})


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_tried_library.cache_clear()
    yield
    open_tried_library.cache_clear()


def test_real_library_works_and_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_tried_library()
    assert (found.kernels, found.death, found.problem) == ("repacked", "", "")
    assert found.system == llama.llama_cpp.llama_print_system_info().decode().strip()
    monkeypatch.setattr(module, "try_library", None)  # whoever calls it now fails
    open_tried_library.cache_clear()
    assert open_tried_library() == found

    [note] = (tmp_path / "cache" / "quantexp" / "library").iterdir()
    monkeypatch.setattr(module, "try_library", lambda: found)
    for damaged in (b"", b"[]", b"{}", json.dumps({**json.loads(note.read_bytes()), "gpu": "yes"}).encode()):
        note.write_bytes(damaged)
        open_tried_library.cache_clear()
        assert open_tried_library() == found
        assert json.loads(note.read_bytes())["gpu"] is False


@pytest.mark.parametrize("change", ["build", "processor"])
def test_another_build_or_processor_is_tried_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    found = open_tried_library()
    slower = Library(found.system, False, "plain", "SIGILL")
    monkeypatch.setattr(module, "try_library", lambda: slower)
    if change == "build":
        folder = tmp_path / "lib"
        folder.mkdir()
        (folder / "libllama.so").write_bytes(b"another")
        monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(folder))
    else:
        monkeypatch.setattr(module, "processor_flags", lambda: FLAGS)
    open_tried_library.cache_clear()
    assert open_tried_library() == slower


LOADING = "llama-cpp-python's library cannot be loaded on this machine"
COMPUTING = "llama.cpp breaks down on this processor as soon as it computes"
SLOWER = "llama.cpp's kernels for repacked weights break down on this processor; without them it is slower"
NO_CUDA = "Failed to load shared library 'libllama.so': libcuda.so.1: cannot open shared object file"


@pytest.mark.parametrize(
    ("source", "kernels", "what", "death"),
    [
        (stubs.DIES_LOADING, "", LOADING, SIGILL),
        (stubs.CANNOT_LOAD, "", LOADING, f"RuntimeError: {NO_CUDA}"),
        (stubs.ENDLESS, "", LOADING, "it did not come to an end"),
        (stubs.DIES_COMPUTING, "", COMPUTING, SIGILL),
        (stubs.NONSENSE, "", COMPUTING, "it computes scores that are no numbers"),
        (stubs.DIES_WITH_REPACKED, "plain", SLOWER, SIGILL),
    ],
    ids=["dies loading", "cannot load", "endless", "dies computing", "nonsense", "dies with repacked"],
)
def test_library_that_breaks_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kernels: str, what: str, death: str
) -> None:
    for variable, value in stubs.stub_llama_cpp(tmp_path, source).items():
        monkeypatch.setenv(variable, value)
    found = try_library()
    assert found.kernels == kernels
    assert found.problem.startswith(f"{what} ({death}): it")
    assert found.problem.endswith(MEND)
    assert "\n" not in found.problem


def test_trial_that_is_killed_says_nothing_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in stubs.stub_llama_cpp(tmp_path, stubs.KILLED).items():
        monkeypatch.setenv(variable, value)
    found = open_tried_library()
    assert found.kernels == ""
    assert found.problem == (
        "The trial of llama.cpp was killed (SIGKILL, by hand or for want of memory); free some, and run the same "
        "command again"
    )
    assert not (tmp_path / "cache" / "quantexp").exists()  # nothing is remembered


@pytest.mark.parametrize(
    ("system", "cause"),
    [
        (
            "CPU : AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 1 |",
            "compiled for a processor with AVX512, AMX_INT8, which this one",
        ),
        ("CPU : AVX2 = 1 | OPENMP = 1 |", "probably compiled for another processor or system"),
        ("", "probably compiled for another processor or system"),
    ],
)
def test_likely_cause(monkeypatch: pytest.MonkeyPatch, system: str, cause: str) -> None:
    monkeypatch.setattr(processor, "processor_flags", lambda: FLAGS)
    assert cause in Library(system, False, "", "SIGILL").problem


def test_amx_of_an_old_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "processor_flags", lambda: FLAGS | {"amx_int8"})
    assert (
        "AMX kernels were probably compiled by gcc 12" in Library("CPU : AMX_INT8 = 1 |", False, "", "SIGILL").problem
    )


def test_unwritable_cache_costs_a_trial_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert open_tried_library().kernels == "repacked"


# In the product


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


JOB = ("quantexp", "quant=Q8_0", "task=gsm8k")


@pytest.mark.parametrize(
    ("source", "sentence", "command"),
    [
        pytest.param(stubs.DIES_LOADING, "cannot be loaded on this machine", JOB, marks=pytest.mark.slow),
        (
            stubs.DIES_LOADING,
            "cannot be loaded on this machine",
            ("quantexp.models", "fetch", "quant=Q8_0", "model.cache=cache"),
        ),
        (stubs.DIES_COMPUTING, "as soon as it computes", (*JOB, "model.cache=cache")),
    ],
    ids=["job, loading", "models, loading", "job, computing"],
)
def test_command_with_a_library_that_breaks_down(
    tmp_path: Path, source: str, sentence: str, command: tuple[str, ...]
) -> None:
    environment = stubs.stub_llama_cpp(tmp_path / "stub", source)
    ended = run(tmp_path, environment, *command)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("quantexp: llama")
    assert sentence in last
    assert last.endswith(f"{MEND}.")


@pytest.mark.slow
def test_job_without_repacked_weights(tmp_path: Path, demo: object, cache: Path) -> None:
    environment = stubs.stub_llama_cpp(tmp_path / "stub", stubs.DIES_WITH_REPACKED)
    quick = ("task.limit=1", "task.shots=0", "task.max_tokens=4", "engine.threads=1", f"model.cache={cache}")
    ended = run(tmp_path, environment, *JOB, *quick)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("without them it is slower") == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    [job] = client.search_runs([experiment.experiment_id], "tags.`quantexp.kind` = 'job'")
    assert job.data.tags["engine.repacked"] == "off"
    assert job.data.tags["host.processor"]


def test_keys_of_a_library_that_works_say_nothing_of_the_trial(engine: LlamaCpp) -> None:
    assert set(engine.machine) == {"system", "build", "revision"}
    assert engine.machine["build"] == library_build()


# AMX


def test_refusal_of_amx_stays_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with llama._captured_stderr() as said:
        os.write(2, b"AMX is not ready to be used!\n")
    assert said == ["AMX is not ready to be used!"]
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_kernels_are_listed_so_that_a_refusal_comes_now(monkeypatch: pytest.MonkeyPatch) -> None:
    with_amx = replace(llama._library, system=f"{llama._library.system} AMX_INT8 = 1 |")
    monkeypatch.setattr(llama, "_library", with_amx)
    has_refused = llama.has_refused_amx.__wrapped__()
    assert not has_refused or "AMX_INT8 = 1" in llama.llama_cpp.llama_print_system_info().decode()


# The model made on the spot


def test_text_of_more_tokens_than_bytes(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path)
    with llama.without_weights(path) as model:
        assert model
        vocabulary = llama.llama_cpp.llama_model_get_vocab(model)
        text = "a b " * 20
        tokens = llama.tokenize_text(vocabulary, text, begin=True, special=False)
        assert len(tokens) > len(text) + 8
        written = b"".join(llama.read_piece(vocabulary, token) for token in tokens).decode()
        assert written.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip() == text.strip()


# Threads


@pytest.mark.parametrize(
    ("content", "quota"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("", None), ("5 0\n", None)],
)
def test_threads_keep_to_a_containers_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, quota: float | None
) -> None:
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(threads, "_QUOTAS", ((tmp_path / "absent",), (tmp_path / "cpu.max",)))
    monkeypatch.setattr(threads, "physical_cores", lambda: 64)
    monkeypatch.setattr(threads, "allowed_cores", lambda: 128)
    monkeypatch.delenv(threads.THREADS, raising=False)
    assert threads.core_quota() == quota
    assert threads.usable_cores() == (64 if quota is None else 1)
