"""Starts many of quantexp's commands quickly, each in a process of its own; see forker.py."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command said, and its exit status."""

    out: str
    err: str
    status: int


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
        files: Path | None = None,
    ) -> int:
        """Begin `python -m MODULE ARGUMENTS...` in a folder; the number of its process.

        `environment` changes variables, or removes those that are None. What the command reads and says is in `files`,
        or in the folder itself; see forker.py.
        """
        assert self._process.stdin
        assert self._process.stdout
        order = {
            "folder": str(folder),
            "module": module,
            "arguments": arguments,
            "environment": dict(environment or {}),
            "files": str(files or folder),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def run(
        self,
        folder: Path,
        module: str,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        files: Path | None = None,
        seconds: float = 240,
    ) -> Ended:
        """The same, to its end."""
        out, err, status = ((files or folder) / f"{name}.txt" for name in ("out", "err", "status"))
        for file in (out, err, status):
            file.unlink(missing_ok=True)
        self.start(folder, module, *arguments, environment=environment, files=files)
        deadline = time.monotonic() + seconds
        while not (status.is_file() and status.read_text()):
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.02)
        return Ended(out.read_text(), err.read_text(), int(status.read_text()))

    def close(self) -> None:
        """End the process; children that run go on."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.stdout
        self._process.stdout.close()
        self._process.wait(timeout=60)
