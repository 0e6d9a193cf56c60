"""Starts many of quantexp's commands quickly, each in a process of its own; see forker.py."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command said, and its exit status."""

    out: str
    err: str
    status: int


class Running:
    """A command that was started, with the methods that one of `subprocess` has."""

    def __init__(self, pid: int, files: Path) -> None:
        self.pid, self._files = pid, files

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self._read("out")

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self._read("err")

    def poll(self) -> int | None:
        """Its exit status, or that of SIGKILL if it had no time to leave one; None while it runs."""
        there = psutil.pid_exists(self.pid)  # before the status is looked for
        if code := self._read("status"):
            return int(code)
        return None if there else -signal.SIGKILL

    def communicate(self, timeout: float) -> tuple[int, str, str]:
        """Wait for its end; exit status, standard output and standard error."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, self.err
            time.sleep(0.02)
        return status, self.out, self.err

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _read(self, name: str) -> str:
        file = self._files / f"{name}.txt"
        return file.read_text() if file.is_file() else ""


class Forker:
    """Starts commands in children of one process that has everything imported."""

    def __init__(self, environment: Mapping[str, str], *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forker.py")), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def start(
        self,
        folder: Path,
        module: str,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        attributes: Mapping[str, object] | None = None,
        files: Path | None = None,
        umask: int | None = None,
        without: Sequence[int] = (),
    ) -> Running:
        """Begin `python -m MODULE ARGUMENTS...` in a folder.

        `environment` changes variables, or removes those that are None; `attributes` those of modules, by their whole
        names, such as a pause. What the command reads and says is in `files`, or in the folder itself; see forker.py.
        `umask` is its mask of permissions; `without` has the numbers of Linux's capabilities that it gives up.
        """
        assert self._process.stdin
        assert self._process.stdout
        place = files or folder
        for name in ("out", "err", "status"):
            (place / f"{name}.txt").unlink(missing_ok=True)
        order = {
            "folder": str(folder),
            "module": module,
            "arguments": arguments,
            "environment": dict(environment or {}),
            "attributes": dict(attributes or {}),
            "files": str(place),
            "umask": umask,
            "without": list(without),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Running(int(self._process.stdout.readline()), place)

    def run(
        self,
        folder: Path,
        module: str,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        attributes: Mapping[str, object] | None = None,
        files: Path | None = None,
        seconds: float = 900,
    ) -> Ended:
        """The same, to its end."""
        running = self.start(folder, module, *arguments, environment=environment, attributes=attributes, files=files)
        status, out, err = running.communicate(seconds)
        return Ended(out, err, status)

    def close(self) -> None:
        """End the process; children that run go on."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.stdout
        self._process.stdout.close()
        self._process.wait(timeout=60)
