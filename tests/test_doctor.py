"""The doctor: a healthy machine, and each way in which one is not."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import native_stubs as stubs

from quantexp.doctor import main
from quantexp.engines import close_engine
from quantexp.evaluation.diagnosis import engine_process, inference, surroundings
from quantexp.evaluation.diagnosis.finding import Finding
from quantexp.util.native.library import Library

MEND = "python -m quantexp.build_llama"


def diagnose(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0), capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here waits for a network or knows a token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("QUANTEXP_THREADS", "1")  # other tests compute beside these
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://somebody:secret@127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")


def test_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = diagnose(capsys, "--json", "--quick")
    found = [Finding(**each) for each in json.loads(out)]
    assert status == 0, out
    checks = ["versions", "build", "gpu", "inference", "exactness", "threads", "compiler", "store", "disk"]
    assert list(dict.fromkeys(each.check for each in found)) == [*checks, "hub", "browser"]
    assert all(each.mend for each in found if each.status != "ok")
    assert not any(each.mend for each in found if each.status == "ok")
    by_check = {each.check: each for each in found}
    for check in ("versions", "build", "inference", "exactness", "store"):
        assert by_check[check].status == "ok", by_check[check]
    [compared, identical] = [int(word) for word in by_check["exactness"].text.split() if word.isdecimal()]
    assert compared == identical > 0
    assert "secret" not in out
    assert by_check["hub"].text.startswith("127.0.0.1 cannot be reached (")
    assert by_check["hub"].text.endswith("; a token is set")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            stubs.DIES_LOADING,
            "cannot be loaded on this machine (SIGILL, an instruction that the processor does not know)",
        ),
        (stubs.CANNOT_LOAD, "cannot be loaded on this machine (RuntimeError: Failed to load shared library"),
        (stubs.DIES_COMPUTING, "as soon as it computes (SIGILL, an instruction that the processor"),
    ],
    ids=["dies loading", "cannot load", "dies computing"],
)
def test_library_that_breaks_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    for variable, value in stubs.stub_llama_cpp(tmp_path / "stub", source).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(surroundings, "IMPORTED", ())
    status, out = diagnose(capsys)
    assert status == 1
    [line] = [line for line in out.splitlines() if line.startswith("broken")]
    assert line.startswith("broken   build      llama-cpp-python ")
    assert said in line
    assert line.endswith(f"; to mend it: {MEND}")
    assert "inference" not in out
    assert "\nok       disk" in out or "\nwarning  disk" in out  # the rest is looked at all the same


def test_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('libsomething.so.1: cannot open shared object file')")
    (tmp_path / "pandas.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(surroundings, "IMPORTED", ("mlflow", "pandas"))
    _, mlflow, pandas = surroundings.version_findings()
    assert mlflow.status == pandas.status == "broken"
    reason = "ImportError: libsomething.so.1: cannot open shared object file"
    assert mlflow.text == f"mlflow cannot be imported ({reason})"
    assert mlflow.mend.startswith("python -m pip install --force-reinstall mlflow==")
    assert pandas.text == "pandas cannot be imported (exit status -4)"


def test_versions_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = surroundings._version
    fake = {"mlflow": "9.0", "pandas": "absent"}
    monkeypatch.setattr(surroundings, "_version", lambda name: fake.get(name) or real(name))
    monkeypatch.setattr(surroundings, "IMPORTED", ())
    [found] = surroundings.version_findings()
    assert found.status == "broken"
    assert "mlflow 9.0" in found.text
    assert found.mend.startswith("python -m pip install ")
    assert '"mlflow' in found.mend
    assert '"pandas' in found.mend
    assert "numpy" not in found.mend


def test_library_that_is_slower_than_need_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "processor_extensions", lambda: ("SSE3", "AVX2", "AMX_INT8"))
    for system, status in (("CPU : SSE3 = 1 | AVX2 = 1 |", "ok"), ("CPU : SSE3 = 1 |", "warning")):
        found = inference._build(Library(system, False, "repacked", ""))
        assert found.status == status
        assert found.mend == (MEND if status == "warning" else "")
    found = inference._build(Library("CPU : SSE3 = 1 | AVX2 = 1 |", False, "plain", "SIGILL"))
    assert found.status == "warning"
    assert "without them it is slower (SIGILL)" in found.text


def test_gpu_that_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "DEVICES", {str(tmp_path): "GGML_CUDA"})
    assert inference._gpu(Library("CPU", True, "repacked", "")).status == "ok"
    found = inference._gpu(Library("CPU", False, "repacked", ""))
    assert (found.status, found.mend) == ("warning", f'CMAKE_ARGS="-DGGML_CUDA=on" {MEND}')


MEASURED = {
    "model": "m", "compared": 9, "identical": 9, "ratio": inference.REFERENCE, "tokens": 9, "read": 9.0, "written": 9.0
}  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "statuses"),
    [
        (MEASURED, ["ok", "ok", "ok"]),
        ({**MEASURED, "identical": 8}, ["ok", "warning", "ok"]),
        ({**MEASURED, "ratio": inference.REFERENCE * inference.LEAST / 2}, ["ok", "ok", "warning"]),
        ({**MEASURED, "ratio": None}, ["ok", "ok", "warning"]),
        ("SIGSEGV", ["broken"]),
    ],
    ids=["well", "not exact", "slow", "tiny", "dead"],
)
def test_what_the_engine_shows(monkeypatch: pytest.MonkeyPatch, measured: object, statuses: list[str]) -> None:
    monkeypatch.setattr(inference, "_measured", lambda *_: measured)
    found = list(inference._engine("demo"))
    assert [each.status for each in found] == statuses
    assert all(bool(each.mend) == (each.status != "ok") for each in found)


def test_engine_that_refuses_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = 'import sys; sys.exit("quantexp: The weights are damaged.")'
    for name, content in (("refusing", source), ("dying", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")):
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(inference, "PROGRAM", "refusing")
    assert inference._measured(1, "tiny") == "The weights are damaged."
    monkeypatch.setattr(inference, "PROGRAM", "dying")
    assert inference._measured(1, "tiny") == "SIGSEGV"


def test_slow_engine_is_measured_with_the_tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(threads: int, choice: str) -> object:
        if choice == "demo":
            raise subprocess.TimeoutExpired("engine", inference.PATIENCE)
        return {**MEASURED, "model": "tiny", "ratio": None}

    monkeypatch.setattr(inference, "_measured", measured)
    found = list(inference._engine("demo"))
    assert [(each.check, each.status) for each in found] == [
        ("inference", "ok"),
        ("exactness", "ok"),
        ("speed", "warning"),
    ]

    monkeypatch.setattr(inference, "_measured", lambda threads, choice: measured(threads, "demo"))
    [found_dead, *_] = inference._engine("demo")
    assert (found_dead.check, found_dead.status) == ("inference", "broken")


@pytest.mark.parametrize("choice", [pytest.param("demo", marks=pytest.mark.slow), "tiny", "demo that is not installed"])
def test_engine_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], choice: str) -> None:
    for name, less in (("PROMPTS", 9), ("TOKENS", 3), ("LONG", 7), ("SIZE", 64)):
        monkeypatch.setattr(engine_process, name, less)
    monkeypatch.setattr(sys, "argv", ["engine_process", "1", choice.partition(" ")[0]])
    if choice.endswith("not installed"):
        monkeypatch.setattr(engine_process, "find_spec", lambda name: None)
    try:
        engine_process.main()
    finally:
        close_engine()
    measured = json.loads(capsys.readouterr().out)
    assert measured["model"] == ("smollm2-135m-instruct" if choice == "demo" else "tiny")
    assert measured["compared"] == measured["identical"] == 12
    assert measured["read"] > 0 < measured["written"]
    assert (measured["ratio"] is None) == (choice != "demo")


# Around the engine


def make_store(folder: Path, revision: str) -> Path:
    folder.mkdir()
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
        connection.execute("CREATE TABLE tags (key TEXT, value TEXT)")
        connection.execute("INSERT INTO tags VALUES ('mlflow.version', '3.17.2')")
    connection.close()
    return folder


def test_store(tmp_path: Path) -> None:
    [found] = surroundings.store_findings(tmp_path / "absent")
    assert found.status == "ok"
    assert not (tmp_path / "absent").exists()

    known = min(surroundings._known_revisions())
    [found] = surroundings.store_findings(make_store(tmp_path / "good", known))
    assert (found.status, found.text) == ("ok", f"0 runs in {tmp_path}/good, written with MLflow 3.17.2")

    [found] = surroundings.store_findings(make_store(tmp_path / "odd?name#1", known))
    assert found.status == "ok"

    [found] = surroundings.store_findings(make_store(tmp_path / "newer", "0123456789ab"))
    assert found.status == "broken"
    assert "(0123456789ab) are of a newer MLflow than is here, or of another program" in found.text

    (tmp_path / "good" / "mlflow.db").write_bytes(b"no database" * 1000)
    [found] = surroundings.store_findings(tmp_path / "good")
    assert found.status == "broken"
    assert found.text.endswith("cannot be read as a store of MLflow (file is not a database)")


@pytest.mark.parametrize(
    ("load", "quota", "status"), [(0.5, None, "ok"), (0.5, 4.0, "ok"), (60.0, None, "warning"), (0.5, 0.5, "warning")]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, load: float, quota: float | None, status: str) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(surroundings, "core_quota", lambda: quota)
    [found] = surroundings.thread_findings()
    assert found.status == status


@pytest.mark.parametrize(
    ("check", "mend"),
    [
        (surroundings.compiler_findings, "install g++ or clang++"),
        (surroundings.browser_findings, "open report.html on another machine, or install a browser"),
    ],
    ids=["compiler", "browser"],
)
def test_program_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[], list[Finding]], mend: str
) -> None:
    for variable in ("CXX", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("webbrowser._tryorder", None)  # it remembers
    monkeypatch.setenv("PATH", str(tmp_path))
    [found] = check()
    assert (found.status, found.mend) == ("warning", mend)
    program = tmp_path / {"install": "g++", "open": "firefox"}[mend.partition(" ")[0]]
    program.write_text("#!/bin/sh\necho 'g++ 99'\n")
    program.chmod(0o755)
    [found] = check()
    assert found.status == "ok"


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.check for each in surroundings.disk_findings(tmp_path / "mlruns")] == ["disk", "disk"]
    monkeypatch.setattr(surroundings, "ROOM", 1e18)
    found = list(surroundings.disk_findings(tmp_path / "mlruns"))
    assert [each.status for each in found] == ["warning", "warning"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert {each.status for each in surroundings.disk_findings(tmp_path / "mlruns")} == {"broken"}


def test_hub_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.hub import Hub

    with Hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        [found] = surroundings.hub_findings()
        assert (found.status, found.text) == ("ok", "127.0.0.1 answers; a token is set")
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        [found] = surroundings.hub_findings()
        assert (found.status, found.mend) == ("warning", "unset HF_HUB_OFFLINE")
        assert found.text.endswith("no token, so public repositories only")
