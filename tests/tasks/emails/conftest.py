"""A folder to run the two commands in, and servers for them to ask."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.forking import Ended, Forker, Running
from tests.support.openai_server import Asked, OpenAIServer, Reply, good

KEY = "sk-test-0123456789abcdef"

ENVIRONMENT: dict[str, str | None] = {
    "OPENAI_API_KEY": KEY,
    "COLUMNS": "100",
    **dict.fromkeys(("HYDRA_FULL_ERROR", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")),
}
"""Of every command; None: not set, though it may be around the tests."""

SHORT_PAUSES = {"openai._base_client.INITIAL_RETRY_DELAY": 0.01, "quantexp.util.openai_client.LONGEST_PAUSE": 0.01}
"""Attributes of every command: ask again at once, where a server does not say when."""


class Folder:
    """Runs commands in an empty folder, with a key in the environment."""

    def __init__(self, path: Path, forker: Forker) -> None:
        self.path, self._forker = path, forker
        self._files = path.with_name(f"{path.name}-files")

    def start(self, module: str, *arguments: str, **environment: str) -> "Command":
        """Start `python -m quantexp.MODULE ARGUMENTS...`; its input is a pipe."""
        return self.start_as([sys.executable, "-m", f"quantexp.{module}", *arguments], **environment)

    def start_as(self, command: list[str], **environment: str) -> "Command":
        """Start a command."""
        changed = ENVIRONMENT | environment
        inherited = {name: value for name, value in os.environ.items() if name not in changed}
        given = {name: value for name, value in changed.items() if value is not None}
        return Command(command, self.path, inherited | given)

    def run(self, module: str, *arguments: str, keys: str = "", **environment: str) -> Ended:
        """What `start` and `end` do, in a process that need not import anything; its input is a file."""
        self._files.mkdir(exist_ok=True)
        (self._files / "in.txt").write_bytes(keys.encode("utf-8", "surrogateescape"))
        return self._forker.run(
            self.path,
            f"quantexp.{module}",
            *arguments,
            environment=ENVIRONMENT | environment,
            attributes=SHORT_PAUSES,
            files=self._files,
        )

    def begin(self, module: str, *arguments: str) -> Running:
        """Start what `run` runs to its end."""
        files = self.path.with_name(f"{self.path.name}-begun")
        files.mkdir()
        return self._forker.start(self.path, f"quantexp.{module}", *arguments, environment=ENVIRONMENT, files=files)

    @contextmanager
    def at_terminal(self, module: str, *arguments: str) -> Iterator[tuple[Running, Callable[[str], object]]]:
        """Start what `run` runs, with a terminal as its input, and what types on that."""
        self._files.mkdir(exist_ok=True)
        keyboard, terminal = pty.openpty()
        try:
            (self._files / "in.txt").symlink_to(os.ttyname(terminal))
            running = self._forker.start(
                self.path, f"quantexp.{module}", *arguments, environment=ENVIRONMENT, files=self._files
            )
            yield running, lambda keys: os.write(keyboard, keys.encode())
        finally:
            os.close(keyboard)
            os.close(terminal)

    def generate(self, server: OpenAIServer | None, *arguments: str, **environment: str) -> Ended:
        """Make e-mails without being asked."""
        address = [f"base_url={server.address}"] if server else []
        return self.run("generate_extraction", *address, "yes=true", *arguments, **environment)

    def review(self, keys: str, *arguments: str) -> Ended:
        """Read e-mails, with these keys."""
        return self.run("review_extraction", *arguments, keys=keys)

    def lines(self, what: str = "") -> list[dict[str, Any]]:
        """The lines of data/extraction.jsonl, or of the file beside it."""
        path = self.path / "data" / f"extraction{what}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def left_behind(self) -> list[str]:
        """All files and folders."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))


class Command:
    """A command that runs."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def end(self, keys: str = "") -> Ended:
        """Type, and wait for the end; half a surrogate pair is typed as the byte that it stands for."""
        try:
            out, err = self.process.communicate(keys, timeout=900)
        finally:
            self.process.kill()
            self.process.wait()
        return Ended(out, err, self.process.returncode)


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """One for all tests of a worker."""
    forker = Forker({}, "quantexp.generate_extraction", "quantexp.review_extraction")
    yield forker
    forker.close()


@pytest.fixture
def folder(tmp_path: Path, forker: Forker) -> Folder:
    path = tmp_path / "here"
    path.mkdir()
    return Folder(path, forker)


@pytest.fixture
def serve() -> Iterator[Callable[..., OpenAIServer]]:
    """Start servers that answer as a function says; they are closed at the end."""
    servers = []

    def start(answer: Callable[[Asked], Reply] = good, port: int = 0) -> OpenAIServer:
        servers.append(OpenAIServer(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
