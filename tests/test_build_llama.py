"""Compiling llama.cpp: what pip is asked to do, by a stand-in for it, and what is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import native_stubs as stubs

from quantexp import build_llama as module
from quantexp.build_llama import SETTINGS, build_llama, cmake_arguments, main
from quantexp.util.errors import UserError

AGAIN = ["--force-reinstall", "--no-cache-dir", "--no-deps", "--no-binary", "llama-cpp-python"]


class Pip:
    """A stand-in for pip: it notes what it is asked, and puts a library there that works or breaks down."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *outcomes: bool) -> None:
        self.asked: list[list[str]] = []
        self.status = 0
        self._outcomes = list(outcomes)
        self._stub = stubs.stub_llama_cpp(folder, stubs.DIES_LOADING)["PYTHONPATH"]
        self._monkeypatch = monkeypatch
        self._run = subprocess.run
        self.put(self._outcomes.pop(0))
        monkeypatch.setattr(subprocess, "run", self.run)

    def put(self, works: bool) -> None:
        self._monkeypatch.setenv("PYTHONPATH", "" if works else self._stub)

    def run(self, command: list[str], **given: object) -> object:
        if command[1:4] != ["-m", "pip", "install"]:
            return self._run(command, **given)  # type: ignore[call-overload]
        environment = given["env"]
        assert isinstance(environment, dict)
        assert environment["CMAKE_ARGS"] == cmake_arguments()
        self.asked.append(command[5:])
        self.put(self._outcomes.pop(0))
        return subprocess.CompletedProcess(command, self.status)


def test_a_library_that_works_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(tmp_path, monkeypatch, True)
    build_llama(module._installed(), again=False)
    assert pip.asked == []


def test_a_library_that_dies_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip(tmp_path, monkeypatch, False, True)
    build_llama(again=False)
    assert pip.asked == [[*AGAIN, f"llama-cpp-python=={module._installed()}"]]
    said = capsys.readouterr().err.splitlines()
    assert "(SIGILL, an instruction that the processor does not know)" in said[0]
    assert "compiling it anew: about" in said[0]
    assert said[-1] == "quantexp: llama.cpp computes on this processor"


def test_a_file_that_pip_has_kept_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(tmp_path, monkeypatch, False, False, True)
    monkeypatch.setattr(module, "_installed", lambda: None)
    build_llama("0.3.36", "requirements.lock", again=False)
    requirement = "llama-cpp-python==0.3.36"
    assert pip.asked == [["--constraint", "requirements.lock", requirement], [*AGAIN, requirement]]


def test_the_command_compiles_whatever_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip(tmp_path, monkeypatch, True, False)
    monkeypatch.setattr(sys, "argv", ["build_llama"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert pip.asked == [[*AGAIN, f"llama-cpp-python=={module._installed()}"]]
    said = capsys.readouterr().err.splitlines()
    assert "compiling" in said[0]
    assert "minute" in said[0]
    assert said[-1] == (
        "quantexp: llama.cpp breaks down though it was compiled on this machine (SIGILL, an instruction that the "
        "processor does not know); try another compiler: CC=clang CXX=clang++ python -m quantexp.build_llama"
    )


def test_pip_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(tmp_path, monkeypatch, True, True, True)
    pip.status = 1
    with pytest.raises(
        UserError, match=r"pip could not install llama-cpp-python==.*lines above say why|without a C\+\+"
    ):
        build_llama()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"cannot be compiled without a C\+\+ compiler; install g\+\+ or clang\+\+"):
        build_llama()


def test_arguments_for_cmake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    assert cmake_arguments() == f"-DCMAKE_PROJECT_INCLUDE={SETTINGS} -DGGML_CUDA=on"
    monkeypatch.setattr(module, "SETTINGS", Path("/my folder/settings.cmake"))
    assert cmake_arguments() == "'-DCMAKE_PROJECT_INCLUDE=/my folder/settings.cmake' -DGGML_CUDA=on"


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    source = Path(module.__file__).parents[1]
    command = [sys.executable, "-S", "-m", "quantexp.build_llama", "--help"]  # -S: without installed packages
    environment = {**os.environ, "PYTHONPATH": str(source)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "--if-needed" in ended.stdout
